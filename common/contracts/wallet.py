"""What flopd promises to its callers: the wallet itself here, the chain and the contracts in the files beside it.

Amounts are integer florins; a payment is named by the caller's `request_id` and happens once, whatever is repeated.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from common.accounts import TOKEN_ACCOUNT
from common.chain.address import BadAddress
from common.chain.tx import Outpoint
from common.codec import Wire
from common.contracts.wallet_accounts import WALLET_ACCOUNT, WALLET_ACCOUNTS, WALLET_WATCH, WALLET_WATCHED
from common.contracts.wallet_bond_lot import CONTRACT_SETTLE_BOTH, CONTRACT_SIGN_BOTH
from common.contracts.wallet_bonds import (
    WALLET_BOND_MAKE,
    WALLET_BOND_RECLAIM,
    WALLET_BOND_REGISTER,
    WALLET_BONDS,
)
from common.contracts.wallet_bump import WALLET_BUMP, WALLET_LIMITS, WALLET_SWEEP
from common.contracts.wallet_chain import (
    CHAIN_BEACON,
    CHAIN_BLOCK_HASH,
    CHAIN_BROADCAST,
    CHAIN_COINS,
    CHAIN_EVENTS,
    CHAIN_STATUS,
    CHAIN_TIP,
    CHAIN_TX,
    CHAIN_WATCH,
    EXAMPLE_HASH,
    EXAMPLE_TXID,
)
from common.contracts.wallet_chain_proof import CHAIN_HEADERS, CHAIN_TX_PROOF
from common.contracts.wallet_channel import (
    PURSE_ADOPT,
    PURSE_CLOSE,
    PURSE_FINAL,
    PURSE_FUND,
    PURSE_FUNDING,
    PURSE_KEY,
    PURSE_LOST_KEYS,
    PURSE_MESSAGES,
    PURSE_REFUND,
    PURSE_VOUCHERS,
)
from common.contracts.wallet_contract import (
    CONTRACT_ADOPT,
    CONTRACT_CHECK,
    CONTRACT_FUND,
    CONTRACT_NEW_KEY,
    CONTRACT_RESULT_LOCK,
    CONTRACT_REVEAL,
    CONTRACT_SETTLE,
    CONTRACT_SIGN,
    FUND_COINS,
    FUND_KEY,
    FUND_PROVE,
    FUND_SETTLE,
    FUND_SIGN,
)
from common.contracts.wallet_errors import (
    CoinNotFree,
    CoinsPending,
    DustAmount,
    InsufficientFunds,
    NoSuchAccount,
    OverLimit,
    WalletLocked,
)
from common.contracts.wallet_jws import WALLET_SIGN_OFFER, WALLET_SIGN_RECEIPT
from common.contracts.wallet_preview import WALLET_PREVIEW
from common.contracts.wallet_recovery import CONTRACT_FIND_KEY, WALLET_RECOVER, WALLET_RECOVERY
from common.contracts.wallet_restore import CONTRACT_BLOB_KEY, CONTRACT_MISSING, CONTRACT_RESTORE, PURSE_RESTORE
from common.contracts.wallet_shared import (
    WALLET_PARTIAL_FINISH,
    WALLET_PARTIAL_MAKE,
    WALLET_PARTIAL_SHOW,
    WALLET_PARTIAL_SIGN,
    WALLET_SHARED,
    WALLET_SHARED_KEY,
    WALLET_SHARED_MAKE,
)
from common.contracts.wallet_tools import (
    WALLET_BACKUP,
    WALLET_LABEL,
    WALLET_LOCK,
    WALLET_SIGN_MESSAGE,
    WALLET_UNLOCK,
    WALLET_VERIFY_MESSAGE,
)
from common.rpc.method import Empty, Method
from common.units import BlockHeight, Florins, UnixMs

OWNERS = ("cli", "module")
KNOWERS = ("cli", "module", "escrowd", "airdropd", "registryd", "taskd")
HISTORY_MAX = 500
LABEL_CHARS_MAX = 200
COINS_CHOSEN_MAX = 200

EXAMPLE_ADDRESS = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8"

State = Literal["waiting", "seen", "confirmed", "conflicted", "refused", "replaced"]


class WalletStatus(Wire, frozen=True):
    """Which chain, how far it is read, and whether payments can be made. `genesis` names the network."""

    family: str
    genesis: str
    source: str
    height: BlockHeight
    hash: str
    synced: bool
    unlocked: bool
    fee_rate_florins_per_kb: int
    problems: list[str]


class NewAddress(Wire, frozen=True):
    """A fresh receiving address; the label is for the owner's books."""

    request_id: str
    label: Annotated[str, Meta(max_length=LABEL_CHARS_MAX)] = ""
    account: Annotated[int, Meta(ge=0, le=TOKEN_ACCOUNT)] = 0


