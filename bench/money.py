"""Money: the light wallet's arithmetic, pay per call, and how long the proof of the escrow takes.

Headers judged with their work, headers linked below a checkpoint, a day of headers: one core, in this process; the peer
is `hashlib.scrypt` alone on the same headers, measured in turns with ours.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import cache

from bench.measure import Run
from bench.money_channel import measure_channel
from bench.rows import Finding, Goal, Samples, one
from common.chain import difficulty, messages
from common.chain.coin_network import Checkpoint, CoinNetwork, coin_network
from common.chain.messages import RawHeader
from common.chain.wire import encode_header, sha256d
from dux_flopd.spv_chain import HeaderChain, genesis_base
from dux_sim.chain.node import Node
from dux_sim.chain.profile import ChainProfile
from dux_sim.proof.report import prove as prove_escrow

HEADERS, HEADERS_QUICK = 2_000, 400
ROUNDS = 5
DAY_HEADERS = 1_440
LATER_S = 1 << 40
VERIFIED_GOAL, LINKED_GOAL, DAY_GOAL_S, PROOF_GOAL_S = 0.85, 150_000, 2.0, 120.0
BARE = "hashlib.scrypt alone on the same headers"
NOBODY = "nothing that links headers to stand beside"
NOBODY_PROVES = "nobody proves it otherwise"


async def measure(run: Run) -> list[Finding]:
    """Headers per second, judged and linked; paid calls; the proof, which a quick run leaves to whoever asks for it."""
    found: list[Finding] = []
    if run.wants("headers"):
        count = HEADERS_QUICK if run.quick else HEADERS
        found += [
            _verified(run, count, auxpow_every=0),
            _verified(run, count, auxpow_every=1),
            _linked(run, HEADERS, auxpow_every=0),
            _linked(run, HEADERS, auxpow_every=1),
            _day(run),
        ]
    if run.wants("channel"):
        found += await measure_channel(run)
    if "proof" in run.only or not (run.quick or run.only):
        found.append(await _proof(run))
    return found


async def _proof(run: Run) -> Finding:
    """The short form, as every change has to pass it; the long one says itself how long it took."""
    run.tell("the short form of `duxnet prove escrow`")
    proof = await asyncio.to_thread(prove_escrow, quick=True, jobs=os.cpu_count() or 1, progress=run.tell)
    found = "holds" if proof.holds else "does NOT hold"
    return Finding(
        name="escrow proof, short form", unit="s", ours=one(proof.seconds), goal=Goal("value", "<=", PROOF_GOAL_S),
        peer=NOBODY_PROVES, note=f"{found}: {proof.cases} cases, {proof.states} states",
    )  # fmt: skip


@cache
def _payload(count: int, auxpow_every: int) -> tuple[bytes, bytes]:
    """The genesis and a `headers` message of a chain made for this."""
    node = Node(ChainProfile(name="bench", auxpow_every=auxpow_every))
    node.mine(b"\x51", count)
    blocks = [entry.block for entry in node.chain.active[1:]]
    whole = [encode_header(block.header, block.auxpow) for block in blocks]
    return node.chain.active[0].block.header.raw, messages.encode_headers(whole)


def _kind(auxpow_every: int) -> str:
    return "merge-mined headers" if auxpow_every else "headers"


def _verified(run: Run, count: int, *, auxpow_every: int) -> Finding:
    run.tell(f"{count} {_kind(auxpow_every)} judged by all rules, in turns with bare scrypt")
    genesis, payload = _payload(count, auxpow_every)
    worked = [item.proof[-80:] if item.proof else item.raw for item in messages.decode_headers(payload)]
    ours, bare = [], []
    for _ in range(run.rounds(ROUNDS)):
        bare.append(count / _spent_s(lambda: [difficulty.work_hash(raw) for raw in worked]))
        ours.append(count / _spent_s(lambda: _judge(coin_network("embedded"), genesis, payload)))
    return Finding(
        name=f"{_kind(auxpow_every)} verified with scrypt",
        unit="headers/s",
        ours=Samples(tuple(ours)),
        goal=Goal("ratio", ">=", VERIFIED_GOAL),
        peer=BARE,
        theirs=Samples(tuple(bare)),
        note="one core",
    )


def _linked(run: Run, count: int, *, auxpow_every: int) -> Finding:
    run.tell(f"{count} {_kind(auxpow_every)} linked below a checkpoint")
    genesis, payload = _payload(count, auxpow_every)
    network = _marked(payload, count)
    rates = [count / _spent_s(lambda: _judge(network, genesis, payload)) for _ in range(run.rounds(ROUNDS))]
    return Finding(
        name=f"{_kind(auxpow_every)} linked below a checkpoint",
        unit="headers/s",
        ours=Samples(tuple(rates)),
        goal=None if auxpow_every else Goal("value", ">=", LINKED_GOAL),
        peer=NOBODY,
        note="one core, from the message's bytes",
    )


def _day(run: Run) -> Finding:
    run.tell("a day of merge-mined headers, as a laptop has to judge them in the morning")
    genesis, payload = _payload(DAY_HEADERS, 1)
    spent = [_spent_s(lambda: _judge(coin_network("embedded"), genesis, payload)) for _ in range(run.rounds(ROUNDS))]
    return Finding(
        name="a day of headers",
        unit="s",
        ours=Samples(tuple(spent)),
        goal=Goal("value", "<=", DAY_GOAL_S),
        peer=NOBODY,
        note="CPU",
    )


def _marked(payload: bytes, count: int) -> CoinNetwork:
    """The network with the last of these headers as its checkpoint."""
    last = messages.decode_headers(payload)[-1]
    found = coin_network("embedded")
    mark = Checkpoint(height=count, hash=_name(last))
    return CoinNetwork(**{name: getattr(found, name) for name in found.__struct_fields__} | {"checkpoints": (mark,)})


def _name(header: RawHeader) -> str:
    return sha256d(header.raw)[::-1].hex()


def _judge(network: CoinNetwork, genesis: bytes, payload: bytes) -> None:
    chain = HeaderChain(network, genesis_base(genesis))
    chain.add(messages.decode_headers(payload), LATER_S)


def _spent_s(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
