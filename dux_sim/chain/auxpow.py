"""Merged mining: whether the work of a parent chain's block counts for a block of this chain.

Pure. Every check has a name in the error, and a test that breaks just that one.

Source: facts §1 "AuxPoW header on the wire"; the checks stand in Flopcoin's order.
"""

from __future__ import annotations

import struct

from dux_sim.chain import consensus, difficulty, merkle
from dux_sim.chain.errors import Invalid
from dux_sim.chain.wire import AuxPow, Header


def slot_of(nonce: int, chain_id: int, branch_length: int) -> int:
    """The one leaf of the chain merkle tree where this chain must stand: a fixed draw, so that no miner can choose."""
    draw = (nonce * 1103515245 + 12345) & 0xFFFFFFFF
    draw = ((draw + chain_id) * 1103515245 + 12345) & 0xFFFFFFFF
    return draw % (1 << branch_length)


def check_work(header: Header, auxpow: AuxPow | None) -> None:
    """The block's work is its own, or a parent chain's that commits to it.

    Raises:
        Invalid: the version belongs to another chain, flag and proof disagree, or there is not enough work.
    """
    if header.chain_id != consensus.CHAIN_ID:
        raise Invalid("bad-chain-id", detail=f"version {header.version:#x}")
    if header.has_auxpow != (auxpow is not None):
        raise Invalid("bad-auxpow-flag", detail="the version's AuxPoW flag and the proof disagree")
    if auxpow is not None:
        check_auxpow(header.hash, auxpow)
    if not difficulty.meets(header.raw if auxpow is None else auxpow.parent.raw, header.bits):
        raise Invalid("high-hash", detail="proof of work failed")


def check_auxpow(block_hash: bytes, auxpow: AuxPow) -> None:
    """The parent block's coinbase commits to this block, once, at the one slot of this chain.

    Raises:
        Invalid: it does not.
    """
    if auxpow.index != 0:
        raise Invalid("bad-auxpow", detail="the parent's transaction is not its coinbase")
    if auxpow.parent.chain_id == consensus.CHAIN_ID:
        raise Invalid("bad-auxpow", detail="the parent has our chain id")
    if len(auxpow.chain_branch) > consensus.AUXPOW_CHAIN_BRANCH_MAX:
        raise Invalid("bad-auxpow", detail="the chain merkle branch is too long")
    if not auxpow.coinbase.inputs:
        raise Invalid("bad-auxpow", detail="the parent's coinbase has no input")
    if merkle.root_by_branch(auxpow.coinbase.txid, auxpow.branch, auxpow.index) != auxpow.parent.merkle_root:
        raise Invalid("bad-auxpow", detail="the coinbase is not in the parent block")
    root = merkle.root_by_branch(block_hash, auxpow.chain_branch, auxpow.chain_index)[::-1]
    _check_commitment(auxpow, auxpow.coinbase.inputs[0].script_sig, root)


def _check_commitment(auxpow: AuxPow, script: bytes, root: bytes) -> None:
    at, magic_at = script.find(root), script.find(consensus.AUXPOW_MAGIC)
    if at < 0:
        raise Invalid("bad-auxpow", detail="the parent's coinbase does not name this block")
    if magic_at >= 0:
        if script.find(consensus.AUXPOW_MAGIC, magic_at + 1) >= 0:
            raise Invalid("bad-auxpow", detail="several merged mining headers")
        if magic_at + len(consensus.AUXPOW_MAGIC) != at:
            raise Invalid("bad-auxpow", detail="the merged mining header does not stand before the root")
    elif at > consensus.AUXPOW_ROOT_OFFSET_MAX:
        raise Invalid("bad-auxpow", detail="the root starts too late")
    _check_slot(auxpow, script[at + len(root) :])


def _check_slot(auxpow: AuxPow, tail: bytes) -> None:
    if len(tail) < struct.calcsize("<II"):
        raise Invalid("bad-auxpow", detail="size and nonce are missing")
    size, nonce = struct.unpack_from("<II", tail)
    if size != 1 << len(auxpow.chain_branch):
        raise Invalid("bad-auxpow", detail="the size does not match the chain merkle branch")
    if auxpow.chain_index != slot_of(nonce, consensus.CHAIN_ID, len(auxpow.chain_branch)):
        raise Invalid("bad-auxpow", detail="the wrong slot of the chain merkle tree")
