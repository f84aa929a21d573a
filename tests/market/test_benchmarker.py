"""How long a measured machine may take, and what lateness means: by a clock that the measured machine moves itself."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from common.clock import ManualClock
from common.contracts.peer_benchmark import (
    BUSY,
    LOADED,
    BeginAnswer,
    FillAnswer,
    HashAnswer,
    PullAnswer,
    PushAnswer,
    WalkAnswer,
)
from common.identity.ecvrf import PROOF_BYTES
from common.network import BenchmarkParameters
from common.randomness import SeededRandomness
from common.receipts import NodeInfo
from common.standing import BenchmarkResult
from common.units import Did
from dux_registryd import benchmarker
from dux_registryd.bench_prover import BenchProver
from dux_registryd.bench_work import MIB, chain, chain_is_right, fill, stream, walk, walk_is_right
from dux_registryd.benchmark_rules import (
    GRACE_S,
    LANE_SHARE,
    RTT_S_MAX,
    WIRE_SHARE,
    figures_of,
    lanes_limit_s,
    slow_parts,
    verified_parts,
    walk_limit_s,
    worked_s,
    wrong_parts,
)
from dux_registryd.benchmarker import TRIES, Benchmarker, NotMeasured
from dux_registryd.intake import Taken
from tests.attacks.registry import attack
from tests.market.fakes import LOG, did_number, network
from tests.market.makers import node

HASH_S, BLOCK_S, READ_S, ROUND_S = 0.1e-3, 10e-3, 0.1e-3, 0.05  # of the challenger's core; and the line
PROOF = b"\x07" * PROOF_BYTES
RULES = BenchmarkParameters(
    iterations=4_096, memory_max_mb=1, disk_max_mb=1, hold_s=0.0, steps=2_048, transfer_kib=512, needed=1
)


@dataclass
class Measured:
    """A machine at the end of a line: every answer moves the clock by what it would take."""

    clock: ManualClock
    cores: int = 1
    slower: float = 1.0  # than the challenger's core
    holds: bool = True
    stalls_s: float = 0.0  # before the answer to one lane
    pings_s: float = 0.0  # before every answer to a ping
    filled: bytearray = field(default_factory=lambda: bytearray(MIB))

    async def call(self, _did: str, method: Any, ask: Any, *, deadline_s: float) -> Any:
        """Do the work that is asked for."""
        took_s, answer = getattr(self, f"_{method.name.partition('.')[2]}")(ask)
        self.clock.advance(took_s + ROUND_S)
        assert took_s + ROUND_S < deadline_s
        return answer

    def _begin(self, ask: Any) -> tuple[float, Any]:
        assert ask.proof == PROOF
        return 0.0, BeginAnswer(refused="")

    def _pull(self, ask: Any) -> tuple[float, Any]:
        return (0.01 if ask.size else self.pings_s), PullAnswer(data=stream(ask.seed, ask.size), refused="")

    def _push(self, ask: Any) -> tuple[float, Any]:
        return 0.01, PushAnswer(digest=hashlib.sha256(ask.data).digest(), refused="")

    def _hash(self, ask: Any) -> tuple[float, Any]:
        lanes = tuple(tuple(chain(ask.seed, lane, ask.iterations, ask.marks)) for lane in range(ask.lanes))
        took_s = ask.iterations * HASH_S * self.slower * -(-ask.lanes // self.cores)
        return took_s + (self.stalls_s if ask.lanes == 1 else 0.0), HashAnswer(lanes=lanes, refused="")

    def _fill(self, ask: Any) -> tuple[float, Any]:
        fill(memoryview(self.filled), ask.seed)
        return 1.0, FillAnswer(refused="")

    def _walk(self, ask: Any) -> tuple[float, Any]:
        marks = walk(memoryview(self.filled), ask.nonce, ask.steps, ask.marks)
        each_s = READ_S if self.holds else BLOCK_S / 2  # half of a block on average, up to the place that is read
        return ask.steps * each_s * self.slower, WalkAnswer(marks=tuple(marks), refused="")


async def measured(monkeypatch: pytest.MonkeyPatch, declared: int, **machine: Any) -> tuple[BenchmarkResult, list[Any]]:
    """The result that a challenger signs of such a machine, and the failures that it told of."""
    clock = ManualClock()
    said, told = list[Any](), list[Any]()

    def checked(seed: bytes, lane: int, iterations: int, given: Any, looked_at: Any) -> bool:
        clock.advance(iterations // len(given) * len(looked_at) * HASH_S)
        return chain_is_right(seed, lane, iterations, given, looked_at)

    def walked(*asked: Any) -> bool:
        clock.advance(asked[3] // len(asked[4]) * len(asked[5]) * BLOCK_S)
        return walk_is_right(*asked)

    async def own() -> str:
        return did_number(2)

    async def beacon(_period: int) -> bytes:
        return b"\x01" * 32

    async def say(_kind: Any, result: Any) -> Taken:
        said.append(result)
        return Taken("accept")

    async def tell(result: Any) -> None:
        told.append(result)

    monkeypatch.setattr(benchmarker, "chain_is_right", checked)
    monkeypatch.setattr(benchmarker, "walk_is_right", walked)
    outside: Any = SimpleNamespace(peers=Measured(clock, **machine), own_did=own)
    nothing: Any = None
    rights: Any = SimpleNamespace(beacon=beacon)
    statements: Any = SimpleNamespace(say=say)
    made = Benchmarker(
        nothing,
        outside,
        rights,
        statements,
        network=network(benchmark=RULES),
        clock=clock,
        random=SeededRandomness(1),
        log=LOG,
        settings=nothing,
    )
    made.on_failure.append(tell)
    await made.measure(node(cpu_cores=declared, memory_mb=8, storage_gb=1), 1, PROOF)
    assert said[0].proof == PROOF
    return said[0], told


@attack(
    "registry",
    tries="answers the measurement of one core, or pings, slowly, so that one core looks like many",
    meets="too slow by the challenger's own speed: no cores are verified",
)
@pytest.mark.parametrize(
    ("declared", "machine", "failed", "is_verified"),
    [
        (4, {"cores": 4}, "", True),
        (32, {"cores": 1}, "cpu-slow", False),  # whatever it answers to one lane
        (32, {"cores": 1, "stalls_s": 20.0}, "cpu-slow", False),
        (16, {"cores": 1, "pings_s": 9.0, "stalls_s": 4.0}, "cpu-slow", False),  # slow pings buy no time
        (4, {"cores": 1}, "", False),  # in time, and the figures tell
        (4, {"cores": 4, "slower": 5.0}, "", True),  # a small board's honest cores
        (8, {"cores": 4, "slower": 3.0}, "", False),  # two threads to a core count as one here: not borne out, no fault
        (4, {"cores": 4, "slower": 6.5}, "", True),  # and under some load
    ],
)
async def test_cores_are_verified_by_the_challengers_own_speed(
    monkeypatch: pytest.MonkeyPatch, *, declared: int, machine: dict[str, Any], failed: str, is_verified: bool
) -> None:
    """A slow answer to one lane, or to pings, buys no cores; honest slow ones pass; lateness accuses nobody."""
    result, told = await measured(monkeypatch, declared, **machine)
    assert result.failed == failed
    assert ("cpu" in verified_parts(node(cpu_cores=declared), figures_of([result]), RULES)) is is_verified
    assert told == []


@attack(
    "registry",
    tries="declares memory that it does not hold and makes each block when asked",
    meets="too slow: making costs far more than reading, so it stays unverified",
)
async def test_a_late_walk_leaves_memory_unverified_and_accuses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds nothing makes every block anew and is late; so is a board under load: no figure, no audit."""
    for machine in ({"holds": False}, {"slower": 10.0, "cores": 4}):
        result, told = await measured(monkeypatch, 1, **machine)
        assert {"memory-slow", "storage-slow"} <= set(result.failed.split(","))
        assert (result.memory_mb, result.disk_mb, told) == (0, 0, [])


