"""The demo's stage: a coin chain and six nodes on loopback, made from nothing in one folder.

Keys first, then the network's profile (which names custodians, arbiters and first coins), then every node's
configuration. Everything started here is ended here, by its own process id.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common.chain.heights import heights_profile
from common.community_fund import fund_script_of
from common.contracts.p2p import P2P_INFO
from common.contracts.wallet import CHAIN_TIP
from common.errors import DuxError, Unavailable
from common.keygen import KeysMade
from common.network import NetworkProfile, save_profile
from common.node_ports import OUTSIDE_OFFSET, PORTS_PER_NODE
from common.rpc.method import Empty
from dux_cli.demo.coin_chain import CoinChain
from dux_cli.demo.network import NAMES, SPLIT, first_coins, make_network
from dux_cli.demo.pace import Pace
from dux_cli.demo.ports import is_free, name_of
from dux_cli.node_dir import NodeDir
from dux_cli.node_files import ChainLogin, outside_endpoint, write_config
from dux_cli.supervisor import Node

CHAIN_PORT_OFFSET = 9  # below the first node's ports
PEERS_PORT_OFFSET = 8  # where the chain serves the nodes' light wallets
READY_WITHIN_S = 90.0
_RESERVED: dict[int, socket.socket] = {}
PORTS_FROM, PORTS_TO = 12_000, 31_000  # below those that the kernel gives to outgoing connections


class NoPorts(Unavailable):
    """No free block of ports was found on loopback between {first} and {last}; end what listens there."""

    code = 1334
    key = "no-ports"


@dataclass
class Stage:
    """What the story is played on."""

    folder: Path
    chain: CoinChain
    profile: NetworkProfile
    keys: dict[str, KeysMade]
    nodes: dict[str, Node]
    pace: Pace
    off: set[str] = field(default_factory=set)  # nodes that the story has put to sleep: the pace does not wait for them

    @property
    def fund_script(self) -> bytes:
        """The output script of the community fund."""
        return fund_script_of(self.profile.fund)

    @property
    def depth_blocks(self) -> int:
        """Confirmations on which a contract of the demo rests."""
        return heights_profile(self.profile.heights).depth_blocks

    def did(self, name: str) -> str:
        """A node's DID."""
        return self.keys[name].did

    def node(self, name: str) -> Node:
        """A node's processes and clients."""
        return self.nodes[name]

    def endpoints(self) -> dict[str, str]:
        """Where each node answers on this machine, for `--keep`."""
        return {name: str(node.folder.path) for name, node in self.nodes.items()} | {"chain": self.chain.url}


@asynccontextmanager
async def staged(folder: Path, program: str, tell: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Make the network in `folder`, start it, and end all of it when the block ends.

    Raises:
        DuxError: a program is missing, a daemon does not start, no ports are free.
    """
    base = free_port_base()
    async with AsyncExitStack() as stack:
        chain = chain_at(program, folder / "chain", base)
        stack.push_async_callback(chain.stop)
        keys, profile = await start_chain(chain, folder, base, tell)
        nodes = make_nodes(folder, profile, base, chain)
        stage = Stage(folder, chain, profile, keys, nodes, Pace(chain, lambda: awake(stage)))
        tell("starting six nodes: 18 processes")
        for node in nodes.values():
            stack.push_async_callback(node.close)
        await asyncio.gather(*(node.start() for node in nodes.values()))
        await asyncio.gather(*(node.wait_ready(deadline_s=READY_WITHIN_S) for node in nodes.values()))
        tell("the nodes find each other and read the chain")
        await stage.pace.until("all nodes connected and in step with the chain", lambda: in_step(stage))
        mining = asyncio.ensure_future(stage.pace.run())
        stack.callback(mining.cancel)
        yield stage


def chain_at(program: str, folder: Path, base: int) -> CoinChain:
    """The chain beside nodes whose ports begin at `base`: it mines for the story and serves their wallets."""
    ports = (base - CHAIN_PORT_OFFSET, base - PEERS_PORT_OFFSET)
    return CoinChain(program, folder, "127.0.0.1", ports[0], p2p_port=ports[1])


async def start_chain(
    chain: CoinChain, folder: Path, base: int, tell: Callable[[str], None]
) -> tuple[dict[str, KeysMade], NetworkProfile]:
    """A running chain on which the nodes, whose keys are made here, have their first coins.

    The embedded chain's genesis holds those coins, so its keys come first; on a real coin node they come last, so that
    nobody has to read the blocks before them.
    """
    tell(f"a coin chain ({chain.program}), and keys for six nodes")
    if chain.program == "embedded":
        keys, profile = make_network(folder, chain.program, on_loopback(base), birth_height=0)
        save_profile(profile, folder / "network.yaml")
        await chain.start(folder / "network.yaml")
    else:
        await chain.start(folder)
        keys, profile = make_network(folder, chain.program, on_loopback(base), birth_height=await chain.ripen())
        save_profile(profile, folder / "network.yaml")
    await chain.endow(first_coins(profile, keys))
    return keys, profile


def on_loopback(base: int) -> Callable[[str], str]:
    """Where the others find each node on this machine."""

    def reached_at(name: str) -> str:
        index = NAMES.index(name)
        return outside_endpoint(index, base + index * PORTS_PER_NODE)

    return reached_at


def awake(stage: Stage) -> list[Node]:
    """The nodes that the chain's pace waits for."""
    return [node for name, node in stage.nodes.items() if name not in stage.off]


async def in_step(stage: Stage) -> bool:
    """Does every node know the others and the chain's tip?"""
    height = await stage.chain.height()
    others = len(stage.nodes) - 1
    return all(await asyncio.gather(*(_is_in_step(node, height, others) for node in stage.nodes.values())))


async def _is_in_step(node: Node, height: int, others: int) -> bool:
    try:
        info = await node.call(P2P_INFO, Empty(), deadline_s=3)
        tip = await node.call(CHAIN_TIP, Empty(), deadline_s=3)
    except DuxError:
        return False
    return info.sessions >= others and tip.synced and tip.height >= height


def make_nodes(folder: Path, profile: NetworkProfile, base: int, chain: CoinChain) -> dict[str, Node]:
    """Every node's configuration, and its supervisor."""
    login = ChainLogin(chain.url, chain.user, chain.password_file, chain.peers)
    nodes: dict[str, Node] = {}
    for index, name in enumerate(NAMES):
        directory = NodeDir(folder / name)
        write_config(directory, profile, index=index, port_base=base + index * PORTS_PER_NODE, chain=login)
        nodes[name] = Node(directory, one_process=name not in SPLIT)
    return nodes


def free_port_base() -> int:
    """A base from which all ports of the six nodes and the chain are free on loopback; this process's until it ends.

    Raises:
        NoPorts: none of forty blocks is.
    """
    blocks = range(PORTS_FROM, PORTS_TO, 700)
    for base in blocks:
        nodes = (base + index * PORTS_PER_NODE for index in range(len(NAMES)))
        wanted = [port for first in nodes for port in range(first, first + OUTSIDE_OFFSET + 1)]
        if _reserve(base) and all(
            is_free(port, "127.0.0.1") for port in (base - CHAIN_PORT_OFFSET, base - PEERS_PORT_OFFSET, *wanted)
        ):
            return base
    raise NoPorts(first=blocks[0], last=blocks[-1])


def _reserve(base: int) -> bool:
    """Whether no other process of this machine has chosen the block and not begun to listen yet."""
    if base not in _RESERVED and (name := name_of(base)):
        _RESERVED[base] = name
    return base in _RESERVED
