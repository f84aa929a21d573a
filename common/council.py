"""Whose signature counts under what a network's council agrees on: profiles and parameter sets.

Promise: a signature counts by the last key of its signer's newest known log, and only while that name is neither ended,
disputed nor frozen; a replaced key has no day of grace here. A signature carries its signer's log, so that it can be
judged before there is a network to ask. That log alone tells nothing of a rotation or recovery that came after it:
whoever has a node asks it for newer ones, and then a name that the node could not find counts for nothing.

What this cannot know: when a signature was made. Whoever holds a replaced key could write any time into it. So what was
signed before a rotation stays valid only where somebody vouches for it: docs/protocol/fund.md says who.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.codec import Wire
from common.errors import DuxError
from common.identity.keys import Signer, is_signed
from common.identity.log import Log, decode_log, merge
from common.identity.purposes import Purpose
from common.units import Did

SIGNATURES_MAX = 64
LOG_BYTES_MAX = 65_536


class Signature(Wire, frozen=True):
    """One founder's signature over a profile or a set, with the event log that names its key (both in hex)."""

    did: Did
    key_seq: int
    log: str
    signature: str


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the signers besides the logs that their signatures carry.

    `only`: the names that a running node found when it was asked for all; None: no node was asked.
    """

    logs: tuple[Log, ...] = ()
    only: frozenset[Did] | None = None


AS_CARRIED = Known()
"""By the logs that the signatures carry and no others."""


def signed_words(purpose: Purpose, words: bytes, did: Did, log: bytes, key: Signer, key_seq: int = 0) -> Signature:
    """A founder's signature under what the council signs."""
    return Signature(did=did, key_seq=key_seq, log=log.hex(), signature=key.sign(purpose, words).hex())


def signers_of(
    purpose: Purpose,
    words: bytes,
    signatures: Sequence[Signature],
    *,
    inception_bits: int,
    now_ms: int,
    known: Known = AS_CARRIED,
) -> set[Did]:
    """Who has really signed these words for this purpose, by all that is known of them now."""
    taken = signatures[:SIGNATURES_MAX]
    logs = newest_of([*known.logs, *carried_logs(taken, inception_bits=inception_bits, now_ms=now_ms)])
    asked = logs.keys() if known.only is None else logs.keys() & known.only
    return {one.did for one in taken if one.did in asked and _counts(one, logs[one.did], purpose, words)}


def carried_logs(signatures: Iterable[Signature], *, inception_bits: int, now_ms: int) -> tuple[Log, ...]:
    """The valid logs that signatures carry; a log proves itself, whoever shows it."""
    found = (_carried(one, inception_bits, now_ms) for one in signatures)
    return tuple(log for log in found if log is not None)


def _carried(one: Signature, inception_bits: int, now_ms: int) -> Log | None:
    try:
        data = bytes.fromhex(one.log)
        if len(data) > LOG_BYTES_MAX:
            return None
        return decode_log(data, now_ms=now_ms, inception_bits=inception_bits)
    except (DuxError, ValueError):
        return None


def newest_of(logs: Iterable[Log]) -> dict[Did, Log]:
    """What holds of each name after all of these were seen, in whatever order.

    Those with something against them come first: a fault is kept beside a log, not in it, so a merge passes on what is
    known of the log that is held and not what is known of the same log offered.
    """
    found: dict[Did, Log] = {}
    for log in sorted(logs, key=lambda one: one.sound):
        found[log.did] = merge(found[log.did], log) if log.did in found else log
    return found


def _counts(one: Signature, log: Log, purpose: Purpose, words: bytes) -> bool:
    if not log.sound or one.key_seq != log.tip.seq:
        return False
    try:
        signature = bytes.fromhex(one.signature)
    except ValueError:
        return False
    return is_signed(log.tip.key, purpose, words, signature)


def needed_of(council: Sequence[Did]) -> int:
    """More than half."""
    return len(council) // 2 + 1


def left_out(counted: set[Did], carried: set[Did]) -> str:
    """Words about those who count by the logs that they carry and not by what else is known; empty for none."""
    more = len(carried - counted)
    return f" ({more} more by keys since replaced, or of names that do not stand or are not found)" if more else ""
