"""Partially signed transactions (PSBT, version 0): a payment that several wallets sign one after the other.

Promises: each input carries the whole transaction that made its coin, whose hash is checked, so that no signer has to
believe anybody what it spends; signatures count only when they are right; what other programs added is kept. Only what
this coin has: key hashes and multi-signature scripts, SIGHASH_ALL, no witness.

Source: BIP174.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence

import msgspec
from bitcoin.core import script as op
from bitcoin.core.script import CScript, CScriptInvalidError

from common.chain.address import is_p2pkh, pay_to_key, pay_to_script
from common.chain.script import BadScript, key_sig, multisig_script, multisig_sig
from common.chain.settle import MissingSignature
from common.chain.tx import HASH_TYPE_ALL, BadTransaction, Tx, TxInput, TxOutput, parse, serialize, sighash, txid
from common.chain.verify import is_signature
from common.contracts.wallet_errors import BadPartial

MAGIC = b"psbt\xff"
PSBT_BYTES_MAX = 1_000_000
PSBT_TEXT_MAX = 1_400_000
PAIRS_MAX = 1_000  # in one map
INPUTS_MAX = 200  # each brings a transaction of its own
GLOBAL_TX, IN_PREVIOUS, IN_SIGNATURE, IN_HASH_TYPE, IN_REDEEM, IN_FINAL = b"\x00", b"\x00", 2, b"\x03", b"\x04", b"\x07"
MULTISIG_MAX = 16

Pairs = tuple[tuple[bytes, bytes], ...]


class PartialIn(msgspec.Struct, frozen=True):
    """What is known of one input."""

    previous: bytes = b""  # the transaction that made the coin
    redeem: bytes = b""
    signatures: Pairs = ()  # public key -> signature, in the order of the keys
    final: bytes = b""
    other: Pairs = ()


class Partial(msgspec.Struct, frozen=True):
    """An unsigned transaction and what its signers have gathered."""

    tx: Tx
    inputs: tuple[PartialIn, ...]
    outputs: tuple[Pairs, ...]
    other: Pairs = ()


def new_partial(tx: Tx, previous: Sequence[bytes], redeems: Sequence[bytes]) -> Partial:
    """Nobody has signed yet."""
    made = tuple(PartialIn(raw, redeem) for raw, redeem in zip(previous, redeems, strict=True))
    return Partial(tx, made, ((),) * len(tx.outputs))


def to_text(partial: Partial) -> str:
    """Base64, as every wallet reads it."""
    maps = [((GLOBAL_TX, serialize(partial.tx)), *partial.other)]
    maps += [_pairs_of(item) for item in partial.inputs]
    maps += list(partial.outputs)
    return base64.b64encode(MAGIC + b"".join(_map_bytes(pairs) for pairs in maps)).decode()


def from_text(text: str) -> Partial:
    """The transaction in base64.

    Raises:
        BadPartial: cut off, of another form, or an input whose coin is not what it says.
    """
    try:
        data = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadPartial(reason="it is not base64; copy it anew") from error
    if not data.startswith(MAGIC) or len(data) > PSBT_BYTES_MAX:
        raise BadPartial(reason="it is no PSBT")
    try:
        return _decoded(io.BytesIO(data[len(MAGIC) :]))
    except (EOFError, BadTransaction) as error:
        raise BadPartial(reason=f"it is cut off or damaged: {error}") from error


def spent_outputs(partial: Partial) -> list[TxOutput]:
    """The coins that it spends, as the transactions that made them say."""
    found = []
    for item, extra in zip(partial.tx.inputs, partial.inputs, strict=True):
        found.append(parse(extra.previous).outputs[item.outpoint.vout])
    return found


def keys_of(item: PartialIn, spent: TxOutput) -> tuple[int, tuple[bytes, ...]]:
    """How many of which keys spend this coin; no keys for a key hash whose key nobody has shown yet.

    Raises:
        BadPartial: a script that is neither a key hash nor a multi-signature.
    """
    if is_p2pkh(spent.script):
        return 1, tuple(key for key, _ in item.signatures if pay_to_key(key) == spent.script)
    found = read_multisig(item.redeem)
    if found is None or pay_to_script(item.redeem) != spent.script:
        raise BadPartial(reason="it spends a script that is no multi-signature, or hides it")
    return found


def digest_of(partial: Partial, at: int, spent: TxOutput) -> bytes:
    """What a signature of input `at` signs.

    Raises:
        BadPartial: its coin is neither a key hash's nor a multi-signature's.
    """
    keys_of(partial.inputs[at], spent)
    return sighash(partial.tx, at, spent.script if is_p2pkh(spent.script) else partial.inputs[at].redeem)


def with_signature(partial: Partial, at: int, pubkey: bytes, signature: bytes) -> Partial:
    """One signature more."""
    item = partial.inputs[at]
    gathered = {**dict(item.signatures), pubkey: signature}
    changed = msgspec.structs.replace(item, signatures=tuple(sorted(gathered.items())))
    return msgspec.structs.replace(
        partial, inputs=tuple(changed if place == at else one for place, one in enumerate(partial.inputs))
    )


def right_signatures(partial: Partial, at: int, spent: TxOutput) -> dict[bytes, bytes]:
    """The signatures of input `at` that are right, by key; wrong ones count as missing."""
    digest, (_, keys) = digest_of(partial, at, spent), keys_of(partial.inputs[at], spent)
    return {key: sig for key, sig in partial.inputs[at].signatures if key in keys and is_signature(key, digest, sig)}


def combine(partials: Sequence[Partial]) -> Partial:
    """All signatures in one.

    Raises:
        BadPartial: they are not copies of one transaction.
    """
    first = partials[0]
    for other in partials[1:]:
        if other.tx != first.tx:
            raise BadPartial(reason="these are copies of different transactions")
        for at, item in enumerate(other.inputs):
            for key, signature in item.signatures:
                first = with_signature(first, at, key, signature)
    return first


def finish(partial: Partial) -> Tx:
    """The full transaction.

    Raises:
        MissingSignature: fewer than an input needs are right.
    """
    return partial.tx.signed([_script_sig(partial, at, spent) for at, spent in enumerate(spent_outputs(partial))])


def _script_sig(partial: Partial, at: int, spent: TxOutput) -> bytes:
    right = right_signatures(partial, at, spent)
    needed, keys = keys_of(partial.inputs[at], spent)
    ordered = [(key, right[key]) for key in keys if key in right]
    if len(ordered) < needed:
        raise MissingSignature(what=f"{needed - len(ordered)} signatures of input {at}")
    if is_p2pkh(spent.script):
        return key_sig(ordered[0][1], ordered[0][0])
    return multisig_sig(partial.inputs[at].redeem, [signature for _, signature in ordered[:needed]])


def read_multisig(redeem: bytes) -> tuple[int, tuple[bytes, ...]] | None:
    """How many of which keys, when these bytes are a multi-signature script in the one form that is made here."""
    try:
        items = list(CScript(redeem))
    except (CScriptInvalidError, ValueError):
        return None
    keys = tuple(item for item in items[1:-2] if isinstance(item, bytes))
    if len(items) < 4 or items[-1] != op.OP_CHECKMULTISIG or not isinstance(items[0], int):  # noqa: PLR2004
        return None
    needed = int(items[0])
    if not 1 <= needed <= len(keys) <= MULTISIG_MAX:
        return None
    try:
        return (needed, keys) if multisig_script(needed, keys) == redeem else None
    except BadScript:
        return None


def _pairs_of(item: PartialIn) -> Pairs:
    named = [(IN_PREVIOUS, item.previous), (IN_REDEEM, item.redeem), (IN_FINAL, item.final)]
    pairs = [pair for pair in named if pair[1]]
    pairs += [(bytes([IN_SIGNATURE]) + key, signature) for key, signature in item.signatures]
    return tuple(sorted((*pairs, *item.other)))


def _map_bytes(pairs: Pairs) -> bytes:
    return b"".join(_with_length(key) + _with_length(value) for key, value in pairs) + b"\x00"


def _decoded(stream: io.BytesIO) -> Partial:
    pairs = _read_map(stream)
    tx = parse(dict(pairs).get(GLOBAL_TX, b""))
    if not tx.inputs or len(tx.inputs) > INPUTS_MAX or any(item.script_sig for item in tx.inputs):
        raise BadPartial(reason="its transaction has no inputs, too many, or signatures already")
    inputs = tuple(_read_input(_read_map(stream), item) for item in tx.inputs)
    outputs = tuple(_read_map(stream) for _ in tx.outputs)
    if stream.read(1):
        raise BadPartial(reason="more follows behind its end")
    return Partial(tx, inputs, outputs, tuple(pair for pair in pairs if pair[0] != GLOBAL_TX))


def _read_input(pairs: Pairs, spends: TxInput) -> PartialIn:
    found = dict(pairs)
    if found.get(IN_HASH_TYPE, HASH_TYPE_ALL + bytes(3)) != HASH_TYPE_ALL + bytes(3):
        raise BadPartial(reason="it asks for a signature that others may add to; only SIGHASH_ALL is signed")
    previous = found.get(IN_PREVIOUS, b"")
    made = parse(previous)
    if txid(made) != spends.outpoint.txid or spends.outpoint.vout >= len(made.outputs):
        raise BadPartial(reason=f"the transaction that made {spends.outpoint} is not the one that it shows")
    signatures = tuple((key[1:], value) for key, value in pairs if key[0] == IN_SIGNATURE and len(key) > 1)
    known = {IN_PREVIOUS, IN_REDEEM, IN_FINAL, IN_HASH_TYPE}
    other = tuple(pair for pair in pairs if pair[0] not in known and pair[0][0] != IN_SIGNATURE)
    return PartialIn(previous, found.get(IN_REDEEM, b""), signatures, found.get(IN_FINAL, b""), other)


def _read_map(stream: io.BytesIO) -> Pairs:
    found: dict[bytes, bytes] = {}
    while key := _read_bytes(stream):
        if key in found or len(found) >= PAIRS_MAX:
            raise BadPartial(reason="a key stands twice, or there are too many")
        found[key] = _read_bytes(stream)
    return tuple(sorted(found.items()))


def _with_length(data: bytes) -> bytes:
    size = len(data)
    if size < 0xFD:  # noqa: PLR2004 - Bitcoin's compact sizes
        return bytes([size]) + data
    return (b"\xfd" + size.to_bytes(2, "little") if size <= 0xFFFF else b"\xfe" + size.to_bytes(4, "little")) + data  # noqa: PLR2004


def _read_bytes(stream: io.BytesIO) -> bytes:
    size = _exactly(stream, 1)[0]
    if size >= 0xFD:  # noqa: PLR2004
        size = int.from_bytes(_exactly(stream, {0xFD: 2, 0xFE: 4, 0xFF: 8}[size]), "little")
    return _exactly(stream, size)


def _exactly(stream: io.BytesIO, size: int) -> bytes:
    data = stream.read(min(size, PSBT_BYTES_MAX))
    if len(data) != size:
        raise EOFError(f"{size} bytes are announced, {len(data)} are there")
    return data
