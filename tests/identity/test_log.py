"""Laws of event logs, after the table of attacks in transport_identity.md §4."""

from __future__ import annotations

import pytest

from common.codec import canonical
from common.errors import BadParams
from common.identity.did import did_bytes, did_of, node_id_of
from common.identity.errors import BadEvent, BadKey, BadSignature, NotADid
from common.identity.events import event_id, inception, sign_event
from common.identity.keys import check_key, is_signed
from common.identity.log import decode_log, encode_log, merge, read_log, was_valid, was_valid_when_seen
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.identity.work import has_work, solve
from tests.attacks.registry import attack
from tests.identity.log_kit import (
    END,
    HOUR_MS,
    ICP,
    LATER_MS,
    R1,
    REC,
    ROT1,
    ROT2,
    START_MS,
    body_of,
    key,
    log,
    next_event,
)


def test_a_log_survives_its_bytes_and_names_its_did() -> None:
    """Encoding and reading again gives the same log, and its DID is the hash of its first event."""
    held = log(ICP, ROT1, ROT2)
    assert decode_log(encode_log(held), now_ms=LATER_MS, inception_bits=0) == held
    assert held.did == did_of(event_id(ICP))
    assert did_bytes(held.did) == event_id(ICP)
    assert node_id_of(held.did) != event_id(ICP)


