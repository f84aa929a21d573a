"""A swarm of real p2pds: N nodes on real TLS sockets, spread over a few processes, steered from here.

    async with Swarm(folder, sizes=[90, 70, 70, 70]) as swarm:
        await swarm.start()
        await swarm.until(lambda node: node.sessions >= 8)
        got = await swarm.get(5, "service", "name")
        swarm.freeze(0)             # SIGSTOP to the process of the first 90; `thaw`, `kill` (SIGKILL)

Node i listens on its own 127.x.y.1 (settled.md 12), so every limit per subnet stays on. The first nodes of each process
are the bootstrap list of all. Each host is a process of `bench.swarm_host`; lines of JSON go over its pipes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.measure import free_port, pss_mib
from bench.swarm_host import LINE_BYTES_MAX
from bench.swarm_node import address_of, did_of_node
from common.units import Did

BOOTSTRAPS = 3  # nodes that everybody begins with, of different processes
JOB_S = 300.0  # longest wait for one answer of a host: nodes come in a few at a time
LOOK_EVERY_S = 0.25


class HostGone(Exception):
    """The process was killed, or died."""


class JobFailed(Exception):
    """The host answered with an error; `key` is its name."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(f"{key}: {text}")
        self.key = key


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node as its own p2p.info tells it."""

    number: int
    did: Did
    sessions: int
    contacts: int
    records: int
    lives: bool


@dataclass(slots=True)
class Host:
    """One process and the numbers of its nodes."""

    folder: Path
    numbers: list[int]
    program: str = "bench.swarm_host"
    process: asyncio.subprocess.Process | None = None
    is_frozen: bool = False
    _waiting: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    _reader: asyncio.Task[None] | None = None
    _next: int = 0

    @property
    def pid(self) -> int:
        """The process's id."""
        if self.process is None:
            raise HostGone
        return self.process.pid

    @property
    def answers(self) -> bool:
        """Whether it can be asked now."""
        return self.process is not None and self.process.returncode is None and not self.is_frozen

    async def begin(self, log_level: str) -> None:
        """Start the process, without nodes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self.program, str(self.folder), log_level,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, limit=LINE_BYTES_MAX,
            )  # fmt: skip
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        out = self.process.stdout if self.process else None
        while out is not None and (line := await out.readline()):
            answer = json.loads(line)
            future = self._waiting.pop(answer["id"], None)
            if future is None or future.done():
                continue
            if "ok" in answer:
                future.set_result(answer["ok"])
            else:
                future.set_exception(JobFailed(answer["key"], answer["error"]))
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(HostGone())

    async def ask(self, do: str, **job: Any) -> Any:
        """The answer to one job.

        Raises:
            JobFailed: a DuxError there. HostGone, TimeoutError.
        """
        if not self.answers or self.process is None or self.process.stdin is None:
            raise HostGone
        self._next += 1
        number = self._next
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self.process.stdin.write(json.dumps({"id": number, "do": do, **job}).encode() + b"\n")
        async with asyncio.timeout(JOB_S):
            return await future

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process."""
        self.is_frozen = number is signal.SIGSTOP
        os.kill(self.pid, number)

    async def end(self) -> None:
        """End the process, whatever state it is in."""
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            await self.process.wait()
        if self._reader is not None:
            await self._reader


