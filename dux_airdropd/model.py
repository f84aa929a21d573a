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
from common.parameters import BondedParameters
from common.receipt_keys import LotSpent
from common.receipts import Count, DidText, Heartbeat, Hex64, NodeInfo, SettledReceipt
from common.units import BPS, BlockHeight, Did, Florins, UnixMs
from common.witness import Height

ITEM_BYTES_MAX = 3_072  # an `Attested`
ITEMS_MAX = 20_000
WITNESS_LINES_MAX = 16  # at most 2 KiB of words
BOND_BYTES_MAX = 1_024
SWEEP_COINS_MAX = 20_000
BUNDLE_BYTES_MAX = 7 * 1024 * 1024  # items of a cut-off; below the proof's limit in the contract


class Kind(StrEnum):
    """What a piece of evidence is: the body inside its `Attested` envelope."""

    HEARTBEAT = "heartbeat"
    NODE = "node"
    RECEIPT = "receipt"
    BOND = "bond"  # rule `bonded`: coins locked by a node, as its wallet shows them
    WITNESS = "witness"  # rule `bonded`: a custodian's word about nodes


class Item(Canon, frozen=True):
    """One signed piece of evidence as it travels."""

    kind: Kind
    data: Annotated[bytes, Meta(max_length=ITEM_BYTES_MAX)]


class Bundle(Canon, frozen=True):
    """All evidence that a custodian holds for a cut-off, in the order of the items' ids."""

    items: Annotated[tuple[Item, ...], Meta(max_length=ITEMS_MAX)]


class Seen(Canon, frozen=True):
    """What a custodian's registry knows of a node at a cut-off; heights of what never was are -1."""

    did: DidText
    since_height: Height  # the start of the day on which it was first seen
    up_bps: Annotated[int, Meta(ge=0, le=BPS)]  # of the window's slots
    up_last: bool  # it was up in the last finished slot, or the one before
    standing_milli: Count
    fault_height: Annotated[int, Meta(ge=-1, lt=2**31)]  # of the last proven fault
    net: Annotated[str, Meta(max_length=64)]  # the /24 or /48 that others saw it in, or `private`; empty: not known


class WitnessWord(Canon, frozen=True):
    """A custodian's signed word about some nodes, for one cut-off."""

    network: Hex64
    witness: DidText
    cutoff_height: Height
    cutoff_hash: Hex64
    lines: Annotated[tuple[Seen, ...], Meta(max_length=WITNESS_LINES_MAX)]
    at_ms: UnixMs


class BondShown(Canon, frozen=True):
    """A bond as its owner shows it: the signed proof (`common.chain.bond.BondProof`), and where its output is."""

    proof: Annotated[bytes, Meta(max_length=BOND_BYTES_MAX)]
    height: Height
    value_florins: Florins


class BondSeen(msgspec.Struct, frozen=True):
    """A bond that was found good: whose, how much, from when to when."""

    did: Did
    outpoint: str
    value_florins: Florins
    height: int
    until: int


class BondStep(Canon, frozen=True):
    """The least bond from a height on."""

    from_height: int
    florins: Florins


class Carried(Canon, frozen=True):
    """What one airdrop by rule `bonded` leaves to the next; empty by rule `full`."""

    seats: tuple[Did, ...]  # who had a share, in the order of DIDs
    steps: tuple[BondStep, ...]
    strict: bool  # shares are capped without the bond's rate
    bound: int  # times in a row that newcomers had to wait


NOTHING_CARRIED = Carried((), (), strict=False, bound=0)


class Owed(Canon, frozen=True):
    """A line of the carry-over ledger."""

    did: Did
    florins: Florins


class Proposal(Canon, frozen=True):
    """A payout and all that it was computed from: whoever has the chain can compute it again.

    `ledger` is what was owed before, by DID; `carried` what the airdrop before left; `items` stand in the order of ids.
    """

    network: str
    parameters: int  # version of the parameter set that it is computed under
    number: int
    from_height: int
    cutoff_height: int
    cutoff_hash: str
    beacon: bytes  # of the cut-off, where the rule draws; else empty
    carried: Carried
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
    lots: tuple[LotSpent, ...] = ()  # what it spends, with the keys in the scripts


class Facts(msgspec.Struct, frozen=True):
    """What was looked up about one item: its signature, the block it cites, the payment (or the bond's) it names."""

    signed: bool
    block_hash: str = ""
    payment: Payment | None = None


class Window(msgspec.Struct, frozen=True):
    """What evidence is judged against: the network's figures, and the heights that count, both ends included."""

    network: str
    tax_bps: int
    arbiters: frozenset[Did]
    tax_scripts: frozenset[bytes]  # what the tax was paid to, now and before
    from_height: int
    to_height: int
    to_hash: str
    taxes_bps: frozenset[int]  # of all parameter sets so far


class Witness(msgspec.Struct, frozen=True):
    """An item that verified, opened."""

    item_id: bytes
    body: Heartbeat | NodeInfo | SettledReceipt | WitnessWord | BondSeen


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


class Census(msgspec.Struct, frozen=True):
    """Who gets a share and who does not; `bound`: newcomers had to wait."""

    members: tuple[Member, ...]
    refusals: tuple[Refusal, ...]
    bound: bool = False
    least_bond_florins: int = 0  # of the bonds that the seats rest on, what the least one had to be


class Figures(msgspec.Struct, frozen=True):
    """The fund, and the rule's figures of one parameter set."""

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
    tax_bps: int = 500
    rule: str = "full"
    parameters: int = 1
    custodians: frozenset[Did] = frozenset()
    bonded: BondedParameters = BondedParameters()


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
    carried_after: Carried = NOTHING_CARRIED
    cap_florins: int | None = None  # the largest share that the rule allows


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


class SweepSource(msgspec.Struct, frozen=True):
    """A script that is emptied into the fund, and the least sum that this is done for."""

    needed: int
    pubkeys: tuple[bytes, ...]
    least_florins: int


class SweepCoin(Canon, frozen=True):
    """A coin that lay on a swept script at a height."""

    outpoint: Outpoint
    value_florins: Florins
    height: int


class SweepProof(Canon, frozen=True):
    """The proof of one sweep: the coins that there were, and the transaction that they give."""

    network: str
    needed: int
    pubkeys: tuple[bytes, ...]
    height: int
    block_hash: str
    coins: Annotated[tuple[SweepCoin, ...], Meta(max_length=SWEEP_COINS_MAX)]
    payout: FundPayout
    txid: str
    mined_height: int


class Accounts(msgspec.Struct, frozen=True):
    """The fund's books, in florins: received = paid + both fees + what lies on the fund and on collectors."""

    received_florins: Florins
    swept_florins: Florins
    sweep_fees_florins: Florins
    paid_florins: Florins
    payout_fees_florins: Florins
    fund_florins: Florins
    collectors_florins: Florins
