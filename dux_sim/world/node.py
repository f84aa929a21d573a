"""A node of a world: its daemons, each with a life, a disk and a door; started, crashed and started again.

Promises that a crash takes a daemon away between two turns of its tasks and leaves its disk; that its peers see its
connections close; and that a daemon which ends by itself is started again, as systemd does, and is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from common.clock import Clock
from common.daemon import DuxOSDaemon
from common.rpc.client import Client
from common.rpc.method import Method, P, R
from common.rpc.table import MethodTable
from dux_p2pd.memory_transport import MemoryNetwork
from dux_sim.world.coin import Coin
from dux_sim.world.disk import Disk
from dux_sim.world.door import Bulk, die
from dux_sim.world.keys import keys_of
from dux_sim.world.loop import Life
from dux_sim.world.parts import SimP2pd, WorldClock

if TYPE_CHECKING:
    from dux_sim.world.world import World

RESTART_S = 1.0  # after a daemon has ended by itself
OUTSIDE_PORT = 32570
Bend = Callable[[str, str, Client], Client]
MakeDaemon = Callable[["SimNode", str], DuxOSDaemon[Any]]


class SimHouse:
    """Where one daemon of a node lives, life after life."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.table: MethodTable | None = None
        self.life = Life(name)
        self.life.alive = False
        self.daemon: DuxOSDaemon[Any] | None = None
        self.task: asyncio.Task[None] | None = None
        self.bulk: Bulk | None = None
        self.wanted = True  # started again when it ends
        self.lives = 0


class SimNode:
    """One node."""

    def __init__(self, world: World, number: int, daemons: tuple[str, ...], make: MakeDaemon) -> None:
        self.world = world
        self.number = number
        self.name = f"n{number}"
        self.keys = keys_of(number)
        self.did = self.keys.did
        self.host = f"127.{1 + (number >> 8)}.{number & 255}.1"
        self.coin: Coin = world.coin
        self.net: MemoryNetwork = world.net
        self.houses = {name: SimHouse(f"{self.name}/{name}") for name in daemons}
        self._disks = {name: Disk(f"{self.name}/{name}", world.history) for name in daemons}
        self._clock = WorldClock(world.loop)
        self._make = make
        self.lies = False  # its taskd sells what is one byte off
        self.bend: Bend = lambda _caller, _daemon, client: client  # a liar's hand between two of its daemons
        self.signed: list[tuple[int, bytes]] = []  # contract key and digest, of every coin signature that was made
        self._doors: dict[tuple[str, str], Client] = {}

    # --- what daemons stand on ----------------------------------------------------------------------------------------

    def disk(self, daemon: str) -> Disk:
        """The disk of one daemon."""
        return self._disks[daemon]

    def clock(self) -> Clock:
        """The node's clock."""
        return self._clock

    def skew(self, milliseconds: int) -> None:
        """Set the node's clock wrong by so much."""
        self._clock.skew_ms = milliseconds

    def neighbours(self, caller: str) -> Callable[[str], Client]:
        """The clients that a daemon of this node gets."""
        return lambda daemon: self.door(caller, daemon)

    def door(self, caller: str, daemon: str) -> Client:
        """A client of one daemon, under a caller's name."""
        made = self._doors.get((caller, daemon))
        if made is None:
            house = self.houses.get(daemon) or SimHouse(f"{self.name}/{daemon}")
            made = self.bend(caller, daemon, self.world.door(f"{self.name}/{caller}", house))
            self._doors[caller, daemon] = made
        return made

    async def call(self, daemon: str, method: Method[P, R], params: P, *, caller: str = "") -> R:
        """Call a daemon as one of its permitted callers."""
        who = caller or ("cli" if "cli" in method.callers else method.callers[0])
        return await self.door(who, daemon).call(method, params)

    # --- lives --------------------------------------------------------------------------------------------------------

    def start(self, daemon: str) -> None:
        """Begin a life of a daemon, unless it lives."""
        house = self.houses[daemon]
        if house.life.alive:
            return
        life = house.life = Life(house.name, self.world.numbers())
        house.lives += 1
        life.on_doom = lambda: self.crash(daemon)
        context = life.context()
        made: DuxOSDaemon[Any] = context.run(self._make, self, daemon)
        house.daemon = made
        self.world.history.note("start", house.name, of=house.name)
        ready = context.run(asyncio.Event)
        house.task = self.world.loop.create_task(self._live(house, made, ready), name=house.name, context=context)

    async def _live(self, house: SimHouse, daemon: DuxOSDaemon[Any], ready: asyncio.Event) -> None:
        """One life, in the life's own context; its end is told to the node outside of it."""
        loop, life = self.world.loop, house.life
        try:
            work = asyncio.ensure_future(daemon.run(ready))
            waiting = asyncio.ensure_future(ready.wait())
            await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if ready.is_set():
                house.bulk = daemon.bulk if isinstance(daemon, SimP2pd) else None
                house.table = daemon.parts.table
                loop.call_soon(self.world.came_up, self, house, context=self.world.context.copy())
            await work
        except BaseException as error:  # noqa: BLE001 - whatever ends a daemon ends its life, and is told
            reason = first_reason(error)
            loop.call_soon(self._ended, house, life, reason, context=self.world.context.copy())
        else:
            loop.call_soon(self._ended, house, life, "", context=self.world.context.copy())

    def _ended(self, house: SimHouse, life: Life, reason: str) -> None:
        if not life.alive:
            return
        self._bury(house)
        self.world.history.note("end", f"{house.name} {reason}", of=house.name)
        self.world.ended(self, house, reason)
        if house.wanted and not self.world.over:
            name = house.name.partition("/")[2]
            self.world.later(RESTART_S, lambda: self.start(name))

    def crash(self, daemon: str) -> None:
        """Take it away where it stands; what was not committed is gone."""
        house = self.houses[daemon]
        if not house.life.alive:
            return
        self.world.history.note("crash", house.name, of=house.name)
        self._bury(house)

    def _bury(self, house: SimHouse) -> None:
        die(house.life, house.name)
        house.table = None
        self.disk(house.name.partition("/")[2]).crash()
        if isinstance(house.daemon, SimP2pd) and hasattr(house.daemon, "transport"):
            self.net.drop(house.daemon.transport)
        source = getattr(house.daemon, "source", None)
        if source is not None:
            source.forget()
        self.world.graveyard += [task for task in house.life.tasks if not task.done()]

    def lives(self, daemon: str) -> int:
        """How often it was started."""
        return self.houses[daemon].lives

    def is_up(self, daemon: str) -> bool:
        """Whether it lives and answers."""
        house = self.houses[daemon]
        return house.life.alive and house.table is not None


def first_reason(error: BaseException) -> str:
    """What ended a daemon, in a line."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
