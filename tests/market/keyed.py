"""Receipts under a contract's keys, for tests: a lot with real coin keys, its spend, and the words of its parties."""

from __future__ import annotations

import hashlib
from typing import Any

import coincurve
from msgspec import structs

from common.chain.script import (
    BRANCH_ARBITERS,
    BRANCH_COOP,
    BRANCH_REFUND,
    award_sig,
    coop_sig,
    escrow_script,
    refund_sig,
)
from common.chain.tx import HASH_TYPE_ALL, Outpoint, Tx, TxInput, TxOutput, serialize
from common.receipt_keys import word_digest, word_of
from common.receipts import KeyedReceipt, LotKeys, SettledReceipt
from common.units import Florins
from tests.market.makers import changed


def coin_key(name: str) -> coincurve.PrivateKey:
    """A coin key with this name."""
    return coincurve.PrivateKey(hashlib.sha256(name.encode()).digest())


def public(name: str) -> bytes:
    """Its public half, 33 bytes."""
    return coin_key(name).public_key.format()


LOT = LotKeys(buyer=public("buyer"), seller=public("seller"))
OTHER_LOT = LotKeys(buyer=public("thief"), seller=public("thief's friend"))
NAMES = {public(name): name for name in ("buyer", "seller", "thief", "thief's friend")}


def script(lot: LotKeys = LOT, *, result_hash: bytes = b"", arbiters: int = 3) -> bytes:
    """The redeem script of a lot of these two."""
    return escrow_script(
        buyer=lot.buyer,
        seller=lot.seller,
        arbiters=tuple(public(f"arbiter {number}") for number in range(arbiters)),
        needed=2,
        timeout=5_000,
        result_hash=result_hash,
    )


SIGNED = b"\x30" * 72  # stands for a signature where none is checked
WAYS = {
    BRANCH_COOP: lambda lot: coop_sig(lot, SIGNED, SIGNED, None),
    BRANCH_ARBITERS: lambda lot: award_sig(lot, [SIGNED] * 2, SIGNED),
    BRANCH_REFUND: lambda lot: refund_sig(lot, SIGNED),
}


def spend(*lots: LotKeys, fund: bytes = b"", tax: int = 0, branch: int = BRANCH_COOP) -> bytes:
    """A transaction that spends these lots by this branch and pays the fund."""
    inputs = tuple(TxInput(Outpoint(f"{at:064x}", 0), WAYS[branch](script(lot))) for at, lot in enumerate(lots))
    return serialize(Tx(inputs, (TxOutput(Florins(tax), fund),)))


def keyed(receipt: SettledReceipt, lot: LotKeys = LOT, **changes: Any) -> KeyedReceipt:
    """The receipt under its signer's key of the lot; `changes` are made to what the key signs."""
    made = KeyedReceipt(**structs.asdict(receipt), lot=lot, lot_signature=b"")
    key = coin_key(NAMES[lot.buyer if receipt.signer == receipt.buyer else lot.seller])
    digest = word_digest(changed(word_of(made), **changes))
    signed: KeyedReceipt = changed(made, lot_signature=key.sign(digest, hasher=None) + HASH_TYPE_ALL)
    return signed