class AddressView(Wire, frozen=True):
    """An own address."""

    address: str
    script: bytes
    label: str


class Balance(Wire, frozen=True):
    """What the node's account holds, in parts that never overlap; their sum is `total_florins`.

    spendable: in a block, ripe, not bound. locked: bound by a payment that is not in a block yet. immature: mined, not
    ripe yet. pending: own outputs seen outside a block, change among them. `in_contracts_florins`: own lots, beside it.
    """

    spendable_florins: Florins
    locked_florins: Florins
    immature_florins: Florins
    pending_florins: Florins
    total_florins: Florins
    in_contracts_florins: Florins


class HistoryAsked(Wire, frozen=True):
    """Newest first."""

    limit: int = 50
    offset: int = 0


class HistoryEntry(Wire, frozen=True):
    """One transaction that moved own coins. `change_florins`: what it did to the total; no fee: others paid it."""

    txid: str
    kind: str
    state: State
    height: BlockHeight | None
    at_ms: UnixMs
    change_florins: Florins
    fee_florins: Florins | None
    counterparty: str
    request_id: str
    label: str = ""


class History(Wire, frozen=True):
    """Own transactions, newest first, and how many there are."""

    entries: list[HistoryEntry]
    total: int


class Send(Wire, frozen=True):
    """Pay an address from an account; with `coins`, from these alone. The label is for the owner's books."""

    request_id: str
    address: str
    amount_florins: Florins
    label: Annotated[str, Meta(max_length=LABEL_CHARS_MAX)] = ""
    coins: Annotated[tuple[Outpoint, ...], Meta(max_length=COINS_CHOSEN_MAX)] = ()
    account: Annotated[int, Meta(ge=0, le=TOKEN_ACCOUNT)] = 0


class Sent(Wire, frozen=True):
    """Decided and on its way: the coins are bound, and it is broadcast until it is in a block."""

    txid: str
    amount_florins: Florins
    fee_florins: Florins


class Unspent(Wire, frozen=True):
    """One own coin. `account`: of its key."""

    outpoint: Outpoint
    address: str
    value_florins: Florins
    height: BlockHeight | None
    state: Literal["spendable", "locked", "immature", "pending"]
    account: int = 0


class Unspents(Wire, frozen=True):
    """Own coins, oldest first."""

    coins: list[Unspent]


WALLET_STATUS: Method[Empty, WalletStatus] = Method(
    name="wallet.status",
    params=Empty,
    result=WalletStatus,
    summary="Which chain the wallet follows, how far, and whether it can pay.",
    callers=KNOWERS,
    example=(
        Empty(),
        WalletStatus(
            family="embedded",
            genesis="9f" * 32,
            source="core",
            height=BlockHeight(250),
            hash=EXAMPLE_HASH,
            synced=True,
            unlocked=True,
            fee_rate_florins_per_kb=1_200_000,
            problems=[],
        ),
    ),
)

WALLET_NEW_ADDRESS: Method[NewAddress, AddressView] = Method(
    name="wallet.new_address",
    params=NewAddress,
    result=AddressView,
    summary="A fresh receiving address.",
    callers=KNOWERS,
    once=True,
    example=(
        NewAddress(request_id="address-1", label="from Anna"),
        AddressView(address=EXAMPLE_ADDRESS, script=b"\x76\xa9", label="from Anna"),
    ),
)

WALLET_BALANCE: Method[Empty, Balance] = Method(
    name="wallet.balance",
    params=Empty,
    result=Balance,
    summary="What the wallet holds, in parts.",
    callers=KNOWERS,
    example=(
        Empty(),
        Balance(
            spendable_florins=Florins(9_000_000_000),
            locked_florins=Florins(0),
            immature_florins=Florins(0),
            pending_florins=Florins(1_000_000_000),
            total_florins=Florins(10_000_000_000),
            in_contracts_florins=Florins(0),
        ),
    ),
)

WALLET_HISTORY: Method[HistoryAsked, History] = Method(
    name="wallet.history",
    params=HistoryAsked,
    result=History,
    summary="Own transactions, newest first.",
    callers=OWNERS,
    example=(
        HistoryAsked(limit=1),
        History(
            entries=[
                HistoryEntry(
                    txid=EXAMPLE_TXID,
                    kind="send",
                    state="confirmed",
                    height=BlockHeight(245),
                    at_ms=UnixMs(1_790_000_000_000),
                    change_florins=Florins(-1_001_000_000),
                    fee_florins=Florins(1_000_000),
                    counterparty=EXAMPLE_ADDRESS,
                    request_id="send-1",
                )
            ],
            total=1,
        ),
    ),
)

