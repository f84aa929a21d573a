"""escrow.royalties: what developers of this node's services were paid by its work, and what is owed to them.

An output below 0.01 FLOP is never made: a smaller royalty stays with the provider and stands here until it is paid.
Source: settled.md 29.
"""

from __future__ import annotations

from common.codec import Wire
from common.rpc.method import PEOPLE, Empty, Method
from common.units import Florins


class RoyaltyAccount(Wire, frozen=True):
    """One developer's account: `deals` contracts and channels, what their spends paid, and what they left out."""

    address: str
    deals: int
    paid_florins: Florins
    owed_florins: Florins


class RoyaltyBook(Wire, frozen=True):
    """Every developer whom this node's finished contracts and channels name, by address."""

    accounts: tuple[RoyaltyAccount, ...]


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
                    owed_florins=Florins(190_000),
                ),
            )
        ),
    ),
)  # fmt: skip
