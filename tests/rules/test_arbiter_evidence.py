"""What an arbiter makes of a ciphertext that nobody gives: the storage receipts that came with it decide."""

from __future__ import annotations

import pytest

from common.contracts.escrow_cases import CheckedReceipt
from common.storage_receipts import KEY_AWAY, RECEIPTS_MIN, promised
from common.units import Did
from dux_taskd.rules_arbiter import Finding, evidence_gone

STORES = tuple(Did(f"did:dux:{name}") for name in ("buyer", "anna", "bert", "carl"))


def receipt(holder: str, fault: str = "") -> CheckedReceipt:
    return CheckedReceipt(holder=Did(holder), until_height=500, fault=fault)


def weighed(receipts: list[CheckedReceipt]) -> Finding:
    return evidence_gone(promised(receipts, STORES), RECEIPTS_MIN)


@pytest.mark.parametrize(
    ("faults", "blames"),
    [
        (("", "", ""), False),
        (("", "", "", ""), False),
        (("", "", KEY_AWAY), False),  # it may be good
        (("", ""), True),
        (("", "", "it is for another blob"), True),
        (("", "", "its holder did not sign it"), True),
        ((), True),
    ],
)
def test_three_who_had_promised_take_the_blame_off_the_seller(faults: tuple[str, ...], *, blames: bool) -> None:
    found = weighed([receipt(did, fault) for did, fault in zip(STORES, faults, strict=False)])
    assert (bool(found.fault), bool(found.vanished)) == (blames, not blames)
    if blames:
        assert str(RECEIPTS_MIN) in found.fault
    else:
        assert all(did in found.vanished for did, fault in zip(STORES, faults, strict=False) if not fault)


def test_strangers_receipts_do_not_count() -> None:
    """A lying seller makes as many names as it likes."""
    found = weighed([receipt(f"did:dux:made-{number}") for number in range(4)])
    assert found.fault
    mixed = [receipt(STORES[0]), receipt(STORES[1]), receipt("did:dux:made")]
    assert weighed(mixed).fault
