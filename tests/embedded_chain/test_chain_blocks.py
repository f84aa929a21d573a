"""Blocks: each rule broken once, alone; merged mining's checks one by one; most work wins and mempools refill."""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.chain import auxpow, difficulty, merkle
from common.chain.address import script_to_address
from common.chain.coin_network import AuxPowRule
from common.chain.invalid import Invalid
from common.chain.params import EMBEDDED
from common.chain.wire import AuxPow, Block, Header, OutPoint, Tx, TxIn, TxOut, decode_tx, shown
from common.units import FLOP
from dux_sim.chain import audit, consensus, miner, scripts
from dux_sim.chain.args import RpcError
from dux_sim.chain.errors import MiningGaveUp
from dux_sim.chain.node import Node
from dux_sim.chain.profile import ChainProfile, Premine
from dux_sim.chain.rpc import RpcTable
from dux_sim.chain.state import ChainState
from tests.embedded_chain.coin_bench import FEE, Coin, p2sh, pay, raw, spend, txid

ADDRESS = script_to_address(pay("funder"), EMBEDDED)
OP_TRUE = b"\x51"
PREMINED = 8
replace = msgspec.structs.replace


def new_node() -> Node:
    assert ADDRESS is not None
    return Node(ChainProfile(name="blocks", premine=(Premine(ADDRESS, str(50 * FLOP)),) * PREMINED, mine_to=ADDRESS))


def premined(node: Node, vout: int) -> Coin:
    return Coin(shown(node.chain.active[0].block.txs[1].txid), vout, pay("funder"), 50 * FLOP)


def candidate(node: Node, *txs: Tx, reward: int | None = None, merged: bool = False, **header: int) -> Block:
    """A block on the tip, not yet worked on; `header` overrides fields."""
    height = node.chain.tip.height + 1
    paid = consensus.subsidy_at(height) if reward is None else reward
    coinbase = miner.coinbase_tx(height, paid, OP_TRUE)
    block = miner.assemble(node.chain.tip, node.now_s(), (coinbase, *txs), merged=merged)
    return Block(replace(block.header, **header), None, block.txs)


def with_txs(block: Block, *txs: Tx) -> Block:
    root = merkle.root_of([tx.txid for tx in txs])[0]
    return Block(replace(block.header, merkle_root=root), None, txs)


def coinbase_with(block: Block, script_sig: bytes) -> Block:
    coinbase = block.txs[0]
    return with_txs(block, replace(coinbase, inputs=(replace(coinbase.inputs[0], script_sig=script_sig),)))


def refusal(node: Node, block: Block, *, work: bool = True) -> str:
    """The reason for which the block is refused, after which the chain stands as before."""
    before = (node.chain.tip, dict(node.chain.coins))
    with pytest.raises(Invalid) as caught:
        node.submit_block(miner.work(block) if work else block)
    assert (node.chain.tip, node.chain.coins) == before
    return caught.value.reason


def paying(node: Node, vout: int = 0, fee: int = FEE) -> Tx:
    coin = premined(node, vout)
    return decode_tx(bytes.fromhex(raw(spend(coin, [(coin.value - fee, pay("a"))]))))


def doubled(node: Node) -> Block:
    tx, other = paying(node, 0), paying(node, 1)
    return with_txs(candidate(node), candidate(node).txs[0], tx, other, other)


def mutated(node: Node) -> Block:
    """Three transactions whose last is repeated: the root stays, so the header and its work stay valid."""
    block = candidate(node, paying(node, 0), paying(node, 1))
    return Block(block.header, None, (*block.txs, block.txs[-1]))


def big(node: Node) -> Block:
    filler = replace(paying(node), outputs=(TxOut(0, bytes([scripts.OP_RETURN]) + bytes(9_990)),) * 101)
    return candidate(node, filler)


def sigop_heavy(node: Node) -> Block:
    return candidate(node, replace(paying(node), outputs=(TxOut(1, b"\xae" * 1001),)))


def mined(node: Node) -> Tx:
    """A payment that is in a block already, its outputs unspent."""
    tx = paying(node)
    node.submit_tx(tx)
    node.mine(OP_TRUE)
    return tx


