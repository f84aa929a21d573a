"""Honest vouchers, answers and headers, for tests of what reads them."""

from common.chain.tx import Outpoint
from common.channel_messages import NO_ROOT, Ack, Answer, Outcome, Voucher
from common.identity.purposes import Purpose
from common.units import Florins
from dux_pay.headers import IDENTIFIER, SCHEME, PaymentPayload, Settlement, show_answer, show_voucher
from dux_pay.price import Price
from dux_pay.terms import Offered, Scheme, required_of
from tests.pay.kit import CHID, GENESIS, PAYEE_KEY, PAYER_KEY, RULES, SESSION, envelope

SCHEMES = Scheme(rules=RULES, coin_key=PAYEE_KEY.public_key.format(), body_bytes_max=1_000)
OFFERED = Offered(envelope=b"\x92offer", valid_to=1_500, jws="a.b.c")
PRICE = Price(Florins(50_000_000))
REQUIRED = required_of(SCHEMES, PRICE, OFFERED, "https://api.example/x", "")
OID = "order-0000000001"


def voucher(oid: str = OID, **changed) -> Voucher:
    fields = {
        "v": 1, "network": GENESIS, "chid": CHID, "outpoint": Outpoint("ab" * 32, 0), "session": SESSION, "j": 1,
        "oid": oid, "cum_florins": Florins(20_000_000), "price_max_florins": Florins(5), "offer": b"o" * 32,
        "req": b"r" * 32, "ack": Ack(1, NO_ROOT, 0, Florins(0)), "coin_sig": b"s" * 71,
    }  # fmt: skip
    return Voucher(**(fields | changed))


def signed(value: Voucher) -> bytes:
    return envelope(PAYER_KEY, Purpose.CHANNEL_VOUCHER, value)


def payload_of(data: bytes, oid: str = OID) -> PaymentPayload:
    return PaymentPayload(
        x402_version=2,
        accepted=REQUIRED.accepts[0],
        payload=show_voucher(data),
        extensions={IDENTIFIER: {"info": {"required": True, "id": oid}}},
    )


def answer(**changed) -> bytes:
    fields = {
        "v": 1, "chid": CHID, "session": SESSION, "j": 1, "oid": OID, "req": b"r" * 32, "resp": b"p" * 32,
        "outcome": Outcome.OK, "charged_florins": Florins(5), "held_florins": Florins(9), "owed_florins": Florins(5),
        "height": 7,
    }  # fmt: skip
    return envelope(PAYEE_KEY, Purpose.CHANNEL_ANSWER, Answer(**(fields | changed)))


def settlement_of(data: bytes) -> Settlement:
    shown = {SCHEME: {"info": show_answer(data)}}
    return Settlement(success=True, transaction="", network="n:1", payer="p", amount="5", extensions=shown)
