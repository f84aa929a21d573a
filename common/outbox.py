"""Performs what decisions wanted, after they are on disk, as often as it takes.

A lane's effects are performed one after another in the order they were wanted; different lanes side by side. An effect
that meets a neighbour which is down or has a bug is tried again with growing pauses, for ever: giving up would lose it.
An effect that meets a bug of ours is tried again likewise and shows in the daemon's health; the other lanes go on. An
effect that is refused as wrong is closed with its error and handed to `refused`, which decides what that means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.errors import DuxError, Internal, may_repeat
from common.store import Effect, Store, Tx, effect_error

LANES_AT_ONCE = 16  # effects in progress; each is at most one RPC call
PAUSE_FIRST_MS = 200
PAUSE_MAX_MS = 30_000  # no effect waits longer, whatever the clock says
IDLE_MS = 60_000  # with nothing open: only a decision brings work, and it wakes us

Perform = Callable[[Effect], Awaitable[None]]
Refused = Callable[[Tx, Effect, DuxError], None]


def pause_ms(attempts: int) -> int:
    """How long to wait before the next try: doubling from 0.2 s to 30 s."""
    return int(min(PAUSE_MAX_MS, PAUSE_FIRST_MS * 2 ** min(attempts, 16)))


class OutboxWorker:
    """Runs the open effects of one store."""

    def __init__(
        self, store: Store, perform: Perform, *, clock: Clock, log: FilteringBoundLogger, refused: Refused | None = None
    ) -> None:
        self._store = store
        self._perform = perform
        self._refused = refused
        self._clock = clock
        self._log = log
        self._wake = asyncio.Event()
        self._busy: set[str] = set()
        self.broken: dict[str, str] = {}  # effects that met a bug of ours and are tried again -> what was raised
        store.on_outbox(self._wake.set)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                ready, wait_s = self._look()
                for effect in ready:
                    self._busy.add(effect.lane)
                    group.create_task(self._try(effect))
                await self._pause(wait_s)

    def _look(self) -> tuple[list[Effect], float]:
        """What to begin now, and how long nothing else can become due without a wake."""
        now_ms, room, next_ms = self._clock.unix_ms(), LANES_AT_ONCE - len(self._busy), IDLE_MS
        ready: list[Effect] = []
        for row in self._store.rows(
            "SELECT effect_id, lane, kind, body, attempts, due_ms FROM outbox WHERE position IN "
            "(SELECT min(position) FROM outbox WHERE done_ms IS NULL GROUP BY lane) ORDER BY position"
        ):
            if row["lane"] in self._busy:
                continue  # whoever performs it wakes us
            wait_ms = row["due_ms"] - now_ms
            if 0 < wait_ms <= PAUSE_MAX_MS:
                next_ms = min(next_ms, wait_ms)
            elif len(ready) < room:  # due; or postponed by a clock that has been set back since
                ready.append(Effect(row["effect_id"], row["lane"], row["kind"], row["body"], row["attempts"]))
        return ready, next_ms / 1000

    async def _pause(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _try(self, effect: Effect) -> None:
        try:
            await self._perform(effect)
        except DuxError as error:
            if may_repeat(error):
                self._postpone(effect, error)
            else:
                self._refuse(effect, error)
        except Exception as error:  # noqa: BLE001 - our own bug in one effect must not stop the others' money
            self._log.exception("effect broke", effect_id=effect.effect_id, kind=effect.kind)
            self.broken[effect.effect_id] = type(error).__name__
            self._postpone(effect, Internal(call_id=effect.effect_id))
        else:
            with self._store.transaction() as tx:
                self._close(tx, effect, None)
            self.broken.pop(effect.effect_id, None)
        finally:
            self._busy.discard(effect.lane)
            self._wake.set()

    def _postpone(self, effect: Effect, error: DuxError) -> None:
        with self._store.transaction() as tx:
            tx.execute(
                "UPDATE outbox SET attempts = attempts + 1, due_ms = ?, error = ? WHERE effect_id = ?",
                self._clock.unix_ms() + pause_ms(effect.attempts),
                effect_error(error),
                effect.effect_id,
            )
        self._log.info("effect postponed", effect_id=effect.effect_id, kind=effect.kind, reason=error.message)

    def _refuse(self, effect: Effect, error: DuxError) -> None:
        with self._store.transaction() as tx:
            self._close(tx, effect, effect_error(error))
            if self._refused:
                self._refused(tx, effect, error)
        self._log.warning("effect refused", effect_id=effect.effect_id, kind=effect.kind, reason=error.message)

    def _close(self, tx: Tx, effect: Effect, error: str | None) -> None:
        tx.execute("UPDATE outbox SET done_ms = ?, error = ? WHERE effect_id = ?", tx.now_ms(), error, effect.effect_id)
