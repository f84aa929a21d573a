"""A node whose seven daemons are real processes on the real base class, with nothing to do."""

import os
import socket
import textwrap
from pathlib import Path

from common.network import NetworkProfile, save_profile
from common.rpc.method import DAEMONS
from dux_cli.node_dir import NodeDir

GIVEN: set[int] = set()
PROGRAM = """
from common.daemon import DuxOSDaemon
from common.settings import DaemonSettings

class Toy(DuxOSDaemon[DaemonSettings]):
    name = "{daemon}"
    settings_type = DaemonSettings

    async def assemble(self, parts):
        pass

if __name__ == "__main__":
    Toy.main()
"""


def free_port_base() -> int:
    """A base whose ports are free, below those that the kernel gives to outgoing connections; another per process."""
    bases = range(10_000, 20_000, 100)
    for step in range(len(bases)):
        base = bases[(os.getpid() * 7 + step) % len(bases)]
        if base not in GIVEN and all(is_free(base + place) for place in range(11)):
            GIVEN.add(base)
            return base
    raise AssertionError("no free ports")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def make_toy_node(folder: Path, *, port_base: int, network: str = "toy") -> NodeDir:
    """Settings and a network profile; no keys, for toys need none."""
    node = NodeDir(folder)
    node.config.mkdir(parents=True)
    save_profile(
        NetworkProfile(
            name=network,
            chain="embedded",
            genesis="00" * 32,
            heights="demo",
            may_keep_phrase=network != "main",
            alpn="dux/1" if network == "main" else "dux-test/1",
        ),
        node.config / "network.yaml",
    )
    (node.config / "common.yaml").write_text(
        f"network_profile: network.yaml\ndata_dir: {node.data}\nrun_dir: {node.run}\nport_base: {port_base}\n"
    )
    return node


def write_toys(folder: Path) -> dict[str, str]:
    """One program per daemon in `folder`; daemon -> module."""
    folder.mkdir(exist_ok=True)
    for daemon in DAEMONS:
        (folder / f"toy_{daemon}.py").write_text(textwrap.dedent(PROGRAM).format(daemon=daemon))
    return {daemon: f"toy_{daemon}" for daemon in DAEMONS}
