"""The links of a large world: cuts between sides, machines that lost their power, and keep-alives told by the net.

A thousand nodes on whole links would spend the hour asking one another whether they live, and always hear yes. So here
nobody asks: the net tells a session that its line has been broken for as long as a peer may be silent. What the product
does then, it does. Nothing else of a session is replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from common.randomness import Randomness
from dux_p2pd.hello import Introduced
from dux_p2pd.memory_transport import MemoryLine, MemoryNetwork, MemoryTransport
from dux_p2pd.session import Address
from dux_p2pd.wire_limits import ANSWER_S, DEAD_AFTER_S
from dux_p2pd.wire_session import Line, WireSession
from dux_sim.world.history import History
from dux_sim.world.weather import Storm

DELAY_LEAST_S, DELAY_SPREAD_S = 0.01, 0.08  # one way; each link has its own, as cities do


class Links(Storm):
    """The weather between hosts: each is on a side, and may be without power."""

    def __init__(self, randomness: Randomness, history: History) -> None:
        super().__init__(randomness, history)
        self.sides: Mapping[str, int] = {}  # of hosts that stand apart from the others, on side 0
        self.dark: dict[str, None] = {}  # hosts without power
        self._delays: dict[tuple[str, str], float] = {}

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing gets through now."""
        if source in self.dark or target in self.dark:
            return True
        return bool(self.sides) and self.sides.get(source, 0) != self.sides.get(target, 0)

    def delay_s(self, source: str, target: str, size_bytes: int) -> float:
        """The link's own delay."""
        del size_bytes
        link = (source, target) if source < target else (target, source)
        found = self._delays.get(link)
        if found is None:
            found = self._delays[link] = DELAY_LEAST_S + self._random.uniform() * DELAY_SPREAD_S
        return found


class ToldPulse:
    """In place of asking: the net knows since when the line is broken."""

    def __init__(self) -> None:
        self.broken_s: float | None = None

    def heard(self, now: float) -> None:
        """Nothing to remember."""

    def wants_probe(self) -> bool:
        """Nobody need be asked."""
        return False

    def is_suspect(self, now: float) -> bool:
        """Whether a ping sent when it broke would have been answered by now."""
        return self.broken_s is not None and now - self.broken_s >= ANSWER_S


class ToldNetwork(MemoryNetwork):
    """All nodes and pipes, and who is told that a pipe is broken."""

    def look(self, line: MemoryLine, session: WireSession, pulse: ToldPulse) -> None:
        """Note whether a session's line is broken; one that stays so for long enough ends."""
        source, target = line.route
        if not (self.weather.is_cut(source, target) or self.weather.is_cut(target, source)):
            pulse.broken_s = None
        elif pulse.broken_s is None:
            loop = asyncio.get_running_loop()
            pulse.broken_s = loop.time()
            context = line.owner.context.copy()
            loop.call_later(DEAD_AFTER_S, self._give_up, session, pulse, pulse.broken_s, context=context)

    def _give_up(self, session: WireSession, pulse: ToldPulse, since_s: float) -> None:
        if pulse.broken_s == since_s:
            session.end("no sign of life for 15 s")

    def forget(self, host: str) -> None:
        """Nothing of this host is under way any more."""
        for line in [line for line in self.lines_of(host) if line.is_closed]:
            self.remove(line)

    def clear(self) -> None:
        """Take away the pipes whose ends are both closed: their last word may be for a life that is over."""
        for line in [line for line in self.lines if line.is_over]:
            self.remove(line)

    def links_changed(self, host: str | None = None) -> None:
        """Links were cut or are whole again, all or those of a host: tell everybody whom it concerns."""
        concerned = list(self.lines) if host is None else self.lines_of(host)
        for line in concerned:
            session = line.doorway.session if line.doorway is not None else None
            if session is not None and not session.closed.done():
                self.look(line, session, cast("ToldPulse", session._liveness))  # noqa: SLF001
        for line in concerned:
            line.pump()
        if host is None:
            self.clear()


class OverlayTransport(MemoryTransport):
    """Pipes in memory whose sessions are told of silence."""

    network: ToldNetwork

    def establish(
        self, line: Line, who: Introduced, *, transport_key: bytes, address: Address, dialled: bool
    ) -> WireSession:
        """A session that asks nobody whether they live."""
        session = super().establish(line, who, transport_key=transport_key, address=address, dialled=dialled)
        pulse = ToldPulse()
        session._timer.cancel()  # noqa: SLF001 - the one part of a session that is replaced
        session._liveness = cast("Any", pulse)  # noqa: SLF001
        self.network.look(cast("MemoryLine", line), session, pulse)
        return session
