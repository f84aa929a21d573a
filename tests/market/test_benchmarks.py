"""Declared hardware: work that is checked far cheaper than it is done, who may ask for it, and what it verifies."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.clock import ManualClock
from common.codec import canonical, from_canonical
from common.contracts import registry
from common.contracts.base import PEER_HANDLE, PeerCallIn
from common.contracts.peer_benchmark import (
    BENCHMARK_BEGIN,
    BENCHMARK_PULL,
    BeginAsk,
    FillAsk,
    HashAsk,
    PullAsk,
    WalkAsk,
)
from common.contracts.peer_registry import TOPIC_STANDING
from common.contracts.registry import ListNodes
from common.contracts.registry_audit import AUDIT_LIST, AuditsAsked
from common.contracts.registry_machine import Busy, MachineAsked, MachineView
from common.contracts.wallet_chain import CHAIN_BEACON, HeightAsked
from common.errors import NotFound
from common.identity.ecvrf import PROOF_BYTES, prove
from common.identity.purposes import Purpose
from common.network import BenchmarkParameters, first_problem
from common.rpc.client import LocalClient
from common.rpc.method import PeerMethod
from common.standing import BenchmarkResult, Kind, Note, right_input
from common.units import BlockHeight, UnixMs
from dux_registryd import bench_prover
from dux_registryd.bench_prover import BenchProver
from dux_registryd.bench_work import (
    MIB,
    block,
    blocks_of,
    chain,
    chain_is_right,
    fill,
    stream,
    walk,
    walk_is_right,
)
from dux_registryd.benchmark_rules import NO_FIGURES, cores_seen, figures_of, sizes_of, verified_parts
from dux_registryd.daemon import RegistryDaemon
from dux_registryd.machine import Machine
from dux_registryd.presence_rules import SETTLED_BLOCKS
from tests.attacks.registry import attack
from tests.market.fakes import FakeNet, attest, did_number, look_seed, network, running, until
from tests.market.makers import NETWORK, NOW_MS, changed, node
from tests.market.test_registryd import QUICK, gossip, register

SEED, NONCE = b"\x05" * 32, b"\x06" * 32
RULES = BenchmarkParameters(
    period_blocks=100,
    iterations=4_096,
    memory_max_mb=2,
    disk_max_mb=1,
    hold_s=0.0,
    steps=2_048,
    transfer_kib=512,
    load_max_milli=1_000_000,
)
SOON: dict[str, Any] = QUICK | {"benchmark_s": 0.05, "probe_s": 60.0}


def test_a_chain_is_checked_in_stretches() -> None:
    """Every stretch of a right chain is right; one wrong mark shows in its own stretch and the next, nowhere else."""
    marks = chain(SEED, 3, 640, 64)
    assert chain_is_right(SEED, 3, 640, marks, range(64))
    assert not chain_is_right(SEED, 4, 640, marks, [0])
    assert not chain_is_right(b"\x00" * 32, 3, 640, marks, [5])
    false = [*marks]
    false[7] = b"\x00" * 32
    assert [chain_is_right(SEED, 3, 640, false, [at]) for at in (6, 7, 8, 9)] == [True, False, False, True]


def test_a_walk_needs_what_is_held() -> None:
    """Of what was filled it is right; of another fill, a lost block or another nonce it is not."""
    held = bytearray(MIB)
    fill(memoryview(held), SEED)
    assert held[: 1 << 16] == block(SEED, 0)
    assert blocks_of(1) == 16
    marks = walk(memoryview(held), NONCE, 2_048, 64)
    assert walk_is_right(SEED, 1, NONCE, 2_048, marks, range(64))
    assert not walk_is_right(SEED, 1, b"\x00" * 32, 2_048, marks, [0])
    held[: 1 << 16] = bytes(1 << 16)  # one block in sixteen given up: nearly every stretch of 32 steps meets it
    lazy = walk(memoryview(held), NONCE, 2_048, 64)
    assert not all(walk_is_right(SEED, 1, NONCE, 2_048, lazy, [at]) for at in range(4))
    assert len(stream(SEED, 100)) == 100


def result(prober: int = 2, **changes: Any) -> BenchmarkResult:
    plain = BenchmarkResult(
        network=NETWORK,
        period=1,
        beacon=b"\x01" * 32,
        target=did_number(1),
        prober=did_number(prober),
        cpu_single=1_000,
        cpu_all=8_000,
        memory_mb=256,
        disk_mb=256,
        up_kbps=9_000,
        down_kbps=9_000,
        rtt_ms=3,
        failed="",
        at_ms=UnixMs(NOW_MS),
        proof=bytes(PROOF_BYTES),
    )
    made: BenchmarkResult = changed(plain, **changes)
    return made


@attack("registry", tries="one lying challenger of three", meets="moves nothing: the median counts")
def test_figures_are_medians_of_each_challengers_newest() -> None:
    """One liar of three moves nothing; an older word of the same challenger does not count; failures are told."""
    assert figures_of([]) == NO_FIGURES
    old = result(2, memory_mb=1, at_ms=NOW_MS - 1)
    found = figures_of([result(2), old, result(3), result(4, memory_mb=0, cpu_all=1, failed="memory,cpu")])
    assert (found.results, found.memory_mb, found.cpu_all) == (3, 256, 8_000)
    assert found.failed == ("cpu", "memory")
    assert figures_of([result(2), result(3, memory_mb=0)]).memory_mb == 0


def test_what_of_a_declaration_is_borne_out() -> None:
    """Cores by their work side by side, memory and disk by the share asked for, nothing without enough results."""
    info = node(cpu_cores=8, memory_mb=16_384, storage_gb=500)
    rules = BenchmarkParameters()
    sizes = sizes_of(info, rules)
    assert (sizes.lanes, sizes.memory_mb, sizes.disk_mb) == (8, 256, 256)
    small = sizes_of(node(cpu_cores=0, memory_mb=512, storage_gb=0), rules)
    assert (small.lanes, small.memory_mb, small.disk_mb) == (1, 128, 1)
    assert verified_parts(info, figures_of([result()]), rules) == ("cpu", "memory", "storage", "bandwidth")
    assert cores_seen(figures_of([result()])) == 8
    threads = figures_of([result(cpu_all=4_900)])
    assert "cpu" in verified_parts(info, threads, rules)
    assert "cpu" not in verified_parts(info, figures_of([result(cpu_all=4_700)]), rules)
    assert "memory" not in verified_parts(info, figures_of([result(memory_mb=255)]), rules)
    assert verified_parts(info, figures_of([result(up_kbps=0, disk_mb=0)]), rules) == ("cpu", "memory")
    assert verified_parts(info, NO_FIGURES, rules) == ()
    assert verified_parts(info, figures_of([result()]), changed(rules, needed=2)) == ()


def test_a_network_cannot_ask_too_much() -> None:
    """Bounds of the profile are checked when it is read."""
    assert first_problem(network()) == ""
    for changes in ({"memory_max_mb": 100_000}, {"needed": 3}, {"iterations": 1 << 30}, {"memory_share_bps": 9_000}):
        assert "benchmark." in first_problem(network(benchmark=changed(BenchmarkParameters(), **changes)))


# whole daemons


@contextlib.asynccontextmanager
async def crowd(net: FakeNet, folder: Path, count: int, **settings: Any) -> AsyncIterator[dict[int, LocalClient]]:
    """Registered nodes that know each other."""
    async with contextlib.AsyncExitStack() as stack:
        made = {}
        for number in range(1, count + 1):
            kind = running(
                net.node(number), RegistryDaemon, folder, profile=network(benchmark=RULES), **SOON | settings
            )
            made[number] = await stack.enter_async_context(kind)
        for number, client in made.items():
            await client.call(
                registry.NODE_REGISTER, register(ip_address=f"127.1.{number}.1", cpu_cores=2, memory_mb=8)
            )
        for client in made.values():
            await until(lambda client=client: _knows(client, count))
        net.chain.height += RULES.period_blocks  # a period in which all draw from the same list
        yield made


async def _knows(client: LocalClient, count: int) -> bool:
    return (await client.call(registry.NODE_LIST, ListNodes(status=registry.NodeStatus.ACTIVE))).total == count


async def machine(client: LocalClient, number: int) -> MachineView:
    return await client.call(registry.MACHINE_SHOW, MachineAsked(node_id=did_number(number)))


async def _verified(client: LocalClient, number: int) -> bool:
    try:
        return "memory" in (await machine(client, number)).verified
    except NotFound:
        return False


async def test_nodes_measure_each_other_and_lists_tell_verified_from_declared(tmp_path: Path) -> None:
    """Each node's figures are signed by others and known to a third; filters ask for them; they age."""
    net = FakeNet()
    async with crowd(net, tmp_path, 3) as made:
        for number in (1, 2, 3):
            for client in made.values():
                await until(lambda client=client, number=number: _verified(client, number), within_s=15)
        view = await machine(made[3], 1)
        assert (view.memory_mb, view.memory_asked_mb, view.failed) == (2, 2, ())
        assert view.results
        assert {one.prober for one in view.results} <= {did_number(2), did_number(3)}
        wanted = ListNodes(verified=("memory", "bandwidth"))
        listed = (await made[1].call(registry.NODE_LIST, wanted)).nodes
        assert {one.node_id for one in listed} == {did_number(number) for number in (1, 2, 3)}
        assert (await made[1].call(registry.NODE_LIST, ListNodes(verified=("tpm",)))).total == 0
        net.clock.advance(31 * 86_400)
        assert (await machine(made[3], 1)).verified == ()


