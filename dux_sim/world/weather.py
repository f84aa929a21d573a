"""What the world does to messages: delay, loss, repetition, reordering, cuts.

A pipe between nodes behaves as TCP (late, never out of order); so loss, repetition and reordering of *messages* happen
where the product allows them: a peer call may be lost before or after it was carried out, may be handed in twice, and
may overtake another. Nothing here draws when its share is zero, so a calm world and a stormy one share no draws.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from common.contracts import p2p
from common.contracts.base import GOSSIP_HANDLE, GOSSIP_HANDLE_ALL, PEER_HANDLE
from common.contracts.p2p_errors import PeerUnreachable
from common.randomness import Randomness
from dux_sim.world.history import History

RETRANSMIT_S = 0.2  # what a lost segment costs
REPEATED_AFTER_S = 5.0


@dataclass
class Climate:
    """How bad the weather is: shares of 1, seconds."""

    base_delay_s: float = 0.02
    delay_share: float = 0.0
    delay_s: float = 3.0  # the longest
    loss_share: float = 0.0
    repeat_share: float = 0.0
    reorder_share: float = 0.0
    reorder_s: float = 8.0


class Storm:
    """The weather of links (`memory_transport.Weather`) and of calls (`door.Meddler`)."""

    def __init__(self, randomness: Randomness, history: History) -> None:
        self.climate = Climate()
        self._random = randomness
        self._history = history
        self._cut: dict[tuple[str, str], None] = {}

    # --- links --------------------------------------------------------------------------------------------------------

    def delay_s(self, source: str, target: str, size_bytes: int) -> float:
        """How long these bytes travel."""
        del size_bytes
        climate, seconds = self.climate, self.climate.base_delay_s
        if self._happens(climate.delay_share):
            extra = self._random.uniform() * climate.delay_s
            self._history.fault("delay", f"{source}>{target} {extra:.2f} s")
            seconds += extra
        return seconds

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing gets through now."""
        return (source, target) in self._cut

    def set_cuts(self, groups: Sequence[int], hosts: Sequence[str]) -> None:
        """From now on each group (bits: who stands on the one side) cannot reach the others; no group: all is whole."""
        self._cut.clear()
        for apart in groups:
            for here, source in enumerate(hosts):
                for there, target in enumerate(hosts):
                    if (apart >> here & 1) != (apart >> there & 1):
                        self._cut[source, target] = None

    def heal(self) -> None:
        """Fair weather: every link is whole, nothing is lost any more."""
        self._cut.clear()
        self.climate = Climate()

    # --- calls --------------------------------------------------------------------------------------------------------

    async def before(self, caller: str, name: str) -> bool:
        """Before a call is handed in: perhaps late, perhaps lost. True: it is handed in twice."""
        if name == p2p.PEER_CALL.name and self._happens(self.climate.loss_share / 2):
            self._history.fault("loss", f"{caller} {name}: the request")
            await asyncio.sleep(RETRANSMIT_S)
            raise PeerUnreachable(address="peer", detail="lost by the weather")
        if name not in (PEER_HANDLE.name, GOSSIP_HANDLE.name, GOSSIP_HANDLE_ALL.name):
            return False
        if self._happens(self.climate.reorder_share):
            seconds = self._random.uniform() * self.climate.reorder_s
            self._history.fault("reorder", f"{caller} {name} {seconds:.2f} s")
            await asyncio.sleep(seconds)
        if self._happens(self.climate.repeat_share):
            self._history.fault("duplicate", f"{caller} {name}")
            return True
        return False

    def after(self, caller: str, name: str) -> None:
        """After it was carried out: perhaps the answer is lost.

        Raises:
            PeerUnreachable: it is.
        """
        if name == p2p.PEER_CALL.name and self._happens(self.climate.loss_share / 2):
            self._history.fault("loss", f"{caller} {name}: the answer")
            raise PeerUnreachable(address="peer", detail="the answer was lost by the weather")

    def _happens(self, share: float) -> bool:
        return share > 0 and self._random.uniform() < share
