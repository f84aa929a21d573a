"""Stamps: work that is bound to who did it and for what."""

from __future__ import annotations

from common.identity.did import did_of
from common.identity.purposes import Purpose
from common.identity.stamp import has_stamp, make_stamp, stamp_bits, stamped_part

DID = did_of(bytes(32))
BITS = 10


def test_a_stamp_is_found_and_holds() -> None:
    """The first nonce that is found has the bits, and the one before it has not."""
    part = stamped_part(DID, Purpose.RECORD, b"body")
    nonce = make_stamp(part, BITS)
    assert has_stamp(part, nonce, BITS)
    assert not any(has_stamp(part, earlier, BITS) for earlier in range(1, nonce))


def test_a_stamp_serves_nobody_and_nothing_else() -> None:
    """Another signer, another purpose and another body each need work of their own."""
    nonce = make_stamp(stamped_part(DID, Purpose.RECORD, b"body"), BITS)
    others = (
        stamped_part(did_of(b"\1" * 32), Purpose.RECORD, b"body"),
        stamped_part(DID, Purpose.GOSSIP, b"body"),
        stamped_part(DID, Purpose.RECORD, b"bodz"),
    )
    assert not any(has_stamp(part, nonce, BITS) for part in others)


def test_a_number_that_is_no_nonce_is_no_work() -> None:
    """Too long and negative ones count nothing and raise nothing; where no work is asked, everything passes."""
    part = stamped_part(DID, Purpose.RECORD, b"body")
    assert stamp_bits(part, 1 << 64) == stamp_bits(part, -1) == 0
    assert has_stamp(part, 0, 0)