@attack(
    "identity",
    tries="a thief continues a log in every way that the keys it stole allow",
    meets="refused by the table",
)
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
        (sign_event(next_event(ICP, "rot", key("a1"), "a2", nonce=1), key("a1")), BadEvent),
        (sign_event(next_event(ICP, "rot", key("a1"), "a2", flags=1), key("a1")), BadEvent),
        (sign_event(next_event(ICP, "rec", key("b0"), "b1", recover=b"R1"), key("b0"), key("R0")), BadEvent),
        (sign_event(next_event(ICP, "rec", key("a0"), "b1", recover=R1), key("a0"), key("R0")), BadEvent),
        (sign_event(next_event(ICP, "rec", key("b0"), "a1", recover=R1), key("b0"), key("R0")), BadEvent),
        (sign_event(next_event(ICP, "rec", key("b0"), "a0", recover=R1), key("b0"), key("R0")), BadEvent),
        (sign_event(next_event(ICP, "rec", key("b0"), "b1", recover=R1, at_ms=START_MS - 1), key("b0"), key("R0")),
         BadEvent),
        (sign_event(next_event(ICP, "rec", key("b0"), "b1", recover=R1), key("a0"), key("R0")), BadSignature),
        (Signed(REC.body, (REC.sigs[0], REC.sigs[1][:-1] + bytes([REC.sigs[1][-1] ^ 1]))), BadSignature),
        (Signed(REC.body, (REC.sigs[0], REC.sigs[1][:-1])), BadEvent),
        (sign_event(next_event(ICP, "end", key("a0"), "a9", recover=b""), key("a0"), key("R0")), BadEvent),
        (sign_event(next_event(ICP, "end", key("a0"), "a0", next=b"", recover=R1), key("a0"), key("R0")), BadEvent),
    ],
    ids=[
        "key not committed to", "signed by the old key", "changes recovery", "too soon", "wrong seq", "wrong prev",
        "short commitment", "second icp", "rec without recovery key", "rec with another key", "rec keeps recovery",
        "rec moves to the next key", "end without recovery key", "rot with a second signature",
        "rot with a nonce", "rot with a flag", "rec with a short commitment", "rec keeps the key",
        "rec commits to the old next key", "rec commits to the old key", "rec older than what it names",
        "rec signed by the old key", "rec whose recovery signature is bent", "rec whose recovery signature is cut",
        "end that commits to a next key", "end that commits to a recovery key",
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


def test_a_stolen_key_counts_no_longer_from_the_moment_of_recovery() -> None:
    """No grace of a day after rec or end: until then the key may be the thief's. And an end sets no key."""
    for closing in (REC, END):
        held = log(ICP, closing)
        assert was_valid(held, 0, START_MS + HOUR_MS)
        assert not was_valid(held, 0, START_MS + HOUR_MS + 1)
    assert was_valid(log(ICP, REC), 1, LATER_MS)
    assert not was_valid(log(ICP, END), 1, LATER_MS)


@attack(
    "identity",
    tries="a thief of the machine signs with the key before the last one, whose day of grace the recovery falls into",
    meets="nothing that it signs after the recovery counts, by whichever key",
)
def test_a_recovery_ends_the_grace_of_every_key_before_it() -> None:
    """The branch on a stolen disk has the earlier keys as well: their day after a rotation is not the thief's day."""
    recovery = sign_event(next_event(ROT1, "rec", key("b0"), "b1", recover=R1), key("b0"), key("R0"))
    ending = sign_event(next_event(ROT1, "end", key("b0"), "b0", next=b"", recover=b""), key("b0"), key("R0"))
    for closing in (recovery, ending):
        held, closed_ms = log(ICP, ROT1, closing), body_of(closing).at_ms
        assert closed_ms < body_of(ROT1).at_ms + 24 * HOUR_MS
        for seq in (0, 1):
            assert was_valid(held, seq, closed_ms)
            assert not was_valid(held, seq, closed_ms + 1)
    later = log(ICP, ROT1, sign_event(next_event(ROT1, "rot", key("a2"), "a3"), key("a2")))
    assert was_valid(later, 0, body_of(ROT1).at_ms + 24 * HOUR_MS), "another rotation shortens nothing"


def test_a_signature_by_a_superseded_key_counts_for_what_was_seen_before_the_fork() -> None:
    """With the log kept beside it: held before the recovery it stands, first seen later it does not."""
    kept, now = log(ICP, ROT1), log(ICP, REC)
    signed_at = START_MS + HOUR_MS  # the rotation's moment, and the recovery's that took its place
    assert was_valid_when_seen(now, kept, 1, at_ms=signed_at, seen_ms=signed_at)
    assert not was_valid_when_seen(now, kept, 1, at_ms=signed_at, seen_ms=signed_at + 1)
    assert was_valid_when_seen(kept, kept, 1, at_ms=signed_at, seen_ms=LATER_MS)
    assert not was_valid_when_seen(kept, log(ICP), 1, at_ms=START_MS, seen_ms=START_MS)
    assert not was_valid_when_seen(log(ICP, ROT1, ROT2), kept, 1, at_ms=signed_at, seen_ms=signed_at + 26 * HOUR_MS)
    other = read_log([sign_event(inception(key("z0").public, key("z1").public, key("Z").public, 5), key("z0"))],
                     now_ms=LATER_MS, inception_bits=0)  # fmt: skip
    assert not was_valid_when_seen(other, kept, 0, at_ms=START_MS, seen_ms=START_MS)


@attack(
    "identity",
    tries="a thief fills a log to its last place",
    meets="the owner's recovery cuts it at an early event",
)
def test_a_log_has_at_most_256_events_and_a_recovery_truncates_a_full_one() -> None:
    """A thief who fills the log to its last place keeps nothing: the owner names an early event."""
    events, before = [ICP], ICP
    for seq in range(1, 256):
        before = sign_event(next_event(before, "rot", key(f"a{seq}"), f"a{seq + 1}"), key(f"a{seq}"))
        events.append(before)
    full = log(*events)
    assert len(full.events) == 256
    beyond = sign_event(next_event(before, "rot", key("a256"), "a257", seq=255), key("a256"))
    with pytest.raises(BadEvent):
        log(*events, beyond)
    with pytest.raises(BadParams):
        log(ICP, sign_event(next_event(ICP, "rot", key("a1"), "a2", seq=256), key("a1")))
    assert merge(full, log(ICP, REC)).envelopes == (ICP, REC)


def test_what_was_read_before_is_not_verified_again_and_nothing_else_is_spared() -> None:
    """A shared prefix is taken over; a bent signature on it, or a bad event after it, is found all the same."""
    known = log(ICP, ROT1)
    assert read_log([ICP, ROT1, ROT2], now_ms=LATER_MS, inception_bits=0, known=known) == log(ICP, ROT1, ROT2)
    bent = Signed(ROT1.body, (ROT1.sigs[0][:-1] + b"!",))
    for bad in ([ICP, bent], [ICP, ROT1, ROT1], [ICP, ROT1, END]):
        with pytest.raises((BadEvent, BadSignature)):
            read_log(bad, now_ms=LATER_MS, inception_bits=0, known=known)
    with pytest.raises(BadEvent):
        read_log([], now_ms=LATER_MS, inception_bits=0)
    with pytest.raises(BadEvent):
        read_log([ROT1], now_ms=LATER_MS, inception_bits=0)


def test_other_signatures_under_one_body_make_no_second_event() -> None:
    """A recovery signed twice, or by a key that signs otherwise each time, is one event and no fault."""
    again = Signed(REC.body, REC.sigs)
    assert merge(log(ICP, REC), log(ICP, again)) == log(ICP, REC)


def test_logs_of_two_names_are_not_merged() -> None:
    """Another inception, another name."""
    other = read_log([sign_event(inception(key("z0").public, key("z1").public, key("Z").public, 5), key("z0"))],
                     now_ms=LATER_MS, inception_bits=0)  # fmt: skip
    with pytest.raises(BadEvent):
        merge(log(ICP), other)


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
