"""Known answers: genesis blocks of the real networks, compact targets, Digishield, merkle trees, the wire format."""

from __future__ import annotations

import pytest
from bitcoin.core import CTransaction
from hypothesis import given
from hypothesis import strategies as st

from common.chain import difficulty, merkle
from common.chain.wire import (
    NULL_HASH,
    DecodeError,
    Header,
    OutPoint,
    Tx,
    TxIn,
    TxOut,
    compact,
    decode_block,
    decode_tx,
    sha256d,
    shown,
    unshown,
)
from dux_sim.chain import block_rules, consensus, scripts
from dux_sim.chain.profile import ChainProfile, Premine, genesis_hash, genesis_of

GENESIS_ROOT = unshown("d646459741e2708a78a3c00f7d42790509ef11c8448930b478bbcf6b6ee25961")
REAL_GENESIS = [  # facts §1: time, bits, nonce, hash
    (1733419383, 0x1E0FFFF0, 39688, "1f1037762db00882d3353b8d9dcfd52fc93cbc2d694c62f1ecd6a209cf9d30d0"),
    (1733419386, 0x1E0FFFF0, 308587, "f4a99d0171235dab2cc2efb14055b86f96c9eda1653ff0a3b2153146391fe300"),
    (1733419469, 0x207FFFFF, 3, "e0950eaa6e8ee8c50f8291b47d83aa59763936adc96ec60bdfb72d513bd4f1d4"),
]
COMPACT = [(0, 0), (0x01003456, 0), (0x01123456, 0x12), (0x02008000, 0x80), (0x05009234, 0x92340000)]
COMPACT += [(0x04923456, 0), (0x04123456, 0x12345600), (0x1E0FFFF0, 0xFFFF0 << 216), (0x23000001, 0), (0xFF123456, 0)]
hashes = st.binary(min_size=32, max_size=32)
transactions = st.builds(
    Tx,
    st.integers(-(2**31), 2**31 - 1),
    st.lists(
        st.builds(
            TxIn, st.builds(OutPoint, hashes, st.integers(0, 2**32 - 1)), st.binary(max_size=300), st.integers(0, 9)
        ),
        min_size=1,
        max_size=4,
    ).map(tuple),
    st.lists(st.builds(TxOut, st.integers(-(2**63), 2**63 - 1), st.binary(max_size=300)), max_size=4).map(tuple),
    st.integers(0, 2**32 - 1),
)


@pytest.mark.parametrize(("time_s", "bits", "nonce", "name"), REAL_GENESIS)
def test_real_genesis_headers_have_their_hash_and_work(time_s: int, bits: int, nonce: int, name: str) -> None:
    """Header layout, double hash, scrypt and compact targets agree with Flopcoin's own three networks."""
    header = Header(1, NULL_HASH, GENESIS_ROOT, time_s, bits, nonce)
    assert shown(header.hash) == name
    assert difficulty.meets(header.raw, bits, difficulty.target_of(bits))
    assert int.from_bytes(difficulty.work_hash(header.raw), "little") <= difficulty.target_of(bits)


@pytest.mark.parametrize(("bits", "target"), COMPACT)
def test_compact_targets(bits: int, target: int) -> None:
    """Zero, negative and overflowing forms are no target; the others are what Bitcoin's arithmetic says."""
    assert difficulty.target_of(bits) == target


@given(st.integers(1, consensus.POW_LIMIT))
def test_compact_form_loses_low_bits_only(target: int) -> None:
    """Reading back what was written gives no harder a number than 16 bits of precision allow, and is stable."""
    read = difficulty.target_of(difficulty.bits_of(target))
    assert read <= target < read + max(1, read >> 15) + 1
    assert difficulty.bits_of(read) == difficulty.bits_of(target)


def header_at(time_s: int, bits: int) -> Header:
    return Header(0xA30004, NULL_HASH, NULL_HASH, time_s, bits, 0)


