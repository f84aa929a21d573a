"""The nouns of the market: one byte form, one meaning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.codec import canonical
from common.errors import BadParams
from common.receipts import (
    RECEIPT_BYTES_MAX,
    Attested,
    Outcome,
    SettledReceipt,
    facts_id,
    opened,
    receipt_fault,
    service_id_of,
)
from common.units import Did, Florins, UnixMs
from tests.market.makers import ARBITERS, BUYER, NETWORK, SELLER, STRANGER, TAX_BPS, receipt


def test_a_sound_receipt_has_no_fault() -> None:
    """A release, a full and an empty award, a refund and a cancel can all be true."""
    nothing = {"gross_florins": Florins(0), "tax_florins": Florins(0)}
    assert receipt_fault(receipt(), NETWORK, [TAX_BPS]) is None
    assert receipt_fault(receipt(outcome=Outcome.AWARDED), NETWORK, [TAX_BPS]) is None
    assert receipt_fault(receipt(signer=ARBITERS[0]), NETWORK, [TAX_BPS], ARBITERS) is None
    for outcome in (Outcome.AWARDED, Outcome.REFUNDED, Outcome.CANCELLED):
        assert receipt_fault(receipt(outcome=outcome, **nothing), NETWORK, [TAX_BPS]) is None


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"network": "00" * 32}, "another network"),
        ({"seller": BUYER, "signer": BUYER}, "are one"),
        ({"signer": STRANGER}, "neither buyer nor seller"),
        ({"signer": ARBITERS[0]}, "neither buyer nor seller"),
        ({"gross_florins": Florins(1_000_000_001)}, "between 0 and the price"),
        ({"gross_florins": Florins(-1)}, "between 0 and the price"),
        ({"tax_florins": Florins(49_999_999)}, "network's part"),
        ({"gross_florins": Florins(0), "tax_florins": Florins(0)}, "release pays"),
        ({"outcome": Outcome.REFUNDED}, "refund pays nothing"),
        ({"outcome": Outcome.CANCELLED}, "refund pays nothing"),
    ],
)
def test_a_receipt_that_cannot_be_true_says_why(changes: dict[str, object], word: str) -> None:
    """Each way in which a receipt contradicts itself or the network has its own words."""
    assert word in (receipt_fault(receipt(**changes), NETWORK, [TAX_BPS]) or "")


def test_both_parties_receipts_state_the_same_facts() -> None:
    """Who signs, when, and what output it saw do not change the facts; the gross does."""
    ours = receipt()
    theirs = receipt(signer=BUYER, at_ms=UnixMs(2), output_hash=b"\x02" * 32)
    assert facts_id(ours) == facts_id(theirs)
    assert facts_id(ours) != facts_id(receipt(gross_florins=Florins(1)))


def test_an_envelope_opens_to_the_same_receipt_and_to_nothing_else() -> None:
    """The exact body travels; a flipped type, a tail or a too long body is refused."""
    inner = receipt()
    envelope = Attested(body=canonical(inner), did=SELLER, key_seq=0, signature=b"s" * 64)
    data = canonical(envelope)
    assert opened(data, SettledReceipt, body_bytes_max=RECEIPT_BYTES_MAX) == (envelope, inner)
    for bad in (data + b"\0", data[:-1], canonical(inner)):
        with pytest.raises(BadParams):
            opened(bad, SettledReceipt, body_bytes_max=RECEIPT_BYTES_MAX)
    with pytest.raises(BadParams, match="bytes"):
        opened(data, SettledReceipt, body_bytes_max=10)


@given(st.sampled_from([BUYER, SELLER]), st.text(max_size=8), st.sampled_from([BUYER, SELLER]), st.text(max_size=8))
def test_a_service_id_belongs_to_one_provider_and_slug(one: Did, slug: str, two: Did, other: str) -> None:
    """Equal ids if and only if equal provider and slug; 32 lower-case characters."""
    first, second = service_id_of(one, slug), service_id_of(two, other)
    assert (first == second) == ((one, slug) == (two, other))
    assert len(first) == 32
    assert first == first.lower()
