"""The links of a large world: cuts between sides, machines that lost their power, and keep-alives told by the net.

A thousand nodes on whole links would spend the hour asking one another whether they live, and always hear yes. So here
nobody asks: the net tells a session that its line has been broken for as long as a peer may be silent. What the product
does then, it does. Nothing else of a session is replaced.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any, cast

from common.randomness import Randomness
from dux_p2pd.hello import Introduced
from dux_p2pd.session import Address
from dux_p2pd.wire_limits import ANSWER_S, DEAD_AFTER_S
from dux_p2pd.wire_session import Line, WireSession
from dux_sim.overlay.pipes import PipeEnd, PipeNetwork, PipeTransport, number_of
from dux_sim.overlay.post import AHEAD_S, region_of
from dux_sim.world.history import History
from dux_sim.world.weather import Storm

CITIES_S = 0.01, 0.09  # one way, least and most; each link has its own, as cities do; AHEAD_S between regions
LINK_BYTES = 8  # of a hash, that give a link its delay


class Links(Storm):
    """The weather between hosts: each is on a side, and may be without power."""

    def __init__(
        self, randomness: Randomness, history: History, seed: int, delays_s: tuple[float, float] = CITIES_S
    ) -> None:
        """`delays_s`: the shortest and the longest link, one way; below AHEAD_S regions are as near as neighbours."""
        super().__init__(randomness, history)
        self._seed = seed
        self._delays_s = delays_s
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
            digest = hashlib.sha256(f"{self._seed}/{link[0]}/{link[1]}".encode()).digest()
            share = int.from_bytes(digest[:LINK_BYTES]) / (1 << 8 * LINK_BYTES)
            is_far = region_of(number_of(source)) != region_of(number_of(target))
            least_s, most_s = self._delays_s
            least_s = AHEAD_S if is_far and most_s > AHEAD_S else least_s
            found = self._delays[link] = least_s + share * (most_s - least_s)
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


class ToldNetwork(PipeNetwork):
    """The nodes and pipes of this process, and who is told that a pipe is broken."""

    def look(self, end: PipeEnd, session: WireSession, pulse: ToldPulse) -> None:
        """Note whether a session's line is broken; one that stays so for long enough ends."""
        source, target = end.route
        if not (self.weather.is_cut(source, target) or self.weather.is_cut(target, source)):
            pulse.broken_s = None
        elif pulse.broken_s is None:
            loop = asyncio.get_running_loop()
            pulse.broken_s = loop.time()
            context = end.owner.context.copy()
            loop.call_later(DEAD_AFTER_S, self._give_up, session, pulse, pulse.broken_s, context=context)

    def _give_up(self, session: WireSession, pulse: ToldPulse, since_s: float) -> None:
        if pulse.broken_s == since_s:
            session.end("no sign of life for 15 s")

    def links_changed(self, host: str | None = None) -> None:
        """Links were cut or are whole again, all or those of a host: tell everybody whom it concerns."""
        concerned = list(self.ends.values()) if host is None else self.lines_of(host)
        for end in concerned:
            session = end.doorway.session if end.doorway is not None else None
            if session is not None and not session.closed.done():
                self.look(end, session, cast("ToldPulse", session._liveness))  # noqa: SLF001
        for end in concerned:
            end.pump()


class OverlayTransport(PipeTransport):
    """Pipes whose sessions are told of silence."""

    network: ToldNetwork

    def establish(
        self, line: Line, who: Introduced, *, transport_key: bytes, address: Address, dialled: bool
    ) -> WireSession:
        """A session that asks nobody whether they live."""
        session = super().establish(line, who, transport_key=transport_key, address=address, dialled=dialled)
        pulse = ToldPulse()
        session._timer.cancel()  # noqa: SLF001 - the one part of a session that is replaced
        session._liveness = cast("Any", pulse)  # noqa: SLF001
        self.network.look(cast("PipeEnd", line), session, pulse)
        return session
