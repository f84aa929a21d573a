"""Several hosts on one machine: a network namespace each, a user-space switch between them, NAT by iptables.

Needs root, `ip` and `iptables`; everything is in namespaces that this module makes and removes.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import yaml

from common.contracts import p2p
from common.errors import DuxError
from common.identity.branch import BRANCH_FILE, did_of_branch, encode_branch, make_branch
from common.network import Bootstrap, NetworkProfile, save_profile
from common.node_ports import rpc_port
from common.rpc.client import HttpClient
from common.rpc.method import Empty
from tests.p2pd.overlay_kit import MADE_MS, profile, wait_until

BASE = 32560
PORT = BASE + 10
CLONE_NEWNET = 0x40000000


def why_not() -> str:
    """Why there can be no hosts here; empty when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [program for program in ("ip", "iptables") if shutil.which(program) is None]
    if missing:
        return f"missing programs: {', '.join(missing)} (Debian: iproute2, iptables)"
    made = subprocess.run(["ip", "netns", "add", f"duxtry{os.getpid()}"], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", f"duxtry{os.getpid()}"], check=True)
    return ""


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


class Lab:
    """Namespaces, their cables, the switch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tag = f"dx{os.getpid()}"
        self.spaces: list[str] = []
        self.ports: list[str] = []
        self.hosts: list[Host] = []
        self.switch: subprocess.Popen[str] | None = None
        self.programs: list[subprocess.Popen[str]] = []
        self.space("sw")

    def space(self, name: str) -> str:
        whole = f"{self.tag}{name}"
        run("ip", "netns", "add", whole)
        self.spaces.append(whole)
        run("ip", "-n", whole, "link", "set", "lo", "up")
        return whole

    def run_in(self, name: str, *words: str) -> str:
        return run("ip", "netns", "exec", f"{self.tag}{name}", *words)

    def serve(self, name: str, script: Path, *words: str) -> subprocess.Popen[str]:
        """A program in a namespace, until the end; it says when it is ready."""
        command = ["ip", "netns", "exec", f"{self.tag}{name}", sys.executable, str(script), *words]
        made = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
        self.programs.append(made)
        assert made.stdout is not None
        assert made.stdout.readline() == "ready\n"
        return made

    def plug(self, name: str, *addresses: str, device: str = "eth0") -> None:
        """A cable from a namespace to the switch."""
        port = f"p{name}"
        run(
            "ip",
            "-n",
            f"{self.tag}sw",
            "link",
            "add",
            port,
            "type",
            "veth",
            "peer",
            device,
            "netns",
            f"{self.tag}{name}",
        )
        run("ip", "-n", f"{self.tag}sw", "link", "set", port, "up")
        self.dress(name, device, *addresses)
        self.ports.append(port)

    def dress(self, name: str, device: str, *addresses: str) -> None:
        run("ip", "-n", f"{self.tag}{name}", "link", "set", device, "up")
        for address in addresses:
            extra = ("nodad",) if ":" in address else ()
            run("ip", "-n", f"{self.tag}{name}", "addr", "add", address, "dev", device, *extra)

    def behind_nat(self, router: str, name: str, outside: str) -> None:
        """A home: a router with one outside address that lets answers in and nothing else, and a host behind it."""
        self.space(router)
        self.space(name)
        self.plug(router, outside)
        space = f"{self.tag}{router}"
        run("ip", "-n", space, "link", "add", "in", "type", "veth", "peer", "eth0", "netns", f"{self.tag}{name}")
        self.dress(router, "in", "192.168.50.1/24")
        self.dress(name, "eth0", "192.168.50.2/24")
        run("ip", "-n", f"{self.tag}{name}", "route", "add", "default", "via", "192.168.50.1")
        self.run_in(router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.run_in(router, "iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE")
        for chain in ("INPUT", "FORWARD"):
            self.run_in(router, "iptables", "-A", chain, "-i", "eth0", "-m", "state", "--state", "NEW", "-j", "DROP")

    def behind_firewall(self, router: str, name: str, outside: str, others: list[str]) -> None:
        """A home with IPv6 alone: addresses that all can route to, and a router that lets nobody in by itself."""
        self.space(router)
        self.space(name)
        self.plug(router, outside)
        space = f"{self.tag}{router}"
        run("ip", "-n", space, "link", "add", "in", "type", "veth", "peer", "eth0", "netns", f"{self.tag}{name}")
        self.run_in(router, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        self.dress(router, "in", "fd78:0:50::1/64", "fe80::1/64")
        self.dress(name, "eth0", "fd78:0:50::2/64")
        way = ("default", "via", "fe80::1", "dev", "eth0")  # as routers advertise themselves
        run("ip", "-n", f"{self.tag}{name}", "route", "add", *way)
        to, _, _ = outside.partition("/")
        for other in others:
            run("ip", "-n", f"{self.tag}{other}", "route", "add", "fd78:0:50::/64", "via", to)
        for chain in ("INPUT", "FORWARD"):
            words = ("-i", "eth0", "-p", "tcp", "-m", "state", "--state", "NEW", "-j", "DROP")
            self.run_in(router, "ip6tables", "-A", chain, *words)

    def start_switch(self, delay_ms: float = 0, loss: float = 0) -> None:
        command = ["ip", "netns", "exec", f"{self.tag}sw", sys.executable, str(Path(__file__).with_name("vswitch.py"))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.switch = subprocess.Popen([*command, *self.ports], text=True, bufsize=1, **pipes)  # type: ignore[call-overload]
        assert self.switch is not None
        assert self.switch.stdout is not None
        assert self.switch.stdout.readline() == "ready\n"
        self.weather(delay_ms, loss)

    def tell(self, line: str) -> None:
        assert self.switch is not None
        assert self.switch.stdin is not None
        self.switch.stdin.write(line + "\n")
        self.switch.stdin.flush()

    def weather(self, delay_ms: float, loss: float) -> None:
        for one in self.ports:
            for other in self.ports:
                if one != other:
                    self.tell(f"link {one} {other} {delay_ms} {loss}")

    def part(self, some: list[str], others: list[str], word: str = "cut") -> None:
        for one in some:
            for other in others:
                self.tell(f"{word} p{one} p{other}")
                self.tell(f"{word} p{other} p{one}")

    def host(self, name: str, number: int, network: NetworkProfile, **settings: Any) -> Host:
        made = Host(self, name, number, network, settings)
        self.hosts.append(made)
        return made

    def close(self) -> None:
        for host in self.hosts:
            host.kill()
            host.pool.shutdown()
        for program in (*self.programs, *([self.switch] if self.switch else [])):
            program.kill()
            program.wait()
        for space in self.spaces:
            subprocess.run(["ip", "netns", "del", space], check=False)


@contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    made = Lab(folder)
    try:
        yield made
    finally:
        made.close()


class Host:
    """One p2pd in a namespace."""

    def __init__(self, where: Lab, name: str, number: int, network: NetworkProfile, settings: dict[str, Any]) -> None:
        self.space, self.name = f"{where.tag}{name}", name
        self.folder = where.folder / name
        data = self.folder / "data" / "p2pd"
        data.mkdir(parents=True, mode=0o700)
        branch = make_branch(bytes([number]) * 64, net=1, account=0, made_ms=MADE_MS, inception_bits=0)
        (data / BRANCH_FILE).write_bytes(encode_branch(branch))
        self.did = did_of_branch(branch, 0)
        config = self.folder / "config"
        config.mkdir()
        save_profile(network, config / "profile.yaml")
        folders = {"data_dir": str(self.folder / "data"), "run_dir": str(self.folder / "run")}
        shared = {"network_profile": "profile.yaml", "port_base": BASE, **folders}
        (config / "common.yaml").write_text(yaml.safe_dump(shared))
        (config / "p2pd.yaml").write_text(
            yaml.safe_dump(msgspec.to_builtins({"lan_mdns": False, "lan_beacon": False} | settings))
        )
        self.program = ["-m", "dux_p2pd"]
        self.process: subprocess.Popen[bytes] | None = None
        self.pool = ThreadPoolExecutor(max_workers=1, initializer=enter, initargs=(self.space,))

    async def start(self) -> None:
        command = [
            "ip",
            "netns",
            "exec",
            self.space,
            sys.executable,
            *self.program,
            "--config",
            str(self.folder / "config"),
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220 - killed by its number
        await wait_until(self.answers, f"{self.name} answers")

    async def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            await self.info()
        except DuxError:
            return False
        return True

    def log(self) -> str:
        return (self.folder / "log").read_text()

    async def call(self, method: Any, params: Any, caller: str = "cli", deadline_s: float = 25.0) -> Any:
        """A call of this host's p2pd, made from within its namespace."""

        async def there() -> Any:
            token = self.folder / "run" / "p2pd" / f"{caller}.token"
            client = HttpClient("p2pd", f"http://127.0.0.1:{rpc_port('p2pd', BASE)}/", token)
            try:
                return await client.call(method, params, deadline_s=deadline_s)
            finally:
                await client.close()

        return await asyncio.get_running_loop().run_in_executor(self.pool, lambda: asyncio.run(there()))

    async def info(self) -> p2p.Info:
        return await self.call(p2p.P2P_INFO, Empty(), deadline_s=5)

    async def peers(self) -> list[p2p.PeerView]:
        return (await self.call(p2p.P2P_PEERS, Empty())).peers

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None and self.process.poll() is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)
            self.process.wait()
        self.process = None


def enter(space: str) -> None:
    """This thread's sockets are made in that namespace from now on."""
    handle = os.open(f"/run/netns/{space}", os.O_RDONLY)
    try:
        assert ctypes.CDLL(None, use_errno=True).setns(handle, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(handle)


def network_of(*bootstrap: Bootstrap) -> NetworkProfile:
    return profile(bootstrap)
