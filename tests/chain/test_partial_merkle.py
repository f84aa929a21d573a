"""Proofs of single transactions: they lead to the root, and the two known tricks do not."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from common.chain import merkle
from common.chain.bloom import FILTER_BYTES_MAX, PeerFilter, filter_payload, outpoint_bytes, pushed
from common.chain.invalid import Invalid
from common.chain.partial_merkle import (
    MerkleBlock,
    check_proof,
    decode_merkle_block,
    encode_merkle_block,
    prove,
    reads_as_tx,
)
from common.chain.wire import DecodeError, OutPoint, Tx, TxIn, TxOut, sha256d

hashes = st.binary(min_size=32, max_size=32)


def head(root: bytes) -> bytes:
    return bytes(36) + root + bytes(12)


@given(st.lists(hashes, min_size=1, max_size=40, unique=True), st.data())
def test_what_is_proven_is_in_the_block_at_its_place(leaves: list[bytes], data: st.DataObject) -> None:
    """Any choice of any block survives the wire and proves exactly itself, with positions."""
    wanted = [data.draw(st.booleans()) for _ in leaves]
    made = prove(leaves, wanted, head(merkle.root_of(leaves)[0]))
    read = decode_merkle_block(encode_merkle_block(made.header, made), 80)
    assert read == made
    assert check_proof(read) == {leaf: at for at, leaf in enumerate(leaves) if wanted[at]}


@given(st.lists(hashes, min_size=1, max_size=20, unique=True), st.data())
def test_nothing_else_is_proven(leaves: list[bytes], data: st.DataObject) -> None:
    """One bit turned anywhere in the parts, the count or the root: refused, or no more than the truth is proven."""
    made = prove(leaves, [True] * len(leaves), head(merkle.root_of(leaves)[0]))
    payload = bytearray(encode_merkle_block(made.header, made))
    at = data.draw(st.integers(36, len(payload) - 1))
    payload[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = check_proof(decode_merkle_block(bytes(payload), 80))
    except (Invalid, DecodeError):
        return
    assert found.items() <= {leaf: place for place, leaf in enumerate(leaves)}.items()


LEAVES = [sha256d(bytes([n])) for n in range(5)]
GOOD = prove(LEAVES, [False, True, False, False, True], head(merkle.root_of(LEAVES)[0]))


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"hashes": GOOD.hashes[:-1]}, "too few hashes"),
        ({"hashes": (*GOOD.hashes, bytes(32))}, "more or fewer"),
        ({"flags": b""}, "too few bits"),
        ({"flags": GOOD.flags + b"\0"}, "more or fewer"),
        ({"flags": GOOD.flags[:-1] + bytes([GOOD.flags[-1] | 0x80])}, "more or fewer"),
        ({"header": head(bytes(32))}, "merkle root"),
        ({"txs": 6}, "bad-proof"),
    ],
)
def test_each_way_to_be_wrong(changed: dict[str, object], what: str) -> None:
    """Too little, too much, elsewhere."""
    assert check_proof(GOOD)
    with pytest.raises(Invalid, match=what):
        check_proof(structs.replace(GOOD, **changed))


def test_equal_neighbours_are_refused() -> None:
    """CVE-2012-2459: a tree lengthened by its own end has the same root, and proves nothing."""
    leaves = [LEAVES[0], LEAVES[1], LEAVES[2], LEAVES[2]]
    root = merkle.root_of(leaves[:3])[0]
    with pytest.raises(Invalid, match="two equal neighbours"):
        check_proof(prove(leaves, [False, False, True, False], head(root)))


def tx_of_64_bytes() -> bytes:
    body = Tx(1, (TxIn(OutPoint(bytes(32), 1), b"abcd", 0),), (TxOut(0, b""),), 0).raw
    assert len(body) == 64
    return body


def test_a_transaction_that_is_also_a_pair_of_hashes_is_refused() -> None:
    """CVE-2017-12842: a real 64-byte transaction taken for an inner node would prove a payment that never was."""
    pair = tx_of_64_bytes()
    assert reads_as_tx(pair)
    assert not reads_as_tx(LEAVES[0] + LEAVES[1])
    root = sha256d(pair)  # the honest block holds one transaction, these 64 bytes
    lie = MerkleBlock(head(root), 2, (pair[:32], pair[32:]), b"\x07")
    with pytest.raises(Invalid, match="also a transaction"):
        check_proof(lie)


@pytest.mark.parametrize("count", [0, 20_000, 2**32 - 1])
def test_more_than_a_block_can_hold_is_refused(count: int) -> None:
    """A count that no block of a megabyte can have."""
    with pytest.raises(DecodeError, match="transactions"):
        decode_merkle_block(bytes(80) + struct.pack("<I", count) + b"\0\0", 80)


def paying(script: bytes) -> Tx:
    return Tx(1, (TxIn(OutPoint(b"\x07" * 32, 3), b"\x01\xaa", 0),), (TxOut(5, script),), 0)


KEY_HASH = b"\x11" * 20
TO_KEY = b"\x76\xa9\x14" + KEY_HASH + b"\x88\xac"


def test_a_filter_finds_payments_and_their_spends() -> None:
    """By what the output pushes; the spend by its outpoint, also in a filter that never named it."""
    assert pushed(TO_KEY) == [KEY_HASH]
    seen = PeerFilter(filter_payload([KEY_HASH], tweak=5))
    payment = paying(TO_KEY)
    assert seen.matches(payment)
    spend = Tx(1, (TxIn(OutPoint(payment.txid, 0), b"", 0),), (TxOut(1, b"\x51"),), 0)
    assert seen.matches(spend)
    fresh = PeerFilter(filter_payload([KEY_HASH], tweak=5))
    assert not fresh.matches(spend)
    assert PeerFilter(filter_payload([outpoint_bytes(payment.txid, 0)], tweak=9)).matches(spend)
    assert not fresh.matches(paying(b"\x6a"))


def test_a_filter_beyond_the_limits_is_refused() -> None:
    """BIP37: 36,000 bytes, 50 functions; and noise is none."""
    size = FILTER_BYTES_MAX + 1
    large = b"\xfd" + struct.pack("<H", size) + bytes(size) + struct.pack("<IIB", 1, 0, 0)
    for payload in (large, b"\x01\x00" + struct.pack("<IIB", 51, 0, 0), b"\x05"):
        with pytest.raises(DecodeError):
            PeerFilter(payload)
    assert len(filter_payload([bytes([n // 256, n % 256]) for n in range(18_000)], 1)) <= FILTER_BYTES_MAX + 12
    assert pushed(b"\x4c") == []
