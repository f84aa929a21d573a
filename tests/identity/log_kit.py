"""Event logs by hand: keys by name, and the honest next event with deliberate changes."""

from __future__ import annotations

import msgspec

from common.identity.events import Event, event_id, inception, key_hash, sign_event
from common.identity.keys import SigningKey
from common.identity.log import Log, read_log
from common.identity.signed import Signed
from common.units import UnixMs

START_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
LATER_MS = START_MS + 10_000 * HOUR_MS


def key(name: str) -> SigningKey:
    """A key that is the same in every run."""
    return SigningKey(name.encode().ljust(32, b"."))


def body_of(envelope: Signed) -> Event:
    return msgspec.msgpack.decode(envelope.body, type=Event)


def next_event(before: Signed, kind: str, signer: SigningKey, after: str, **changes: object) -> Event:
    """The event that honestly follows `before`, with deliberate changes."""
    old = body_of(before)
    event = Event(
        v=1, kind="rot", seq=old.seq + 1, prev=event_id(before), key=signer.public, next=key_hash(key(after).public),
        recover=old.recover, at_ms=UnixMs(old.at_ms + HOUR_MS), nonce=0, flags=0,
    )  # fmt: skip
    return msgspec.structs.replace(event, kind=kind, **changes)


ICP = sign_event(inception(key("a0").public, key("a1").public, key("R0").public, START_MS), key("a0"))
ROT1 = sign_event(next_event(ICP, "rot", key("a1"), "a2"), key("a1"))
ROT2 = sign_event(next_event(ROT1, "rot", key("a2"), "a3"), key("a2"))
R1 = key_hash(key("R1").public)
REC = sign_event(next_event(ICP, "rec", key("b0"), "b1", recover=R1), key("b0"), key("R0"))
END = sign_event(next_event(ICP, "end", key("a0"), "a0", next=b"", recover=b""), key("a0"), key("R0"))


def log(*events: Signed) -> Log:
    """The log of these events, read late enough for all of them."""
    return read_log(events, now_ms=LATER_MS, inception_bits=0)