async def test_a_wrong_answer_accuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain that was not done is wrong, whenever it came: it is told to whoever listens, audits first."""
    monkeypatch.setattr(f"{__name__}.chain", lambda *_: [b"\x00" * 32] * 64)
    result, told = await measured(monkeypatch, 4, cores=4)
    assert (result.failed, result.cpu_all, told) == ("cpu", 0, [result])


async def test_a_few_cores_as_fast_as_the_challengers_pass_for_more_slow_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of this measurement, so that nobody takes it for more: it grows with the challenger's slowness."""
    result, _ = await measured(monkeypatch, 8, cores=1, stalls_s=2.9)
    assert result.failed == ""
    assert "cpu" in verified_parts(node(cpu_cores=8), figures_of([result]), RULES)


def test_limits_grow_with_the_work_and_the_challengers_speed_and_only_so_far_with_the_line() -> None:
    """A grace, two round trips of half a second at most, and the work's own part."""
    assert lanes_limit_s(0, HASH_S, 0.05) == pytest.approx(GRACE_S + 0.1)
    assert lanes_limit_s(4_096, HASH_S, 0.0) == pytest.approx(GRACE_S + LANE_SHARE * 4_096 * HASH_S)
    assert lanes_limit_s(0, HASH_S, 60.0) == walk_limit_s(0, BLOCK_S, 60.0) == pytest.approx(GRACE_S + 2 * RTT_S_MAX)
    steps, block_s = 65_536, 160e-6  # as on main, of a plain core
    assert steps * 2e-6 < walk_limit_s(steps, block_s, 0.0)
    assert steps * block_s / 2 > 2 * walk_limit_s(steps, block_s, 60.0)


