"""This node's own heartbeats: measured, signed, kept and told, on a timer and when asked for."""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.contracts.peer_registry import TOPIC_HEARTBEAT
from common.contracts.registry import NoTip
from common.errors import DuxError, NotNow, Unavailable
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.receipts import Heartbeat
from common.units import BlockHeight, UnixMs
from dux_registryd.effects import Outside
from dux_registryd.machine import Machine
from dux_registryd.model import Load
from dux_registryd.store import Book

RETRY_S = 2.0  # after a heartbeat that could not be told: the wallet or p2pd is starting


class Pulse:
    """Beats while this node is registered."""

    def __init__(
        self,
        book: Book,
        outside: Outside,
        *,
        network: NetworkProfile,
        clock: Clock,
        log: FilteringBoundLogger,
        machine: Machine,
        interval_s: float,
    ) -> None:
        self._book = book
        self._outside = outside
        self._network = network
        self._clock = clock
        self._log = log
        self._machine = machine
        self._interval_s = interval_s
        self._started = clock.monotonic()
        self._soon = asyncio.Event()

    def beat_soon(self) -> None:
        """Do not wait for the timer."""
        self._soon.set()

    def measured(self) -> Load:
        """How busy this machine is now."""
        return self._machine.load(int(self._clock.monotonic() - self._started))

    async def beat(self, busy: Load) -> int:
        """One heartbeat now; to how many nodes it went.

        Raises:
            NoTip: the chain is not read yet.
            Unavailable: p2pd does not answer.
        """
        own, tip = await self._outside.own_did(), await self._outside.tip()
        if tip is None:
            raise NoTip
        held = self._book.heartbeat(own)
        now_ms = max(self._clock.unix_ms(), held.at_ms + 1 if held else 0)
        beat = Heartbeat(
            network=self._network.genesis,
            did=own,
            at_ms=UnixMs(now_ms),
            height=BlockHeight(tip.height),
            block_hash=tip.hash,
            uptime_s=busy.uptime_s,
            load_milli=busy.load_milli,
            memory_used_bps=busy.memory_used_bps,
            disk_used_bps=busy.disk_used_bps,
            memory_available_mb=busy.memory_available_mb,
            cpu_available=busy.cpu_available,
        )
        envelope = await self._outside.signed(Purpose.HEARTBEAT, beat)
        with self._book.store.transaction() as tx:
            self._book.put_heartbeat(tx, beat, envelope, heard_ms=self._clock.unix_ms(), witnessed=True)
        return await self._outside.publish(TOPIC_HEARTBEAT, envelope)

    async def run(self) -> None:
        """Beat for ever; a heartbeat that fails is tried again soon and costs nothing else."""
        while True:
            pause_s = await self._try()
            self._soon.clear()
            try:
                async with asyncio.timeout(pause_s):
                    await self._soon.wait()
            except TimeoutError:
                continue

    async def _try(self) -> float:
        try:
            if self._registered(await self._outside.own_did()):
                await self.beat(self.measured())
        except (NotNow, Unavailable) as error:
            self._log.info("heartbeat postponed", reason=error.message)
            return min(RETRY_S, self._interval_s)
        except DuxError as error:
            self._log.warning("heartbeat refused", reason=error.message)
        return self._interval_s

    def _registered(self, own: str) -> bool:
        held = self._book.node(own)
        return held is not None and not held.info.withdrawn
