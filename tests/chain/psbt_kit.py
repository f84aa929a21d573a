"""Partially signed payments to try things on."""

from __future__ import annotations

from common.chain.address import pay_to_key, pay_to_script
from common.chain.psbt import Partial, digest_of, new_partial, spent_outputs, with_signature
from common.chain.script import multisig_script
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, serialize, txid
from common.units import FLOP, Florins
from tests.chain.contract_kit import public_key, sign_digest

NAMES = ("anna", "bert", "cleo")
REDEEM = multisig_script(2, tuple(public_key(name) for name in NAMES))
PAYEE = pay_to_key(public_key("payee"))


def made(*scripts: bytes) -> Tx:
    """A transaction that made coins of 5 FLOP each."""
    source = (TxInput(Outpoint("cd" * 32, 0), b"\x51"),)
    return Tx(source, tuple(TxOutput(Florins(5 * FLOP), script) for script in scripts))


def shared_and_own() -> Partial:
    """Spends a shared coin and one of Anna's own."""
    previous = made(pay_to_script(REDEEM), pay_to_key(public_key("anna")))
    inputs = tuple(TxInput(Outpoint(txid(previous), vout)) for vout in range(2))
    tx = Tx(inputs, (TxOutput(Florins(10 * FLOP - 2_000_000), PAYEE),))
    return new_partial(tx, [serialize(previous)] * 2, [REDEEM, b""])


def signed_by(partial: Partial, name: str, *places: int) -> Partial:
    for at in places:
        digest = digest_of(partial, at, spent_outputs(partial)[at])
        partial = with_signature(partial, at, public_key(name), sign_digest(name, digest))
    return partial
