"""Accounts of one phrase, and addresses and accounts that are only watched."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.chain.address import BadAddress
from common.chain.key_text import KEY_CHARS_MAX, BadKeyText
from common.chain.script import REDEEM_BYTES_MAX
from common.codec import Wire
from common.contracts.wallet_errors import AccountsFull, NotSynced, WalletLocked
from common.rpc.method import Empty, Method
from common.units import Florins

OWNERS = ("cli", "module")
LABEL_CHARS_MAX = 200
_ADDRESS = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8"
_ACCOUNT = "tpubDC…"


class OpenAccount(Wire, frozen=True):
    """One more account of the same phrase. Daemons spend from account 0 alone: what lies here is out of their reach."""

    request_id: str
    name: Annotated[str, Meta(min_length=1, max_length=LABEL_CHARS_MAX)]


class AccountView(Wire, frozen=True):
    """An account with its coins. `public_key` lets another wallet watch all of it, and spends nothing."""

    number: int
    name: str
    public_key: str
    confirmed_florins: Florins
    pending_florins: Florins


class Accounts(Wire, frozen=True):
    """All accounts, the node's own first."""

    accounts: list[AccountView]


class WatchOnly(Wire, frozen=True):
    """Watch without keys: an address, an account's public key, or a redeem script: one of them. Reads from a height."""

    request_id: str
    address: str = ""
    account_key: Annotated[str, Meta(max_length=KEY_CHARS_MAX)] = ""
    redeem_script: Annotated[bytes, Meta(max_length=REDEEM_BYTES_MAX)] = b""
    label: Annotated[str, Meta(max_length=LABEL_CHARS_MAX)] = ""
    from_height: Annotated[int, Meta(ge=0)] = 0


class WatchedView(Wire, frozen=True):
    """What is watched, and the coins on it. `name`: an address, or an account's public key."""

    name: str
    label: str
    confirmed_florins: Florins
    pending_florins: Florins


class Watched(Wire, frozen=True):
    """Everything watched."""

    watched: list[WatchedView]


WALLET_ACCOUNT: Method[OpenAccount, AccountView] = Method(
    name="wallet.account",
    params=OpenAccount,
    result=AccountView,
    summary="Open one more account of the same phrase.",
    callers=("cli",),
    once=True,
    raises=(AccountsFull, WalletLocked),
    example=(
        OpenAccount(request_id="account-1", name="savings"),
        AccountView(
            number=1,
            name="savings",
            public_key=_ACCOUNT,
            confirmed_florins=Florins(0),
            pending_florins=Florins(0),
        ),
    ),
)

WALLET_ACCOUNTS: Method[Empty, Accounts] = Method(
    name="wallet.accounts",
    params=Empty,
    result=Accounts,
    summary="All accounts of the phrase with their coins.",
    callers=OWNERS,
    raises=(WalletLocked,),
    example=(
        Empty(),
        Accounts(
            accounts=[
                AccountView(
                    number=0,
                    name="node",
                    public_key=_ACCOUNT,
                    confirmed_florins=Florins(9_000_000_000),
                    pending_florins=Florins(0),
                )
            ]
        ),
    ),
)

WALLET_WATCH: Method[WatchOnly, WatchedView] = Method(
    name="wallet.watch",
    params=WatchOnly,
    result=WatchedView,
    summary="Watch an address, an account or a script without its keys.",
    callers=OWNERS,
    once=True,
    deadline_max_s=60.0,
    raises=(BadAddress, BadKeyText, NotSynced),
    example=(
        WatchOnly(request_id="watch-1", address=_ADDRESS, label="the shop", from_height=100),
        WatchedView(
            name=_ADDRESS, label="the shop", confirmed_florins=Florins(500_000_000), pending_florins=Florins(0)
        ),
    ),
)

WALLET_WATCHED: Method[Empty, Watched] = Method(
    name="wallet.watched",
    params=Empty,
    result=Watched,
    summary="What is watched without keys, with its coins.",
    callers=OWNERS,
    example=(
        Empty(),
        Watched(
            watched=[
                WatchedView(
                    name=_ADDRESS, label="the shop", confirmed_florins=Florins(500_000_000), pending_florins=Florins(0)
                )
            ]
        ),
    ),
)
