"""The draw with the chain at hand: the beacon of the draw block, the parties' nonces, and whether a panel follows.

Promise: no panel is signed here that this node's own chain view does not give, and no own nonce is shown before the
draw block is there. A draw block that a reorganisation took gives another beacon, so the seats are asked for again in
the new order until all have agreed; later it does not matter. Where nonces were shown by then, the agreement ends
instead: a miner that knows them could choose the other block.

Source: escrow_protocol.md §5; mechanisms.md §2.4.
"""

from __future__ import annotations

from common.chain.contract import Contract
from common.codec import Canon
from common.contracts import peer_escrow as peer
from common.contracts import wallet_chain as chain
from common.contracts.escrow import NotKnownYet, PeerNotReady, TermsDiffer
from common.contracts.peer_escrow import ROLE
from common.store import Tx
from common.units import BlockHeight, Did
from dux_escrowd.agreement import Terms
from dux_escrowd.desk import Desk
from dux_escrowd.draw import commitment_to, is_drawn, nonces_problem, panel_problem
from dux_escrowd.lots import Lots
from dux_escrowd.store import Agreed

NONCE, SHOWN = "draw-nonce", "draw-shown"
NONCE_BYTES = 32


class OwnNonce(Canon, frozen=True):
    """A party's nonce for the draw, kept until its block is there."""

    nonce: bytes


class ShownNonces(Canon, frozen=True):
    """Both nonces, and the beacon of the draw block as it was when they were shown."""

    nonces: tuple[bytes, ...]
    beacon: bytes


def committed(desk: Desk, tx: Tx, contract_id: str) -> bytes:
    """The commitment to this node's nonce, made at first use and the same for ever."""
    if own_nonce(desk, contract_id) is None:
        desk.book.shelf.keep(tx, contract_id, NONCE, OwnNonce(desk.random.bytes(NONCE_BYTES)))
    nonce = own_nonce(desk, contract_id)
    return commitment_to(bytes.fromhex(contract_id), desk.me, nonce or b"")


def own_nonce(desk: Desk, contract_id: str) -> bytes | None:
    """This node's nonce, if it has one for this contract."""
    held = desk.book.shelf.document(contract_id, NONCE, OwnNonce)
    return held.nonce if held else None


async def drawn_beacon(desk: Desk, terms: Terms) -> bytes:
    """The beacon of the terms' draw block; empty where nothing is drawn.

    Raises:
        PeerNotReady: the block is not there yet.
    """
    if not is_drawn(terms):
        return b""
    if await desk.height() < terms.draw_height:
        raise PeerNotReady(did="arbiters", method=ROLE.name, detail=f"the draw is at height {terms.draw_height}")
    asked = chain.HeightAsked(height=BlockHeight(terms.draw_height))
    return bytes((await desk.flopd.call(chain.CHAIN_BEACON, asked)).beacon)


async def exchanged(desk: Desk, row: Agreed, terms: Terms, beacon: bytes) -> tuple[bytes, ...]:
    """Buyer: both nonces, once each has shown its own; none where the beacon alone draws.

    Raises:
        PeerNotReady: the seller does not show its nonce now. TermsDiffer: another one, or the draw block went since.
    """
    own = own_nonce(desk, row.contract_id)
    if not terms.draw_commitments or own is None:
        return ()
    if _shown(desk, row, beacon) is None:
        answer = await desk.call(row.seller, peer.NONCE, peer.NonceCall(terms.contract_id, own))
        keep_shown(desk, row, terms, (own, answer.nonce), beacon)
    shown = _shown(desk, row, beacon)
    return shown.nonces if shown else ()


async def take_nonce(desk: Desk, call: peer.NonceCall, sender: Did) -> peer.NonceAnswer:
    """Seller: the buyer has shown its nonce; this node's is shown once its own chain has the draw block.

    Raises:
        NotKnownYet: no such contract. PeerNotReady: the block is not here. TermsDiffer: another nonce was committed to.
    """
    row = desk.book.shelf.contract(call.contract_id.hex())
    terms = desk.book.records.terms(row.contract_id) if row else None
    own = own_nonce(desk, row.contract_id) if row else None
    if row is None or terms is None or own is None or not terms.draw_commitments or sender != row.buyer:
        raise NotKnownYet(contract_id=call.contract_id.hex())
    beacon = await drawn_beacon(desk, terms)
    if _shown(desk, row, beacon) is None:
        keep_shown(desk, row, terms, (call.nonce, own), beacon)
    return peer.NonceAnswer(own)


def keep_shown(desk: Desk, row: Agreed, terms: Terms, nonces: tuple[bytes, ...], beacon: bytes) -> None:
    """Both nonces are here, if they are those that were committed to.

    Raises:
        TermsDiffer: they are not.
    """
    problem = nonces_problem(terms, nonces)
    if problem:
        raise TermsDiffer(contract_id=row.contract_id, reason=problem)
    if nonces:
        with desk.book.store.transaction() as tx:
            desk.book.shelf.keep(tx, row.contract_id, SHOWN, ShownNonces(nonces, beacon))


def shown_nonces(desk: Desk, contract_id: str) -> tuple[bytes, ...]:
    """The nonces of the draw, for whoever has to check the panel; none where the beacon alone drew."""
    shown = desk.book.shelf.document(contract_id, SHOWN, ShownNonces)
    return shown.nonces if shown else ()


def _shown(desk: Desk, row: Agreed, beacon: bytes) -> ShownNonces | None:
    """What was shown for this very draw block.

    Raises:
        TermsDiffer: it was shown for a block that a reorganisation took.
    """
    shown = desk.book.shelf.document(row.contract_id, SHOWN, ShownNonces)
    if shown is not None and shown.beacon != beacon:
        reason = "the draw block went after the nonces were shown: agree anew"
        raise TermsDiffer(contract_id=row.contract_id, reason=reason)
    return shown


async def require_drawn(desk: Desk, lots: Lots, row: Agreed, terms: Terms, contract: Contract) -> None:
    """Nothing happens for the panel that the draw, or the first lot, gives.

    Raises:
        TermsDiffer: another one. PeerNotReady: it cannot be told yet.
    """
    panel = tuple(arbiter.did for arbiter in contract.arbiters)
    if lots.panel(row):
        lots.require_panel(row, panel)
        return
    beacon = await drawn_beacon(desk, terms)
    shown = _shown(desk, row, beacon)
    problem = panel_problem(terms, panel, beacon, shown.nonces if shown else ())
    if problem:
        raise TermsDiffer(contract_id=row.contract_id, reason=problem)
