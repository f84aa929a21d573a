"""escrow.royalties: what developers of this node's services were paid by its work, and what is owed to them.

An output below 0.01 FLOP is never made: a smaller royalty stays with the provider and stands here until it is paid.
Paying is the owner's: escrowd fixes what a payment is and how it is called, the owner's own `wallet.send` under that
name pays it once, within the owner's limits, and `escrow.royalty_paid` notes the transaction. Source: settled.md 29.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.errors import CallerMistake, NotNow
from common.rpc.method import PEOPLE, Empty, Method
from common.units import Florins


class RoyaltyAccount(Wire, frozen=True):
    """One developer's account: `deals` contracts and channels, what their spends paid, and what they left out.

    `owed_florins`: of what was left out, what no payment names yet; `sent_florins`: what payments do.
    """

    address: str
    deals: int
    paid_florins: Florins
    owed_florins: Florins
    sent_florins: Florins


class RoyaltyBook(Wire, frozen=True):
    """Every developer whom this node's finished contracts and channels name, by address."""

    accounts: tuple[RoyaltyAccount, ...]


class NothingOwed(NotNow):
    """{owed_florins} are owed to {address}: an output is made from {least_florins} on; wait for more work."""

    code = 3015
    key = "nothing-owed"


class NoSuchRoyaltyPayment(CallerMistake):
    """No royalty payment is called {payment_id}; `escrow.royalty_pay` names one."""

    code = 3016
    key = "no-such-royalty-payment"
    http_status = 404


class PayRoyalty(Wire, frozen=True):
    """All that is owed to a developer is to be paid."""

    address: Annotated[str, Meta(max_length=64)]


class RoyaltyPayment(Wire, frozen=True):
    """One payment: its `payment_id` is the request_id that pays it once; `txid` empty: not paid yet as far as known."""

    payment_id: str
    address: str
    amount_florins: Florins
    txid: str = ""


class RoyaltyPaid(Wire, frozen=True):
    """The wallet paid it."""

    payment_id: Annotated[str, Meta(max_length=128)]
    txid: Annotated[str, Meta(min_length=64, max_length=64)]


ROYALTIES: Method[Empty, RoyaltyBook] = Method(
    name="escrow.royalties",
    params=Empty,
    result=RoyaltyBook,
    summary="Royalties of this node's finished work, by developer: paid on the chain, and owed because they were dust.",
    callers=PEOPLE,
    example=(
        Empty(),
        RoyaltyBook(
            accounts=(
                RoyaltyAccount(
                    address="2N9hLwkSqr1cPQAPxbrGVUjxyjD11G2e1he", deals=3, paid_florins=Florins(1_900_000),
                    owed_florins=Florins(190_000), sent_florins=Florins(0),
                ),
            )
        ),
    ),
)  # fmt: skip

_ADDRESS, _NAME = "2N9hLwkSqr1cPQAPxbrGVUjxyjD11G2e1he", "royalty/2N9hLwkSqr1cPQAPxbrGVUjxyjD11G2e1he/5f1c"

ROYALTY_PAY: Method[PayRoyalty, RoyaltyPayment] = Method(
    name="escrow.royalty_pay",
    params=PayRoyalty,
    result=RoyaltyPayment,
    summary="Name the payment of all that is owed to a developer; one that is not paid yet is named again, unchanged.",
    callers=PEOPLE,
    raises=(NothingOwed,),
    example=(
        PayRoyalty(address=_ADDRESS),
        RoyaltyPayment(payment_id=_NAME, address=_ADDRESS, amount_florins=Florins(1_900_000)),
    ),
)
ROYALTY_PAID: Method[RoyaltyPaid, RoyaltyPayment] = Method(
    name="escrow.royalty_paid",
    params=RoyaltyPaid,
    result=RoyaltyPayment,
    summary="Note the transaction of a royalty payment; noted twice is noted once.",
    callers=PEOPLE,
    raises=(NoSuchRoyaltyPayment,),
    example=(
        RoyaltyPaid(payment_id=_NAME, txid="ab" * 32),
        RoyaltyPayment(payment_id=_NAME, address=_ADDRESS, amount_florins=Florins(1_900_000), txid="ab" * 32),
    ),
)
