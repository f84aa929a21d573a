"""Measures the machines that this node has drawn itself to measure, and signs what it found.

In each period it draws for every node (rights.py), so that nobody else knows whom it will measure; it begins by showing
the proof, and the result carries it. It comes at a moment nobody can foretell; a node that is busy is asked again later
in the period, a few times. Whoever cannot be reached or refuses gets no result: its figures age. A wrong answer is
signed as wrong and told to whoever listens for failures; a late one is signed as slow, which leaves the part unverified
and accuses nobody.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.contracts.peer_benchmark import (
    BENCHMARK_BEGIN,
    BENCHMARK_FILL,
    BENCHMARK_HASH,
    BENCHMARK_PULL,
    BENCHMARK_PUSH,
    BENCHMARK_WALK,
    BUSY,
    CHUNK_BYTES,
    LOADED,
    UNDER_WAY,
    BeginAsk,
    FillAsk,
    HashAsk,
    PullAsk,
    PushAsk,
    WalkAsk,
)
from common.errors import DuxError, NotNow
from common.network import NetworkProfile
from common.randomness import Randomness
from common.receipts import NodeInfo
from common.rpc.method import CP, CR, PeerMethod
from common.standing import BenchmarkResult, Kind
from common.units import Did
from dux_registryd.bench_work import chain_is_right, stream, walk_is_right
from dux_registryd.benchmark_rules import (
    SLOW,
    lanes_limit_s,
    sizes_of,
    walk_limit_s,
    worked_s,
    wrong_parts,
)
from dux_registryd.effects import Outside
from dux_registryd.rights import Rights
from dux_registryd.settings import RegistrydSettings
from dux_registryd.statements import Statements
from dux_registryd.store import Book

TRIES = 3  # of one measurement within its period
MARKS = 64  # of a chain; of a walk as many as its message holds
WALK_MARKS = 256
LOOKED_AT = 3  # stretches of each chain or walk that are done again
LANES_LOOKED_AT = 4
CALL_S = 30.0


class NotMeasured(NotNow):
    """{did} was not measured: {reason}."""

    code = 5013
    key = "not-measured"


@dataclass
class Measured:
    """One measurement as it grows."""

    info: NodeInfo
    period: int
    rtt_s: float = 0.0
    cpu_single: int = 0
    cpu_all: int = 0
    memory_mb: int = 0
    disk_mb: int = 0
    up_kbps: int = 0
    down_kbps: int = 0
    failed: tuple[str, ...] = ()


class Benchmarker:
    """The measuring side."""

    def __init__(
        self,
        book: Book,
        outside: Outside,
        rights: Rights,
        statements: Statements,
        *,
        network: NetworkProfile,
        clock: Clock,
        random: Randomness,
        log: FilteringBoundLogger,
        settings: RegistrydSettings,
    ) -> None:
        self._book = book
        self._outside = outside
        self._rights = rights
        self._statements = statements
        self._network = network
        self._rules = network.benchmark
        self._clock = clock
        self._random = random
        self._log = log
        self._settings = settings
        self._period = -1
        self._tries: dict[Did, int] = {}
        self.look_at_tpm: Callable[[Did, int, bytes], Awaitable[bool]] | None = None
        self.measured = self.refused = 0  # since the start, for /metrics
        self.on_failure: list[Callable[[BenchmarkResult], Awaitable[None]]] = []

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            await asyncio.sleep(self._settings.benchmark_s * (0.5 + self._random.uniform()))
            try:
                await self.once()
            except DuxError as error:
                self._log.info("nobody measured", reason=error.message)

    async def once(self) -> int:
        """One round: one of the nodes that are still to be measured in this period; how many were."""
        own, tip = await self._outside.own_did(), await self._outside.tip()
        held = self._book.node(own)
        if tip is None or held is None or held.info.withdrawn:
            return 0
        period = self._rights.period_of(tip.height)
        if period != self._period:
            self._period, self._tries = period, {}
        others = {node.info.did: node.info for node in self._book.nodes() if node.info.did != own}
        waiting = [did for did in others if self._tries.get(did, 0) < TRIES]
        due = await self._rights.own(period, waiting)
        for did in self._random.sample(list(due), len(due)):  # so that one that is busy all day holds up no other
            if self._book.statement_at(Kind.BENCHMARK, own, f"{period}/{did}") is not None:
                self._tries[did] = TRIES
                continue
            self._tries[did] = self._tries.get(did, 0) + 1
            try:
                await self.measure(others[did], period, due[did])
            except NotMeasured as error:
                if error.fields["reason"] in (BUSY, LOADED, UNDER_WAY):
                    self._tries[did] -= 1  # it will have time later
                raise
            self._tries[did] = TRIES
            return 1
        return 0

    async def measure(self, info: NodeInfo, period: int, proof: bytes) -> BenchmarkResult:
        """Measure one node by the right that a proof shows, and say what was found.

        Raises:
            NotMeasured, Unavailable: it could not be measured now.
        """
        found, sizes = Measured(info=info, period=period), sizes_of(info, self._rules)
        await self._ask(found, BENCHMARK_BEGIN, BeginAsk(period=period, proof=proof))
        await self._tpm(info.did, period, proof)
        await self._transfers(found)
        found.cpu_single = await self._hashes(found, 1)
        found.cpu_all = await self._hashes(found, sizes.lanes) if sizes.lanes > 1 else found.cpu_single
        found.memory_mb = await self._holding(found, sizes.memory_mb, on_disk=False)
        found.disk_mb = await self._holding(found, sizes.disk_mb, on_disk=True)
        result = BenchmarkResult(
            network=self._network.genesis,
            period=period,
            beacon=await self._rights.beacon(period) or b"",
            target=info.did,
            prober=await self._outside.own_did(),
            cpu_single=found.cpu_single,
            cpu_all=found.cpu_all,
            memory_mb=found.memory_mb,
            disk_mb=found.disk_mb,
            up_kbps=found.up_kbps,
            down_kbps=found.down_kbps,
            rtt_ms=int(found.rtt_s * 1_000),
            failed=",".join(found.failed),
            at_ms=self._clock.unix_ms(),
            proof=proof,
        )
        taken = await self._statements.say(Kind.BENCHMARK, result)
        self._log.info("node measured", did=info.did, failed=result.failed, word=taken.word, reason=taken.reason)
        self.measured += 1
        if wrong_parts(found.failed):
            for told in self.on_failure:
                await told(result)
        return result

    async def _tpm(self, did: Did, period: int, proof: bytes) -> None:
        """Its TPM's quote, where it has one; a wrong one proves nothing and costs nothing."""
        try:
            if self.look_at_tpm is not None and await self.look_at_tpm(did, period, proof):
                self._log.info("tpm quoted", did=did)
        except DuxError as error:
            self._log.info("tpm not quoted", did=did, reason=error.message)

    async def _ask(self, found: Measured, method: PeerMethod[CP, CR], ask: CP) -> tuple[CR, float]:
        """An answer and the time that it took."""
        began = self._clock.monotonic()
        answer = await self._outside.peers.call(found.info.did, method, ask, deadline_s=CALL_S)
        taken_s = self._clock.monotonic() - began
        refused = getattr(answer, "refused", "")
        if refused:
            self.refused += 1
            raise NotMeasured(did=found.info.did, reason=refused)
        return answer, taken_s

    async def _transfers(self, found: Measured) -> None:
        """The round trip, then bytes each way, a chunk at a time."""
        pings = [await self._pull(found, 0) for _ in range(3)]
        found.rtt_s = min(pings)
        chunks = max(1, self._rules.transfer_kib * 1_024 // CHUNK_BYTES)
        up_s = sum([await self._pull(found, CHUNK_BYTES) for _ in range(chunks)])
        down_s = sum([await self._push(found) for _ in range(chunks)])
        if "up" not in found.failed:
            found.up_kbps = _kbps(chunks, up_s, found.rtt_s)
        if "down" not in found.failed:
            found.down_kbps = _kbps(chunks, down_s, found.rtt_s)

    async def _pull(self, found: Measured, size: int) -> float:
        seed = self._random.bytes(32)
        answer, taken_s = await self._ask(found, BENCHMARK_PULL, PullAsk(period=found.period, seed=seed, size=size))
        if answer.data != stream(seed, size):
            _fail(found, "up")
        return taken_s

    async def _push(self, found: Measured) -> float:
        data = stream(self._random.bytes(32), CHUNK_BYTES)
        answer, taken_s = await self._ask(found, BENCHMARK_PUSH, PushAsk(period=found.period, data=data))
        if answer.digest != hashlib.sha256(data).digest():
            _fail(found, "down")
        return taken_s

    async def _hashes(self, found: Measured, lanes: int) -> int:
        """Thousand hashes per second of so many chains at once; 0 when one looked at is wrong, or all too slow."""
        seed, iterations = self._random.bytes(32), self._rules.iterations
        ask = HashAsk(period=found.period, seed=seed, lanes=lanes, iterations=iterations, marks=MARKS)
        answer, taken_s = await self._ask(found, BENCHMARK_HASH, ask)
        looked_at = self._random.sample(list(range(lanes)), min(lanes, LANES_LOOKED_AT))
        marks = self._random.sample(list(range(MARKS)), LOOKED_AT)
        began = self._clock.monotonic()
        right = len(answer.lanes) == lanes and all(len(lane) == MARKS for lane in answer.lanes)
        for lane in looked_at if right else ():
            right = right and await asyncio.to_thread(chain_is_right, seed, lane, iterations, answer.lanes[lane], marks)
        if not right:
            return _fail(found, "cpu")
        hash_s = (self._clock.monotonic() - began) * MARKS / (len(looked_at) * LOOKED_AT * iterations)
        if taken_s > lanes_limit_s(iterations, hash_s, found.rtt_s):
            return _fail(found, "cpu" + SLOW)
        return int(lanes * iterations / worked_s(taken_s, found.rtt_s) / 1_000)

    async def _holding(self, found: Measured, size_mb: int, *, on_disk: bool) -> int:
        """The size that it was seen to hold; 0 when it has no room now, or the walk was wrong or too slow."""
        seed, nonce, steps = self._random.bytes(32), self._random.bytes(32), self._rules.steps
        fill = FillAsk(period=found.period, seed=seed, on_disk=on_disk, size_mb=size_mb)
        try:
            await self._ask(found, BENCHMARK_FILL, fill)
        except NotMeasured as error:
            self._log.info("nothing held", did=found.info.did, reason=error.fields["reason"])
            if error.fields["reason"] in (BUSY, LOADED, UNDER_WAY):
                raise
            return 0
        await asyncio.sleep(self._rules.hold_s)
        walk = WalkAsk(period=found.period, nonce=nonce, steps=steps, marks=WALK_MARKS)
        answer, taken_s = await self._ask(found, BENCHMARK_WALK, walk)
        looked_at = self._random.sample(list(range(WALK_MARKS)), LOOKED_AT)
        began = self._clock.monotonic()
        right = len(answer.marks) == WALK_MARKS and await asyncio.to_thread(
            walk_is_right, seed, size_mb, nonce, steps, answer.marks, looked_at
        )
        block_s = (self._clock.monotonic() - began) / (LOOKED_AT * (steps // WALK_MARKS))
        part = "storage" if on_disk else "memory"
        if not right:
            return _fail(found, part)
        return _fail(found, part + SLOW) if taken_s > walk_limit_s(steps, block_s, found.rtt_s) else size_mb


def _kbps(chunks: int, taken_s: float, rtt_s: float) -> int:
    return int(CHUNK_BYTES * 8 / worked_s(taken_s / chunks, rtt_s) / 1_000)


def _fail(found: Measured, part: str) -> int:
    found.failed = tuple(sorted({*found.failed, part}))
    return 0
