"""What an owner does with payments beside sending: speed them up, sweep a foreign key, see the limits."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from common.chain.key_text import KEY_CHARS_MAX, BadKeyText
from common.codec import Wire
from common.contracts.wallet_errors import BumpRefused, CoinsPending, InsufficientFunds, NothingToSweep, NotSynced
from common.rpc.method import Empty, Method
from common.units import Florins

OWNERS = ("cli", "module")
RATE_MAX_FLORINS_PER_KB = 1_000_000_000  # 10 FLOP/kB: a thousand times the miners' floor
_TXID = "5e" * 32
_ADDRESS = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8"


class Bump(Wire, frozen=True):
    """Speed up what waits for a block.

    `replace`: the same payment once more with a higher fee (own payments, where the coin replaces); `child`: a payment
    to oneself that spends its change, or what it paid us, and pays for both; `auto`: the first that is possible.
    `fee_rate_florins_per_kb` 0: twice the wallet's.
    """

    request_id: str
    txid: str
    how: Literal["auto", "replace", "child"] = "auto"
    fee_rate_florins_per_kb: Annotated[int, Meta(ge=0, le=RATE_MAX_FLORINS_PER_KB)] = 0


class Bumped(Wire, frozen=True):
    """The transaction that now speaks for the old one, and what it pays in all."""

    txid: str
    how: Literal["replace", "child"]
    fee_florins: Florins


class Sweep(Wire, frozen=True):
    """Bring everything on a foreign private key (WIF) home. Blocks below `from_height` are not read."""

    request_id: str
    private_key: Annotated[str, Meta(max_length=KEY_CHARS_MAX)]
    from_height: Annotated[int, Meta(ge=0)] = 0

    def __repr__(self) -> str:
        return f"Sweep(from_height={self.from_height})"


class Swept(Wire, frozen=True):
    """On its way to `address`; `coins_left` are beyond what fits one transaction: sweep again."""

    txid: str
    address: str
    amount_florins: Florins
    fee_florins: Florins
    coins: int
    coins_left: int


class LimitView(Wire, frozen=True):
    """A limit of the standing approval: what daemons and modules may pay without the owner."""

    name: str
    limit_florins: Florins
    spent_florins: Florins  # within the last day; of the caller or counterparty that has used most of it


class Limits(Wire, frozen=True):
    """Every limit, in the order in which they are asked."""

    limits: list[LimitView]


WALLET_BUMP: Method[Bump, Bumped] = Method(
    name="wallet.bump",
    params=Bump,
    result=Bumped,
    summary="Speed up a payment that waits for a block, by a higher fee or by a child that pays for both.",
    callers=("cli",),  # fees have no limit of the standing approval
    once=True,
    raises=(BumpRefused, InsufficientFunds, CoinsPending),
    example=(
        Bump(request_id="bump-1", txid=_TXID),
        Bumped(txid="6f" * 32, how="replace", fee_florins=Florins(2_000_000)),
    ),
)

WALLET_SWEEP: Method[Sweep, Swept] = Method(
    name="wallet.sweep",
    params=Sweep,
    result=Swept,
    summary="Bring everything on a foreign private key to a fresh own address.",
    callers=("cli",),
    once=True,
    deadline_max_s=60.0,
    raises=(BadKeyText, NothingToSweep, NotSynced),
    example=(
        Sweep(request_id="sweep-1", private_key="cT…", from_height=100),
        Swept(
            txid=_TXID,
            address=_ADDRESS,
            amount_florins=Florins(499_000_000),
            fee_florins=Florins(1_000_000),
            coins=2,
            coins_left=0,
        ),
    ),
)

WALLET_LIMITS: Method[Empty, Limits] = Method(
    name="wallet.limits",
    params=Empty,
    result=Limits,
    summary="What daemons may pay by standing approval, and how much of it the last day has used.",
    callers=OWNERS,
    example=(
        Empty(),
        Limits(
            limits=[
                LimitView(name="per day", limit_florins=Florins(500_000_000_000), spent_florins=Florins(1_000_000_000))
            ]
        ),
    ),
)
