"""A node whose seven daemons are real processes on the real base class, with nothing to do."""

import textwrap
from pathlib import Path

from common.network import NetworkProfile, save_profile
from common.rpc.method import DAEMONS
from dux_cli.node_dir import NodeDir

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
