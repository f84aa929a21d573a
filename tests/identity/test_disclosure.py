"""Laws of selective disclosure: one property is proved, nothing else is told, and nobody else can show it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.codec import canonical
from common.identity.disclosure import (
    LEAVES,
    BadDisclosure,
    Claim,
    ClaimRoot,
    Disclosure,
    ShownTo,
    TooManyClaims,
    at_least,
    check_disclosure,
    check_shown,
    claims_of,
    disclose,
    root_of,
)
from common.identity.keys import SigningKey
from common.identity.purposes import Purpose
from common.identity.signed import open_signed, sign
from common.randomness import SeededRandomness
from common.units import Did, UnixMs
from tests.attacks.registry import attack

SUBJECT, OTHER = Did("did:dux:" + "a" * 52), Did("did:dux:" + "b" * 52)
NOW_MS = 1_790_000_000_000
PROPERTIES = [("region", "eu"), *at_least("tier", 2, (1, 2, 3)), *at_least("bond", 7, (1, 5, 10))]
CLAIMS = claims_of(PROPERTIES, SeededRandomness(1))
ROOT = ClaimRoot(1, SUBJECT, root_of(CLAIMS), UnixMs(NOW_MS), UnixMs(NOW_MS + 1000))


def shown(name: str) -> Disclosure:
    found = disclose(CLAIMS, name)
    assert found is not None
    return found


def test_a_predicate_is_proved_without_the_figure() -> None:
    """Tier 2 shows tier>=1 and tier>=2 and cannot show tier>=3; bond 7 shows >=5 and not >=10."""
    for name in ("tier>=1", "tier>=2", "bond>=1", "bond>=5", "region"):
        assert check_disclosure(shown(name), ROOT, subject=SUBJECT, now_ms=NOW_MS).name == name
    assert disclose(CLAIMS, "tier>=3") is None
    assert disclose(CLAIMS, "bond>=10") is None
    assert disclose(CLAIMS, "") is None


@attack("identity", tries="changes a disclosed property, its name, place or path", meets="the root is missed")
@given(st.sampled_from(PROPERTIES), st.integers(0, LEAVES - 1), st.text(max_size=8), st.integers(0, 3))
def test_no_other_value_name_place_or_path_verifies(wanted: tuple[str, str], index: int, text: str, depth: int) -> None:
    """Whatever is changed in a presentation, the root is missed."""
    honest = shown(wanted[0])
    path = (*honest.path[:depth], bytes(32), *honest.path[depth + 1 :])
    for changed in (
        msgspec.structs.replace(honest, claim=msgspec.structs.replace(honest.claim, value=text)),
        msgspec.structs.replace(honest, claim=msgspec.structs.replace(honest.claim, name=text)),
        msgspec.structs.replace(honest, index=index),
        msgspec.structs.replace(honest, path=path),
        Disclosure(Claim(wanted[0], wanted[1], bytes(16)), honest.index, honest.path),
    ):
        if changed != honest:
            with pytest.raises(BadDisclosure):
                check_disclosure(changed, ROOT, subject=SUBJECT, now_ms=NOW_MS)


def test_it_is_bound_to_its_subject_and_its_time() -> None:
    """Another node, after its time, before it: nothing is proved; an empty leaf says nothing."""
    for subject, at_ms in ((OTHER, NOW_MS), (SUBJECT, NOW_MS + 1000), (SUBJECT, NOW_MS - 1)):
        with pytest.raises(BadDisclosure):
            check_disclosure(shown("region"), ROOT, subject=subject, now_ms=at_ms)
    empty = next(at for at, claim in enumerate(CLAIMS) if not claim.name)
    blank = msgspec.structs.replace(shown("region"), claim=CLAIMS[empty], index=empty)
    with pytest.raises(BadDisclosure, match="empty"):
        check_disclosure(blank, ROOT, subject=SUBJECT, now_ms=NOW_MS)


@attack(
    "identity",
    tries="shows a property of another, overheard",
    meets="refused: signed by its subject for one verifier's nonce",
)
def test_a_presentation_overheard_is_of_no_use_to_another_verifier_or_node() -> None:
    """It is signed by the subject over the verifier's nonce; another nonce or another root is refused."""
    key, nonce = SigningKey(b"s" * 32), b"n" * 32
    signed = sign(key, Purpose.CLAIM_SHOWN, ShownTo(ROOT.root, shown("tier>=2"), nonce))
    said = open_signed(signed, ShownTo, key=key.public, purpose=Purpose.CLAIM_SHOWN, max_bytes=1024)
    assert check_shown(said, ROOT, subject=SUBJECT, nonce=nonce, now_ms=NOW_MS).name == "tier>=2"
    for other_nonce, root in ((b"m" * 32, ROOT), (nonce, msgspec.structs.replace(ROOT, root=bytes(32)))):
        with pytest.raises(BadDisclosure):
            check_shown(said, root, subject=SUBJECT, nonce=other_nonce, now_ms=NOW_MS)


def test_two_attestations_of_one_node_share_nothing_and_hide_how_much_they_hold() -> None:
    """Other salts and places each time; every presentation has the same number of hashes, however few properties."""
    again = claims_of(PROPERTIES, SeededRandomness(2))
    assert not {canonical(claim) for claim in again} & {canonical(claim) for claim in CLAIMS}
    assert root_of(again) != root_of(CLAIMS)
    few = claims_of(PROPERTIES[:1], SeededRandomness(3))
    lone = disclose(few, "region")
    assert lone is not None
    assert len(canonical(lone)) == len(canonical(shown("region"))) < 200
    with pytest.raises(TooManyClaims):
        claims_of([("x", "y")] * (LEAVES + 1), SeededRandomness(1))
