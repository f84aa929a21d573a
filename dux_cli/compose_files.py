"""`duxnet testnet compose-files`: keys, profile and settings of the six nodes and the coin chain of docker-compose.yml.

    DIR/chain/    the network's profile, the login of the coin node
    DIR/<node>/   a node's folder, as `duxnet init` makes one

Promises: a container mounts one of these folders at the same path and sees no other, so a node's keys are in its own
volume alone; a second run changes nothing. Knows the names and addresses of docker-compose.yml, and starts nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.errors import CallerMistake
from common.node_ports import OUTSIDE_OFFSET, PORT_BASE
from dux_cli.command import DuxCommand, Session, pass_session
from dux_cli.node_dir import NodeDir

if TYPE_CHECKING:
    from common.keygen import KeysMade
    from common.network import NetworkProfile
    from common.units import Florins

CHAIN = "chain"  # the coin node's container
CHAIN_PORT = 28_600  # its RPC: for whoever mines or looks, not for the nodes
PEERS_PORT = 28_601  # where the nodes' light wallets reach it
FIRST_COINS = "first_coins.yaml"
OUTSIDE_PORT = PORT_BASE + OUTSIDE_OFFSET
PLAIN_USER = 10_001  # of the containers that need no root: the chain, and nodes that are one process


class NetworkHalfMade(CallerMistake):
    """{path} holds keys but no profile: making them was cut off. Begin anew: `docker-compose down --volumes`."""

    code = 1129
    key = "network-half-made"


@click.command("compose-files", cls=DuxCommand)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--chain", "program", type=click.Choice(["embedded", "litecoind"]), default="embedded", show_default=True)
@pass_session
def compose_files(session: Session, folder: Path, program: str) -> None:
    """Make the keys and settings of the containers of docker-compose.yml; its `prepare` service runs this.

    \b
    duxnet testnet compose-files /duxnet
    """
    profile_file = folder.absolute() / CHAIN / "network.yaml"
    made = not profile_file.exists()
    if made:
        make(folder.absolute(), program)
    told = {"folder": str(folder), "profile": str(profile_file), "made": made}
    session.out.record(told, [("network", str(profile_file)), ("made", "now" if made else "before")], name=str(folder))


def make(folder: Path, program: str) -> None:
    """Keys, then the settings that name them, then the profile: it is there when all is done.

    Raises:
        NetworkHalfMade: somebody began and did not finish.
    """
    from common.network import save_profile
    from dux_cli.demo.coin_chain import LITECOIN_FIRST_BLOCKS
    from dux_cli.demo.network import NAMES, first_coins, make_network

    if any((folder / name / "data").exists() for name in NAMES):
        raise NetworkHalfMade(path=str(folder))
    birth_height = 0 if program == "embedded" else LITECOIN_FIRST_BLOCKS
    keys, profile = make_network(folder, program, reached_at, birth_height=birth_height)
    make_login(folder / CHAIN)
    for name in NAMES:
        write_node(NodeDir(folder / name), profile, keys[name])
    write_first_coins(folder / CHAIN, first_coins(profile, keys))
    unfinished = folder / CHAIN / "network.yaml.new"
    save_profile(profile, unfinished)
    hand_over(folder)
    unfinished.rename(folder / CHAIN / "network.yaml")


def reached_at(name: str) -> str:
    """Where the others find a node: by its container's name, whatever address that has at the moment."""
    return f"{name}:{OUTSIDE_PORT}"


def make_login(folder: Path) -> None:
    """A login of its own for this network's coin node; no node of the market has it."""
    from common.keyfile import write_private
    from common.randomness import SystemRandomness

    write_private(folder / "rpc.auth", f"duxnet:{SystemRandomness().bytes(20).hex()}\n".encode())


def write_first_coins(folder: Path, coins: list[tuple[str, Florins]]) -> None:
    """Who is given what once a real coin node has coins; the embedded chain has them in its first block."""
    import yaml

    (folder / FIRST_COINS).write_text(yaml.safe_dump([[address, str(int(amount))] for address, amount in coins]))


def write_node(folder: NodeDir, profile: NetworkProfile, keys: KeysMade) -> None:
    """A node's settings: p2pd listens on the container's address, everything else on its loopback."""
    from dux_cli.node_files import ChainLogin, write_config
    from dux_cli.testnet import quick_settings

    folder.config.mkdir(parents=True, exist_ok=True)
    write_config(
        folder,
        profile,
        index=0,
        port_base=PORT_BASE,
        chain=ChainLogin(peers=(f"{CHAIN}:{PEERS_PORT}",)),
        listen_host="0.0.0.0",  # noqa: S104 - the container's own address, which changes when it is connected anew
        extra=quick_settings(keys.address),
    )


def hand_over(folder: Path) -> None:
    """Give what is run by a plain user to that user; nodes with a user per daemon stay root's, who hands it on."""
    from dux_cli.demo.network import NAMES, SPLIT
    from dux_cli.uids import below

    if os.geteuid() != 0:
        return
    for name in {CHAIN, *NAMES}.difference(SPLIT):
        for path in (folder / name, *below(folder / name)):
            os.chown(path, PLAIN_USER, PLAIN_USER, follow_symlinks=False)