def sigops_in_redeem_scripts(node: Node) -> Block:
    """19,700 signature checks announced in an output and 400 in a redeem script: together too many."""
    redeem = b"\x51\x00\x63" + b"\xae" * 20 + b"\x68"
    coin = premined(node, 0)
    signed = spend(coin, [(FLOP, p2sh(redeem)), (coin.value - FLOP - FEE, pay("a"))])
    funding = decode_tx(bytes.fromhex(raw(signed)))
    node.submit_block(miner.work(candidate(node, funding)))
    origin = TxIn(OutPoint(funding.txid, 0), bytes([len(redeem)]) + redeem, 0xFFFFFFFF)
    heavy = Tx(1, (origin,), (TxOut(1, b"\xae" * 985),), 0)
    return candidate(node, heavy)


def no_work(block: Block) -> Block:
    """The block with a nonce that does not meet the target."""
    headers = (replace(block.header, nonce=n) for n in range(1000))
    return Block(next(h for h in headers if not difficulty.meets(h.raw, h.bits, consensus.POW_LIMIT)), None, block.txs)


RULES: list[tuple[str, Callable[[Node], Block]]] = [
    ("bad-diffbits", lambda node: candidate(node, bits=0x207FFFFE)),
    ("time-too-old", lambda node: candidate(node, time_s=node.chain.tip.median_time_s)),
    ("time-too-new", lambda node: candidate(node, time_s=node.now_s() + 7201)),
    ("bad-version(0x00a30003)", lambda node: candidate(node, version=0xA30003)),
    ("bad-chain-id", lambda node: candidate(node, version=4)),
    ("bad-chain-id", lambda node: candidate(node, version=0x620004)),
    (
        "prev-blk-not-found",
        lambda node: Block(replace(candidate(node).header, prev=b"\x11" * 32), None, candidate(node).txs),
    ),
    ("bad-txnmrklroot", lambda node: Block(candidate(node).header, None, candidate(node, paying(node)).txs)),
    ("bad-txns-duplicate", mutated),
    ("bad-txns-BIP30", lambda node: candidate(node, mined(node))),
    ("bad-blk-sigops", sigops_in_redeem_scripts),
    ("bad-txns-inputs-missingorspent", lambda node: candidate(node, paying(node), replace(paying(node), lock_time=5))),
    ("bad-blk-length", lambda node: with_txs(candidate(node))),
    ("bad-blk-length", big),
    ("bad-blk-sigops", sigop_heavy),
    ("bad-cb-missing", lambda node: with_txs(candidate(node), paying(node))),
    (
        "bad-cb-multiple",
        lambda node: with_txs(candidate(node), candidate(node).txs[0], candidate(node, reward=1).txs[0]),
    ),
    ("bad-cb-length", lambda node: coinbase_with(candidate(node), b"\x51")),
    ("bad-cb-height", lambda node: coinbase_with(candidate(node), b"\x59\x01\x00")),
    ("bad-cb-amount", lambda node: candidate(node, reward=consensus.SUBSIDY_FLORINS + 1)),
    ("bad-cb-amount", lambda node: candidate(node, paying(node), reward=consensus.SUBSIDY_FLORINS + FEE + 1)),
    ("bad-txns-nonfinal", lambda node: candidate(node, unfinal(node))),
    ("bad-txns-vout-empty", lambda node: candidate(node, replace(paying(node), outputs=()))),
]


def unfinal(node: Node) -> Tx:
    coin = premined(node, 0)
    lock = node.chain.tip.height + 1
    return decode_tx(bytes.fromhex(raw(spend(coin, [(FLOP, pay("a"))], lock_time=lock, sequence=0))))


@pytest.mark.parametrize(("reason", "make"), RULES, ids=lambda item: item if isinstance(item, str) else "")
def test_each_broken_rule_has_its_name(reason: str, make: Callable[[Node], Block]) -> None:
    """A block that breaks one rule is refused for it and changes nothing."""
    node = new_node()
    node.mine(OP_TRUE, 3)
    assert refusal(node, make(node)) == reason


