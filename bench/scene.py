"""Nodes to measure: a lone daemon, or a small network on an embedded chain, made from nothing in one folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from common.network import NetworkProfile
from dux_cli.demo.coin_chain import CoinChain
from dux_cli.demo.network import make_network
from dux_cli.demo.stage import chain_at, free_port_base, make_nodes, on_loopback, start_chain
from dux_cli.supervisor import Node

READY_WITHIN_S = 90.0
CHAIN = "embedded"


@dataclass(frozen=True)
class Scene:
    """The chain's process and the nodes by name; no node is started yet."""

    profile: NetworkProfile
    chain: CoinChain
    dids: dict[str, str]
    nodes: dict[str, Node]


def scene_without_chain(folder: Path) -> Scene:
    """Nodes configured for a chain that does not run: for daemons that need none."""
    base = free_port_base()
    chain = chain_at(CHAIN, folder / "chain", base)
    keys, profile = make_network(folder, CHAIN, on_loopback(base), birth_height=0)
    nodes = make_nodes(folder, profile, base, chain)
    return Scene(profile, chain, {name: str(made.did) for name, made in keys.items()}, nodes)


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """A running chain, and nodes that whoever enters starts; all of it is ended."""
    base = free_port_base()
    async with AsyncExitStack() as stack:
        chain = chain_at(CHAIN, folder / "chain", base)
        stack.push_async_callback(chain.stop)
        keys, profile = await start_chain(chain, folder, base, lambda _: None)
        nodes = make_nodes(folder, profile, base, chain)
        for node in nodes.values():
            stack.push_async_callback(node.close)
        yield Scene(profile, chain, {name: str(made.did) for name, made in keys.items()}, nodes)


@asynccontextmanager
async def running(node: Node, daemons: Sequence[str] = ()) -> AsyncIterator[Node]:
    """The node's daemons (all, when none is named), ready; ended afterwards."""
    try:
        await node.start(*daemons)
        await node.wait_ready(*daemons, deadline_s=READY_WITHIN_S)
        yield node
    finally:
        await node.close()
