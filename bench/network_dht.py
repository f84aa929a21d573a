"""The DHT with hundreds of real nodes: formed, put, get; then after a third is killed, and after a third is frozen.

Also how long it takes to find a worker with a given capability and have an answer of it, while nodes come and go.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.measure import Run, free_port
from bench.peers.commanded import Commanded, commanded
from bench.peers.fetched import Missing, cache_dir, python_with
from bench.rows import Finding, Goal, Samples, one
from bench.swarm import HostGone, JobFailed, Swarm
from common.codec import canonical
from common.contracts.peer_registry import CAPABILITY_NS, PRESENCE_PROBE, CapabilityPointer, ProbeAsk
from common.contracts.peer_store import TAG_NS, TagPointer

SIZES, SIZES_QUICK = (90, 70, 70, 70), (4, 4, 4)
PUTS, GETS = 60, 200
PUTS_QUICK, GETS_QUICK = 5, 10
FORM_WITHIN_S = 240.0
SESSIONS = 8  # of a formed node
CONTACTS = 20  # k: what a look-up begins with
SETTLE_S, SETTLE_S_QUICK = 90.0, 1.0  # first announcements and logs are spread over so long; then puts and gets begin
WORKER_SIZES, WORKER_SIZES_QUICK = (50, 50, 50, 50), (4, 4)
WORKERS_EVERY = 10
SEARCHES = 120
CHURN_EVERY_S = 0.5
KADEMLIA = "the kademlia package"


async def measure_dht(run: Run) -> list[Finding]:
    """All rows."""
    beside = await _kademlia(run)
    return [*await _main(run, beside), *await _workers(run)]


async def _main(run: Run, beside: dict[str, Samples] | str) -> list[Finding]:
    sizes = SIZES_QUICK if run.quick else SIZES
    count = sum(sizes)
    puts, gets = (PUTS_QUICK, GETS_QUICK) if run.quick else (PUTS, GETS)
    run.tell(f"a DHT of {count} real nodes in {len(sizes)} processes")
    async with Swarm(run.folder / "dht", sizes) as swarm:
        began = time.perf_counter()
        await swarm.start()
        enough = min(CONTACTS, count - 1)
        await swarm.until(
            lambda node: node.sessions >= min(SESSIONS, count - 1) and node.contacts >= enough, FORM_WITHIN_S
        )
        formed_s, cpu_s = time.perf_counter() - began, sum(used_s for used_s, _ in await swarm.usage())
        run.tell(f"formed after {formed_s:.1f} s")
        await asyncio.sleep(SETTLE_S_QUICK if run.quick else SETTLE_S)
        put_ms = [await _put(swarm, number, name) for name, number in enumerate(_spread(swarm.numbers(), puts))]
        calm = await _gets(swarm, puts, gets)
        swarm.freeze(0)
        frozen = await _gets(swarm, puts, gets)
        swarm.thaw(0)
        await asyncio.sleep(2 if run.quick else 20)  # those that were frozen are back
        await swarm.kill(0)
        killed = await _gets(swarm, puts, gets)
    theirs = beside if isinstance(beside, dict) else {}
    named = beside if isinstance(beside, str) else KADEMLIA

    def row(name: str, unit: str, value: float, goal: Goal, peer: str = "", note: str = "") -> Finding:
        other = theirs.get(peer)
        return Finding(
            name=name, unit=unit, ours=one(value), goal=goal, peer=named if peer else None, theirs=other, note=note
        )

    share = "a third" if run.quick else "30 %"
    return [
        row(f"DHT of {count} formed", "s", formed_s, Goal("value", "<=", 30), "form", f"{cpu_s:.0f} s of processor"),
        row("DHT put p50", "ms", median(put_ms), Goal("value", "<=", 60), "put"),
        row("DHT get p50", "ms", median(calm.taken_ms), Goal("value", "<=", 20), "get"),
        row("DHT found", "%", calm.found, Goal("value", ">=", 100), "found"),
        row(f"DHT found, {share} frozen", "%", frozen.found, Goal("value", ">=", 99.5)),
        row(f"DHT get p99, {share} frozen", "ms", frozen.p99, Goal("value", "<=", 1500)),
        row(f"DHT found, {share} killed", "%", killed.found, Goal("value", ">=", 99.5), "found after"),
        row(f"DHT get p99, {share} killed", "ms", killed.p99, Goal("value", "<=", 1500), "p99 after"),
    ]


class Gets:
    """Times and successes of lookups."""

    def __init__(self) -> None:
        self.taken_ms: list[float] = []
        self.hits = self.tries = 0

    @property
    def found(self) -> float:
        """Percent."""
        return 100 * self.hits / max(1, self.tries)

    @property
    def p99(self) -> float:
        """Of all, the lost ones included."""
        return sorted(self.taken_ms)[min(len(self.taken_ms) - 1, int(len(self.taken_ms) * 0.99))]


def _spread(numbers: Sequence[int], count: int) -> list[int]:
    """So many of them, evenly."""
    return [numbers[at * 7919 % len(numbers)] for at in range(count)]


def _name(number: int) -> str:
    return f"w/name-{number}"


async def _put(swarm: Swarm, node: int, name: int) -> float:
    payload = canonical(TagPointer(service_ids=(f"service-{name}",)))
    return float((await swarm.put(node, TAG_NS.name, _name(name), payload, caller="stored"))[0]) * 1000


async def _gets(swarm: Swarm, names: int, count: int) -> Gets:
    """Lookups by nodes of the processes that answer."""
    found = Gets()
    for at, node in enumerate(_spread(swarm.numbers(), count)):
        name, began = at % names, time.perf_counter()
        found.tries += 1
        try:
            taken_s, payloads = await swarm.get(node, TAG_NS.name, _name(name))
        except (JobFailed, TimeoutError):
            taken_s, payloads = time.perf_counter() - began, []
        found.taken_ms.append(taken_s * 1000)
        found.hits += any(f"service-{name}".encode() in payload for payload in payloads)
    return found


# beside


async def _kademlia(run: Run) -> dict[str, Samples] | str:
    """The package's own servers, as many, in one process; or why not."""
    if not run.peers:
        return f"{KADEMLIA} (not asked: --peers)"
    sizes, puts, gets = (SIZES_QUICK, PUTS_QUICK, GETS_QUICK) if run.quick else (SIZES, PUTS, GETS)
    run.tell(f"{KADEMLIA}: {sum(sizes)} servers in one process")
    script = Path(__file__).parent / "peers" / "kademlia_dht.py"
    try:
        python = await python_with("kademlia", cache_dir())
        async with commanded(KADEMLIA, (python, script, str(free_port())), run.folder / "kademlia.log") as peer:
            return await _ask_kademlia(peer, sum(sizes), puts, gets)
    except Missing as error:
        run.tell(error.message)
        return error.message


