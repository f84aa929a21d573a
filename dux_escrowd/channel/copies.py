"""What an encrypted copy of a channel holds, on either side, and what a restored node makes of it.

Promise: whoever keeps a copy learns nothing from it but its size. A payee taken back from a copy is one whose backup
of that moment was put back: its best voucher W and what calls had cost, S, are those of the copy, so that it admits
nothing that was not paid; the payer's next hello brings it further. A payer needs its terms and what it had signed.

Pure but for the random nonce that is handed in. Source: channel_protocol.md §1 (old backups), §8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from msgspec import DecodeError, Struct, ValidationError, msgpack
from msgspec.structs import replace

from common.chain.channel import TERMS_BYTES_MAX, ChannelTerms
from common.codec import from_canonical
from common.contracts.peer_copies import CHANNEL_COPY_BYTES_MAX
from common.errors import BadParams
from dux_escrowd.channel.agree import rules_of
from dux_escrowd.channel.model import AT_WORK, CallState, Payee, PayeeState, Payer
from dux_escrowd.copies import locked, tag_of, unlocked

CALLS_BYTES_MAX = 24_000  # what calls may take of a copy: as many as a full window has
CALL_BYTES = 400  # of one call in the books, at most
COUNTED = (*AT_WORK, CallState.OK)


class CallCopy(Struct, frozen=True):
    """The voucher that asked for a call that the payer has not acknowledged; the call stands in the payee's books."""

    j: int
    voucher: bytes


class ChannelCopy(Struct, frozen=True, kw_only=True):
    """All of one channel that a restored node needs, of one of its sides; `version` is later for a later copy."""

    version: int
    terms: bytes
    key_index: int
    created_height: int
    payer: Payer | None = None
    payee: Payee | None = None
    head: bytes = b""
    calls: tuple[CallCopy, ...] = ()
    highest: int = -1  # number of a contract's or channel's key in use when the copy was made

    @property
    def agreed(self) -> ChannelTerms:
        """The terms."""
        return from_canonical(self.terms, ChannelTerms, max_bytes=TERMS_BYTES_MAX)


def channel_tag(key: bytes, number: int) -> bytes:
    """Where the copy of the channel with this key number is found (32 bytes)."""
    return tag_of(key, number, b"channel")


def payee_nonce(payer: str, payer_key: bytes) -> bytes:
    """What a payee's key is made for: one wish of one payer, so that the same wish gets the same key."""
    return hashlib.sha256(b"channel key" + payer.encode() + payer_key).digest()


def payer_part(state: Payer) -> Payer:
    """What of the payer's books a copy holds: the most that it signed, the last number it used; the payee has calls."""
    return Payer(chid=state.chid, rules=state.rules, cum_florins=state.cum_florins, j=state.j)


def payee_part(state: Payee, calls: Sequence[CallCopy]) -> tuple[Payee, tuple[CallCopy, ...]]:
    """What of the payee's books a copy holds; calls that do not fit are counted by what they cost."""
    kept = _fitting(calls)
    return _counted(state, {item.j for item in kept}), kept


def _fitting(calls: Sequence[CallCopy]) -> tuple[CallCopy, ...]:
    """The newest ones, as many as have room."""
    kept, room = list[CallCopy](), CALLS_BYTES_MAX
    for item in reversed(calls):
        room -= len(item.voucher) + CALL_BYTES
        if room < 0:
            break
        kept.append(item)
    return tuple(reversed(kept))


def _counted(state: Payee, kept: set[int]) -> Payee:
    """Calls without a place in the copy count as settled: a restored payee never takes what they cost for unspent."""
    gone = [call for call in state.calls if call.j not in kept]
    cost = sum(call.price_florins for call in gone if call.state in COUNTED)
    calls = tuple(call for call in state.calls if call.j in kept)
    return replace(state, calls=calls, settled_florins=state.settled_florins + cost)


def sealed_channel(copy: ChannelCopy, key: bytes, tag: bytes, nonce: bytes) -> bytes:
    """The copy, encrypted under its tag.

    Raises:
        BadParams: it is too large.
    """
    body = locked(msgpack.encode(copy), key, tag, nonce)
    if len(body) > CHANNEL_COPY_BYTES_MAX:
        raise BadParams(detail=f"the copy of a channel has {len(body)} bytes")
    return body


def opened_channel(body: bytes, key: bytes, tag: bytes) -> ChannelCopy:
    """What was sealed.

    Raises:
        BadParams: it is not ours, was changed, or is no copy.
    """
    try:
        return msgpack.decode(unlocked(body, key, tag), type=ChannelCopy)
    except (DecodeError, ValidationError) as error:
        raise BadParams(detail=f"no copy of this node: {error}") from error


def payer_again(part: Payer, terms: ChannelTerms) -> Payer:
    """The payer's state: funded long ago or never, its coin not seen yet; at least what it had signed counts."""
    return replace(part, rules=rules_of(terms))


def payee_again(part: Payee, terms: ChannelTerms, *, rerun: bool) -> Payee:
    """The payee's state: suspended until its coin is seen where the best voucher was signed for it."""
    return replace(
        part, state=PayeeState.SUSPENDED, rules=rules_of(terms, rerun=rerun), before=None, coin=None,
        cums=part.cums[-1:], session=b"", mirrored_florins=part.held_florins, copied_florins=part.owed_florins,
        closing=None, acted_at=None, steps=0, spend=None,
    )  # fmt: skip
