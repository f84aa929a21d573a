"""Transactions on their way: those that peers announce, and those that the wallet hands to them.

Promises: an own transaction goes to every peer but one, which is listened to for an echo, and again at each new tip
until a block holds it; it is refused only when two peers (or the only one) refuse it, so that no single liar ends a
payment. Stored bytes are answered to whoever asks for them.

Source: facts §2 (refusals, 24 h in the pool), §4 (a).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from common.chain import messages
from common.chain.messages import Inv, Reject
from common.chain.tx import BadTransaction, Tx, parse, txid
from common.chain.wire import DecodeError, shown, unshown
from common.clock import Clock
from dux_flopd.source import Refused
from dux_flopd.spv_peer import Peer, PeerLost
from dux_flopd.spv_pool import Pool
from dux_flopd.spv_watch import Watch

REFUSALS_NEEDED = 2
LISTENER_FROM = 3  # with so many peers one is left out, to hear whether the others passed it on
ECHO_S = 600.0  # an honest network has passed it on by then
REOFFER_S = 600.0
CODE_REJECTED, CODE_MISSING, CODE_IN_CHAIN = -26, -25, -27
WAITS = ("txn-already-in-mempool",)  # no refusal: it is where it should be
ASKED_MAX = 500  # transactions asked from one peer at once


class Relay:
    """The pool and its ways in and out."""

    def __init__(self, pool: Pool, watch: Watch, clock: Clock, changed: asyncio.Event, *, replaces: bool) -> None:
        """`replaces`: nodes of this coin take the better paying of two payments that spend the same."""
        self.pool = pool
        self._replaces = replaces
        self._watch = watch
        self._clock = clock
        self._offered: dict[tuple[str, str], tuple[bytes, float]] = {}  # (peer, txid) -> tip and time of the last offer
        self.changed = changed

    def unknown(self, peer: Peer, names: Sequence[bytes]) -> list[bytes]:
        """Of what a peer announces, that which is worth asking for."""
        fresh = [name for name in names if not self.pool.announced(shown(name), peer.address)]
        if len(fresh) < len(names):
            self.changed.set()
        return fresh[:ASKED_MAX]

    def heard_tx(self, peer: Peer, raw: bytes) -> None:
        """A peer shows a transaction; one that does not concern the wallet is forgotten at once."""
        try:
            tx = parse(raw)
        except BadTransaction as error:
            raise DecodeError(error.message) from error
        if self._watch.concerns(tx):
            self.pool.add(txid(tx), tx, raw, self._clock.monotonic(), own=False, peer=peer.address)
            self.changed.set()

    async def answer(self, peer: Peer, payload: bytes) -> None:
        """A peer asks for transactions that were announced to it: own ones only, nobody is told what we look for."""
        for kind, name in messages.decode_invs(payload):
            known = self.pool.get(shown(name)) if kind & 0xFFFF == Inv.TX else None
            if known is not None and known.own:
                await peer.send("tx", known.raw)

    async def broadcast(self, raw: bytes, tip: bytes, peers: Sequence[Peer]) -> bool:
        """Hand an own transaction over; false when no peer took part.

        Raises:
            Refused: as many peers as it needs refuse it.
        """
        tx = parse(raw)
        name = txid(tx)
        if self.pool.is_confirmed(name):
            raise Refused(CODE_IN_CHAIN, "transaction already in block chain")
        self._check_unspent(name, tx)
        outbid = self._outbid(name, tx)
        self.pool.add(name, tx, raw, self._clock.monotonic(), own=True)
        self.changed.set()
        chosen = self._chosen(name, peers)
        answers = await asyncio.gather(*(self._offer(peer, name, raw, tip) for peer in chosen))
        refusals = [answer for answer in answers if isinstance(answer, Reject)]
        if refusals and len(refusals) >= min(REFUSALS_NEEDED, len(chosen)):
            self.pool.refuse(name)
            raise Refused(CODE_REJECTED, f"{refusals[0].code}: {refusals[0].reason}")
        self.pool.replace(outbid)
        return any(answer is not None for answer in answers)

    def _outbid(self, name: str, tx: Tx) -> list[str]:
        """Own waiting ones that this one replaces.

        Raises:
            Refused: one of them pays more.
        """
        if not self._replaces or self.pool.get(name) is not None:
            return []
        outbid, better = self.pool.outbid_by(tx)
        if better:
            raise Refused(CODE_REJECTED, f"insufficient fee: {better[0]} spends the same and pays more")
        return outbid

    def _check_unspent(self, name: str, tx: Tx) -> None:
        if any(self.pool.is_gone(item.outpoint.txid) for item in tx.inputs):
            raise Refused(CODE_MISSING, "bad-txns-inputs-missingorspent: what it spends will not be in a block")
        spender = next((by for item in tx.inputs if (by := self._watch.spender_in_block(item.outpoint))), name)
        if spender != name:
            raise Refused(CODE_MISSING, f"bad-txns-inputs-missingorspent: {spender} in a block spends the same")

    def _chosen(self, name: str, peers: Sequence[Peer]) -> Sequence[Peer]:
        if len(peers) < LISTENER_FROM or self._heard_echo(name):
            return peers
        left_out = int(name[:8], 16) % len(peers)
        return [peer for at, peer in enumerate(peers) if at != left_out]

    def _heard_echo(self, name: str) -> bool:
        known = self.pool.get(name)
        return known is not None and bool(known.seen_by)

    @property
    def unheard(self) -> int:
        """Own transactions that no peer announced back for long, though some had the chance."""
        now_s = self._clock.monotonic()
        own = [self.pool.get(name) for name in self.pool.believed(1)]
        return sum(1 for i in own if i and i.own and not i.seen_by and now_s - i.since_s > ECHO_S)

    async def _offer(self, peer: Peer, name: str, raw: bytes, tip: bytes) -> Reject | bool | None:
        """True: taken, as far as one can tell; a refusal; None: the peer is gone."""
        now_s, key = self._clock.monotonic(), (peer.address, name)
        before = self._offered.get(key)
        if before and before[0] == tip and now_s - before[1] < REOFFER_S:
            return True
        self._offered[key] = (tip, now_s)
        try:
            if before:  # it had the bytes once: it asks when it has lost them
                await peer.send("inv", messages.encode_invs(Inv.TX, [unshown(name)]))
                return True
            answer = await peer.ask("tx", raw, "reject")
        except PeerLost:
            del self._offered[key]
            return None
        refusal = _about(name, answer["reject"])
        if refusal is not None:
            del self._offered[key]
        return refusal or True

    def expire(self) -> None:
        """Forget what is old, and offers of what waits no more."""
        self.pool.expire(self._clock.monotonic())
        self._offered = {key: at for key, at in self._offered.items() if self.pool.get(key[1]) is not None}


def _about(name: str, payloads: Sequence[bytes]) -> Reject | None:
    for payload in payloads:
        try:
            reject = messages.decode_reject(payload)
        except DecodeError:
            continue
        if reject.message == "tx" and reject.about == unshown(name) and reject.reason not in WAITS:
            return reject
    return None