@attack(
    "registry",
    tries="answers a benchmark with a made-up chain",
    meets="signed as wrong by its challengers, and audited",
)
async def test_a_made_up_answer_is_signed_as_wrong_and_audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains that were never done are told as wrong by every list, verify nothing and start an audit."""
    net = FakeNet()
    monkeypatch.setattr(bench_prover, "chain", lambda *_: [b"\x00" * 32] * 64)
    async with crowd(net, tmp_path, 2) as made:
        await until(lambda: _failed(made[1], 2), within_s=15)
        view = await machine(made[1], 2)
        assert (view.failed, view.slow) == (("cpu",), ())
        assert "cpu" not in view.verified
        await until(lambda: _is_audited(made[1]))


async def _is_audited(client: LocalClient) -> bool:
    audits = (await client.call(AUDIT_LIST, AuditsAsked(node_id=did_number(2)))).audits
    return "it answered a measurement wrongly: cpu" in {one.reason for one in audits}


async def _failed(client: LocalClient, number: int) -> bool:
    try:
        return bool((await machine(client, number)).failed)
    except NotFound:
        return False


async def test_who_works_for_money_or_was_not_asked_by_a_drawn_one_is_not_measured(tmp_path: Path) -> None:
    """A busy node refuses and is asked again later; a result of who was not drawn, or of another draw, is ignored."""
    net = FakeNet()
    async with crowd(net, tmp_path, 2, benchmark_s=0.2) as made:
        for client in made.values():
            taskd = LocalClient(client._table, "taskd")
            await taskd.call(registry.MACHINE_BUSY, Busy(seconds=60.0))
        await until(
            lambda: all(node.daemons["registryd"].benchmarker.refused for node in net.nodes.values()), within_s=10
        )
        assert not await _verified(made[1], 2)
        period, at_ms = net.chain.height // RULES.period_blocks, net.clock.unix_ms()
        beacon = await right_beacon(net, period)
        right = result(2, period=period, beacon=beacon, at_ms=at_ms, proof=proof_of(2, period, beacon))
        false = (
            result(5), result(2), changed(right, period=40), result(1), changed(right, proof=bytes(PROOF_BYTES)),
            changed(right, proof=proof_of(1, period, beacon)), changed(right, proof=proof_of(2, period + 1, beacon)),
            changed(right, beacon=bytes(32), proof=proof_of(2, period, bytes(32))),
            changed(right, prober=did_number(5), proof=proof_of(5, period, beacon)),
        )  # fmt: skip
        for told in false:
            assert await said_of(net, told) == "ignore"
        assert await said_of(net, right) == "accept"  # nothing else was wrong
        for client in made.values():
            await LocalClient(client._table, "taskd").call(registry.MACHINE_BUSY, Busy(seconds=0.0))
        net.chain.height += RULES.period_blocks
        await until(lambda: _verified(made[1], 2), within_s=15)


async def said_of(net: FakeNet, told: BenchmarkResult) -> str:
    """What node 1 says to a result by gossip."""
    note = Note(Kind.BENCHMARK, canonical(attest(_number(told), Purpose.BENCHMARK, told)))
    return await gossip(net.node(1), TOPIC_STANDING.name, canonical(note))


async def right_beacon(net: FakeNet, period: int) -> bytes:
    height = BlockHeight(period * RULES.period_blocks - SETTLED_BLOCKS)
    return (await LocalClient(net.node(1).flopd, "registryd").call(CHAIN_BEACON, HeightAsked(height=height))).beacon


def proof_of(number: int, period: int, beacon: bytes) -> bytes:
    """Of a node's right to measure node 1."""
    return prove(look_seed(number), right_input(NETWORK, beacon, period, did_number(1), did_number(number)))