WALLET_SEND: Method[Send, Sent] = Method(
    name="wallet.send",
    params=Send,
    result=Sent,
    summary="Pay an address, once.",
    callers=OWNERS,
    once=True,
    raises=(
        BadAddress,
        DustAmount,
        InsufficientFunds,
        CoinsPending,
        CoinNotFree,
        NoSuchAccount,
        OverLimit,
        WalletLocked,
    ),
    example=(
        Send(request_id="send-1", address=EXAMPLE_ADDRESS, amount_florins=Florins(1_000_000_000)),
        Sent(txid=EXAMPLE_TXID, amount_florins=Florins(1_000_000_000), fee_florins=Florins(1_000_000)),
    ),
)

WALLET_UTXOS: Method[Empty, Unspents] = Method(
    name="wallet.utxos",
    params=Empty,
    result=Unspents,
    summary="Own coins one by one.",
    callers=OWNERS,
    example=(
        Empty(),
        Unspents(
            coins=[
                Unspent(
                    outpoint=Outpoint(EXAMPLE_TXID, 1),
                    address=EXAMPLE_ADDRESS,
                    value_florins=Florins(9_000_000_000),
                    height=BlockHeight(245),
                    state="spendable",
                )
            ]
        ),
    ),
)

__all__ = [
    "CHAIN_BEACON",
    "CHAIN_BLOCK_HASH",
    "CHAIN_BROADCAST",
    "CHAIN_COINS",
    "CHAIN_EVENTS",
    "CHAIN_HEADERS",
    "CHAIN_STATUS",
    "CHAIN_TIP",
    "CHAIN_TX",
    "CHAIN_TX_PROOF",
    "CHAIN_WATCH",
    "CONTRACT_ADOPT",
    "CONTRACT_BLOB_KEY",
    "CONTRACT_CHECK",
    "CONTRACT_FIND_KEY",
    "CONTRACT_FUND",
    "CONTRACT_MISSING",
    "CONTRACT_NEW_KEY",
    "CONTRACT_RESTORE",
    "CONTRACT_RESULT_LOCK",
    "CONTRACT_REVEAL",
    "CONTRACT_SETTLE",
    "CONTRACT_SETTLE_BOTH",
    "CONTRACT_SIGN",
    "CONTRACT_SIGN_BOTH",
    "FUND_COINS",
    "FUND_KEY",
    "FUND_PROVE",
    "FUND_SETTLE",
    "FUND_SIGN",
    "PURSE_ADOPT",
    "PURSE_CLOSE",
    "PURSE_FINAL",
    "PURSE_FUND",
    "PURSE_FUNDING",
    "PURSE_KEY",
    "PURSE_LOST_KEYS",
    "PURSE_MESSAGES",
    "PURSE_REFUND",
    "PURSE_RESTORE",
    "PURSE_VOUCHERS",
    "WALLET_ACCOUNT",
    "WALLET_ACCOUNTS",
    "WALLET_BACKUP",
    "WALLET_BALANCE",
    "WALLET_BONDS",
    "WALLET_BOND_MAKE",
    "WALLET_BOND_RECLAIM",
    "WALLET_BOND_REGISTER",
    "WALLET_BUMP",
    "WALLET_HISTORY",
    "WALLET_LABEL",
    "WALLET_LIMITS",
    "WALLET_LOCK",
    "WALLET_NEW_ADDRESS",
    "WALLET_PARTIAL_FINISH",
    "WALLET_PARTIAL_MAKE",
    "WALLET_PARTIAL_SHOW",
    "WALLET_PARTIAL_SIGN",
    "WALLET_PREVIEW",
    "WALLET_RECOVER",
    "WALLET_RECOVERY",
    "WALLET_SEND",
    "WALLET_SHARED",
    "WALLET_SHARED_KEY",
    "WALLET_SHARED_MAKE",
    "WALLET_SIGN_MESSAGE",
    "WALLET_SIGN_OFFER",
    "WALLET_SIGN_RECEIPT",
    "WALLET_STATUS",
    "WALLET_SWEEP",
    "WALLET_UNLOCK",
    "WALLET_UTXOS",
    "WALLET_VERIFY_MESSAGE",
    "WALLET_WATCH",
    "WALLET_WATCHED",
    "AddressView",
    "Balance",
    "History",
    "HistoryAsked",
    "HistoryEntry",
    "NewAddress",
    "Send",
    "Sent",
    "Unspent",
    "Unspents",
    "WalletStatus",
]
