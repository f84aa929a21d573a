"""One process of a swarm: hosts p2pds and does what its parent says, one JSON line in, one out.

Times are taken here, around the call itself, so that pipe and JSON are not in them; `at_s` is CLOCK_MONOTONIC, which
all processes of a machine share. Ends when its standard input does: a swarm never outlives its parent.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TextIO

from bench.swarm_node import SwarmP2pd
from common.contracts import p2p
from common.errors import DuxError
from common.log import start_logging
from common.parts import run_loops
from common.units import Did
from dux_p2pd.event_loop import new_event_loop

LINE_BYTES_MAX = 64 << 20
STARTS_AT_ONCE = 10  # nodes that come in at a time: all at once, their handshakes would time out one another
IN_WITH = 4  # sessions of a node that has come in
COMES_IN_S = 4.0  # then the next one starts all the same: the first have nobody to come in to
COLLECT_AFTER = 100_000, 50, 100  # objects of a hundred nodes are looked through each time: not for every 700 new ones
MANY = 40  # nodes of one process: a soak's few are collected as a daemon is
Job = dict[str, Any]


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""  # it was the handle of the look itself


def _rss_kib() -> int:
    """Resident memory. Source: proc(5)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


class SwarmHost:
    """The nodes of this process by number."""

    def __init__(self, folder: Path, out: TextIO) -> None:
        self.folder, self.out = folder, out
        self.nodes: dict[int, SwarmP2pd] = {}
        self._ends: dict[int, asyncio.Event] = {}
        self._lives: dict[int, asyncio.Task[None]] = {}
        self.jobs: dict[str, Callable[[Job], Awaitable[Any]]] = {
            name: getattr(self, f"on_{name}")
            for name in (
                "start",
                "stop",
                "state",
                "usage",
                "census",
                "put",
                "get",
                "who",
                "resolve",
                "publish",
                "heard",
                "peer_call",
            )
        }

    async def on_start(self, job: Job) -> Any:
        """Start the nodes of these numbers; they are up when this answers, and connected or on the way."""
        if len(job["nodes"]) >= MANY:
            gc.set_threshold(*COLLECT_AFTER)
        slots = asyncio.Semaphore(STARTS_AT_ONCE)

        async def one(number: int) -> None:
            async with slots:
                if number in self._lives and not self._ends[number].is_set():
                    return  # it runs, or is on the way
                if number in self._lives:
                    await asyncio.wait((self._lives[number],))  # it is still stopping, on the same port
                await self._start(SwarmP2pd.make(number, job["port"], self.folder / str(number), job["settings"]))
                await self._come_in(self.nodes[number])

        await asyncio.gather(*(one(number) for number in job["nodes"]))
        return len(self.nodes)

    async def _start(self, node: SwarmP2pd) -> None:
        ready, end = asyncio.Event(), asyncio.Event()
        life = asyncio.ensure_future(self._live(node, ready, end))
        self._lives[node.number], self._ends[node.number] = life, end
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait((life, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not ready.is_set():
            waiting.cancel()
            await life
        self.nodes[node.number] = node

    async def _come_in(self, node: SwarmP2pd) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + COMES_IN_S
        while len(node.net.peers.sessions()) < IN_WITH and loop.time() < until_s:
            await asyncio.sleep(0.05)

    async def _live(self, node: SwarmP2pd, ready: asyncio.Event, end: asyncio.Event) -> None:
        async with node.running():
            ready.set()
            loops = asyncio.ensure_future(run_loops(node.parts.loops))
            ending = asyncio.ensure_future(end.wait())
            await asyncio.wait((loops, ending), return_when=asyncio.FIRST_COMPLETED)
            if loops.done():
                loops.result()
            loops.cancel()
            await asyncio.wait((loops,))

    async def on_stop(self, job: Job) -> Any:
        """Stop nodes in order, as a daemon stops that is asked to."""
        for number in job["nodes"]:
            self._ends[number].set()
            await self._lives[number]
            del self.nodes[number], self._ends[number], self._lives[number]
        return len(self.nodes)

    async def on_state(self, _job: Job) -> Any:
        """[number, did, sessions, contacts, records, announced] of every node, and the loops that have failed."""
        rows: list[list[Any]] = []
        for number, node in self.nodes.items():  # without a turn of the loop: it is busy while a swarm forms
            net, lives = node.net, not self._lives[number].done()
            found = [len(net.peers.sessions()), len(net.dht.table.contacts()), net.dht.shelf.table.count()]
            rows.append([number, net.keeper.did, *found, lives])
        return rows

    async def on_usage(self, _job: Job) -> Any:
        """[CPU seconds so far, tasks] of this process."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return [used.ru_utime + used.ru_stime, len(asyncio.all_tasks())]

    async def on_census(self, _job: Job) -> Any:
        """What is open in this process, once everything that only waits to be collected is gone."""
        await asyncio.sleep(0)
        gc.collect()
        sessions = sum(len(node.net.peers.sessions()) for node in self.nodes.values())
        handles = [_target(entry) for entry in Path("/proc/self/fd").iterdir()]
        return {
            "nodes": len(self.nodes),
            "sessions": sessions,
            "tasks": len(asyncio.all_tasks()),
            "sockets": sum(1 for one in handles if one.startswith("socket:")),
            "handles": len(handles),
            "rss_kib": _rss_kib(),
        }

    async def on_put(self, job: Job) -> Any:
        """[seconds, nodes that keep it]."""
        node, payload = self.nodes[job["node"]], bytes.fromhex(job["payload"])
        params = p2p.DhtPut(ns=job["ns"], name=job["name"], payload=payload, ttl_s=job["ttl_s"])
        began = time.perf_counter()
        stored = await node.as_caller(job["caller"]).call(p2p.DHT_PUT, params, deadline_s=60)
        return [time.perf_counter() - began, stored.stored_at]

    async def on_get(self, job: Job) -> Any:
        """[seconds, payloads in hex]."""
        client = self.nodes[job["node"]].as_caller("cli")
        began = time.perf_counter()
        found = await client.call(p2p.DHT_GET, p2p.DhtGet(ns=job["ns"], name=job["name"]), deadline_s=60)
        return [time.perf_counter() - began, [view.payload.hex() for view in found.records]]

    async def on_who(self, job: Job) -> Any:
        """The DIDs of those that have a record under this name."""
        client = self.nodes[job["node"]].as_caller("cli")
        found = await client.call(p2p.DHT_GET, p2p.DhtGet(ns=job["ns"], name=job["name"]), deadline_s=60)
        return [view.did for view in found.records]

    async def on_resolve(self, job: Job) -> Any:
        """[seconds, whether a node record is there]."""
        client = self.nodes[job["node"]].as_caller("cli")
        began = time.perf_counter()
        found = await client.call(p2p.DID_RESOLVE, p2p.Resolve(did=Did(job["did"]), max_age_s=job["max_age_s"]))
        return [time.perf_counter() - began, found.node_record is not None]

    async def on_peer_call(self, job: Job) -> Any:
        """[seconds] of a relayed call; the listener there answers with the parameters."""
        client = self.nodes[job["node"]].as_caller(job["caller"])
        params = bytes.fromhex(job["params"])
        call = p2p.PeerCall(did=Did(job["did"]), method=job["method"], params=params, deadline_ms=10_000)
        began = time.perf_counter()
        await client.call(p2p.PEER_CALL, call)
        return [time.perf_counter() - began]

    async def on_publish(self, job: Job) -> Any:
        """[at_s, peers it went to]."""
        client = self.nodes[job["node"]].as_caller(job["caller"])
        at_s = time.monotonic()
        told = p2p.Publish(topic=job["topic"], payload=bytes.fromhex(job["payload"]))
        sent = await client.call(p2p.GOSSIP_PUBLISH, told)
        return [at_s, sent.sent_to]

    async def on_heard(self, _job: Job) -> Any:
        """[number, payload in hex, at_s] of every delivery since the last look."""
        rows = []
        for number, node in self.nodes.items():
            rows += [[number, payload.hex(), at_s] for payload, at_s in node.listener.heard]
            node.listener.heard.clear()
        return rows


async def serve(host: SwarmHost) -> None:
    """Answer lines until there are no more; jobs run side by side."""
    lines = asyncio.StreamReader(LINE_BYTES_MAX)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        while line := await lines.readline():
            group.create_task(_answer(host, json.loads(line)))
        await host.on_stop({"nodes": list(host.nodes)})


async def _process(folder: Path, out: TextIO, kind: type[SwarmHost]) -> None:
    await serve(kind(folder, out))


async def _answer(host: SwarmHost, job: Job) -> None:
    try:
        answer = {"id": job["id"], "ok": await host.jobs[job["do"]](job)}
    except DuxError as error:
        answer = {"id": job["id"], "error": error.message, "key": error.key}
    host.out.write(json.dumps(answer) + "\n")
    host.out.flush()


def main(folder: Path, log_level: str, kind: type[SwarmHost] = SwarmHost) -> None:
    """Answers go to standard output as it was at the start, all else (logs) to standard error."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    start_logging("swarm", log_level)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_process(folder, out, kind))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
