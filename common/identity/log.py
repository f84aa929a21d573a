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
from common.identity.errors import BadEvent
from common.identity.event_rules import RECOVERING, check_event
from common.identity.events import SEQ_MAX, Event, event_id, open_event
from common.identity.signed import Signed
from common.identity.work import has_work
from common.units import Did, UnixMs

FUTURE_MS = 600_000  # an event from further ahead is held back
OLD_KEY_GRACE_MS = 86_400_000  # signatures with the key before count this long after a rotation
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


def decode_log(data: bytes, *, now_ms: int, inception_bits: int, known: Log | None = None) -> Log:
    """A log from bytes, fully checked.

    Raises:
        BadParams, BadKey, BadEvent, BadSignature: what is wrong with it.
    """
    events = from_canonical(data, LogBytes, max_bytes=LOG_BYTES_MAX).events
    return read_log(events, now_ms=now_ms, inception_bits=inception_bits, known=known)


def read_log(envelopes: Sequence[Signed], *, now_ms: int, inception_bits: int, known: Log | None = None) -> Log:
    """The log in a chain of envelopes; an event dated more than 10 minutes ahead is held back with all after it.

    What the chain shares with `known`, a log that was read before, is not verified again.

    Raises:
        BadParams, BadKey, BadEvent, BadSignature: what is wrong with it.
    """
    if not 1 <= len(envelopes) <= LOG_EVENTS_MAX:
        raise BadEvent(seq=0, detail=f"a log has 1 to {LOG_EVENTS_MAX} events, got {len(envelopes)}")
    shared = shared_events(known.envelopes, envelopes) if known is not None else 0
    events = list(known.events[:shared]) if known is not None else []
    for seq, envelope in enumerate(envelopes[shared:], start=shared):
        event = open_event(envelope)
        if event.at_ms > now_ms + FUTURE_MS:
            break
        before_id = event_id(envelopes[seq - 1]) if events else b""
        check_event(envelope, event, events[-1] if events else None, before_id)
        events.append(event)
    if not events:
        raise BadEvent(seq=0, detail="it is dated in the future")
    if shared == 0 and not has_work(envelopes[0].body, inception_bits):
        raise BadEvent(seq=0, detail=f"its nonce lacks the {inception_bits} bits of work that this network asks")
    return Log(did=did_of(event_id(envelopes[0])), events=tuple(events), envelopes=tuple(envelopes[: len(events)]))


def merge(held: Log, offered: Log) -> Log:
    """What is known after both were seen, `held` first; both are valid alone and of one DID.

    Raises:
        BadEvent: they are logs of different names.
    """
    if held.did != offered.did:
        raise BadEvent(seq=0, detail="a log of another name")
    flags = replace(held, frozen=held.frozen or offered.frozen)
    split = split_of(held, offered)
    if split == len(offered.events):
        return flags
    if split == len(held.events):
        return _continued(held, offered, split)
    ours, theirs = recovers(held, split), recovers(offered, split)
    if ours and theirs:
        return replace(held, frozen=True)
    if theirs:
        return replace(offered, frozen=flags.frozen)
    return flags if ours else replace(flags, disputed=True)


def _continued(held: Log, offered: Log, split: int) -> Log:
    """A longer log replaces a shorter one; a dispute stays unless the new part recovers."""
    disputed = offered.disputed or (held.disputed and not recovers(offered, split))
    return replace(offered, disputed=disputed, frozen=held.frozen or offered.frozen)


def shared_events(one: Sequence[Signed], other: Sequence[Signed]) -> int:
    """How many events, signatures included, two chains begin with alike."""
    shared = [mine == theirs for mine, theirs in zip(one, other, strict=False)]
    return shared.index(False) if False in shared else len(shared)


def split_of(one: Log, other: Log) -> int:
    """The number of events that both share; other signatures under one body make no other event."""
    shared = [mine.body == theirs.body for mine, theirs in zip(one.envelopes, other.envelopes, strict=False)]
    return shared.index(False) if False in shared else len(shared)


def recovers(log: Log, start: int) -> bool:
    """Whether the owner's recovery key speaks in the events from `start` on."""
    return any(event.kind in RECOVERING for event in log.events[start:])


def was_valid(log: Log, key_seq: int, at_ms: UnixMs | int) -> bool:
    """Whether a signature with key `key_seq` made at `at_ms` falls into that key's time.

    The time lasts from 10 minutes before the event that set the key to 24 hours after the rotation to the next one; a
    recovery or an end stops it at once, however many rotations lie between: then every key before it may be a thief's,
    who has the branch that they come from. An end itself sets no key. Source: §2.4; docs/decisions/identity-rules.md.
    """
    if not 0 <= key_seq < len(log.events) or log.events[key_seq].kind == "end":
        return False
    if at_ms < log.events[key_seq].at_ms - FUTURE_MS:
        return False
    after = log.events[key_seq + 1 :]
    if not after:
        return True
    stops_ms = [event.at_ms for event in after if event.kind in RECOVERING]
    return at_ms <= min([after[0].at_ms + OLD_KEY_GRACE_MS, *stops_ms])


def was_valid_when_seen(current: Log, kept: Log, key_seq: int, *, at_ms: int, seen_ms: int) -> bool:
    """The same for a signed object that was held, or anchored, by `seen_ms`, with the log `kept` beside it then.

    A key that a recovery has since superseded is not in the current log any more: it counts for what was seen before
    the event that took its place. Source: §2.4.
    """
    split = split_of(current, kept)
    log = current if key_seq < split else kept
    if current.did != kept.did or not (was_valid(log, key_seq, at_ms) and was_valid(log, key_seq, seen_ms)):
        return False
    superseded = key_seq >= split and split < len(current.events)
    return not superseded or seen_ms <= current.events[split].at_ms
