"""A private Tor network on loopback: a directory authority, two relays, an exit, a hidden service, one client.

Debian's tor, its `TestingTorNetwork`, everything on 127.0.0.1 and in one folder; nobody outside is asked for anything.
The exit looks names up at a resolver of its own, which knows one name.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from python_socks import ProxyError, ProxyType
from python_socks.sync import Proxy

from tests.ports import free_ports

FORMED_S = 60.0
RELAYS = ("one", "two", "exit")
NAME = "coin.example"  # what the exit's resolver knows: 127.0.0.1
PACE = """
V3AuthVotingInterval 10
V3AuthVoteDelay 2
V3AuthDistDelay 2
TestingV3AuthInitialVotingInterval 5
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
TestingDirAuthVoteGuard *
TestingDirAuthVoteHSDir *
TestingMinExitFlagThreshold 0
"""  # a first consensus after some five seconds in place of an hour


class TorNetwork:
    """The processes, and what the client's control socket tells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        first = free_ports(7)
        self.directory, self.socks, self.target = first, first + 1, first + 2  # target: where the hidden service leads
        self.ports = {name: first + 3 + at for at, name in enumerate(("authority", *RELAYS))}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.resolver = Resolver()
        self.authority = ""

    # -- making it

    def start(self) -> None:
        """Until the client has a way through the exit and the hidden service is announced."""
        self._certify()
        self._start("authority", self._relay("authority"), f"DirPort 127.0.0.1:{self.directory}",
                    "AuthoritativeDirectory 1", "V3AuthoritativeDirectory 1", PACE)  # fmt: skip
        lookups = self.folder / "resolv.conf"
        lookups.write_text(f"nameserver 127.0.0.1:{self.resolver.port}\n")
        for name in RELAYS:
            way = ("ExitRelay 1", "ExitPolicy accept *:*", "ExitPolicyRejectPrivate 0",
                   "ExitPolicyRejectLocalInterfaces 0", f"ServerDNSResolvConfFile {lookups}",
                   "ServerDNSDetectHijacking 0") if name == "exit" else ()  # fmt: skip
            self._start(name, self._relay(name), *way)
        self._wait(lambda: self._consensus().count("\ns ") == len(self.ports) and " Exit " in self._consensus())
        service = f"HiddenServiceDir {self.folder / 'service'}", f"HiddenServicePort 80 127.0.0.1:{self.target}"
        self._start("service", "SocksPort 0", "VanguardsLiteEnabled 0", *service)
        self.start_client()
        with socket.create_server(("127.0.0.1", self.target)):
            self._wait(lambda: self._opens(self.onion, 80))

    def start_client(self) -> None:
        """Until it has a way through the exit, which must have heard of the other relays first."""
        self._start("client", f"SocksPort 127.0.0.1:{self.socks} ExtendedErrors", f"ControlSocket {self._control}")
        self._wait(lambda: "established=1" in self.ask("status/circuit-established"))
        with socket.create_server(("127.0.0.1", 0)) as there:
            self._wait(lambda: self._opens(*there.getsockname()))

    def _opens(self, host: str, port: int) -> bool:
        """Whether the client reaches it just now."""
        login = {"username": "self", "password": "self"}  # so circuits of its own
        proxy = Proxy(ProxyType.SOCKS5, "127.0.0.1", self.socks, **login, rdns=True)
        try:
            proxy.connect(host, port, timeout=5).close()
        except (ProxyError, OSError):
            return False
        return True

    def _certify(self) -> None:
        """The authority's keys: made by Debian's own program, known by their fingerprints to all the others."""
        home = self.folder / "authority"
        (home / "keys").mkdir(parents=True, mode=0o700)
        home.chmod(0o700)
        words = ("--create-identity-key", "-m", "3", "-a", f"127.0.0.1:{self.directory}", "--passphrase-fd", "0")
        subprocess.run(["tor-gencert", *words], input=b"x\n", cwd=home / "keys", check=True, capture_output=True)
        rows = (home / "keys" / "authority_certificate").read_text().splitlines()
        voter = next(row.split()[1] for row in rows if row.startswith("fingerprint"))
        empty = self.folder / "empty"
        empty.touch()
        asked = ["tor", "--quiet", "-f", empty, "--DataDirectory", home, "--list-fingerprint",
                 "--Nickname", "authority", "--ORPort", f"127.0.0.1:{self.ports['authority']}",
                 "--DirAuthority", f"x orport=1 v3ident={voter} 127.0.0.1:1 {'0' * 40}"]  # fmt: skip
        subprocess.run(asked, check=True, capture_output=True)
        own = (home / "fingerprint").read_text().split()[1]
        self.authority = (
            f"authority orport={self.ports['authority']} no-v2 v3ident={voter} 127.0.0.1:{self.directory} {own}"
        )

    def _relay(self, name: str) -> str:
        return "\n".join((f"Nickname {name}", "Address 127.0.0.1", f"ORPort 127.0.0.1:{self.ports[name]}",
                          "SocksPort 0", "AssumeReachable 1", "ContactInfo none"))  # fmt: skip

    def _start(self, name: str, *lines: str) -> None:
        home = self.folder / name
        home.mkdir(mode=0o700, exist_ok=True)
        shared = ("TestingTorNetwork 1", f"DirAuthority {self.authority}", f"DataDirectory {home}",
                  f"Log info file {self.folder / name}.log", "SafeLogging 0", "AvoidDiskWrites 1",
                  "ShutdownWaitLength 0", "PathsNeededToBuildCircuits 0.25")  # fmt: skip
        file = self.folder / f"{name}.conf"
        file.write_text("\n".join((*shared, *lines)) + "\n")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes[name] = subprocess.Popen(["tor", "--quiet", "-f", str(file)], **quiet)  # type: ignore[call-overload]

    def _wait(self, until: Callable[[], bool], within_s: float = FORMED_S) -> None:
        end = time.monotonic() + within_s
        while not until():
            died = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not died, {name: (self.folder / f"{name}.log").read_text()[-2000:] for name in died}
            assert time.monotonic() < end, self.told()
            time.sleep(0.1)

    def told(self) -> dict[str, str]:
        """The ends of the logs, for who looks for a fault."""
        return {name: (self.folder / f"{name}.log").read_text()[-1000:] for name in self.processes}

    def _consensus(self) -> str:
        try:
            address = f"http://127.0.0.1:{self.directory}/tor/status-vote/current/consensus"
            with urllib.request.urlopen(address, timeout=2) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    # -- what it tells

    @property
    def onion(self) -> str:
        """The hidden service's name."""
        return (self.folder / "service" / "hostname").read_text().strip()

    @property
    def _control(self) -> Path:
        return self.folder / "client.ctl"

    def ask(self, what: str) -> str:
        """What the client's control socket says; empty while there is none."""
        with socket.socket(socket.AF_UNIX) as line, suppress(OSError):
            line.settimeout(5)
            line.connect(str(self._control))
            line.sendall(f'AUTHENTICATE ""\r\nGETINFO {what}\r\nQUIT\r\n'.encode())
            return b"".join(iter(lambda: line.recv(65_536), b"")).decode()
        return ""

    def circuits(self, user: str) -> set[str]:
        """The numbers of the circuits that are kept for a user name alone."""
        rows = self.ask("circuit-status").splitlines()
        return {row.removeprefix("250+").split()[0] for row in rows if f'SOCKS_USERNAME="{user}"' in row}

    def ends_at_exit(self, address: tuple[str, int]) -> bool:
        """Whether this end of a connection is held by the exit's process, as the kernel says."""
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        inodes = {f"socket:[{row[9]}]" for row in rows if int(row[1].split(":")[1], 16) == address[1]}
        held = set()
        for one in Path(f"/proc/{self.processes['exit'].pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                held.add(os.readlink(one))  # noqa: PTH115 - the text is wanted, not a path
        return bool(inodes & held)

    # -- ending it

    def kill(self, name: str) -> None:
        """One process, at once."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        """All of it."""
        for name in list(self.processes):
            self.kill(name)
        self.resolver.close()


class Resolver:
    """Knows one name, says «no such name» to others, and remembers what it was asked."""

    def __init__(self) -> None:
        self._door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._door.bind(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            question, sender = self._door.recvfrom(512)
            if not question:
                return
            name, rest = read_name(question, 12)
            self.asked.append(name)
            known = name == NAME and question[rest : rest + 2] == b"\0\1"
            head = (
                question[:2] + (b"\x85\x80" if name == NAME else b"\x85\x83") + b"\0\1" + bytes([0, known]) + bytes(4)
            )
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if known else b""
            self._door.sendto(head + question[12 : rest + 4] + answer, sender)

    def close(self) -> None:
        """An empty datagram ends the thread."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(5)
        self._door.close()


def read_name(data: bytes, at: int) -> tuple[str, int]:
    """A name of a question, lower case, and where it ends."""
    labels = []
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode().lower())
        at += 1 + data[at]
    return ".".join(labels), at + 1


@contextmanager
def tor_network() -> Iterator[TorNetwork]:
    """It, formed; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="duxtor-"))
    made = TorNetwork(folder)
    try:
        made.start()
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)
