"""contract.* and fund.*: what flopd signs for escrowd and airdropd, and only after rebuilding it itself.

The wallet stores the contract that both sides agreed; from then on a caller names a way out (`Template`) and an
outpoint, never a transaction. K, the preimage of the result hash, is derived here and leaves only to the seller's own
escrowd. Source: settled.md 1, 6; escrow_protocol.md §3; money.md law 4.
"""

from __future__ import annotations

from typing import Literal

from common.chain.contract_rules import BadContract
from common.chain.fund import BadPayout
from common.chain.settle import MissingSignature
from common.chain.templates import BadTemplate, Release, Template
from common.chain.tx import Outpoint, TxOutput
from common.chain.verify import SpendRefused
from common.codec import Wire
from common.contracts.wallet_chain import EXAMPLE_RAW, EXAMPLE_SCRIPT, EXAMPLE_TXID, CoinView
from common.contracts.wallet_errors import (
    CoinsPending,
    ContractUnknown,
    InsufficientFunds,
    KeyNotOurs,
    KeyUsed,
    NotAgreed,
    OverLimit,
    TooEarly,
    TooLate,
    TooShallow,
)
from common.rpc.method import Empty, Method
from common.units import BlockHeight, Did, Florins

Role = Literal["buyer", "seller", "arbiter"]

ESCROW = ("escrowd",)
CUSTODIAN = ("airdropd", "escrowd", "cli")
EXAMPLE_CID = "5e" * 32
EXAMPLE_KEY = bytes.fromhex("02" + "22" * 32)
EXAMPLE_SIG = b"\x30\x45"


class NewContractKey(Wire, frozen=True):
    """A fresh key for one lot. `nonce`: this side's nonce of the contract to be; the same nonce gives the same key."""

    request_id: str
    purpose: Role
    nonce: bytes


class ContractKey(Wire, frozen=True):
    """The key, where its owner is paid, and its number in the wallet."""

    index: int
    pubkey: bytes
    payout_script: bytes


class ResultLockAsked(Wire, frozen=True):
    """The seller's nonce of the contract to be, and the lot (0)."""

    nonce: bytes
    lot: int = 0


class ResultLock(Wire, frozen=True):
    """h = SHA-256(K)."""

    result_hash: bytes


class AdoptContract(Wire, frozen=True):
    """The agreed contract in its canonical bytes, this wallet's role in it, and the number of its key."""

    request_id: str
    contract: bytes
    role: Role
    key_index: int


class Adopted(Wire, frozen=True):
    """What the wallet rebuilt: the contract's id (hex), the lot's redeem script, its output script and its address."""

    cid: str
    redeem_script: bytes
    output_script: bytes
    address: str
    value_florins: Florins


class FundContract(Wire, frozen=True):
    """Pay the lot of an adopted contract, and those of `together` in the same transaction; the buyer's wallet only."""

    request_id: str
    cid: str
    together: tuple[str, ...] = ()


class ContractFunded(Wire, frozen=True):
    """The lot's outpoint and the chain fee. The coins are locked and the payment is on its way."""

    txid: str
    vout: int
    fee_florins: Florins


class SignContract(Wire, frozen=True):
    """Sign a way out of the lot at this outpoint, for the first `rungs` steps of the fee ladder."""

    request_id: str
    cid: str
    outpoint: Outpoint
    template: Template
    rungs: int = 1


class ContractSignatures(Wire, frozen=True):
    """One signature per rung, DER with the hash type, by `pubkey`."""

    pubkey: bytes
    signatures: list[bytes]


class KeySignature(Wire, frozen=True):
    """Another's signature for one rung."""

    pubkey: bytes
    signature: bytes


class SettleContract(Wire, frozen=True):
    """Complete a way out with others' signatures for this rung and broadcast it; `preimage`: K that another showed."""

    request_id: str
    cid: str
    outpoint: Outpoint
    template: Template
    signatures: list[KeySignature]
    rung: int = 0
    preimage: bytes | None = None


class Settled(Wire, frozen=True):
    """The transaction that was judged, stored and is being broadcast, until it or a rival is in a block."""

    txid: str
    raw: bytes
    outputs: list[TxOutput]
    fee_florins: Florins


class CheckSignatures(Wire, frozen=True):
    """Another's signatures for the first rungs of a way out."""

    cid: str
    outpoint: Outpoint
    value_florins: Florins
    template: Template
    pubkey: bytes
    signatures: list[bytes]


class Verdict(Wire, frozen=True):
    """Whether all of them are right."""

    valid: bool


class RevealKey(Wire, frozen=True):
    """The contract whose result key is shown, and the lot (0)."""

    cid: str
    lot: int = 0


class Preimage(Wire, frozen=True):
    """K."""

    preimage: bytes


class VouchContract(Wire, frozen=True):
    """The adopted contract of which this wallet's party tells that it has ended."""

    cid: str


class PartyWord(Wire, frozen=True):
    """The parties' keys of the lot, and this wallet's signature over a `common.receipt_keys.LotWord`."""

    buyer_key: bytes
    seller_key: bytes
    signature: bytes


