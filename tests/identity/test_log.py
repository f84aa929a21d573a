"""Laws of event logs, after the table of attacks in transport_identity.md §4."""

from __future__ import annotations

import msgspec
import pytest

from common.codec import canonical
from common.errors import BadParams
from common.identity.did import did_bytes, did_of, node_id_of
from common.identity.errors import BadEvent, BadKey, BadSignature, NotADid
from common.identity.events import Event, event_id, inception, key_hash, sign_event
from common.identity.keys import SigningKey, check_key, is_signed
from common.identity.log import Log, decode_log, encode_log, merge, read_log, was_valid
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.identity.work import has_work, solve
from common.units import UnixMs

START_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
LATER_MS = START_MS + 10_000 * HOUR_MS


def key(name: str) -> SigningKey:
    """A key that is the same in every run."""
    return SigningKey(name.encode().ljust(32, b"."))


def next_event(before: Signed, kind: str, signer: SigningKey, after: str, **changes: object) -> Event:
    """The event that honestly follows `before`, with deliberate changes."""
    old = msgspec.msgpack.decode(before.body, type=Event)
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


def test_a_log_survives_its_bytes_and_names_its_did() -> None:
    """Encoding and reading again gives the same log, and its DID is the hash of its first event."""
    held = log(ICP, ROT1, ROT2)
    assert decode_log(encode_log(held), now_ms=LATER_MS, inception_bits=0) == held
    assert held.did == did_of(event_id(ICP))
    assert did_bytes(held.did) == event_id(ICP)
    assert node_id_of(held.did) != event_id(ICP)


@pytest.mark.parametrize(
    ("signed", "error"),
    [
        (sign_event(next_event(ICP, "rot", key("a9"), "a2"), key("a9")), BadEvent),
        (sign_event(next_event(ICP, "rot", key("a1"), "a2"), key("a0")), BadSignature),
        (sign_event(next_event(ICP, "rot", key("a1"), "a2", recover=R1), key("a1")), BadEvent),
        (sign_event(next_event(ICP, "rot", key("a1"), "a2", at_ms=START_MS + 60_000), key("a1")), BadEvent),
        (sign_event(next_event(ICP, "rot", key("a1"), "a2", seq=2), key("a1")), BadEvent),
        (sign_event(next_event(ICP, "rot", key("a1"), "a2", prev=bytes(32)), key("a1")), BadEvent),
        (sign_event(next_event(ICP, "rot", key("a1"), "a2", next=b""), key("a1")), BadEvent),
        (sign_event(next_event(ICP, "icp", key("a1"), "a2"), key("a1")), BadEvent),
        (sign_event(next_event(ICP, "rec", key("b0"), "b1", recover=R1), key("b0")), BadEvent),
        (sign_event(next_event(ICP, "rec", key("b0"), "b1", recover=R1), key("b0"), key("a0")), BadEvent),
        (sign_event(next_event(ICP, "rec", key("b0"), "b1"), key("b0"), key("R0")), BadEvent),
        (sign_event(next_event(ICP, "rec", key("a1"), "b1", recover=R1), key("a1"), key("R0")), BadEvent),
        (sign_event(next_event(ICP, "end", key("a0"), "a0", next=b"", recover=b""), key("a0")), BadEvent),
        (sign_event(next_event(ICP, "rot", key("a1"), "a2"), key("a1"), key("R0")), BadSignature),
    ],
    ids=[
        "key not committed to", "signed by the old key", "changes recovery", "too soon", "wrong seq", "wrong prev",
        "short commitment", "second icp", "rec without recovery key", "rec with another key", "rec keeps recovery",
        "rec moves to the next key", "end without recovery key", "rot with a second signature",
    ],
)  # fmt: skip
def test_an_event_against_the_table_is_refused(signed: Signed, error: type[Exception]) -> None:
    """A thief of the current key, or of the operational branch, cannot continue the log in any other way."""
    with pytest.raises(error):
        log(ICP, signed)


def test_nothing_follows_an_end() -> None:
    """After end the log is closed, also for whoever holds every key."""
    assert log(ICP, END).ended
    with pytest.raises(BadEvent):
        log(ICP, END, sign_event(next_event(END, "rot", key("a1"), "a2"), key("a1")))


def test_an_event_from_the_future_is_held_back() -> None:
    """The log reads as if the event were not there yet; an inception from the future is no log at all."""
    assert read_log([ICP, ROT1], now_ms=START_MS, inception_bits=0).events[-1].seq == 0
    with pytest.raises(BadEvent):
        read_log([ICP], now_ms=START_MS - HOUR_MS, inception_bits=0)


def test_a_shorter_log_never_replaces_a_longer_one() -> None:
    """Merging is the same in both orders when one log continues the other."""
    assert merge(log(ICP, ROT1), log(ICP)) == log(ICP, ROT1)
    assert merge(log(ICP), log(ICP, ROT1)) == log(ICP, ROT1)
    assert merge(log(ICP), log(ICP)) == log(ICP)


