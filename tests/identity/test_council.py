"""Whose signature counts under a council's words: the last key of the newest log, of a name that stands."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from msgspec.structs import replace as changed

from common.codec import canonical
from common.council import LOG_BYTES_MAX, SIGNATURES_MAX, Known, Signature, newest_of, signed_words, signers_of
from common.identity.events import key_hash, sign_event
from common.identity.log import Log, encode_log
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from tests.attacks.registry import attack
from tests.identity.log_kit import END, HOUR_MS, ICP, LATER_MS, R1, REC, ROT1, ROT2, body_of, key, log, next_event

WORDS = b"the words"
REC_AFTER = sign_event(next_event(ROT1, "rec", key("b0"), "b1", recover=R1), key("b0"), key("R0"))
TWIN = sign_event(next_event(ICP, "rot", key("a1"), "x2", at_ms=body_of(ICP).at_ms + 2 * HOUR_MS), key("a1"))
OTHER_REC = sign_event(
    next_event(ICP, "rec", key("c0"), "c1", recover=key_hash(key("R2").public)), key("c0"), key("R0")
)


def by(carried: tuple[Signed, ...], name: str, seq: int, words: bytes = WORDS) -> Signature:
    """A signature under the words, with the log that its maker shows."""
    own = log(*carried)
    return signed_words(Purpose.PARAMETERS, words, own.did, encode_log(own), key(name), seq)


def counts(*signatures: Signature, known: Known | None = None) -> bool:
    """Whether these make the words signed."""
    found = signers_of(Purpose.PARAMETERS, WORDS, signatures, inception_bits=0, now_ms=LATER_MS, known=known or Known())
    assert found <= {log(ICP).did}
    return bool(found)


LAWS = [
    ("its first key", (ICP,), "a0", 0, (), True),
    ("its second key after a rotation", (ICP, ROT1), "a1", 1, (), True),
    ("rotated out, its own log says so", (ICP, ROT1), "a0", 0, (), False),
    ("rotated out, a newer log is known", (ICP,), "a0", 0, (ICP, ROT1), False),
    ("rotated out twice", (ICP, ROT1), "a1", 1, (ICP, ROT1, ROT2), False),
    ("an older log is known", (ICP, ROT1), "a1", 1, (ICP,), True),
    ("superseded by a recovery", (ICP,), "a0", 0, (ICP, REC), False),
    ("a superseded rotation's key", (ICP, ROT1), "a1", 1, (ICP, REC), False),
    ("the rotations of a thief beyond the recovery", (ICP, ROT1, ROT2), "a2", 2, (ICP, REC), False),
    ("recovered, the thief's rotations are known", (ICP, REC), "b0", 1, (ICP, ROT1), True),
    ("recovered after a dispute", (ICP, ROT1, REC_AFTER), "b0", 2, (ICP, TWIN), True),
    ("disputed: two rotations of one key", (ICP, ROT1), "a1", 1, (ICP, TWIN), False),
    ("frozen: two recoveries of one epoch", (ICP, REC), "b0", 1, (ICP, OTHER_REC), False),
    ("closed, its own log says so", (ICP, END), "a0", 1, (), False),
    ("closed, a newer log is known", (ICP,), "a0", 0, (ICP, END), False),
    ("another's key under the right number", (ICP,), "b0", 0, (), False),
]


@pytest.mark.parametrize(("_why", "carried", "name", "seq", "known", "expected"), LAWS, ids=[one[0] for one in LAWS])
def test_a_signature_counts_by_the_last_key_of_the_newest_log(
    _why: str, carried: tuple[Signed, ...], name: str, seq: int, known: tuple[Signed, ...], *, expected: bool
) -> None:
    """Whether the newer log is resolved by a node or stands under another signature of the same file."""
    one = by(carried, name, seq)
    if not known:
        assert counts(one) is expected
        return
    found = log(*known)
    assert counts(one, known=Known(logs=(found,))) is expected
    beside = by(known, "a0", 0, b"other words")
    assert counts(one, beside) is counts(beside, one) is expected


def test_a_fault_that_is_known_is_not_lost_by_a_merge() -> None:
    """A log resolved as disputed or frozen, and the same one, a longer or a shorter one carried."""
    for fault in ({"disputed": True}, {"frozen": True}):
        for held in ((ICP,), (ICP, ROT1), (ICP, ROT1, ROT2)):
            known = Known(logs=(replace(log(*held), **fault),))
            assert not counts(by((ICP, ROT1), "a1", 1), known=known)
            assert not counts(by((ICP, ROT1, ROT2), "a2", 2), known=known)
    disputed = Known(logs=(replace(log(ICP, ROT1), disputed=True),))
    assert counts(by((ICP, ROT1, REC_AFTER), "b0", 2), known=disputed), "a recovery clears it"


def test_what_holds_is_the_same_in_whatever_order_it_was_seen() -> None:
    """Soundness in all orders; where the name is sound, its log as well."""
    faulty = replace(log(ICP, ROT1), disputed=True)
    heaps: list[tuple[Log, ...]] = [
        (log(ICP), log(ICP, ROT1), log(ICP, ROT1, ROT2)),
        (log(ICP), faulty, log(ICP, ROT1, ROT2)),
        (faulty, log(ICP, TWIN), log(ICP, ROT1, REC_AFTER)),
        (log(ICP, ROT1, ROT2), log(ICP, REC), log(ICP)),
        (log(ICP, REC), log(ICP, OTHER_REC), log(ICP, ROT1)),
    ]
    ends = [{_end(newest_of(order)[heap[0].did]) for order in permutations(heap)} for heap in heaps]
    assert [len(one) for one in ends] == [1] * len(heaps)
    assert ends[0] == {(2, key("a2").public)}
    assert ends[2] == {(2, key("b0").public)}
    assert ends[1] == ends[4] == {(-1, b"")}


def _end(found: Log) -> tuple[int, bytes]:
    return (found.tip.seq, found.tip.key) if found.sound else (-1, b"")


def test_a_name_that_a_node_did_not_find_counts_for_nothing() -> None:
    """A node that was asked answers for all: hiding a name from it hides no rotation."""
    one, found = by((ICP,), "a0", 0), log(ICP)
    assert counts(one, known=Known(logs=(found,), only=frozenset({found.did})))
    assert not counts(one, known=Known(only=frozenset()))
    assert not counts(one, known=Known(logs=(found,), only=frozenset()))


def test_what_is_no_signature_counts_for_nothing() -> None:
    """Broken hex, a log that is too long, another's, or invalid; one beyond the number that is looked at."""
    one = by((ICP,), "a0", 0)
    stranger = sign_event(changed(body_of(ICP), key=key("z0").public), key("z0"))
    broken = [
        changed(one, signature="zz"),
        changed(one, signature=""),
        changed(one, log="zz"),
        changed(one, log="00"),
        changed(one, log=canonical(b"\0" * LOG_BYTES_MAX).hex()),
        changed(one, log=encode_log(log(stranger)).hex()),
        changed(one, key_seq=1),
        changed(one, key_seq=-1),
    ]
    for bad in broken:
        assert not counts(bad)
        assert counts(bad, one) is counts(one, bad) is True, "it does not keep the true one from counting"
    assert not counts(*[broken[0]] * SIGNATURES_MAX, one)


@pytest.mark.parametrize("case", ["rotated out", "superseded"])
@attack(
    "identity",
    tries="a founder's key of yesterday under a new parameter set, with the log from before its owner changed it",
    meets="counts for nothing where a newer log is known, from a node or beside another signature",
)
def test_a_founder_s_key_of_yesterday(case: str) -> None:
    """The signer's own log is never the last word about the signer's key."""
    newest = {"rotated out": (ICP, ROT1), "superseded": (ICP, REC)}[case]
    stolen = by((ICP,), "a0", 0)
    assert counts(stolen), "by the log that it carries alone it counts: that is what the newest log is for"
    assert not counts(stolen, known=Known(logs=(log(*newest),), only=frozenset({log(ICP).did})))
    assert not counts(stolen, by(newest, "a0", 0, b"other words"))
