"""An event loop on virtual time: when nothing is ready, the clock jumps to the next timer.

Promises that the same callbacks run in the same order for the same start, whatever the machine's speed, memory
addresses and hash seed; that nothing of a dead life ever runs again, which is what a crash at an await is; and that no
socket, thread, process or real second is reachable: what this loop lacks raises NotImplementedError.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from math import inf
from typing import Any, Literal, TypeVar

import msgspec

T = TypeVar("T")

DROPPED_LEAST = 1024  # cancelled timers
ARRIVALS = 1 << 60  # the numbers of timers stay below
OWNED_LEAST = 64  # tasks of a life, ended ones among them, before those are let go
TURNS_AT_ONCE_MAX = 1_000_000  # callbacks without the clock moving: two daemons that wake each other for ever


class Stuck(RuntimeError):
    """The history cannot go on: nothing is left to happen, or time no longer moves."""


DiesAt = Literal["turn", "answer", "commit"]


class Life:
    """One run of one daemon, from its start to its end or its crash. What belongs to it runs in a context naming it."""

    def __init__(self, name: str, numbers: Iterator[int] | None = None) -> None:
        """`numbers`: of its futures and tasks, where their order must not depend on what else the process runs."""
        self.name = name
        self.numbers = numbers
        self.alive = True
        self.turns = 0
        self.dies_after: int | None = None  # turns, answers or commits from now: then it is killed
        self.dies_at: DiesAt = "turn"
        self.on_doom: Callable[[], None] = lambda: None
        self.waiting: dict[asyncio.Future[bytes], None] = {}  # callers of other lives that wait for its answer
        self.tasks: list[SimTask] = []  # ended ones among them
        self._looked_through_at = OWNED_LEAST
        self._base = Context()
        self._base.run(LIFE.set, self)

    def context(self) -> Context:
        """A new context in which everything belongs to this life."""
        return self._base.copy()

    def own(self, task: SimTask) -> None:
        """Take a task in. Those that have ended are let go when most may have: few last."""
        if len(self.tasks) >= self._looked_through_at:
            self.tasks = [one for one in self.tasks if not one.done()]
            self._looked_through_at = max(OWNED_LEAST, 2 * len(self.tasks))
        self.tasks.append(task)

    def may_run(self) -> bool:
        """Count a turn; false when the life is over, or ends with this one."""
        if not self.alive:
            return False
        self.turns += 1
        if self.dies_after is not None:
            self.meets("turn")
        return self.alive

    def meets(self, moment: DiesAt) -> None:
        """A turn of its tasks, an answer to a call that moves state, a commit: perhaps one that it does not survive."""
        if self.dies_after is None or self.dies_at != moment or not self.alive:
            return
        self.dies_after -= 1
        if self.dies_after <= 0:
            self.dies_after = None
            self.on_doom()


LIFE: ContextVar[Life | None] = ContextVar("life", default=None)


class _Turn(msgspec.Struct, eq=False):
    """A callback that does not run for the dead: what asyncio's handle does and no more, for there are millions."""

    callback: Callable[..., Any]
    args: Sequence[Any]
    context: Context
    dropped: bool = False

    def cancel(self) -> None:
        """It will not run."""
        self.dropped = True
        self.callback, self.args = _nothing, ()  # what it would have held is free now

    def cancelled(self) -> bool:
        """Whether it will not run."""
        return self.dropped


class _Timer(_Turn, eq=False, kw_only=True):
    """The same, later: `at_s` is the virtual time."""

    at_s: float
    loop: VirtualLoop

    def when(self) -> float:
        """The virtual time."""
        return self.at_s

    def cancel(self) -> None:
        """It will not run, and the heap hears of it."""
        if not self.dropped:
            _Turn.cancel(self)
            self.loop.timer_dropped()


def _nothing() -> None:
    """What a cancelled turn would do."""


class SimFuture(asyncio.Future[Any]):
    """A future that hashes by its number: sets of futures have an order that memory addresses do not decide."""

    __slots__ = ("number",)
    numbers = itertools.count()  # of those that are of no life, or of one that does not count by itself
    number: int

    def __hash__(self) -> int:
        """Its number."""
        return self.number

    __eq__ = object.__eq__