def test_two_rotations_of_one_event_are_duplicity_until_a_recovery() -> None:
    """The first seen stays, the name is disputed; the owner's recovery clears it, whichever branch was seen first."""
    twin = sign_event(next_event(ICP, "rot", key("a1"), "x2"), key("a1"))
    disputed = merge(log(ICP, ROT1), log(ICP, twin))
    assert (disputed.envelopes, disputed.disputed) == ((ICP, ROT1), True)
    assert merge(disputed, log(ICP, ROT1, ROT2)).disputed
    for first in (disputed, log(ICP, twin), log(ICP, ROT1, ROT2)):
        recovered = merge(first, log(ICP, REC))
        assert (recovered.envelopes, recovered.sound) == ((ICP, REC), True)
        assert merge(recovered, log(ICP, ROT1, ROT2)) == recovered


def test_a_recovery_may_name_an_event_of_the_twin_branch() -> None:
    """A verifier that saw the thief's rotation first still follows the owner's recovery on the owner's branch."""
    twin = sign_event(next_event(ICP, "rot", key("a1"), "x2"), key("a1"))
    rec = sign_event(next_event(ROT1, "rec", key("b0"), "b1", recover=R1), key("b0"), key("R0"))
    assert merge(log(ICP, twin), log(ICP, ROT1, rec)).envelopes == (ICP, ROT1, rec)


def test_two_recoveries_of_one_epoch_freeze_the_name_in_either_order() -> None:
    """An old recovery key against a later recovery stops the name; the log that was held stays."""
    other = sign_event(next_event(ICP, "rec", key("c0"), "c1", recover=R1), key("c0"), key("R0"))
    for held, offered in ((log(ICP, REC), log(ICP, other)), (log(ICP, END), log(ICP, REC))):
        frozen = merge(held, offered)
        assert (frozen.envelopes, frozen.frozen, frozen.sound) == (held.envelopes, True, False)
        assert merge(offered, held).frozen


def test_a_signature_counts_only_in_its_key_s_time() -> None:
    """From ten minutes before the event that set the key to a day after the next one."""
    held = log(ICP, ROT1)
    assert was_valid(held, 0, START_MS)
    assert was_valid(held, 0, START_MS + HOUR_MS + 23 * HOUR_MS)
    assert not was_valid(held, 0, START_MS + 26 * HOUR_MS)
    assert not was_valid(held, 1, START_MS)
    assert not was_valid(held, 2, LATER_MS)


def test_a_small_order_key_signs_for_nobody() -> None:
    """A key for which anybody can sign is refused by the point check and by verification."""
    zero_signature = (1).to_bytes(32, "little") + bytes(32)
    identity_point = (1).to_bytes(32, "little")
    assert not is_signed(identity_point, Purpose.EVENT, b"x", zero_signature)
    for bad in (identity_point, bytes(32), b"\xff" * 32, b"short"):
        with pytest.raises(BadKey):
            check_key(bad)


def test_a_signature_serves_one_purpose_only() -> None:
    """The same body under another purpose does not verify."""
    signature = key("a0").sign(Purpose.RECORD, b"body")
    assert is_signed(key("a0").public, Purpose.RECORD, b"body", signature)
    assert not is_signed(key("a0").public, Purpose.GOSSIP, b"body", signature)
    assert not is_signed(key("a0").public, Purpose.RECORD, b"bodz", signature)


def test_inception_work_is_asked_for_and_found() -> None:
    """A nonce that solves the work is accepted, the unsolved inception is not."""
    plain = inception(key("a0").public, key("a1").public, key("R0").public, START_MS)
    solved = solve(plain, 6)
    assert has_work(canonical(solved), 6)
    assert read_log([sign_event(solved, key("a0"))], now_ms=LATER_MS, inception_bits=6).tip == solved
    with pytest.raises(BadEvent):
        read_log([sign_event(plain, key("a0"))], now_ms=LATER_MS, inception_bits=6)


@pytest.mark.parametrize(
    "text", ["did:dux:" + "a" * 51, "did:dux:" + "A" * 52, "did:key:x", "did:dux:" + "a" * 51 + "b"]
)
def test_only_one_spelling_of_a_did_exists(text: str) -> None:
    """Wrong length, upper case, another method and stray bits at the end are refused."""
    with pytest.raises(NotADid):
        did_bytes(text)


@pytest.mark.parametrize("mangle", [lambda b: b + b"\0", lambda b: b[:-1], lambda b: b.replace(b"\xa3icp", b"\xa3rot")])
def test_bytes_that_are_not_canonical_are_refused(mangle: object) -> None:
    """A trailing byte, a cut, another kind: never a log."""
    data = mangle(encode_log(log(ICP)))  # type: ignore[operator]
    with pytest.raises((BadParams, BadEvent)):
        decode_log(data, now_ms=LATER_MS, inception_bits=0)