def test_the_line_takes_its_part_of_a_time_and_never_all_of_it() -> None:
    """So that nobody who answers pings slowly is seen to work at once."""
    assert worked_s(1.0, 0.1) == pytest.approx(0.9)
    assert worked_s(1.0, 60.0) == pytest.approx(1.0 - RTT_S_MAX)
    assert worked_s(0.1, 60.0) == pytest.approx(0.1 * (1 - WIRE_SHARE))
    assert worked_s(0.0, 0.0) == 1e-3


def test_what_failed_is_told_apart() -> None:
    """Wrong and late are two things."""
    failed = ("cpu", "memory-slow", "up")
    assert (wrong_parts(failed), slow_parts(failed)) == (("cpu", "up"), ("memory",))
    assert wrong_parts([""]) == ()


async def test_a_loaded_node_says_that_it_is_loaded() -> None:
    """Load and paid work are two reasons: who looks for a job that is not there looks in vain."""
    load = SimpleNamespace(load_milli=(9_000, 0, 0))
    machine: Any = SimpleNamespace(load=lambda _: load, hardware=lambda: SimpleNamespace(cpu_cores=1))
    clock = ManualClock()

    async def yes(*_: object) -> Any:
        return True

    prover = BenchProver(yes, yes, rules=RULES, machine=machine, clock=clock, folder=None)
    assert await prover._refusal(1, did_number(2), "hash") == LOADED
    prover.busy(10.0)
    assert await prover._refusal(1, did_number(2), "hash") == BUSY
    clock.advance(11.0)
    load.load_milli = (0, 0, 0)
    assert await prover._refusal(1, did_number(2), "hash") == ""


async def test_one_that_is_busy_holds_up_no_other() -> None:
    """Of two that a node may measure the first in its list works for money all day: the second is measured."""
    busy, free, asked = node(did=did_number(3)), node(did=did_number(4)), list[str]()

    async def own() -> str:
        return did_number(2)

    async def tip() -> Any:
        return SimpleNamespace(height=100)

    async def due(_period: int, targets: list[Did]) -> dict[Did, bytes]:
        return dict.fromkeys(targets, PROOF)

    async def measure(info: NodeInfo, *_: object) -> None:
        asked.append(info.did)
        if info is busy:
            raise NotMeasured(did=info.did, reason=BUSY)

    held = SimpleNamespace(info=SimpleNamespace(withdrawn=False))
    known = [SimpleNamespace(info=info) for info in (busy, free)]
    book: Any = SimpleNamespace(node=lambda _did: held, nodes=lambda: known, statement_at=lambda *_: None)
    rights: Any = SimpleNamespace(period_of=lambda _height: 1, own=due)
    outside: Any = SimpleNamespace(own_did=own, tip=tip)
    nothing: Any = None
    looking = Benchmarker(
        book, outside, rights, nothing,
        network=network(benchmark=RULES), clock=ManualClock(), random=SeededRandomness(1), log=LOG, settings=nothing,
    )  # fmt: skip
    looking.measure = measure  # type: ignore[method-assign,assignment]
    for _ in range(12):
        with contextlib.suppress(NotMeasured):
            await looking.once()
    assert asked.count(free.did) == 1
    assert asked.count(busy.did) > TRIES  # it is asked again, for it will have time later