class FundKey(Wire, frozen=True):
    """This node's custodian key (33 bytes)."""

    pubkey: bytes


class ProveKey(Wire, frozen=True):
    """A key ceremony's plan in its canonical bytes, and the script that is agreed to; empty: only the key is shown."""

    plan: bytes
    did: Did
    script: bytes


class KeyProven(Wire, frozen=True):
    """Canonical bytes of a `common.ceremony.FundWord`, signed with the key that the plan names."""

    word: bytes


class FundCoins(Wire, frozen=True):
    """The fund's unspent coins, its output script and address, and their sum by confirmation."""

    script: bytes
    address: str
    coins: list[CoinView]
    confirmed_florins: Florins
    pending_florins: Florins
    tip: BlockHeight


class SignPayout(Wire, frozen=True):
    """A payout in its canonical bytes (`common.chain.fund.FundPayout`)."""

    request_id: str
    payout: bytes


class PayoutSignatures(Wire, frozen=True):
    """One signature per input, by `pubkey`."""

    pubkey: bytes
    signatures: list[bytes]


class SettlePayout(Wire, frozen=True):
    """Complete a payout with custodians' signatures and broadcast it."""

    request_id: str
    payout: bytes
    signatures: list[PayoutSignatures]


class PayoutSent(Wire, frozen=True):
    """The payout's transaction, being broadcast until it is in a block."""

    txid: str
    fee_florins: Florins


CONTRACT_NEW_KEY: Method[NewContractKey, ContractKey] = Method(
    name="contract.new_key",
    params=NewContractKey,
    result=ContractKey,
    summary="A fresh key and payout script for one lot.",
    callers=ESCROW,
    once=True,
    example=(
        NewContractKey(request_id="key-1", purpose="buyer", nonce=b"\x01" * 32),
        ContractKey(index=3, pubkey=EXAMPLE_KEY, payout_script=EXAMPLE_SCRIPT),
    ),
)

CONTRACT_RESULT_LOCK: Method[ResultLockAsked, ResultLock] = Method(
    name="contract.result_lock",
    params=ResultLockAsked,
    result=ResultLock,
    summary="The hash of the result key that the seller's nonce leads to.",
    callers=ESCROW,
    example=(ResultLockAsked(nonce=b"\x02" * 32), ResultLock(result_hash=b"\x03" * 32)),
)

CONTRACT_ADOPT: Method[AdoptContract, Adopted] = Method(
    name="contract.adopt",
    params=AdoptContract,
    result=Adopted,
    summary="Store the agreed contract after the policy's limits and every law of a contract passed.",
    callers=ESCROW,
    once=True,
    raises=(BadContract, KeyNotOurs, KeyUsed, NotAgreed, OverLimit),
    example=(
        AdoptContract(request_id="adopt-1", contract=b"\x90", role="buyer", key_index=3),
        Adopted(
            cid=EXAMPLE_CID,
            redeem_script=b"\x76\x51",
            output_script=EXAMPLE_SCRIPT,
            address="2N9hLwkSqr1cPQAPxbrGVUjxyjD11G2e1he",
            value_florins=Florins(1_030_000_000),
        ),
    ),
)

CONTRACT_FUND: Method[FundContract, ContractFunded] = Method(
    name="contract.fund",
    params=FundContract,
    result=ContractFunded,
    summary="Pay the lot of an adopted contract, once.",
    callers=ESCROW,
    once=True,
    raises=(ContractUnknown, NotAgreed, InsufficientFunds, CoinsPending, OverLimit),
    example=(
        FundContract(request_id="fund-1", cid=EXAMPLE_CID),
        ContractFunded(txid=EXAMPLE_TXID, vout=0, fee_florins=Florins(1_000_000)),
    ),
)

CONTRACT_SIGN: Method[SignContract, ContractSignatures] = Method(
    name="contract.sign",
    params=SignContract,
    result=ContractSignatures,
    summary="Sign a way out that the wallet rebuilt from the agreed contract.",
    callers=ESCROW,
    once=True,
    raises=(ContractUnknown, NotAgreed, BadTemplate, TooShallow),
    example=(
        SignContract(
            request_id="sign-1",
            cid=EXAMPLE_CID,
            outpoint=Outpoint(EXAMPLE_TXID, 0),
            template=Release(Florins(1_000_000_000)),
        ),
        ContractSignatures(pubkey=EXAMPLE_KEY, signatures=[EXAMPLE_SIG]),
    ),
)

CONTRACT_CHECK: Method[CheckSignatures, Verdict] = Method(
    name="contract.check",
    params=CheckSignatures,
    result=Verdict,
    summary="Whether another's signatures fit the way out as this wallet builds it.",
    callers=ESCROW,
    raises=(ContractUnknown, BadTemplate),
    example=(
        CheckSignatures(
            cid=EXAMPLE_CID,
            outpoint=Outpoint(EXAMPLE_TXID, 0),
            value_florins=Florins(1_030_000_000),
            template=Release(Florins(1_000_000_000)),
            pubkey=EXAMPLE_KEY,
            signatures=[EXAMPLE_SIG],
        ),
        Verdict(valid=True),
    ),
)