async def _ask_kademlia(peer: Commanded, count: int, puts: int, gets: int) -> dict[str, Samples]:
    await peer.line()
    formed = json.loads(await peer.ask("form", count))["seconds"]
    put, get = json.loads(await peer.ask("put", puts)), json.loads(await peer.ask("get", gets))
    await peer.ask("drop", 0.3)
    after_gets = min(gets, 40)  # each dead contact costs it five seconds
    after = json.loads(await peer.ask("get", after_gets))
    return {
        "form": one(formed), "put": one(median(put["ms"])), "get": one(median(get["ms"])),
        "found": one(100 * get["found"] / gets), "found after": one(100 * after["found"] / after_gets),
        "p99 after": one(sorted(after["ms"])[int(after_gets * 0.99)]),
    }  # fmt: skip


# a worker is wanted


async def _workers(run: Run) -> list[Finding]:
    """Find who offers a capability and hear from one of them, while single nodes stop and start."""
    sizes, searches = (WORKER_SIZES_QUICK, 8) if run.quick else (WORKER_SIZES, SEARCHES)
    run.tell(f"a worker among {sum(sizes)} nodes that come and go")
    async with Swarm(run.folder / "workers", sizes) as swarm:
        await swarm.start()
        await swarm.until(lambda node: node.sessions >= min(SESSIONS, sum(sizes) - 1), FORM_WITHIN_S)
        every = 3 if run.quick else WORKERS_EVERY
        for number in swarm.numbers()[::every]:
            payload = canonical(CapabilityPointer(at_ms=1))
            await swarm.put(number, CAPABILITY_NS.name, "gpu", payload, caller="registryd")
        churn = asyncio.ensure_future(_churn(swarm))
        try:
            taken_ms = [await _search(swarm, number) for number in _spread(_lasting(swarm), searches)]
        finally:
            churn.cancel()
            await asyncio.wait((churn,))
    taken_ms.sort()
    p95 = taken_ms[min(len(taken_ms) - 1, int(len(taken_ms) * 0.95))]
    return [
        Finding(
            name=f"worker found among {sum(sizes)}, p95", unit="ms", ours=one(p95), goal=Goal("value", "<=", 500),
            note=f"lookup of the capability and an answer of one worker, under churn; p50 {median(taken_ms):.0f} ms",
        )
    ]  # fmt: skip


def _lasting(swarm: Swarm) -> list[int]:
    """Nodes that stay: the first half of each process."""
    return [number for host in swarm.hosts for number in host.numbers[: len(host.numbers) // 2]]


async def _churn(swarm: Swarm) -> None:
    """One of the others after another stops, and starts again."""
    others = [number for host in swarm.hosts for number in host.numbers[len(host.numbers) // 2 :]]
    for at in range(10_000):
        number = others[at * 7919 % len(others)]
        await swarm.stop_nodes([number])
        await asyncio.sleep(CHURN_EVERY_S)
        await swarm.start_nodes([number])


async def _search(swarm: Swarm, node: int) -> float:
    """Milliseconds until a worker has answered."""
    began = time.perf_counter()
    offers = await swarm.who(node, CAPABILITY_NS.name, "gpu")
    for did in offers:
        try:
            ask = canonical(ProbeAsk(slot=1, nonce=bytes(32)))
            await swarm.peer_call(node, did, PRESENCE_PROBE.name, ask, caller="registryd")
        except (JobFailed, HostGone, TimeoutError):
            continue
        return (time.perf_counter() - began) * 1000
    return 60_000.0
