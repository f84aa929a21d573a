"""Calls between the daemons of a node, in one process: the callee's own table, checks, deadlines and bytes.

Promises what the HTTP door promises: only permitted callers, nothing shared but bytes, a call that was begun goes on
when its caller dies, and a caller whose callee dies learns that it is away, and not whether the call was carried out.
A call crosses into the life of its callee; so each of them can crash alone, at any await.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from common.codec import json_bytes, to_plain
from common.errors import DeadlinePassed, DuxError, NeighbourDown
from common.rpc.client import DEADLINE_DEFAULT_S, TRANSFER_DEADLINE_S, decode_answer
from common.rpc.method import Method, P, R
from common.rpc.table import MethodTable
from dux_sim.world.history import History
from dux_sim.world.loop import LIFE, Life, VirtualLoop

Bulk = Callable[[str, str, bytes | None], Coroutine[Any, Any, bytes]]


class House(Protocol):
    """Where a daemon lives: the table it serves now, if it is up."""

    name: str
    table: MethodTable | None
    life: Life
    bulk: Bulk | None


class Meddler(Protocol):
    """May lose, delay or repeat a call, as the weather has it."""

    async def before(self, caller: str, name: str) -> bool:
        """Before it is handed in; true: it is handed in twice."""
        ...

    def after(self, caller: str, name: str) -> None:
        """After it was carried out."""
        ...


class Door:
    """A client of one daemon, for one caller."""

    def __init__(self, caller: str, house: House, loop: VirtualLoop, history: History, meddler: Meddler) -> None:
        self._caller = caller
        self._house = house
        self._loop = loop
        self._history = history
        self._meddler = meddler
        self._number = 0

    async def call(self, method: Method[P, R], params: P, *, deadline_s: float = DEADLINE_DEFAULT_S) -> R:
        """The method's result.

        Raises:
            DuxError: as the callee raised it, or NeighbourDown, DeadlinePassed.
        """
        self._number += 1
        request = {"jsonrpc": "2.0", "method": method.name, "params": to_plain(params), "id": self._number}
        body, deadline_s = json_bytes(request), min(deadline_s, method.deadline_max_s)
        await self._living()
        if await self._meddler.before(self._caller, method.name):
            await self._send(method.name, body, deadline_s)
        answer = await self._send(method.name, body, deadline_s)
        self._meddler.after(self._caller, method.name)
        if method.once and (life := LIFE.get()) is not None:
            life.meets("answer")
            await self._living()
        return decode_answer(answer, method)

    async def _living(self) -> None:
        """The dead call nobody, and hear no answer."""
        life = LIFE.get()
        if life is not None and not life.alive:
            await self._loop.create_future()

    async def _send(self, name: str, body: bytes, deadline_s: float) -> bytes:
        table = self._house.table
        if table is None or not self._house.life.alive:
            await asyncio.sleep(0)
            raise self._away("it is not running")
        caller = self._caller.rpartition("/")[2]
        whose = self._house.name
        self._history.note("call", f"{self._caller}>{whose} {name}", body, of=whose)
        work = table.dispatch(body, caller=caller, deadline_s=deadline_s)
        answer = await self._inside(work, name)  # the table itself answers when the deadline has passed
        self._history.note("answer", f"{whose}>{self._caller} {name}", answer, of=whose)
        return answer

    async def _inside(self, work: Coroutine[Any, Any, bytes], name: str) -> bytes:
        """Run it in the callee's life; the caller waits for what comes out, or for the callee's end."""
        life = self._house.life
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._loop.create_task(_told(work, future), name=name, context=life.context())
        life.waiting[future] = None
        try:
            return await future
        finally:
            life.waiting.pop(future, None)

    def _away(self, why: str) -> NeighbourDown:
        return NeighbourDown(daemon=self._house.name, address="in this world", detail=why)

    async def transfer(self, verb: str, path: str, body: bytes | None) -> bytes:
        """Bulk bytes, through the callee's own store of them."""
        if self._house.bulk is None or self._house.table is None or not self._house.life.alive:
            raise self._away("it takes no bulk bytes now")
        self._history.note("bulk", f"{self._caller}>{self._house.name} {verb} {path}", body or b"")
        try:
            async with asyncio.timeout(TRANSFER_DEADLINE_S):
                return await self._inside(self._house.bulk(verb, path, body), path)
        except TimeoutError as error:
            raise DeadlinePassed(method=path, deadline_s=TRANSFER_DEADLINE_S) from error


async def _told(work: Coroutine[Any, Any, bytes], future: asyncio.Future[bytes]) -> None:
    try:
        answer = await work
    except DuxError as error:
        if not future.done():
            future.set_exception(error)
    else:
        if not future.done():
            future.set_result(answer)


def die(life: Life, name: str) -> None:
    """End a life: nothing of it runs again; its callers learn that it is away."""
    life.alive = False
    for future in list(life.waiting):
        if not future.done():
            future.set_exception(NeighbourDown(daemon=name, address="in this world", detail="it died"))
    life.waiting.clear()