@pytest.mark.parametrize(
    ("gap_s", "corrected_s"),
    [
        (60, 60),
        (67, 60),
        (68, 61),
        (53, 60),
        (52, 59),
        (0, 53),
        (-1000, 45),
        (-60, 45),
        (180, 75),
        (300, 90),
        (10_000, 90),
    ],
)
def test_digishield_corrects_an_eighth_within_its_bounds(gap_s: int, corrected_s: int) -> None:
    """New = old * clamp(60 + trunc((gap - 60) / 8), 45, 90) / 60, the division rounded toward zero."""
    bits = 0x1D00FFFF
    new = block_rules.next_bits(header_at(1000 + gap_s, bits), header_at(1000, bits))
    assert new == difficulty.bits_of(difficulty.target_of(bits) * corrected_s // 60)


def test_difficulty_never_falls_below_the_limit_and_rises_with_haste() -> None:
    """At the easiest target slow blocks change nothing and fast blocks make it harder by a quarter at most."""
    easy = consensus.POW_LIMIT_BITS
    assert block_rules.next_bits(header_at(9000, easy), header_at(0, easy)) == easy
    fast = difficulty.target_of(block_rules.next_bits(header_at(1, easy), header_at(1, easy)))
    assert fast == pytest.approx(consensus.POW_LIMIT * 53 / 60, rel=1e-4)
    assert not difficulty.meets(header_at(0, 0x217FFFFF).raw, 0x217FFFFF, consensus.POW_LIMIT)


@given(st.lists(hashes, min_size=1, max_size=9), st.data())
def test_branches_lead_to_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    """Every leaf reaches the root through its branch, and no other leaf does at its place."""
    index = data.draw(st.integers(0, len(leaves) - 1))
    root, _ = merkle.root_of(leaves)
    branch = merkle.branch_of(leaves, index)
    assert merkle.root_by_branch(leaves[index], branch, index) == root
    assert merkle.root_by_branch(sha256d(leaves[index]), branch, index) != root


def test_doubled_leaves_are_seen() -> None:
    """CVE-2012-2459: a list lengthened by its own tail has the same root, and is known as a mutation."""
    leaves = [bytes([n]) * 32 for n in range(3)]
    assert merkle.root_of(leaves) == (merkle.root_of([*leaves, leaves[2]])[0], False)
    assert merkle.root_of([*leaves, leaves[2]])[1]


@given(transactions)
def test_transactions_survive_the_wire_and_agree_with_another_library(tx: Tx) -> None:
    """Decoding what was encoded gives it back; python-bitcoinlib reads the same fields and names."""
    assert decode_tx(tx.raw) == tx
    other = CTransaction.deserialize(tx.raw)
    assert bytes(other.GetTxid()) == tx.txid
    assert [bytes(out.scriptPubKey) for out in other.vout] == [out.script for out in tx.outputs]


@given(transactions, st.data())
def test_cut_or_lengthened_bytes_are_refused(tx: Tx, data: st.DataObject) -> None:
    """No prefix of a transaction and nothing longer is one."""
    with pytest.raises(DecodeError):
        decode_tx(tx.raw[: data.draw(st.integers(0, len(tx.raw) - 1))])
    with pytest.raises(DecodeError):
        decode_tx(tx.raw + b"\x00")


@given(st.binary(max_size=200))
def test_noise_is_refused_or_read_exactly(noise: bytes) -> None:
    """Whatever is read as a block or transaction writes back to the same bytes; the rest is refused by name."""
    for decode in (decode_tx, decode_block):
        try:
            read = decode(noise)
        except DecodeError:
            continue
        assert read.raw == noise


@pytest.mark.parametrize("text", ["fd0100", "fe00010000", "ff0000000001000000"[:18] + "00"])
def test_long_forms_of_counts_are_refused(text: str) -> None:
    """A count has one form: the shortest."""
    with pytest.raises(DecodeError):
        decode_tx(b"\x01\x00\x00\x00" + bytes.fromhex(text) + bytes(60))


def test_witness_form_is_refused_by_name() -> None:
    """A SegWit transaction gets told why."""
    with pytest.raises(DecodeError, match="no SegWit"):
        decode_tx(bytes.fromhex("01000000" + "0001" + "01" + "11" * 41 + "00" * 20))


def test_huge_counts_cost_nothing() -> None:
    """A count beyond what the bytes can hold is refused before anything is read."""
    with pytest.raises(DecodeError, match="announced"):
        decode_tx(b"\x01\x00\x00\x00" + compact(2**40) + bytes(100))


def test_push_numbers_are_cores() -> None:
    """BIP34 heights: an opcode up to 16, then the shortest signed form."""
    expected = {0: "00", 1: "51", 16: "60", 17: "0111", 127: "017f", 128: "028000", 255: "02ff00", 256: "020001"}
    assert {n: scripts.push_number(n).hex() for n in expected} == expected


def test_genesis_follows_from_the_profile() -> None:
    """The same profile gives the same network; another name, owner, amount or time gives another one."""
    owner, other = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8", "mfcGAzvis9JQAb6avB6WBGiGrgWzLxuGaC"
    profiles = [
        ChainProfile(name="a", premine=(Premine(owner, "5"),)),
        ChainProfile(name="b", premine=(Premine(owner, "5"),)),
        ChainProfile(name="a", premine=(Premine(owner, "6"),)),
        ChainProfile(name="a", premine=(Premine(other, "5"),)),
        ChainProfile(name="a", premine=()),
        ChainProfile(name="a", premine=(Premine(owner, "5"),), genesis_time_s=1_790_000_001),
    ]
    assert len({genesis_hash(profile) for profile in profiles}) == len(profiles)
    assert genesis_hash(profiles[0]) == genesis_hash(ChainProfile(name="a", premine=(Premine(owner, "5"),)))
    assert decode_block(genesis_of(profiles[0]).raw) == genesis_of(profiles[0])
