"""Merged mining as it happened: a Namecoin block with the Bitcoin block that did its work, from the public chain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.chain import auxpow, difficulty
from common.chain.coin_network import AuxPowRule
from common.chain.invalid import Invalid
from common.chain.wire import AuxPow, Header, Reader, encode_header, read_auxpow, read_header, sha256d, shown

VECTOR = json.loads((Path(__file__).parent.parent / "vectors" / "auxpow.json").read_text())


def mined() -> tuple[Header, AuxPow]:
    """The block's header and its proof; nothing is left over."""
    reader = Reader(bytes.fromhex(VECTOR["header"]))
    found = read_header(reader), read_auxpow(reader)
    reader.finish()
    return found


def rule(chain_id: int) -> AuxPowRule:
    """Merged mining from the start under this number."""
    return AuxPowRule(from_height=0, chain_id=chain_id, is_strict=True)


def test_a_real_merged_block_is_read_to_the_byte_and_accepted() -> None:
    """The bytes are what was mined: both hashes are the chains' own, and the parent's work meets the block's target."""
    header, proof = mined()
    assert (shown(header.hash), shown(proof.parent.hash)) == (VECTOR["hash"], VECTOR["parent"])
    assert int.from_bytes(sha256d(proof.parent.raw), "little") <= difficulty.target_of(header.bits)
    assert encode_header(header, proof).hex() == VECTOR["header"]
    assert (header.chain_id, header.has_auxpow, len(proof.branch), len(proof.chain_branch)) == (1, True, 5, 4)
    auxpow.check_auxpow(rule(VECTOR["chain_id"]), header.hash, proof)


@pytest.mark.parametrize("chain_id", [2, 163])
def test_its_work_counts_for_no_other_chain(chain_id: int) -> None:
    """Another number has another slot in the tree of chains: the same work cannot be shown twice."""
    header, proof = mined()
    with pytest.raises(Invalid, match="wrong slot"):
        auxpow.check_auxpow(rule(chain_id), header.hash, proof)


def test_its_work_counts_for_no_other_block() -> None:
    """One bit of the block's hash, and the parent's coinbase does not name it."""
    header, proof = mined()
    other = bytes([header.hash[0] ^ 1]) + header.hash[1:]
    with pytest.raises(Invalid, match="does not name this block"):
        auxpow.check_auxpow(rule(VECTOR["chain_id"]), other, proof)
