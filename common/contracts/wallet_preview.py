"""What a payment would be, before anybody decides it: coins, fee, size and change. Binds nothing, signs nothing."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.accounts import TOKEN_ACCOUNT
from common.chain.address import BadAddress
from common.chain.tx import Outpoint
from common.codec import Wire
from common.contracts.wallet_errors import (
    CoinNotFree,
    CoinsPending,
    DustAmount,
    InsufficientFunds,
    NoSuchAccount,
    OverLimit,
)
from common.rpc.method import Method
from common.units import Florins

OWNERS = ("cli", "module")
_ADDRESS, _TXID = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8", "ab" * 32


class Preview(Wire, frozen=True):
    """A payment as `wallet.send` would be asked for it."""

    address: str
    amount_florins: Florins
    coins: Annotated[tuple[Outpoint, ...], Meta(max_length=200)] = ()
    account: Annotated[int, Meta(ge=0, le=TOKEN_ACCOUNT)] = 0


class CoinUsed(Wire, frozen=True):
    """A coin that would be spent."""

    outpoint: Outpoint
    value_florins: Florins


class Previewed(Wire, frozen=True, kw_only=True):
    """Inputs = amount + fee + change. `size_bytes`: the most it can have, which is what the fee is for.

    Change that would be dust is none: it is in the fee. Another payment in between may change all this.
    """

    amount_florins: Florins
    fee_florins: Florins
    change_florins: Florins
    size_bytes: int
    fee_rate_florins_per_kb: int
    coins: tuple[CoinUsed, ...]


WALLET_PREVIEW: Method[Preview, Previewed] = Method(
    name="wallet.preview",
    params=Preview,
    result=Previewed,
    summary="What a payment would cost, and of which coins it would be made; nothing is bound.",
    callers=OWNERS,
    raises=(BadAddress, DustAmount, InsufficientFunds, CoinsPending, CoinNotFree, NoSuchAccount, OverLimit),
    example=(
        Preview(address=_ADDRESS, amount_florins=Florins(1_000_000_000)),
        Previewed(
            amount_florins=Florins(1_000_000_000),
            fee_florins=Florins(1_000_000),
            change_florins=Florins(199_000_000),
            size_bytes=237,
            fee_rate_florins_per_kb=1_200_000,
            coins=(CoinUsed(outpoint=Outpoint(_TXID, 0), value_florins=Florins(1_200_000_000)),),
        ),
    ),
)