def test_block_without_work_is_refused() -> None:
    """A hash above the target is not enough, in the block's own header and in a parent's."""
    node = new_node()
    assert refusal(node, no_work(candidate(node)), work=False) == "high-hash"
    worked = miner.work(candidate(node, merged=True))
    proof = worked.auxpow
    assert proof is not None
    weak = no_work(Block(proof.parent, None, ())).header
    weak = replace(weak, bits=worked.header.bits)
    assert refusal(node, Block(worked.header, replace(proof, parent=weak), worked.txs), work=False) == "high-hash"


def test_same_block_twice_is_a_duplicate() -> None:
    """A known block is not taken in again."""
    node = new_node()
    node.mine(OP_TRUE)
    assert refusal(node, node.chain.tip.block, work=False) == "duplicate"


# merged mining


def proof_for(block_hash: bytes, *, depth: int = 0, nonce: int = 0, script: bytes | None = None) -> AuxPow:
    """A proof whose coinbase names the block at its slot of a chain merkle tree of this depth, without work."""
    slot = auxpow.slot_of(nonce, consensus.CHAIN_ID, depth)
    branch = tuple(bytes([step + 1]) * 32 for step in range(depth))
    root = merkle.root_by_branch(block_hash, branch, slot)[::-1]
    if script is None:
        script = b"\x01\x02" + auxpow.MAGIC + root + struct.pack("<II", 1 << depth, nonce)
    coinbase = Tx(1, (TxIn(OutPoint(bytes(32), 0xFFFFFFFF), script, 0xFFFFFFFF),), (TxOut(0, b""),), 0)
    others = (b"\x77" * 32, b"\x78" * 32)
    parent = Header(4, bytes(32), merkle.root_by_branch(coinbase.txid, others, 0), 1, 0x207FFFFF, 0)
    return AuxPow(coinbase, bytes(32), others, 0, branch, slot, parent)


NAME = bytes(range(32))
ROOT = NAME[::-1]
SIZE_NONCE = struct.pack("<II", 1, 0)
MAGIC = auxpow.MAGIC
RULE = AuxPowRule(from_height=0, chain_id=consensus.CHAIN_ID, is_strict=True)


@pytest.mark.parametrize("depth", [0, 1, 5, 30])
def test_proofs_at_every_depth_hold(depth: int) -> None:
    """A chain merkle tree of up to thirty levels, the coinbase three transactions deep in its block."""
    auxpow.check_auxpow(RULE, NAME, proof_for(NAME, depth=depth, nonce=7))


def test_proof_in_the_old_form_holds() -> None:
    """Without the magic the root may start within the first twenty bytes."""
    auxpow.check_auxpow(RULE, NAME, proof_for(NAME, script=bytes(20) + ROOT + SIZE_NONCE))


BROKEN: list[tuple[str, AuxPow]] = [
    ("not its coinbase", replace(proof_for(NAME), index=1)),
    ("our chain id", replace(proof_for(NAME), parent=replace(proof_for(NAME).parent, version=0xA30004))),
    ("too long", proof_for(NAME, depth=31)),
    ("no input", replace(proof_for(NAME), coinbase=replace(proof_for(NAME).coinbase, inputs=()))),
    ("not in the parent block", replace(proof_for(NAME), branch=(b"\x11" * 32,))),
    ("does not name this block", proof_for(NAME[::-1])),
    ("several merged", proof_for(NAME, script=MAGIC + b"\x00" + MAGIC + ROOT + SIZE_NONCE)),
    ("does not stand before", proof_for(NAME, script=MAGIC + b"\x00" + ROOT + SIZE_NONCE)),
    ("starts too late", proof_for(NAME, script=bytes(21) + ROOT + SIZE_NONCE)),
    ("are missing", proof_for(NAME, script=MAGIC + ROOT + SIZE_NONCE[:7])),
    ("size does not match", proof_for(NAME, script=MAGIC + ROOT + struct.pack("<II", 2, 0))),
    ("wrong slot", replace(proof_for(NAME, depth=4, nonce=7), chain_index=0)),
]


@pytest.mark.parametrize(("words", "proof"), BROKEN, ids=[words for words, _ in BROKEN])
def test_each_broken_proof_is_refused(words: str, proof: AuxPow) -> None:
    """One check broken at a time, refused for that check (the wrong slot needs its branch to fit, see next test)."""
    if words == "wrong slot":
        proof = at_slot(proof, (auxpow.slot_of(7, consensus.CHAIN_ID, 4) + 1) % 16)
    with pytest.raises(Invalid, match=words):
        auxpow.check_auxpow(RULE, NAME, proof)


