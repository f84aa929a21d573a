"""Merged mining: whether the work of a parent chain's block counts for a block of this chain.

Pure. Every check has a name in the error, and a test that breaks just that one.

Source: facts §1 "AuxPoW header on the wire"; the checks stand in Flopcoin's order.
"""

from __future__ import annotations

import struct

from common.chain import difficulty, merkle
from common.chain.coin_network import AuxPowRule, CoinNetwork
from common.chain.invalid import Invalid
from common.chain.wire import AuxPow, Header

CHAIN_BRANCH_MAX = 30
MAGIC = b"\xfa\xbemm"
ROOT_OFFSET_MAX = 20  # without the magic, the root must start this early
LEGACY_VERSIONS = (1, 2)  # of before chain numbers


def slot_of(nonce: int, chain_id: int, branch_length: int) -> int:
    """The one leaf of the chain merkle tree where this chain must stand: a fixed draw, so that no miner can choose."""
    draw = (nonce * 1103515245 + 12345) & 0xFFFFFFFF
    draw = ((draw + chain_id) * 1103515245 + 12345) & 0xFFFFFFFF
    return draw % (1 << branch_length)


def check_work(network: CoinNetwork, height: int, header: Header, auxpow: AuxPow | None) -> None:
    """The block's work is its own, or a parent chain's that commits to it.

    Raises:
        Invalid: the version belongs to another chain, flag and proof disagree, or there is not enough work.
    """
    rule = network.auxpow
    if rule is not None:
        _check_version(rule, height, header, auxpow)
    if auxpow is not None:
        if rule is None:
            raise Invalid("bad-auxpow", detail="this network has no merged mining")
        check_auxpow(rule, header.hash, auxpow)
    raw = header.raw if auxpow is None else auxpow.parent.raw
    if not difficulty.meets(raw, header.bits, difficulty.target_of(network.pow_limit_bits)):
        raise Invalid("high-hash", detail="proof of work failed")


def _check_version(rule: AuxPowRule, height: int, header: Header, auxpow: AuxPow | None) -> None:
    if header.has_auxpow != (auxpow is not None):
        raise Invalid("bad-auxpow-flag", detail="the version's AuxPoW flag and the proof disagree")
    is_legacy = header.version in LEGACY_VERSIONS
    if not is_legacy and rule.is_strict and header.chain_id != rule.chain_id:
        raise Invalid("bad-chain-id", detail=f"version {header.version:#x}")
    if is_legacy and height >= rule.from_height:
        raise Invalid("late-legacy-block", detail=f"version {header.version}")
    if auxpow is not None and height < rule.from_height:
        raise Invalid("early-auxpow-block", detail=f"height {height}")


def check_auxpow(rule: AuxPowRule, block_hash: bytes, auxpow: AuxPow) -> None:
    """The parent block's coinbase commits to this block, once, at the one slot of this chain.

    Raises:
        Invalid: it does not.
    """
    if auxpow.index != 0:
        raise Invalid("bad-auxpow", detail="the parent's transaction is not its coinbase")
    if rule.is_strict and auxpow.parent.chain_id == rule.chain_id:
        raise Invalid("bad-auxpow", detail="the parent has our chain id")
    if len(auxpow.chain_branch) > CHAIN_BRANCH_MAX:
        raise Invalid("bad-auxpow", detail="the chain merkle branch is too long")
    if not auxpow.coinbase.inputs:
        raise Invalid("bad-auxpow", detail="the parent's coinbase has no input")
    if merkle.root_by_branch(auxpow.coinbase.txid, auxpow.branch, auxpow.index) != auxpow.parent.merkle_root:
        raise Invalid("bad-auxpow", detail="the coinbase is not in the parent block")
    root = merkle.root_by_branch(block_hash, auxpow.chain_branch, auxpow.chain_index)[::-1]
    _check_commitment(rule, auxpow, auxpow.coinbase.inputs[0].script_sig, root)


def _check_commitment(rule: AuxPowRule, auxpow: AuxPow, script: bytes, root: bytes) -> None:
    at, magic_at = script.find(root), script.find(MAGIC)
    if at < 0:
        raise Invalid("bad-auxpow", detail="the parent's coinbase does not name this block")
    if magic_at >= 0:
        if script.find(MAGIC, magic_at + 1) >= 0:
            raise Invalid("bad-auxpow", detail="several merged mining headers")
        if magic_at + len(MAGIC) != at:
            raise Invalid("bad-auxpow", detail="the merged mining header does not stand before the root")
    elif at > ROOT_OFFSET_MAX:
        raise Invalid("bad-auxpow", detail="the root starts too late")
    _check_slot(rule, auxpow, script[at + len(root) :])


def _check_slot(rule: AuxPowRule, auxpow: AuxPow, tail: bytes) -> None:
    if len(tail) < struct.calcsize("<II"):
        raise Invalid("bad-auxpow", detail="size and nonce are missing")
    size, nonce = struct.unpack_from("<II", tail)
    if size != 1 << len(auxpow.chain_branch):
        raise Invalid("bad-auxpow", detail="the size does not match the chain merkle branch")
    if auxpow.chain_index != slot_of(nonce, rule.chain_id, len(auxpow.chain_branch)):
        raise Invalid("bad-auxpow", detail="the wrong slot of the chain merkle tree")