@attack(
    "registry",
    tries="asks for work before it has shown its right to, or by another's proof",
    meets="refused; with its own proof it is served, until the period after",
)
async def test_work_is_done_for_who_has_begun_by_its_own_proof(tmp_path: Path) -> None:
    """Refused before, by another's proof, and two periods later; done once it has begun, this period and the next."""
    net = FakeNet()
    async with crowd(net, tmp_path, 2, benchmark_s=3_600.0):
        period = net.chain.height // RULES.period_blocks
        beacon = await right_beacon(net, period)
        pull = PullAsk(period=period, seed=SEED, size=16)
        assert "not drawn" in (await asked(net, BENCHMARK_PULL, pull)).refused
        for proof in (bytes(PROOF_BYTES), proof_of(1, period, beacon)):
            assert "not drawn" in (await asked(net, BENCHMARK_BEGIN, BeginAsk(period=period, proof=proof))).refused
        assert "not drawn" in (await asked(net, BENCHMARK_PULL, pull)).refused
        begin = BeginAsk(period=period, proof=proof_of(2, period, beacon))
        assert (await asked(net, BENCHMARK_BEGIN, begin)).refused == ""
        assert (await asked(net, BENCHMARK_PULL, pull)).data == stream(SEED, 16)
        net.chain.height += RULES.period_blocks
        assert (await asked(net, BENCHMARK_PULL, pull)).data == stream(SEED, 16)
        net.chain.height += RULES.period_blocks
        await until(lambda: _is_over(net, pull))


