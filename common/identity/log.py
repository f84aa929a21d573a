"""Event logs: which chains of key events are valid, and which of two valid ones holds.

`read_log` checks one chain from its inception on, alone. `merge` decides between what is held and what is offered: the
longer continuation wins, a shorter one changes nothing, a recovery supersedes the rotations after the event it names,
two different rotations of one event are duplicity (the first seen stays, the name is disputed until a recovery), and
two recoveries of one epoch freeze the name for good.

Source: transport_identity.md §2.2 and §2.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.codec import Canon, canonical, from_canonical
from common.identity.did import did_of
from common.identity.errors import BadEvent, BadSignature
from common.identity.events import SEQ_MAX, Event, event_id, key_hash, open_event, split_recovery
from common.identity.keys import check_key, is_signed
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.identity.work import has_work
from common.units import Did, UnixMs

ROTATION_GAP_MS = 3_600_000  # a rotation comes at least an hour after the event before it
FUTURE_MS = 600_000  # an event from further ahead is held back
OLD_KEY_GRACE_MS = 86_400_000  # signatures with the key before count this long after a rotation
HASH_BYTES = 32
LOG_EVENTS_MAX = SEQ_MAX + 1
LOG_BYTES_MAX = 131_072  # 256 events of at most 512 bytes


class LogBytes(Canon, frozen=True):
    """A log as it travels: the envelopes in order."""

    events: tuple[Signed, ...]


@dataclass(frozen=True, slots=True)
class Log:
    """A valid chain of events and what is known against it."""

    did: Did
    events: tuple[Event, ...]
    envelopes: tuple[Signed, ...]
    disputed: bool = False
    frozen: bool = False

    @property
    def tip(self) -> Event:
        """The newest event."""
        return self.events[-1]

    @property
    def ended(self) -> bool:
        """Whether the name was closed by its owner."""
        return self.tip.kind == "end"

    @property
    def sound(self) -> bool:
        """Whether new business may be done with this name."""
        return not (self.disputed or self.frozen or self.ended)

    def key_of(self, seq: int) -> bytes | None:
        """The signing key that event `seq` set, or None when the log has no such event."""
        return self.events[seq].key if 0 <= seq < len(self.events) else None


def encode_log(log: Log) -> bytes:
    """The log's canonical bytes, as hellos, records and contracts carry it."""
    return canonical(LogBytes(events=log.envelopes))


def decode_log(data: bytes, *, now_ms: int, inception_bits: int) -> Log:
    """A log from bytes, fully checked.

    Raises:
        BadParams, BadKey, BadEvent, BadSignature: what is wrong with it.
    """
    return read_log(
        from_canonical(data, LogBytes, max_bytes=LOG_BYTES_MAX).events, now_ms=now_ms, inception_bits=inception_bits
    )


def read_log(envelopes: Sequence[Signed], *, now_ms: int, inception_bits: int) -> Log:
    """The log in a chain of envelopes; an event dated more than 10 minutes ahead is held back with all after it.

    Raises:
        BadParams, BadKey, BadEvent, BadSignature: what is wrong with it.
    """
    if not 1 <= len(envelopes) <= LOG_EVENTS_MAX:
        raise BadEvent(seq=0, detail=f"a log has 1 to {LOG_EVENTS_MAX} events, got {len(envelopes)}")
    events: list[Event] = []
    for seq, envelope in enumerate(envelopes):
        event = open_event(envelope)
        if event.at_ms > now_ms + FUTURE_MS:
            break
        _check(envelope, event, events[-1] if events else None, event_id(envelopes[seq - 1]) if events else b"", seq)
        events.append(event)
    if not events:
        raise BadEvent(seq=0, detail="it is dated in the future")
    if not has_work(envelopes[0].body, inception_bits):
        raise BadEvent(seq=0, detail=f"its nonce lacks the {inception_bits} bits of work that this network asks")
    return Log(did=did_of(event_id(envelopes[0])), events=tuple(events), envelopes=tuple(envelopes[: len(events)]))


