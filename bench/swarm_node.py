"""One p2pd of a swarm: the daemon's own class on its real sockets, without the doors to the daemons of a node.

Replaced, and nothing else: there is no JSON-RPC port and no egress (hundreds share a process), the store is in memory
(with the setting `on_disk`, in the node's folder), the keys follow from the node's number, and whoever would judge
gossip accepts it and notes when it came.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import structlog

from common.contracts.base import (
    GOSSIP_HANDLE,
    GOSSIP_HANDLE_ALL,
    PEER_HANDLE,
    GossipBatch,
    GossipIn,
    PeerAnswer,
    PeerCallIn,
    Verdict,
    Verdicts,
)
from common.identity.branch import did_of_branch, make_branch
from common.network import NetworkProfile
from common.node_ports import outside_address
from common.parts import Parts
from common.rpc.client import LocalClient
from common.units import Did
from dux_p2pd.daemon import P2pDaemon, shut_egress
from dux_p2pd.egress import Egress
from dux_p2pd.key_source import BranchKeys, KeySource
from dux_p2pd.settings import P2pdSettings
from dux_p2pd.transport_keys import TransportKeys

MADE_MS = 1_790_000_000_000
HEARD_MAX = 1_000_000  # deliveries noted between two looks


def seed_of(number: int) -> bytes:
    """The phrase's seed of a node, from its number."""
    return hashlib.sha512(b"swarm node %d" % number).digest()


def did_of_node(number: int) -> Did:
    """The DID that a node of this number has."""
    branch = make_branch(seed_of(number), net=1, account=0, made_ms=MADE_MS, inception_bits=0)
    return did_of_branch(branch, 0)


def address_of(number: int, port: int) -> str:
    """Where a node of this number listens: each in a subnet of its own."""
    return f"{outside_address(number)}:{port}"


def swarm_profile() -> NetworkProfile:
    """A test network without a chain."""
    return NetworkProfile(name="swarm", chain="embedded", genesis="5a" * 32, heights="demo")


class Listener:
    """Stands for the daemons above: accepts gossip and notes its time, answers peer calls with their parameters."""

    def __init__(self) -> None:
        self.heard: list[tuple[bytes, float]] = []

    async def call(self, method: Any, params: Any, *, deadline_s: float = 15.0) -> Any:
        """PEER_HANDLE, GOSSIP_HANDLE and GOSSIP_HANDLE_ALL."""
        del deadline_s
        if method is PEER_HANDLE and isinstance(params, PeerCallIn):
            return PeerAnswer(result=params.params)
        if method is GOSSIP_HANDLE and isinstance(params, GossipIn):
            self._hear([params])
            return Verdict(verdict="accept")
        if method is GOSSIP_HANDLE_ALL and isinstance(params, GossipBatch):
            self._hear(params.messages)
            return Verdicts(verdicts=["accept"] * len(params.messages))
        raise TypeError(f"nobody asks {method.name} of a swarm's listener")

    def _hear(self, messages: list[GossipIn]) -> None:
        if len(self.heard) < HEARD_MAX:
            now_s = time.monotonic()
            self.heard += [(message.payload, now_s) for message in messages]

    async def transfer(self, verb: str, path: str, body: bytes | None) -> bytes:
        """No blobs here."""
        raise TypeError(f"{verb} {path} ({len(body or b'')} bytes) is nothing for a swarm's listener")


class SwarmP2pd(P2pDaemon):
    """p2pd, hosted with many others."""

    number: int
    listener: Listener

    @classmethod
    def make(cls, number: int, port: int, folder: Path, settings: dict[str, Any]) -> SwarmP2pd:
        """The node of this number, not yet started."""
        listener, settings = Listener(), dict(settings)
        in_memory = not settings.pop("on_disk", False)
        found = P2pdSettings(
            network_profile="none",
            data_dir=str(folder / "data"),
            run_dir=str(folder / "run"),
            listen_host=outside_address(number),
            listen_port=port,
            **settings,
        )
        log = structlog.get_logger().bind(node=number)
        daemon = cls(found, swarm_profile(), log=log, neighbours=lambda _: listener, store_in_memory=in_memory)
        daemon.number, daemon.listener = number, listener
        return daemon

    def as_caller(self, caller: str) -> LocalClient:
        """Calls this node's methods as a daemon above it would."""
        return LocalClient(self.parts.table, caller)

    def load_keys(self, parts: Parts[P2pdSettings]) -> tuple[KeySource, TransportKeys]:
        """Of the node's number."""
        branch = make_branch(seed_of(self.number), net=1, account=0, made_ms=MADE_MS, inception_bits=0)
        period_s, now_ms = parts.settings.rotate_transport_every_s, parts.clock.unix_ms()
        return BranchKeys(branch), TransportKeys(None, parts.random, now_ms=now_ms, period_s=period_s)

    async def open_egress(self, parts: Parts[P2pdSettings]) -> Egress:
        """Nobody goes out."""
        return shut_egress(parts)

    async def _listen(self, parts: Parts[P2pdSettings]) -> None:
        """Callers are in this process."""