async def _is_over(net: FakeNet, pull: PullAsk) -> bool:
    return "not drawn" in (await asked(net, BENCHMARK_PULL, pull)).refused


async def asked(net: FakeNet, method: PeerMethod[Any, Any], ask: Any) -> Any:
    """Node 1's answer to node 2."""
    call = PeerCallIn(method=method.name, params=canonical(ask), sender=did_number(2))
    answer = await net.node(1).client("registryd", "p2pd").call(PEER_HANDLE, call)
    return from_canonical(answer.result, method.result, max_bytes=1_000)


def _number(made: BenchmarkResult) -> int:
    return next(number for number in range(1, 9) if did_number(number) == made.prober)


@attack(
    "registry",
    tries="challenges without end, by strangers, beyond what may be asked",
    meets="refused by the measured node",
)
async def test_limits_of_the_measured_side(tmp_path: Path) -> None:
    """More than the network allows, a second time, a stranger, a walk without a fill, a full disk: all refused."""

    async def drawn(_period: int, who: str) -> bool:
        return who == did_number(2)

    async def info() -> Any:
        return node(cpu_cores=2, memory_mb=8, storage_gb=1)

    prover = BenchProver(drawn, info, rules=RULES, machine=Machine(tmp_path), clock=ManualClock(), folder=None)
    friend, stranger = did_number(2), did_number(3)
    right = HashAsk(period=1, seed=SEED, lanes=2, iterations=4_096, marks=64)
    for ask in (changed(right, lanes=3), changed(right, iterations=8_192)):
        assert "more than" in (await prover.hash(ask, friend)).refused
    assert "not drawn" in (await prover.hash(right, stranger)).refused
    for _ in range(3):
        assert (await prover.hash(right, friend)).refused == ""
    assert "had yours" in (await prover.hash(right, friend)).refused
    assert "more than" in (await prover.fill(FillAsk(1, SEED, False, 3), friend)).refused
    assert "no disk" in (await prover.fill(FillAsk(1, SEED, True, 1), friend)).refused
    steps = WalkAsk(1, NONCE, 2_048, 64)
    assert "nothing is held" in (await prover.walk(steps, friend)).refused
    assert (await prover.fill(FillAsk(1, SEED, False, 1), friend)).refused == ""
    assert "under way" in (await prover.fill(FillAsk(1, SEED, False, 1), friend)).refused
    assert "nothing is held" in (await prover.walk(steps, stranger)).refused
    assert "more than" in (await prover.walk(changed(steps, steps=4_096), friend)).refused
    assert (await prover.walk(steps, friend)).refused == ""
    assert "nothing is held" in (await prover.walk(steps, friend)).refused
