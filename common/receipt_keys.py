"""Receipts under the coin keys of the contract: who was paid by a payment, shown by the chain and not only said.

The spend of a lot shows its script, and the script holds the two parties' keys, made for this lot alone. Each party
signs with its key that it has these two names in this contract (`LotWord`); its receipt carries the word. So a receipt
is tied to a payment by a key that only the payment's own party has, and nobody can turn it to another name.

The word names neither the payment's transaction nor the coin: the keys are the coin, for no other lot has them, and a
word that names no transaction stays true when a reorganisation brings the spend back with another fee. What the
receipt says of the transaction is signed by its DID as ever.

The spend also shows by which of its branches the script was taken, and so what the end of the contract can have been:
who tells another is not heard, with a key or without (`spend_fault`).

Pure; holds no key. Does not know whether the payment is on the chain.

Source: docs/decisions/receipt-keys.md.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum

from bitcoin.core import script as op
from bitcoin.core.script import CScript, CScriptInvalidError, CScriptOp

from common.chain.contract import Contract, cid
from common.chain.script import (
    BRANCH_ARBITERS,
    BRANCH_COOP,
    BRANCH_REFUND,
    REDEEM_BYTES_MAX,
    BadScript,
    branch_of,
    escrow_script,
    pushes,
)
from common.chain.spends import KINDS_BY_BRANCH, SpendKind
from common.chain.tx import BadTransaction, Tx, parse
from common.chain.verify import is_pubkey, is_signature
from common.codec import Canon, canonical
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.receipts import KeyedReceipt, LotKeys, Outcome, SettledReceipt
from common.units import Did, Hash32

INPUTS_READ_MAX = 16  # a lot is spent alone, or with its bond; what a stranger adds beyond is not read
SCRIPT_SIG_BYTES_MAX = 1_650  # what nodes relay; every spend of a lot is shorter
ARBITERS_NEEDED = 2  # of the network's: panels are 2 of 3 in this version

OUTCOMES = {  # what a receipt calls each way out of a lot
    SpendKind.RELEASE: Outcome.RELEASED,
    SpendKind.CANCEL: Outcome.CANCELLED,
    SpendKind.AWARD: Outcome.AWARDED,
    SpendKind.REFUND: Outcome.REFUNDED,
}
_TAKEN_BY = {
    BRANCH_COOP: "buyer and seller together",
    BRANCH_ARBITERS: "a party with the arbiters",
    BRANCH_REFUND: "the buyer alone after the contract's last height",
}


@dataclass(frozen=True, slots=True)
class LotSpent:
    """A lot as its spend shows it: whose it was, and the branch of the script by which it was taken."""

    keys: LotKeys
    branch: int

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """All that a receipt can truly say of this end."""
        return tuple(OUTCOMES[kind] for kind in KINDS_BY_BRANCH.get(self.branch, ()))


class Strength(IntEnum):
    """How well the facts of a receipt are attested; of rival stories about one payment the stronger counts."""

    NOBODY = 0
    ONE_PARTY = 1
    BOTH_PARTIES = 2
    BUYERS_KEY = 3
    SELLERS_KEY = 4  # above the buyer's: a score is the seller's
    ARBITERS = 5  # two of the network's, who read the contract when they sat on it
    BOTH_KEYS = 6


class LotWord(Canon, frozen=True):
    """What a party signs with its key of the lot: the contract, both names, both keys."""

    network: str
    cid: bytes
    buyer: Did
    seller: Did
    lot: LotKeys


def word_digest(word: LotWord) -> Hash32:
    """What the key signs (32 bytes); no transaction shares it."""
    return tagged_hash(Purpose.RECEIPT_LOT, canonical(word))


def contract_word(contract: Contract) -> LotWord:
    """The word that either party of this contract may sign."""
    return LotWord(
        network=contract.network,
        cid=cid(contract),
        buyer=Did(contract.buyer.did),
        seller=Did(contract.seller.did),
        lot=LotKeys(buyer=contract.buyer.key, seller=contract.seller.key),
    )


def word_of(receipt: KeyedReceipt) -> LotWord:
    """The word that a receipt's signature has to be of."""
    return LotWord(
        network=receipt.network, cid=receipt.cid, buyer=receipt.buyer, seller=receipt.seller, lot=receipt.lot
    )


def word_fault(receipt: SettledReceipt) -> str | None:
    """Why a receipt's word under a key is none, whatever the chain says; None also for a receipt without."""
    if not isinstance(receipt, KeyedReceipt):
        return None
    if receipt.signer not in (receipt.buyer, receipt.seller):
        return "only buyer and seller have a key of the contract"
    key = receipt.lot.buyer if receipt.signer == receipt.buyer else receipt.lot.seller
    if not is_signature(key, word_digest(word_of(receipt)), receipt.lot_signature):
        return "it is not signed by the key of the contract that it names"
    return None


# what the chain shows


def lots_in(raw: bytes) -> tuple[LotSpent, ...]:
    """Each lot that a transaction spends; none for bytes that are no transaction."""
    try:
        return lots_spent(parse(raw))
    except BadTransaction:
        return ()