def at_slot(proof: AuxPow, slot: int) -> AuxPow:
    """The same proof, consistent in everything but that it stands at this slot."""
    root = merkle.root_by_branch(NAME, proof.chain_branch, slot)[::-1]
    script = MAGIC + root + struct.pack("<II", 1 << len(proof.chain_branch), 7)
    made = proof_for(NAME, script=script)
    return replace(made, chain_branch=proof.chain_branch, chain_index=slot)


def test_flag_and_proof_agree() -> None:
    """A block flagged as merged mined needs its proof, and one that is not flagged may carry none."""
    node = new_node()
    merged, plain = miner.work(candidate(node, merged=True)), miner.work(candidate(node))
    assert refusal(node, Block(merged.header, None, merged.txs), work=False) == "bad-auxpow-flag"
    assert refusal(node, Block(plain.header, merged.auxpow, plain.txs), work=False) == "bad-auxpow-flag"


def test_both_kinds_of_blocks_are_accepted_and_differ_on_the_wire() -> None:
    """Plain and merged mined blocks follow each other; only the latter's headers are longer than 80 bytes."""
    node = new_node()
    rpc = RpcTable(node)
    plain, merged = node.mine(OP_TRUE, 1, merged=False) + node.mine(OP_TRUE, 1, merged=True)
    lengths = [len(str(rpc.call("getblockheader", [shown(name), False]))) // 2 for name in (plain, merged)]
    assert lengths[0] == 80
    assert lengths[1] > 200


# the most work


def branch_of_blocks(node: Node, count: int) -> list[Block]:
    """Blocks mined on the tip of a fresh node that has the same genesis and the blocks of `node` below its tip."""
    other = new_node()
    for entry in node.chain.active[1:-1]:
        other.submit_block(entry.block, 2**32 - 1)
    other.mine(pay("other"), count)
    return [entry.block for entry in other.chain.active[-count:]]


def test_more_work_wins_and_the_mempool_refills() -> None:
    """A payment that its block loses waits again, and is mined in the new branch."""
    node = new_node()
    node.mine(OP_TRUE, 2)
    payment = paying(node)
    node.submit_tx(payment)
    node.mine(OP_TRUE)
    first, second = branch_of_blocks(node, 2)
    lost = node.chain.tip
    node.submit_block(first, 2**32 - 1)
    assert node.chain.tip is lost, "equal work: the first seen stays"
    node.submit_block(second, 2**32 - 1)
    assert node.chain.tip.hash == second.hash
    assert payment.txid in node.pool.waiting
    node.mine(OP_TRUE)
    assert payment.txid in node.chain.tx_places
    assert audit.supply_of(node.chain).conserved


def test_harder_blocks_outweigh_more_blocks() -> None:
    """Work decides, not height: ten blocks in haste, each harder than the last, beat eleven easy ones."""
    node = new_node()
    node.clock.fixed_s = node.chain.tip.block.header.time_s + 1
    node.mine(OP_TRUE, 10)
    slow = new_node()
    slow.mine(OP_TRUE, 11)
    for entry in node.chain.active[1:]:
        slow.submit_block(entry.block, 2**32 - 1)
    assert slow.chain.tip.hash == node.chain.tip.hash
    assert slow.chain.tip.height == 10


def test_invalidate_and_reconsider_go_back_and_forth() -> None:
    """What was invalidated by hand leaves with all above it, its payments wait, and reconsidering restores it."""
    node = new_node()
    rpc = RpcTable(node)
    node.mine(OP_TRUE, 2)
    payment = paying(node)
    node.submit_tx(payment)
    node.mine(OP_TRUE, 3)
    tip, third = node.chain.tip, node.chain.active[3]
    rpc.call("invalidateblock", [shown(third.hash)])
    assert node.chain.tip.height == 2
    assert payment.txid in node.pool.waiting
    assert (
        refusal(node, miner.work(Block(replace(tip.block.header, prev=tip.hash), None, tip.block.txs))) == "bad-prevblk"
    )
    node.mine(OP_TRUE)
    assert payment.txid in node.chain.tx_places
    rpc.call("reconsiderblock", [shown(third.hash)])
    assert node.chain.tip is tip
    assert not node.pool.waiting
    with pytest.raises(RpcError, match="genesis"):
        rpc.call("invalidateblock", [shown(node.chain.active[0].hash)])


def test_a_branch_that_turns_out_broken_is_left_again() -> None:
    """Two blocks of which the second overspends never become the chain; the old tip stays, the first stays known."""
    node = new_node()
    node.mine(OP_TRUE, 3)
    node.submit_tx(paying(node))
    node.mine(OP_TRUE)
    tip = node.chain.tip
    fork = new_node()
    for entry in node.chain.active[1:4]:
        fork.submit_block(entry.block, 2**32 - 1)
    good = miner.work(candidate(fork))
    fork.submit_block(good, 2**32 - 1)
    bad = miner.work(candidate(fork, reward=consensus.SUBSIDY_FLORINS * 2))
    node.submit_block(good, 2**32 - 1)
    with pytest.raises(Invalid, match="bad-cb-amount"):
        node.submit_block(bad, 2**32 - 1)
    assert node.chain.tip is tip
    with pytest.raises(Invalid, match="duplicate-invalid"):
        node.submit_block(bad, 2**32 - 1)
    assert audit.supply_of(node.chain).conserved


def test_time_pressed_together_makes_mining_hard_and_it_gives_up_in_words() -> None:
    """With the clock stopped each block is harder by an eighth; the error tells to move the time."""
    node = new_node()
    node.clock.fixed_s = node.chain.tip.block.header.time_s + 1
    node.mine(OP_TRUE, 12)
    assert node.chain.tip.block.header.bits < consensus.POW_LIMIT_BITS
    with pytest.raises(MiningGaveUp):
        node.mine(OP_TRUE, 60, tries_max=3)
    with pytest.raises(RpcError, match="setmocktime"):
        RpcTable(node).call("generate", [60, 3])


# any history


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("mptxrf"), st.integers(0, 7)), max_size=25))
def test_any_history_conserves_coins_and_agrees_with_a_replay(moves: list[tuple[str, int]]) -> None:
    """Coins are conserved whatever happens in whatever order.

    The unspent outputs are those of a fresh chain fed the active blocks, and all that waits fits into one block.
    """
    node = new_node()
    for kind, number in moves:
        play(node, kind, number)
    fresh = ChainState(node.chain.active[0].block)
    for entry in node.chain.active[1:]:
        fresh.accept(entry.block, 2**32 - 1)
    assert fresh.coins == node.chain.coins
    assert fresh.tx_places.keys() == node.chain.tx_places.keys()
    assert audit.supply_of(node.chain).conserved
    node.mine(OP_TRUE)
    assert not node.pool.waiting


