"""What taskd orders once, and what it orders again."""

from msgspec.structs import replace

from common.contracts.escrow_views import Settlement
from common.network import NetworkProfile
from common.parameters import next_set
from common.receipts import Outcome
from common.units import Did, Florins
from dux_taskd.desk import effect_id
from dux_taskd.effects import settled_receipt
from dux_taskd.model import SignReceipt

ORDER = SignReceipt(
    contract_id="a" * 64,
    cid="b" * 64,
    buyer=Did("did:dux:" + "a" * 52),
    seller=Did("did:dux:" + "b" * 52),
    service_id="s",
    price_florins=Florins(10),
    settlement=Settlement(
        outcome=Outcome.RELEASED,
        gross_florins=Florins(10),
        provider_florins=Florins(9),
        fund_florins=Florins(1),
        fee_florins=Florins(0),
        txid="c" * 64,
        height=11,
    ),
    output_hash=b"h" * 32,
    at_ms=1,
    role="buyer",
)


def test_a_receipt_is_signed_once_for_each_place_that_the_payment_has_had_on_the_chain() -> None:
    """A receipt names a height: when a fork moves the payment, another one is true, and the old name would hide it."""
    moved = replace(ORDER, settlement=replace(ORDER.settlement, height=12))
    twin = replace(ORDER, settlement=replace(ORDER.settlement, txid="d" * 64))
    assert effect_id(ORDER) == effect_id(replace(ORDER, at_ms=2))
    assert len({effect_id(ORDER), effect_id(moved), effect_id(twin)}) == 3
    assert len("touch/" + effect_id(replace(ORDER, settlement=replace(ORDER.settlement, height=499_999_999)))) <= 128


def test_a_receipt_shows_the_tax_that_its_contract_was_made_under() -> None:
    """Not that of a set which holds by now; where what was paid is no set's tax, that of now is asked for."""
    plain = NetworkProfile(name="x", chain="embedded", genesis="ab" * 32, heights="demo")
    later = next_set(plain.first_parameters, from_height=9, tax_bps=400)
    network = replace(plain, tax_bps=400, parameter_sets=(plain.first_parameters, later))

    def tax(fund_florins: int) -> int:
        paid = replace(ORDER.settlement, gross_florins=Florins(10_000), fund_florins=Florins(fund_florins))
        order = replace(ORDER, settlement=paid, cid="bb" * 32, output_hash=b"h" * 32)
        return int(settled_receipt(order, ORDER.buyer, network).tax_florins)

    assert [tax(paid) for paid in (500, 400, 7)] == [500, 400, 400]