class SimTask(asyncio.Task[Any]):
    """A task that hashes by its number and knows whose life it is part of."""

    __slots__ = ("life", "number")
    _numbers = itertools.count()
    number: int
    life: Life | None

    def __new__(cls, *_args: Any, context: Context | None = None, **_kwargs: Any) -> SimTask:  # noqa: PYI034
        """Numbered before asyncio hashes it."""
        made: SimTask = super().__new__(cls)
        life = made.life = LIFE.get() if context is None else context.get(LIFE)
        made.number = next(cls._numbers if life is None or life.numbers is None else life.numbers)
        if life is not None:
            life.own(made)
        return made

    def __hash__(self) -> int:
        """Its number."""
        return self.number

    __eq__ = object.__eq__


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs callbacks in the order in which they became ready; equal times in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0  # virtual seconds since the start
        self._ready: deque[_Turn] = deque()
        self._timers: list[tuple[float, int, _Turn]] = []
        self._dropped = 0  # cancelled timers that still stand in the heap
        self._order = itertools.count()
        self._closed = False
        self.halted = False  # set by whoever wants the history to stop right there
        self.horizon = inf  # up to here nothing can come from elsewhere
        self.on_horizon: Callable[[], None] = lambda: None  # waits for elsewhere, and puts the horizon off
        self.on_error: Callable[[dict[str, Any]], None] = lambda _context: None

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Turn:
        """After everything that is ready already."""
        turn = _Turn(callback, args, copy_context() if context is None else context)
        self._ready.append(turn)
        return turn

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Timer:
        """So many virtual seconds from now."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Timer:
        """At a virtual time."""
        context = copy_context() if context is None else context
        timer = _Timer(callback, args, context, at_s=when, loop=self)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def arrive(
        self, when: float, rank: int, callback: Callable[..., Any], args: Sequence[Any], context: Context
    ) -> None:
        """At a virtual time, behind all timers of that moment; `rank`, unique, orders arrivals of one moment."""
        heapq.heappush(self._timers, (when, ARRIVALS + rank, _Turn(callback, args, context)))

    def timer_dropped(self) -> None:
        """One more was cancelled: it is passed over when its time comes, or goes when most are such."""
        self._dropped += 1
        if self._dropped > DROPPED_LEAST and self._dropped > len(self._timers) // 2:
            self._timers = [timer for timer in self._timers if not timer[2].dropped]
            heapq.heapify(self._timers)
            self._dropped = 0

    def create_future(self) -> asyncio.Future[Any]:
        """A future with an order of its own."""
        made, life = SimFuture(loop=self), LIFE.get()
        made.number = next(SimFuture.numbers if life is None or life.numbers is None else life.numbers)
        return made

    def create_task(
        self, coro: Coroutine[Any, Any, T] | Generator[Any, None, T], *, name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:  # fmt: skip
        """A task in the life of whoever makes it, or of `context`."""
        return SimTask(coro, loop=self, name=name or "", context=context)

    def run_until(self, done: Callable[[], bool]) -> None:
        """Run until `done()`, asked after each moment.

        Raises:
            Stuck: nothing is left that could happen, or a moment never ends.
        """
        asyncio._set_running_loop(self)  # noqa: SLF001 - what every event loop does
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=lambda _: None)  # generators of the dead are dropped, not finished
        try:
            while not self.halted and not done():
                if not self._ready:
                    self._jump()
                self._moment()
        finally:
            sys.set_asyncgen_hooks(*before)
            asyncio._set_running_loop(None)  # noqa: SLF001

    def _jump(self) -> None:
        """To the next timer that still stands."""
        while True:
            timers = self._timers  # another list after many were dropped
            while timers and timers[0][2].dropped:
                heapq.heappop(timers)
            if timers and timers[0][0] < self.horizon:
                break
            if not timers and self.horizon == inf:
                raise Stuck("nothing is left to happen")
            self.on_horizon()
        now, ready = timers[0][0], self._ready
        if now > self.now:
            self.now = now
        else:
            now = self.now
        while timers and timers[0][0] <= now:
            timer = heapq.heappop(timers)[2]
            if not timer.dropped:
                ready.append(timer)

    def _moment(self) -> None:
        """Everything that is ready, and what becomes ready by it, without time passing."""
        ready, turns = self._ready, 0
        while ready and not self.halted:
            turns += 1
            if turns > TURNS_AT_ONCE_MAX:
                raise Stuck(f"{TURNS_AT_ONCE_MAX} turns at second {self.now:.3f}: something wakes itself for ever")
            turn = ready.popleft()
            if turn.dropped:
                continue
            life = turn.context.get(LIFE)
            if life is not None:
                if life.dies_after is None and life.alive:
                    life.turns += 1  # what `may_run` does, at nearly every turn
                elif not life.may_run():
                    continue
            try:
                turn.context.run(turn.callback, *turn.args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as asyncio's handle has it
                self.call_exception_handler({"message": f"Exception in callback {turn.callback}", "exception": error})

    get_debug = staticmethod(bool)  # no debug mode; each future and each task asks

    def is_running(self) -> bool:
        """While it is not closed."""
        return not self._closed

    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self._closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An error that nobody took: the world counts it."""
        if not self._closed:
            self.on_error(context)

    @contextmanager
    def pretended(self) -> Iterator[None]:
        """Code that asks for the running loop finds this one, and nothing that it asks for ever happens."""
        asyncio._set_running_loop(self)  # noqa: SLF001
        try:
            yield
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001
            self._ready.clear()
            self._timers.clear()

    def close(self) -> None:
        """End: coroutines that still wait are dropped, and nothing they do on the way is run."""
        self._closed = True
        self._ready.clear()
        self._timers.clear()