class Swarm:
    """All hosts and their nodes, numbered from 1 in the order of the hosts."""

    def __init__(
        self,
        folder: Path,
        sizes: Sequence[int],
        *,
        settings: dict[str, Any] | None = None,
        log_level: str = "ERROR",
        program: str = "bench.swarm_host",
    ) -> None:
        """`sizes`: nodes per process, each of which runs the module `program`; `settings` of p2pd for every node."""
        self.port = free_port()
        self.hosts: list[Host] = []
        first = 1
        for index, size in enumerate(sizes):
            self.hosts.append(Host(folder / f"host-{index}", list(range(first, first + size)), program))
            first += size
        self._settings, self._log_level = settings or {}, log_level

    async def __aenter__(self) -> Self:
        for host in self.hosts:
            await host.begin(self._log_level)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for host in self.hosts:
            await host.end()

    @property
    def bootstrap(self) -> list[str]:
        """`host:port did` of the nodes that everybody begins with."""
        firsts = [host.numbers[0] for host in self.hosts][:BOOTSTRAPS]
        return [f"{address_of(number, self.port)} {did_of_node(number)}" for number in firsts]

    async def start(self) -> None:
        """Start all nodes of all hosts at once."""
        await asyncio.gather(*(self.start_host(host) for host in self.hosts))

    async def start_host(self, host: Host) -> None:
        """Start the nodes of one host; after `kill`, in a new process with the same DIDs."""
        if not host.answers:
            await host.begin(self._log_level)
        await self.start_nodes(host.numbers)

    async def start_nodes(self, numbers: Sequence[int]) -> None:
        """Start single nodes of running hosts."""
        settings = {"bootstrap": self.bootstrap, **self._settings}
        await asyncio.gather(
            *(
                host.ask("start", nodes=wanted, port=self.port, settings=settings)
                for host in self.hosts
                if (wanted := [number for number in numbers if number in host.numbers])
            )
        )

    async def stop_nodes(self, numbers: Sequence[int]) -> None:
        """Stop single nodes in order."""
        await asyncio.gather(
            *(
                host.ask("stop", nodes=wanted)
                for host in self.hosts
                if (wanted := [number for number in numbers if number in host.numbers])
            )
        )

    # looking

    def numbers(self) -> list[int]:
        """The nodes whose process answers now."""
        return [number for host in self.hosts if host.answers for number in host.numbers]

    def host_of(self, number: int) -> Host:
        """The process of a node."""
        return next(host for host in self.hosts if number in host.numbers)

    async def states(self) -> list[NodeState]:
        """Every node of every process that answers."""
        found = await asyncio.gather(*(host.ask("state") for host in self.hosts if host.answers))
        return [NodeState(*row) for rows in found for row in rows]

    async def until(self, holds: Callable[[NodeState], bool], within_s: float = 60.0) -> float:
        """Seconds until this holds for every node.

        Raises:
            TimeoutError: it does not within the time.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(within_s):
            while not all(holds(node) for node in await self.states()):
                await asyncio.sleep(LOOK_EVERY_S)
        return loop.time() - began

    def memory_mib(self) -> list[float]:
        """PSS of each process that answers, MiB."""
        return [pss_mib([host.pid]) for host in self.hosts if host.answers]

    async def usage(self) -> list[tuple[float, int]]:
        """CPU seconds so far and tasks of each process that answers."""
        return [tuple(await host.ask("usage")) for host in self.hosts if host.answers]

    async def census(self) -> list[dict[str, int]]:
        """What is open in each process that answers: nodes, sessions, tasks, sockets, handles, memory."""
        return [await host.ask("census") for host in self.hosts if host.answers]

    # doing

    async def put(self, number: int, ns: str, name: str, payload: bytes, *, caller: str, ttl_s: int = 3600) -> Any:
        """[seconds, nodes that keep it]."""
        return await self.host_of(number).ask(
            "put", node=number, ns=ns, name=name, payload=payload.hex(), ttl_s=ttl_s, caller=caller
        )

    async def get(self, number: int, ns: str, name: str) -> tuple[float, list[bytes]]:
        """Seconds, and the payloads found."""
        taken_s, found = await self.host_of(number).ask("get", node=number, ns=ns, name=name)
        return taken_s, [bytes.fromhex(text) for text in found]

    async def who(self, number: int, ns: str, name: str) -> list[Did]:
        """Those that have a record under this name, as this node finds them."""
        return [Did(did) for did in await self.host_of(number).ask("who", node=number, ns=ns, name=name)]

    async def resolve(self, number: int, did: Did, max_age_s: int = 0) -> Any:
        """[seconds, whether a node record is there]."""
        return await self.host_of(number).ask("resolve", node=number, did=did, max_age_s=max_age_s)

    async def peer_call(self, number: int, did: Did, method: str, params: bytes, *, caller: str) -> Any:
        """[seconds]; the other node answers with the parameters."""
        return await self.host_of(number).ask(
            "peer_call", node=number, did=did, method=method, params=params.hex(), caller=caller
        )

    async def publish(self, number: int, topic: str, payload: bytes, *, caller: str) -> Any:
        """[at_s, peers it went to]."""
        return await self.host_of(number).ask("publish", node=number, topic=topic, payload=payload.hex(), caller=caller)

    async def heard(self) -> list[tuple[int, bytes, float]]:
        """(node, payload, at_s) of every gossip delivery since the last look."""
        found = await asyncio.gather(*(host.ask("heard") for host in self.hosts if host.answers))
        return [(number, bytes.fromhex(text), at_s) for rows in found for number, text, at_s in rows]

    # faults

    def freeze(self, index: int) -> list[int]:
        """SIGSTOP the process; the numbers of its nodes."""
        self.hosts[index].signal(signal.SIGSTOP)
        return self.hosts[index].numbers

    def thaw(self, index: int) -> None:
        """SIGCONT."""
        self.hosts[index].signal(signal.SIGCONT)

    async def kill(self, index: int) -> list[int]:
        """SIGKILL the process; the numbers of its nodes."""
        await self.hosts[index].end()
        return self.hosts[index].numbers
