"""Transactions: their bytes, their ids, and what a signature signs.

Only legacy transactions exist on this coin (no witness, ever), and only SIGHASH_ALL is signed: any other kind lets a
stranger merge two lots into one transaction (escrow_protocol.md §3). Serialisation and signature hashes are
python-bitcoinlib's.
"""

from __future__ import annotations

import msgspec
from bitcoin.core import CMutableTransaction, CMutableTxIn, CMutableTxOut, COutPoint, CTransaction, lx
from bitcoin.core.script import SIGHASH_ALL, CScript, SignatureHash
from bitcoin.core.serialize import SerializationError

from common.chain.fees import SIGNATURE_BYTES_MAX, TX_BYTES_MAX
from common.codec import Canon
from common.errors import CallerMistake
from common.units import Florins

SEQUENCE_REPLACEABLE = 0xFFFFFFFD  # opts in to BIP125 and lets a lock time bind
HASH_TYPE_ALL = bytes([SIGHASH_ALL])
TX_BYTES_READ_MAX = 1_000_000  # a block's size: nothing larger can be on the chain


class BadTransaction(CallerMistake):
    """These bytes are no transaction: {reason}."""

    code = 2013
    key = "bad-transaction"


class Outpoint(Canon, frozen=True):
    """One output of a transaction: txid as RPC shows it (hex), and its position."""

    txid: str
    vout: int

    def __str__(self) -> str:
        return f"{self.txid}:{self.vout}"


class TxInput(msgspec.Struct, frozen=True):
    """What is spent, with the script that shows the right to."""

    outpoint: Outpoint
    script_sig: bytes = b""
    sequence: int = SEQUENCE_REPLACEABLE


class TxOutput(Canon, frozen=True):
    """What is paid, and to which output script."""

    value_florins: Florins
    script: bytes


class Tx(msgspec.Struct, frozen=True):
    """A transaction."""

    inputs: tuple[TxInput, ...]
    outputs: tuple[TxOutput, ...]
    lock_time: int = 0
    version: int = 1

    def signed(self, script_sigs: list[bytes]) -> Tx:
        """The same transaction with these input scripts, in the order of the inputs."""
        pairs = zip(self.inputs, script_sigs, strict=True)
        return msgspec.structs.replace(
            self, inputs=tuple(msgspec.structs.replace(item, script_sig=script) for item, script in pairs)
        )

    @property
    def paid_florins(self) -> Florins:
        """The sum of the outputs."""
        return Florins(sum(int(output.value_florins) for output in self.outputs))


def _library_form(tx: Tx) -> CMutableTransaction:
    return CMutableTransaction(
        [
            CMutableTxIn(COutPoint(lx(i.outpoint.txid), i.outpoint.vout), CScript(i.script_sig), i.sequence)
            for i in tx.inputs
        ],
        [CMutableTxOut(int(o.value_florins), CScript(o.script)) for o in tx.outputs],
        tx.lock_time,
        tx.version,
    )


def serialize(tx: Tx) -> bytes:
    """The bytes that go to a node and over the wire."""
    return bytes(_library_form(tx).serialize())


def parse(raw: bytes) -> Tx:
    """The transaction in these bytes; witness data, where another coin has it, is left behind.

    Raises:
        BadTransaction: cut off, too long, or with values no coin has.
    """
    if len(raw) > TX_BYTES_READ_MAX:
        raise BadTransaction(reason=f"{len(raw)} bytes, more than a block")
    try:
        return from_library(CTransaction.deserialize(raw))
    except (SerializationError, ValueError) as error:
        raise BadTransaction(reason=str(error)) from error


def from_library(found: CTransaction) -> Tx:
    """The transaction in python-bitcoinlib's form, for readers of whole blocks.

    Raises:
        ValueError: with values no coin has.
    """
    return Tx(
        tuple(
            TxInput(Outpoint(item.prevout.hash[::-1].hex(), item.prevout.n), bytes(item.scriptSig), item.nSequence)
            for item in found.vin
        ),
        tuple(TxOutput(Florins(item.nValue), bytes(item.scriptPubKey)) for item in found.vout),
        found.nLockTime,
        found.nVersion,
    )


def txid(tx: Tx) -> str:
    """The id as RPC shows it (hex, reversed)."""
    return str(_library_form(tx).GetTxid()[::-1].hex())


def sighash(tx: Tx, index: int, script_code: bytes) -> bytes:
    """What a signature of input `index` signs (32 bytes, SIGHASH_ALL). `script_code`: redeem or output script."""
    return bytes(SignatureHash(CScript(script_code), _library_form(tx), index, SIGHASH_ALL))


def size_with(tx: Tx, script_sig_bytes: list[int]) -> int:
    """How many bytes the transaction has once its inputs carry scripts of these lengths."""
    return len(serialize(tx.signed([b"\0" * length for length in script_sig_bytes])))


def p2pkh_input_bytes() -> int:
    """The longest input script that spends a key hash: signature and compressed key, each pushed."""
    return 1 + SIGNATURE_BYTES_MAX + 1 + 33


def check_size(tx: Tx) -> None:
    """Nothing happens for a transaction that nodes relay.

    Raises:
        BadTransaction: too long to be relayed.
    """
    size = len(serialize(tx))
    if size > TX_BYTES_MAX:
        raise BadTransaction(reason=f"{size} bytes, nodes relay up to {TX_BYTES_MAX}; pay fewer at once")
