"""What a unit's process can do, as one JSON line: run inside a unit (ExecStartPost=) and, as the control, by root."""

import contextlib
import json
import os
import socket
import sys
from pathlib import Path

PORT = 4711  # somebody listens there on every address of the machine
KEYS = ("flopd/wallet.key", "p2pd/operational.json", "p2pd/transport.json", "keygen/phrase.sealed")
DAEMONS = ("p2pd", "flopd", "escrowd", "airdropd", "registryd", "stored", "taskd")
CALLERS = (*DAEMONS, "cli", "module")
CREDENTIAL = "/etc/credstore.encrypted/duxnet.passphrase"
WRITE = ("/usr/probe", "/etc/duxnet/probe", "/var/lib/duxnet/probe", "/run/duxnet/probe", "/run/duxnet/slots/probe")
OWN = ("/var/lib/duxnet/{}/probe", "/run/duxnet/{}/probe", "/var/log/duxnet/{}/probe")


def connects(host: str) -> bool:
    try:
        with socket.create_connection((host, PORT), timeout=0.5):
            return True
    except OSError:
        return False


def reads(path: str) -> bool:
    try:
        return bool(Path(path).read_bytes())
    except OSError:
        return False


def writes(path: str) -> bool:
    try:
        Path(path).write_text("")
    except OSError:
        return False
    with contextlib.suppress(OSError):
        Path(path).unlink()
    return True


def status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((line.split()[1] for line in lines if line.startswith(name)), "")


def main() -> None:
    tokens = [f"{callee}/{caller}" for callee in DAEMONS for caller in CALLERS]
    own = [place.format(daemon) for daemon in DAEMONS for place in OWN]
    seen = {
        "user": os.getuid(),
        "local": connects("127.0.0.1"),
        "elsewhere": connects("10.99.0.1"),
        "tokens": [name for name in tokens if reads(f"/run/duxnet/{name}.token")],
        "keys": [name for name in KEYS if reads(f"/var/lib/duxnet/{name}")],
        "credential": reads(CREDENTIAL),
        "writes": [path for path in (*WRITE, *own) if writes(path)],
        "capabilities": int(status("CapEff"), 16),
        "read_only": all(os.statvfs(path).f_flag & os.ST_RDONLY for path in ("/usr", "/etc", "/var/lib")),
        "sees_others": Path("/proc/1").exists(),
        "filtered": status("Seccomp:") == "2",
        "no_new_privileges": status("NoNewPrivs") == "1",
    }
    sys.stdout.write(f"PROBE {json.dumps(seen)}\n")


if __name__ == "__main__":
    main()