def play(node: Node, kind: str, number: int) -> None:
    """One move: mine, pay a premined coin, pay on what waits, exclude, reconsider, or a competing branch."""
    chain = node.chain
    if kind == "m":
        node.mine(OP_TRUE, number % 3 + 1)
    elif kind == "x" and chain.tip.height:
        node.exclude(chain.active[max(1, chain.tip.height - number % 3)])
    elif kind == "r":
        node.reconsider(max(chain.entries.values(), key=lambda entry: entry.order))
    elif kind == "f" and chain.tip.height:
        for block in branch_of_blocks(node, number % 2 + 1):
            try_to(lambda block=block: node.submit_block(block, 2**32 - 1))  # type: ignore[misc]
    elif kind in "pt":
        coin = premined(node, number)
        if kind == "t" and node.pool.waiting:
            tx = list(node.pool.waiting.values())[number % len(node.pool.waiting)].tx
            coin = Coin(shown(tx.txid), 0, pay("funder"), tx.outputs[0].value_florins)
        made = spend(coin, [(coin.value - FEE * (number + 1), pay("funder"))], sequence=number)
        try_to(lambda: node.submit_tx(decode_tx(bytes.fromhex(raw(made)))))
        assert txid(made) is not None


def try_to(action: Callable[[], None]) -> None:
    """A refusal is one of the outcomes."""
    try:
        action()
    except Invalid:
        return
