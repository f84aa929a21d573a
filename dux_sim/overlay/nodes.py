"""The nodes of a large world: p2pd alone, and a household that answers for the daemons above it.

The household answers what a peer can check: a probe's nonce comes back, an offer is taken and answered by a quote,
gossip is written down. It lives and dies with its p2pd: a node that is away answers nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal, cast

from common.codec import canonical, from_canonical
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
from common.contracts.p2p_errors import NoPeerMethod
from common.contracts.peer_escrow import OFFER, QUOTE, Ack, Offer, Quote
from common.contracts.peer_registry import PRESENCE_PROBE, ProbeAnswer, ProbeAsk
from common.daemon import DuxOSDaemon
from common.errors import DuxError, NeighbourDown
from common.parts import Parts
from common.peers import Peers
from common.rpc.client import DEADLINE_DEFAULT_S
from common.rpc.method import Method, P, R
from common.units import Did
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.directory import Directory
from dux_p2pd.keeper import Keeper
from dux_p2pd.overlay import shared_arguments
from dux_p2pd.settings import P2pdSettings
from dux_sim.overlay.links import OverlayTransport
from dux_sim.world.daemons import born
from dux_sim.world.node import OUTSIDE_PORT, SimNode
from dux_sim.world.parts import SimP2pd

P2PD = "p2pd"
OFFER_BYTES_MAX = 65_536
HEARD_MAX = 4096
Word = Literal["accept", "ignore", "reject"]


class Household:
    """The daemons above one p2pd, as far as peers can tell."""

    def __init__(self, node: SimNode, later: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        """`later` runs what has to be said after an answer."""
        self.node = node
        self.heard: dict[bytes, float] = {}  # gossip's payload -> when it came
        self.quotes: dict[bytes, asyncio.Future[Quote]] = {}  # offers of ours that wait
        self.capabilities: tuple[str, ...] = ()
        self._later = later

    def client(self, _caller: str, daemon: str, client: Any) -> Any:
        """Calls into p2pd go there; calls out of it come here."""
        return client if daemon == P2PD else self

    def peers(self, caller: str) -> Peers:
        """Other nodes, as a daemon of this house sees them."""
        return Peers(self.node.door(caller, P2PD))

    async def call(self, method: Method[P, R], params: P, *, deadline_s: float = DEADLINE_DEFAULT_S) -> R:
        """What p2pd asks of the daemons above it.

        Raises:
            NoPeerMethod: nobody here answers it.
        """
        del deadline_s
        if isinstance(params, PeerCallIn) and method.name == PEER_HANDLE.name:
            return cast("R", PeerAnswer(result=self._answer(params)))
        if isinstance(params, GossipIn) and method.name == GOSSIP_HANDLE.name:
            return cast("R", Verdict(verdict=self.hear(params)))
        if isinstance(params, GossipBatch) and method.name == GOSSIP_HANDLE_ALL.name:
            return cast("R", Verdicts(verdicts=[self.hear(message) for message in params.messages]))
        raise NeighbourDown(daemon=method.name, address="in this world", detail="nobody is there")

    async def transfer(self, verb: str, path: str, body: bytes | None) -> bytes:
        """No blobs here."""
        raise NeighbourDown(daemon=f"{verb} {path} {len(body or b'')}", address="in this world", detail="no blobs")

    def hear(self, message: GossipIn) -> Word:
        """A message came: written down, and passed on."""
        if len(self.heard) < HEARD_MAX:
            self.heard.setdefault(message.payload, self.node.world.loop.time())
        return "accept"

    def _answer(self, asked: PeerCallIn) -> bytes:
        if asked.method == PRESENCE_PROBE.name:
            nonce = from_canonical(asked.params, ProbeAsk, max_bytes=PRESENCE_PROBE.params_bytes_max).nonce
            return canonical(ProbeAnswer(nonce=nonce))
        if asked.method == OFFER.name:
            offer = from_canonical(asked.params, Offer, max_bytes=OFFER_BYTES_MAX)
            self._later(self._quote(asked.sender, self.judge(offer)))
            return canonical(Ack(kept=True))
        if asked.method == QUOTE.name:
            quote = from_canonical(asked.params, Quote, max_bytes=QUOTE.params_bytes_max)
            waiting = self.quotes.get(quote.contract_id)
            if waiting is not None and not waiting.done():
                waiting.set_result(quote)
            return canonical(Ack(kept=waiting is not None))
        raise NoPeerMethod(method=asked.method)

    def judge(self, offer: Offer) -> Quote:
        """Taken, when it is for us and for something that we do."""
        accept = offer.seller == self.node.did and offer.service_id in self.capabilities
        return quote_of(offer, accept=accept)

    async def _quote(self, buyer: Did, quote: Quote) -> None:
        try:
            await self.peers("escrowd").call(buyer, QUOTE, quote)
        except DuxError as error:
            self.node.world.history.tell("quote", f"{self.node.name}: not delivered: {error.message}")


def quote_of(offer: Offer, *, accept: bool) -> Quote:
    """The answer to an offer."""
    return Quote(
        contract_id=offer.contract_id, accept=accept, reason="" if accept else "not here", seller_nonce=bytes(32),
        seller_key=b"", seller_payout_script=b"", result_hash=b"", start=1, strikes=(),
    )  # fmt: skip


UNUSED_LOOPS = frozenset({"letters in", "letters out", "blobs kept", "port mapping", "direct paths", "relays"})


class OverlayP2pd(SimP2pd):
    """p2pd on pipes whose sessions are told of silence, without the loops of what nobody wishes for here."""

    async def assemble(self, parts: Parts[P2pdSettings]) -> None:
        """The daemon; letters, blobs and ways through routers have tests of their own."""
        await super().assemble(parts)
        parts.loops = [(name, loop) for name, loop in parts.loops if name not in UNUSED_LOOPS]

    def make_transport(self, parts: Parts[P2pdSettings], keeper: Keeper, directory: Directory) -> BaseTransport:
        """Pipes in place of TLS."""
        self.transport = OverlayTransport(
            network_of=self.site.net,
            transport_key=keeper.transport.public,
            listen=(self.site.host, parts.settings.listen_port),
            **shared_arguments(parts, directory),
        )
        return self.transport


def make(node: SimNode, daemon: str, kind: type[OverlayP2pd] = OverlayP2pd, **changes: Any) -> DuxOSDaemon[Any]:
    """A new life of a node's p2pd; `changes` are settings of its own."""
    own = {"listen_host": node.host, "listen_port": OUTSIDE_PORT, "known_after_s": 0}
    return born(node, daemon, kind, P2pdSettings, **(own | changes))
