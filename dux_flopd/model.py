"""flopd's nouns: coins, payments, keys, and what happened on the chain. Frozen, no logic."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from common.accounts import ACCOUNT_SHIFT
from common.chain.tx import Outpoint
from common.units import Florins


class ScriptKind(StrEnum):
    """Why an output script is followed."""

    OWN = "own"  # its coins are this wallet's
    WATCH = "watch"  # another daemon follows it
    LOT = "lot"  # the lot of an adopted contract
    FUND = "fund"  # the community fund


class PaymentKind(StrEnum):
    """What a transaction of this wallet is for."""

    SEND = "send"
    FUND_LOT = "fund-lot"
    FUND_CHANNEL = "fund-channel"
    SETTLE = "settle"
    PAYOUT = "payout"
    BUMP = "bump"  # spends what a waiting one gives back, and pays for both
    SWEEP = "sweep"  # brings a foreign key's coins home
    BOND = "bond"
    RECLAIM = "reclaim"
    PARTIAL = "partial"  # signed by several wallets
    RELAY = "relay"  # made elsewhere, handed in by chain.broadcast


@dataclass(frozen=True)
class FollowedScript:
    """An output script and, for own ones, the key's place in the tree."""

    script: bytes
    kind: ScriptKind
    branch: int
    index: int
    label: str


@dataclass(frozen=True)
class Coin:
    """An output on a followed script. `height` None: waiting for a block."""

    outpoint: Outpoint
    script: bytes
    value: int
    height: int | None
    position: int
    is_coinbase: bool


@dataclass(frozen=True)
class OwnCoin:
    """An unspent own coin with what decides whether it may be spent now."""

    coin: Coin
    branch: int
    index: int
    is_locked: bool

    @property
    def account(self) -> int:
        """Which account its key is of."""
        return self.branch >> ACCOUNT_SHIFT


@dataclass(frozen=True)
class SpendRow:
    """A transaction that spends a followed coin."""

    outpoint: Outpoint
    spender: str
    height: int | None
    script_sig: bytes
    raw: bytes


@dataclass(frozen=True)
class Selection:
    """Coins chosen for a payment, the fee, and what comes back (0: no change output)."""

    coins: tuple[OwnCoin, ...]
    fee: int
    change: int


@dataclass(frozen=True)
class NewPayment:
    """A signed transaction to be stored, its coins bound, and broadcast until it is in a block."""

    txid: str
    raw: bytes
    kind: PaymentKind
    request_id: str
    caller: str
    counterparty: str
    amount: int  # what leaves by decision, fee not counted: 0 for ways out of a contract
    fee: int
    binds: tuple[Outpoint, ...]
    contract_id: str


@dataclass(frozen=True)
class StoredPayment:
    """A payment with what has become of it."""

    txid: str
    raw: bytes
    kind: PaymentKind
    request_id: str
    counterparty: str
    amount: int
    fee: int
    at_ms: int
    contract_id: str
    refused: str
    skeleton: bytes
    replaced_by: str = ""


@dataclass(frozen=True)
class OwnTx:
    """A transaction that moved own coins."""

    txid: str
    height: int | None
    at_ms: int
    change: int
    skeleton: bytes


@dataclass(frozen=True)
class ContractRow:
    """An adopted contract: its canonical bytes and this wallet's part in it."""

    cid: str
    body: bytes
    role: str
    key_index: int


@dataclass(frozen=True)
class ContractKeyRow:
    """A contract key: its number, what it was made for, and the contract it is bound to (empty: none yet)."""

    index: int
    purpose: str
    nonce: bytes
    cid: str


class BroadcastEffect(msgspec.Struct, frozen=True):
    """Outbox: hand this payment to the node."""

    txid: str


@dataclass(frozen=True)
class Spent:
    """What was paid out by standing approval in the last day, by whom and to whom."""

    total: Florins
    by_caller: Florins
    to_counterparty: Florins