def lots_spent(tx: Tx) -> tuple[LotSpent, ...]:
    """Each lot that a transaction spends, in the order of its inputs; what takes no branch of its script is none."""
    shown = [
        pushes(item.script_sig) for item in tx.inputs[:INPUTS_READ_MAX] if len(item.script_sig) <= SCRIPT_SIG_BYTES_MAX
    ]
    found = [(lot_keys(items[-1]), branch_of(items)) for items in shown if items]
    return tuple(LotSpent(keys, branch) for keys, branch in found if keys is not None and branch in KINDS_BY_BRANCH)


def spend_fault(receipt: SettledReceipt, lots: Sequence[LotSpent]) -> str | None:
    """Why the lots that a receipt's payment spends speak against it, or None.

    One under a key is about the lot of this key; one without may be about any of them, and about another kind of
    payment where there is none.
    """
    own = [lot for lot in lots if not isinstance(receipt, KeyedReceipt) or lot.keys == receipt.lot]
    if isinstance(receipt, KeyedReceipt) and not own:
        return "its keys are not of the script that its payment spends"
    if not own or any(receipt.outcome in lot.outcomes for lot in own):
        return None
    can_be = " or ".join(outcome.value for outcome in own[0].outcomes)
    return f"its lot was taken by {_TAKEN_BY[own[0].branch]}: that is {can_be}, not {receipt.outcome.value}"


def lot_keys(script: bytes) -> LotKeys | None:
    """The parties' keys of a contract's script, E or E+h; None for any other bytes.

    What is read is built anew, and must be the same to the last byte.
    """
    if len(script) > REDEEM_BYTES_MAX:
        return None
    try:
        items: list[object] = list(CScript(script))
        at, result_hash = 5, b""
        if items[at] == op.OP_SIZE:
            at, result_hash = 11, _bytes(items[9])
        buyer, seller = _bytes(items[at + 1]), _bytes(items[at + 2])
        rebuilt = escrow_script(
            buyer=buyer,
            seller=seller,
            arbiters=tuple(_bytes(item) for item in items[at + 17 : -12]),
            needed=_number(items[at + 16]),
            timeout=_number(items[-7]),
            result_hash=result_hash,
        )
    except (IndexError, ValueError, CScriptInvalidError, BadScript):
        return None
    if rebuilt != script or not (is_pubkey(buyer) and is_pubkey(seller)):
        return None
    return LotKeys(buyer=buyer, seller=seller)


def _bytes(item: object) -> bytes:
    if not isinstance(item, bytes):
        raise ValueError("a key or hash was expected")  # noqa: TRY004 - read from a script, not passed by a caller
    return item


def _number(item: object) -> int:
    if isinstance(item, bytes):
        return int.from_bytes(item, "little")
    if isinstance(item, CScriptOp) or not isinstance(item, int):
        raise ValueError("a number was expected")  # noqa: TRY004 - as above
    return item


# which of two stories counts


def strength(told: Sequence[SettledReceipt], arbiters: Collection[Did]) -> Strength:
    """How well facts are attested by these receipts, all of the same facts; keys in them have been looked up."""
    if not told:
        return Strength.NOBODY
    buyer, seller = told[0].buyer, told[0].seller
    signers = {receipt.signer for receipt in told}
    keyed = {(receipt.signer, receipt.lot) for receipt in told if isinstance(receipt, KeyedReceipt)}
    if any((buyer, lot) in keyed and (seller, lot) in keyed for lot in lots_of(told)):
        return Strength.BOTH_KEYS
    if is_judged(told[0], signers, arbiters):
        return Strength.ARBITERS
    if any(signer == seller for signer, _ in keyed):
        return Strength.SELLERS_KEY
    return Strength.BUYERS_KEY if keyed else Strength(len({buyer, seller} & signers))


def is_judged(receipt: SettledReceipt, signers: Collection[Did], arbiters: Collection[Did]) -> bool:
    """Whether enough of the network's arbiters signed these facts; one who is a party judges nothing."""
    return len(set(signers) & set(arbiters) - {receipt.buyer, receipt.seller}) >= ARBITERS_NEEDED


def lots_of(told: Sequence[SettledReceipt]) -> frozenset[LotKeys]:
    """The lots whose keys stand under these receipts."""
    return frozenset(receipt.lot for receipt in told if isinstance(receipt, KeyedReceipt))


def of_other_lots(told: Sequence[SettledReceipt], other: Sequence[SettledReceipt]) -> bool:
    """Whether the chain shows two stories to be of different contracts, whatever the ids that they give them.

    An id is typed by whoever tells; without this, a payment of one's own under a stranger's id would stand in the way.
    A key on one side is enough if it paid something: both have burnt their tax. A key over nothing costs nothing.
    """
    ours, theirs = lots_of(told), lots_of(other)
    if told[0].txid == other[0].txid or ours & theirs:
        return False
    if ours and theirs:
        return True
    return any(lots and side[0].gross_florins > 0 for lots, side in ((ours, told), (theirs, other)))
