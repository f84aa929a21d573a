"""Nouns of the airdrop: evidence, shares, proposals, rounds. Frozen, no logic, no clock."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from common.chain.fund import FundPayout
from common.chain.tx import Outpoint, TxOutput
from common.codec import Canon
from common.contracts.airdrop import Phase
from common.receipts import Heartbeat, NodeInfo, SettledReceipt
from common.units import BlockHeight, Did, Florins

ITEM_BYTES_MAX = 3_072  # an `Attested`
ITEMS_MAX = 20_000
BUNDLE_BYTES_MAX = 7 * 1024 * 1024  # items of a cut-off; below the proof's limit in the contract


class Kind(StrEnum):
    """What a piece of evidence is: the body inside its `Attested` envelope."""

    HEARTBEAT = "heartbeat"
    NODE = "node"
    RECEIPT = "receipt"


class Item(Canon, frozen=True):
    """One signed piece of evidence as it travels."""

    kind: Kind
    data: Annotated[bytes, Meta(max_length=ITEM_BYTES_MAX)]


class Bundle(Canon, frozen=True):
    """All evidence that a custodian holds for a cut-off, in the order of the items' ids."""

    items: Annotated[tuple[Item, ...], Meta(max_length=ITEMS_MAX)]


class Owed(Canon, frozen=True):
    """A line of the carry-over ledger."""

    did: Did
    florins: Florins


class Proposal(Canon, frozen=True):
    """A payout and all that it was computed from: whoever has the chain can compute it again.

    `ledger` is what was owed before, by DID; `items` stand in the order of their ids.
    """

    network: str
    number: int
    from_height: int
    cutoff_height: int
    cutoff_hash: str
    ledger: tuple[Owed, ...]
    items: Annotated[tuple[Item, ...], Meta(max_length=ITEMS_MAX)]
    payout: FundPayout


class Proof(Canon, frozen=True):
    """The proof file of a paid airdrop."""

    proposal: Proposal
    txid: str
    paid_height: int


class FundCoin(msgspec.Struct, frozen=True):
    """An output on the fund's script, and where it was spent."""

    outpoint: Outpoint
    value_florins: int
    height: int | None
    spent_height: int | None = None
    spent_txid: str = ""
    spent_outputs: tuple[TxOutput, ...] = ()


class Payment(msgspec.Struct, frozen=True):
    """The transaction that a receipt names, as the chain shows it."""

    height: int | None
    outputs: tuple[TxOutput, ...]


class Facts(msgspec.Struct, frozen=True):
    """What was looked up about one item: its signature, the block it cites, the payment it names."""

    signed: bool
    block_hash: str = ""
    payment: Payment | None = None


class Window(msgspec.Struct, frozen=True):
    """What evidence is judged against: the network's figures, and the heights that count, both ends included."""

    network: str
    tax_bps: int
    arbiters: frozenset[Did]
    fund_script: bytes
    from_height: int
    to_height: int


class Witness(msgspec.Struct, frozen=True):
    """An item that verified, opened."""

    item_id: bytes
    body: Heartbeat | NodeInfo | SettledReceipt


class Member(msgspec.Struct, frozen=True):
    """A node with a share."""

    did: Did
    address: str
    script: bytes
    quality_ppm: int


class Refusal(msgspec.Struct, frozen=True):
    """A node that the evidence knows, and why it gets nothing."""

    did: Did
    address: str
    quality_ppm: int
    reason: str


class Figures(msgspec.Struct, frozen=True):
    """The fund and the rule's parameters, from the network profile."""

    network: str
    needed: int
    pubkeys: tuple[bytes, ...]
    fund_script: bytes
    family: str
    threshold_florins: int
    carry_below_florins: int
    min_quality_ppm: int
    max_nodes: int
    evidence_blocks: int
    depth_blocks: int


class ShareLine(msgspec.Struct, frozen=True):
    """One member's part: `before + share = paid + after`."""

    member: Member
    share_florins: int
    before_florins: int
    paid_florins: int
    after_florins: int


class Plan(msgspec.Struct, frozen=True):
    """A payout with its shares; `spent = paid + change + fee`, and `change` covers the ledger after it."""

    payout: FundPayout
    lines: tuple[ShareLine, ...]
    ledger_after: tuple[Owed, ...]
    share_florins: int
    spent_florins: int
    paid_florins: int
    change_florins: int
    fee_florins: int


class Round(msgspec.Struct, frozen=True):
    """One airdrop as this node's books have it."""

    number: int
    from_height: BlockHeight
    cutoff_height: BlockHeight
    cutoff_hash: str
    phase: Phase
    txid: str = ""
    paid_height: BlockHeight | None = None
    proposal_id: bytes = b""  # of the payout that was paid
    reason: str = ""  # why it was abandoned


class Held(msgspec.Struct, frozen=True):
    """A proposal in the books; `verdict`: None not judged yet, empty signed, else why not."""

    proposal_id: bytes
    sender: Did
    attempt: int
    proposal: Proposal
    verdict: str | None
