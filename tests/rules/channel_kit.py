"""Two sides of one channel as plain values, and facts for them."""

from __future__ import annotations

from common.chain.channel_heights import Cap
from common.channel_messages import Outcome
from common.units import FLOP
from dux_escrowd.channel import facts as f
from dux_escrowd.channel import payee, payer
from dux_escrowd.channel.model import Coin, Payee, Payer, Receipt, Rules

RULES = Rules(
    exp=2_000, zone=288, margin=300, window=4, caps=(Cap(1, FLOP), Cap(6, 1_000 * FLOP)), fee_florins=1_000_000,
    first_min_florins=FLOP // 5, coin_min_florins=FLOP, depth=6, idle=1_440, fund=144, step=12, rebroadcast=60,
    limit_florins=900 * FLOP, mirror_florins=FLOP,
)  # fmt: skip
COIN = Coin("ab" * 32 + ":0", 10 * FLOP, 101)
OTHER_COIN = Coin("cd" * 32 + ":1", 10 * FLOP, 103)
PRICE = FLOP // 100
TIP = 110


def oid(number: int) -> str:
    return f"order-{number:012d}"


def req(number: int) -> bytes:
    return number.to_bytes(32, "big")


def went(side: Payer | Payee, *facts: f.Fact) -> Payer | Payee:
    """The side after these facts."""
    rules = payer if isinstance(side, Payer) else payee
    for fact in facts:
        side = rules.decide(side, fact).next
    return side


def open_pair(rules: Rules = RULES) -> tuple[Payer, Payee]:
    """Both sides after the first hello, at a deep coin."""
    session = b"s" * 32
    buyer = went(
        Payer(chid="c4" * 32, rules=rules), f.OpenOk(at=100, same=True), f.CoinSeen(at=TIP, coin=COIN),
        f.Started(at=TIP, nonce=b"n" * 32),
    )  # fmt: skip
    seller = went(
        Payee(chid="c4" * 32, rules=rules), f.OpenAsked(at=100, problem=""), f.CoinSeen(at=TIP, coin=COIN),
        f.HelloCame(at=TIP, payer_nonce=b"n" * 32, session=session, outpoint="", head_florins=0, receipt=Receipt()),
    )  # fmt: skip
    buyer = went(buyer, hello_back(session))
    return buyer, seller


def hello_back(session: bytes = b"s" * 32, **changes: object) -> f.HelloBackCame:
    said = {"at": TIP, "nonce": b"n" * 32, "session": session, "head_florins": 0, "head_j": 0, "calls": ()}
    return f.HelloBackCame(**{**said, "more": False, "next_nonce": b"m" * 32, **changes})


def wanted(number: int, price: int = PRICE, **changes: object) -> f.CallWanted:
    said = {"at": TIP, "oid": oid(number), "req": req(number), "price_max_florins": price, "offer_valid_to": 500}
    return f.CallWanted(**{**said, **changes})


def voucher(side: Payer, j: int, price: int = PRICE, **changes: object) -> f.VoucherCame:
    """The payer's voucher of its call j, as the payee learns it."""
    call = next((call for call in side.calls if call.j == j), None)
    said = {
        "at": TIP, "outpoint": side.coin.outpoint, "session": side.session, "j": j,
        "oid": call.oid if call else oid(j), "req": call.req if call else req(j),
        "cum_florins": side.cum_florins, "price_max_florins": call.price_max_florins if call else price,
        "price_florins": price, "offer_valid": True, "receipt": side.receipt,
    }  # fmt: skip
    return f.VoucherCame(**{**said, **changes})


def done(j: int, outcome: Outcome = Outcome.OK, charged: int = PRICE) -> f.HandlerDone:
    charged = charged if outcome is Outcome.OK else 0
    return f.HandlerDone(at=TIP, j=j, outcome=outcome, resp=b"r" * 32, charged_florins=charged)


def answer(j: int, number: int | None = None, outcome: Outcome = Outcome.OK, charged: int = PRICE) -> f.AnswerCame:
    charged = charged if outcome is Outcome.OK else 0
    return f.AnswerCame(at=TIP, j=j, req=req(number or j), resp=b"r" * 32, outcome=outcome, charged_florins=charged)