def _check(envelope: Signed, event: Event, before: Event | None, before_id: bytes, seq: int) -> None:
    """One event against the event before it. Source: the table of transport_identity.md §2.2."""
    if event.seq != seq or event.prev != before_id or event.flags != 0:
        raise BadEvent(seq=seq, detail="it does not continue the event before it")
    if before is None:
        _check_inception(event)
    elif before.kind == "end":
        raise BadEvent(seq=seq, detail="nothing follows an end")
    elif event.kind == "rot":
        _check_rotation(event, before)
    elif event.kind in ("rec", "end"):
        _check_recovery(envelope, event, before)
    else:
        raise BadEvent(seq=seq, detail="a second inception")
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
    _check_commitments(event)


def _check_recovery(envelope: Signed, event: Event, before: Event) -> None:
    revealed = split_recovery(envelope.sigs[1]) if len(envelope.sigs) == 2 else None  # noqa: PLR2004 - key and recovery key
    if revealed is None or key_hash(check_key(revealed[0])) != before.recover:
        raise BadEvent(seq=event.seq, detail="it does not reveal the recovery key")
    if not is_signed(revealed[0], Purpose.EVENT, envelope.body, revealed[1]):
        raise BadSignature(purpose=Purpose.EVENT.value)
    if event.at_ms < before.at_ms:
        raise BadEvent(seq=event.seq, detail="it is older than the event it names")
    if event.kind == "rec":
        _check_fresh(event, before)


def _check_fresh(event: Event, before: Event) -> None:
    """A recovery leaves every key behind that the thief may have: the next one, and the recovery key now public."""
    _check_commitments(event)
    if event.recover == before.recover or key_hash(event.key) == before.next or event.key == before.key:
        raise BadEvent(seq=event.seq, detail="a recovery moves to new keys")


def _check_commitments(event: Event) -> None:
    if len(event.next) != HASH_BYTES or len(event.recover) != HASH_BYTES:
        raise BadEvent(seq=event.seq, detail="its commitments are not 32 bytes long")


def _check_signatures(envelope: Signed, event: Event) -> None:
    expected = 2 if event.kind in ("rec", "end") else 1
    if len(envelope.sigs) != expected or not is_signed(event.key, Purpose.EVENT, envelope.body, envelope.sigs[0]):
        raise BadSignature(purpose=Purpose.EVENT.value)


def merge(held: Log, offered: Log) -> Log:
    """What is known after both were seen, `held` first; both are valid alone and of one DID.

    Raises:
        BadEvent: they are logs of different names.
    """
    if held.did != offered.did:
        raise BadEvent(seq=0, detail="a log of another name")
    flags = replace(held, frozen=held.frozen or offered.frozen)
    split = _split(held, offered)
    if split == len(offered.events):
        return flags
    if split == len(held.events):
        return _continued(held, offered, split)
    ours, theirs = _recovers(held, split), _recovers(offered, split)
    if ours and theirs:
        return replace(held, frozen=True)
    if theirs:
        return replace(offered, frozen=flags.frozen)
    return flags if ours else replace(flags, disputed=True)


def _continued(held: Log, offered: Log, split: int) -> Log:
    """A longer log replaces a shorter one; a dispute stays unless the new part recovers."""
    disputed = offered.disputed or (held.disputed and not _recovers(offered, split))
    return replace(offered, disputed=disputed, frozen=held.frozen or offered.frozen)


def _split(one: Log, other: Log) -> int:
    """The number of events that both share."""
    pairs = zip(one.envelopes, other.envelopes, strict=False)
    shared = [mine.body == theirs.body for mine, theirs in pairs]
    return shared.index(False) if False in shared else len(shared)


def _recovers(log: Log, start: int) -> bool:
    return any(event.kind in ("rec", "end") for event in log.events[start:])


def was_valid(log: Log, key_seq: int, at_ms: UnixMs | int) -> bool:
    """Whether a signature with key `key_seq` made at `at_ms` falls into that key's time.

    The time lasts from 10 minutes before the event that set the key to 24 hours after the next one. Source: §2.4.
    """
    if not 0 <= key_seq < len(log.events) or (log.ended and key_seq == len(log.events) - 1):
        return False
    if at_ms < log.events[key_seq].at_ms - FUTURE_MS:
        return False
    return key_seq == len(log.events) - 1 or at_ms <= log.events[key_seq + 1].at_ms + OLD_KEY_GRACE_MS
