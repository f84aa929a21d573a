"""From signatures to a spend of a lot: who has to sign, is a signature right, the full transaction, judged.

Holds no key: signatures come in, a transaction that the network takes goes out. Source: escrow_protocol.md §3.
"""

from __future__ import annotations

from common.chain.contract import Contract, lot_output_script, lot_script, result_hash_of
from common.chain.script import award_sig, coop_sig, refund_sig
from common.chain.templates import Award, Refund, Side, Template
from common.chain.tx import Tx, TxOutput, sighash
from common.chain.verify import is_signature, verify_spend
from common.errors import CallerMistake
from common.units import Florins


class MissingSignature(CallerMistake):
    """The spend lacks {what}; collect it and settle again."""

    code = 2022
    key = "missing-signature"


def lot_digest(contract: Contract, tx: Tx) -> bytes:
    """What every signature of this spend signs (32 bytes)."""
    return sighash(tx, 0, lot_script(contract))


def signature_is_right(contract: Contract, tx: Tx, pubkey: bytes, signature: bytes) -> bool:
    """Whether this is the key's signature of exactly this transaction."""
    return is_signature(pubkey, lot_digest(contract, tx), signature)


def assemble(
    contract: Contract, template: Template, tx: Tx, signatures: dict[bytes, bytes], preimage: bytes | None = None
) -> Tx:
    """The full transaction from right signatures by key; wrong ones count as missing.

    Raises:
        MissingSignature: naming what is missing, a signature or K.
    """
    right = {key: sig for key, sig in signatures.items() if signature_is_right(contract, tx, key, sig)}
    script = lot_script(contract)
    if isinstance(template, Refund):
        return tx.signed([refund_sig(script, _of(right, contract.buyer.key, "the buyer's signature"))])
    if isinstance(template, Award):
        return tx.signed([_award(contract, template, right, script)])
    shown = _preimage(contract, preimage)
    buyer = _of(right, contract.buyer.key, "the buyer's signature")
    seller = _of(right, contract.seller.key, "the seller's signature")
    return tx.signed([coop_sig(script, buyer, seller, shown)])


def judge(contract: Contract, tx: Tx, value_florins: int) -> None:
    """Nothing happens for a spend of the lot that the network takes.

    Raises:
        SpendRefused: with the rule it breaks.
    """
    verify_spend(tx, [TxOutput(Florins(value_florins), lot_output_script(contract))])


def _award(contract: Contract, template: Award, right: dict[bytes, bytes], script: bytes) -> bytes:
    winner = contract.buyer if template.winner == Side.BUYER else contract.seller
    panel = [right[arbiter.key] for arbiter in contract.arbiters if arbiter.key in right]
    if len(panel) < contract.arbiters_needed:
        raise MissingSignature(what=f"{contract.arbiters_needed - len(panel)} arbiters' signatures")
    return award_sig(
        script, panel[: contract.arbiters_needed], _of(right, winner.key, f"the {template.winner}'s signature")
    )


def _of(right: dict[bytes, bytes], key: bytes, what: str) -> bytes:
    if key not in right:
        raise MissingSignature(what=what)
    return right[key]


def _preimage(contract: Contract, preimage: bytes | None) -> bytes | None:
    if not contract.result_hash:
        return None
    if preimage is None or result_hash_of(preimage) != contract.result_hash:
        raise MissingSignature(what="the preimage K of the result hash")
    return preimage