CONTRACT_SETTLE: Method[SettleContract, Settled] = Method(
    name="contract.settle",
    params=SettleContract,
    result=Settled,
    summary="Add the own signature (and K), judge the whole spend, and broadcast it until it is in a block.",
    callers=ESCROW,
    once=True,
    raises=(
        ContractUnknown,
        NotAgreed,
        BadTemplate,
        MissingSignature,
        SpendRefused,
        TooShallow,
        TooEarly,
        TooLate,
    ),
    example=(
        SettleContract(
            request_id="settle-1",
            cid=EXAMPLE_CID,
            outpoint=Outpoint(EXAMPLE_TXID, 0),
            template=Release(Florins(1_000_000_000)),
            signatures=[KeySignature(pubkey=EXAMPLE_KEY, signature=EXAMPLE_SIG)],
        ),
        Settled(
            txid="ef" * 32,
            raw=EXAMPLE_RAW,
            outputs=[TxOutput(Florins(949_000_000), EXAMPLE_SCRIPT)],
            fee_florins=Florins(1_000_000),
        ),
    ),
)

CONTRACT_REVEAL: Method[RevealKey, Preimage] = Method(
    name="contract.reveal",
    params=RevealKey,
    result=Preimage,
    summary="K of a contract in which this wallet is the seller, for the seller's own escrowd.",
    callers=ESCROW,
    raises=(ContractUnknown, NotAgreed),
    example=(RevealKey(cid=EXAMPLE_CID), Preimage(preimage=b"\x04" * 32)),
)

CONTRACT_VOUCH: Method[VouchContract, PartyWord] = Method(
    name="contract.vouch",
    params=VouchContract,
    result=PartyWord,
    summary="This party's word, under its key of the lot, that the two names of the contract are its parties.",
    callers=("taskd",),
    raises=(ContractUnknown, NotAgreed),
    example=(
        VouchContract(cid=EXAMPLE_CID),
        PartyWord(buyer_key=EXAMPLE_KEY, seller_key=EXAMPLE_KEY, signature=EXAMPLE_SIG),
    ),
)

FUND_KEY: Method[Empty, FundKey] = Method(
    name="fund.key",
    params=Empty,
    result=FundKey,
    summary="This node's custodian key of the community fund.",
    callers=CUSTODIAN,
    example=(Empty(), FundKey(pubkey=EXAMPLE_KEY)),
)

FUND_COINS: Method[Empty, FundCoins] = Method(
    name="fund.coins",
    params=Empty,
    result=FundCoins,
    summary="The community fund's unspent coins.",
    callers=(*CUSTODIAN, "module"),
    raises=(NotAgreed,),
    example=(
        Empty(),
        FundCoins(
            script=EXAMPLE_SCRIPT,
            address="2N9hLwkSqr1cPQAPxbrGVUjxyjD11G2e1he",
            coins=[],
            confirmed_florins=Florins(0),
            pending_florins=Florins(0),
            tip=BlockHeight(250),
        ),
    ),
)

FUND_PROVE: Method[ProveKey, KeyProven] = Method(
    name="fund.prove",
    params=ProveKey,
    result=KeyProven,
    summary="A word in a key ceremony of the community fund, signed with the new custodian key.",
    callers=("airdropd",),
    raises=(NotAgreed,),
    example=(ProveKey(plan=b"\x95", did=Did("did:dux:" + "a" * 52), script=b""), KeyProven(word=b"\x92")),
)

FUND_SIGN: Method[SignPayout, PayoutSignatures] = Method(
    name="fund.sign",
    params=SignPayout,
    result=PayoutSignatures,
    summary="Sign a payout of the community fund whose inputs this wallet knows to be the fund's.",
    callers=("airdropd",),
    once=True,
    raises=(BadPayout, KeyNotOurs, NotAgreed),
    example=(
        SignPayout(request_id="payout-1", payout=b"\x90"),
        PayoutSignatures(pubkey=EXAMPLE_KEY, signatures=[EXAMPLE_SIG]),
    ),
)

FUND_SETTLE: Method[SettlePayout, PayoutSent] = Method(
    name="fund.settle",
    params=SettlePayout,
    result=PayoutSent,
    summary="Complete a payout with custodians' signatures, judge it, and broadcast it until it is in a block.",
    callers=("airdropd",),
    once=True,
    raises=(BadPayout, MissingSignature, SpendRefused, NotAgreed),
    example=(
        SettlePayout(
            request_id="payout-2",
            payout=b"\x90",
            signatures=[PayoutSignatures(pubkey=EXAMPLE_KEY, signatures=[EXAMPLE_SIG])],
        ),
        PayoutSent(txid=EXAMPLE_TXID, fee_florins=Florins(1_000_000)),
    ),
)
