"""Whether one key event may follow another: the table of the four kinds, event by event.

Promise: of the holder of the current key, of the operational branch, and of an old recovery key, none can make an event
that this file lets pass but the one that the table gives them. What two valid chains mean together is `log.py`.

Source: the table of transport_identity.md §2.2; docs/decisions/identity-rules.md.
"""

from __future__ import annotations

from common.identity.errors import BadEvent, BadSignature
from common.identity.events import Event, key_hash, split_recovery
from common.identity.keys import check_key, is_signed
from common.identity.purposes import Purpose
from common.identity.signed import Signed

ROTATION_GAP_MS = 3_600_000  # a rotation comes at least an hour after the event before it
HASH_BYTES = 32
RECOVERING = ("rec", "end")  # the kinds that a recovery key signs


def check_event(envelope: Signed, event: Event, before: Event | None, before_id: bytes) -> None:
    """Nothing happens when `event` may follow `before` (None: it is the first), whose id is `before_id`.

    Raises:
        BadEvent, BadKey, BadSignature: why it may not.
    """
    if event.seq != (0 if before is None else before.seq + 1) or event.prev != before_id or event.flags != 0:
        raise BadEvent(seq=event.seq, detail="it does not continue the event before it")
    if before is None:
        _check_inception(event)
    elif before.kind == "end":
        raise BadEvent(seq=event.seq, detail="nothing follows an end")
    elif event.kind == "rot":
        _check_rotation(event, before)
    elif event.kind in RECOVERING:
        _check_recovery(envelope, event, before)
    else:
        raise BadEvent(seq=event.seq, detail="a second inception")
    _check_signatures(envelope, event)


def _check_inception(event: Event) -> None:
    if event.kind != "icp":
        raise BadEvent(seq=0, detail=f"a log starts with icp, not {event.kind}")
    _check_commitments(event)


def _check_rotation(event: Event, before: Event) -> None:
    if key_hash(event.key) != before.next:
        raise BadEvent(seq=event.seq, detail="its key is not the one that was committed to")
    if event.recover != before.recover:
        raise BadEvent(seq=event.seq, detail="a rotation may not change the recovery key")
    if event.at_ms < before.at_ms + ROTATION_GAP_MS:
        raise BadEvent(seq=event.seq, detail="it comes less than an hour after the event before it")
    _check_plain(event)
    _check_commitments(event)


def _check_recovery(envelope: Signed, event: Event, before: Event) -> None:
    revealed = split_recovery(envelope.sigs[1]) if len(envelope.sigs) == 2 else None  # noqa: PLR2004 - key and recovery key
    if revealed is None or key_hash(check_key(revealed[0])) != before.recover:
        raise BadEvent(seq=event.seq, detail="it does not reveal the recovery key")
    if not is_signed(revealed[0], Purpose.EVENT, envelope.body, revealed[1]):
        raise BadSignature(purpose=Purpose.EVENT.value)
    if event.at_ms < before.at_ms:
        raise BadEvent(seq=event.seq, detail="it is older than the event it names")
    _check_plain(event)
    if event.kind == "rec":
        _check_fresh(event, before)
    elif event.next or event.recover:
        raise BadEvent(seq=event.seq, detail="an end commits to nothing")


def _check_fresh(event: Event, before: Event) -> None:
    """A recovery leaves every key behind that the thief may have: current, next, and the recovery key now public."""
    _check_commitments(event)
    left_behind = (before.next, key_hash(before.key))
    if event.recover == before.recover or event.next in left_behind or key_hash(event.key) in left_behind:
        raise BadEvent(seq=event.seq, detail="a recovery moves to new keys")


def _check_plain(event: Event) -> None:
    """Only an inception has work to show; elsewhere a nonce would let one event have many ids."""
    if event.nonce != 0:
        raise BadEvent(seq=event.seq, detail="only an inception has a nonce")


def _check_commitments(event: Event) -> None:
    if len(event.next) != HASH_BYTES or len(event.recover) != HASH_BYTES:
        raise BadEvent(seq=event.seq, detail="its commitments are not 32 bytes long")


def _check_signatures(envelope: Signed, event: Event) -> None:
    expected = 2 if event.kind in RECOVERING else 1
    if len(envelope.sigs) != expected or not is_signed(event.key, Purpose.EVENT, envelope.body, envelope.sigs[0]):
        raise BadSignature(purpose=Purpose.EVENT.value)
