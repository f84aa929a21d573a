"""contract.sign_both and contract.settle_both: the award that spends a lot and the seller's bond lot at once.

As everywhere, the caller names contracts and outpoints; the wallet rebuilds the transaction from what it adopted.
Source: escrow_protocol.md §3 (AWARD with bond lot).
"""

from __future__ import annotations

from common.chain.settle import MissingSignature
from common.chain.templates import BadTemplate
from common.chain.tx import Outpoint, TxOutput
from common.chain.verify import SpendRefused
from common.codec import Wire
from common.contracts.wallet_chain import EXAMPLE_RAW, EXAMPLE_SCRIPT, EXAMPLE_TXID
from common.contracts.wallet_contract import EXAMPLE_CID, EXAMPLE_KEY, EXAMPLE_SIG, KeySignature, Settled
from common.contracts.wallet_errors import ContractUnknown, NotAgreed, TooShallow
from common.rpc.method import Method
from common.units import Florins

_BY = ("escrowd",)


class SignBoth(Wire, frozen=True):
    """Sign both inputs of an award that pays the seller nothing; `revealed`: seats of the lot that are paid."""

    request_id: str
    cid: str
    outpoint: Outpoint
    bond_cid: str
    bond_outpoint: Outpoint
    revealed: tuple[int, ...]


class BothSignatures(Wire, frozen=True):
    """DER with the hash type, for the lot's input and for the bond's, each by the key of that contract."""

    pubkey: bytes
    signature: bytes
    bond_pubkey: bytes
    bond_signature: bytes


class SettleBoth(Wire, frozen=True):
    """Complete such an award with the arbiters' signatures of both inputs, judge and broadcast it; buyer only."""

    request_id: str
    cid: str
    outpoint: Outpoint
    bond_cid: str
    bond_outpoint: Outpoint
    revealed: tuple[int, ...]
    signatures: list[KeySignature]


_POINTS = (Outpoint(EXAMPLE_TXID, 0), Outpoint(EXAMPLE_TXID, 1))
CONTRACT_SIGN_BOTH: Method[SignBoth, BothSignatures] = Method(
    name="contract.sign_both",
    params=SignBoth,
    result=BothSignatures,
    summary="Sign the award of a lot and the seller's bond lot, rebuilt from both contracts.",
    callers=_BY,
    once=True,
    raises=(ContractUnknown, NotAgreed, BadTemplate, TooShallow),
    example=(
        SignBoth(
            request_id="sign-2",
            cid=EXAMPLE_CID,
            outpoint=_POINTS[0],
            bond_cid="5f" * 32,
            bond_outpoint=_POINTS[1],
            revealed=(0, 2),
        ),
        BothSignatures(pubkey=EXAMPLE_KEY, signature=EXAMPLE_SIG, bond_pubkey=EXAMPLE_KEY, bond_signature=EXAMPLE_SIG),
    ),
)
CONTRACT_SETTLE_BOTH: Method[SettleBoth, Settled] = Method(
    name="contract.settle_both",
    params=SettleBoth,
    result=Settled,
    summary="Add the buyer's signatures to the award of lot and bond, judge it, and broadcast it.",
    callers=_BY,
    once=True,
    raises=(ContractUnknown, NotAgreed, BadTemplate, MissingSignature, SpendRefused, TooShallow),
    example=(
        SettleBoth(
            request_id="settle-2",
            cid=EXAMPLE_CID,
            outpoint=_POINTS[0],
            bond_cid="5f" * 32,
            bond_outpoint=_POINTS[1],
            revealed=(0, 2),
            signatures=[KeySignature(pubkey=EXAMPLE_KEY, signature=EXAMPLE_SIG)],
        ),
        Settled(
            txid="ef" * 32,
            raw=EXAMPLE_RAW,
            outputs=[TxOutput(Florins(1_030_000_000), EXAMPLE_SCRIPT)],
            fee_florins=Florins(1_600_000),
        ),
    ),
)
