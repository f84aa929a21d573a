"""Who may measure whose machine: those whose look key has drawn it for the period, as it proves when it begins.

Nobody knows before: neither the node that is measured nor anybody else, so that no challenger can be bought, kept
away or served alone. In each period as many are to be expected for every node as the network's profile says, of its
tier or above, by the rules of witnesses (look_rules.py); how many come is chance.

Source: mechanisms.md §2.4.
"""

from __future__ import annotations

from collections.abc import Iterable

from common.contracts.peer_benchmark import BeginAnswer, BeginAsk
from common.identity.ecvrf import drawn_by
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.standing import right_body, right_input
from common.units import Did
from dux_registryd.challengers import Challengers
from dux_registryd.effects import Outside
from dux_registryd.look_rules import Round, ticket_of
from dux_registryd.presence_rules import SETTLED_BLOCKS

BEGUN_MAX = 1_024  # challengers of this node that are remembered; in a period a few are expected


class Rights:
    """The draws of measurements, by this node's view of the network."""

    def __init__(self, outside: Outside, challengers: Challengers, network: NetworkProfile) -> None:
        self._outside = outside
        self._challengers = challengers
        self._network = network.genesis
        self._rules = network.benchmark
        self._begun: dict[tuple[int, Did], None] = {}
        self._beacon = b""  # by which the own proofs were made: another one after a reorganisation
        self._drawn: dict[Did, tuple[bytes, bytes]] = {}  # for whom -> proof and ticket

    def period_of(self, height: int) -> int:
        """The period that a height lies in."""
        return height // self._rules.period_blocks

    async def beacon(self, period: int) -> bytes | None:
        """What a period's measurements are drawn by; None while the chain does not tell."""
        return await self._outside.beacon(self._drawn_at(period))

    def _drawn_at(self, period: int) -> int:
        return max(0, period * self._rules.period_blocks - SETTLED_BLOCKS)

    def _round(self, period: int, target: Did) -> Round:
        return self._challengers.measurers(self._drawn_at(period), target, self._rules.challengers)

    async def own(self, period: int, targets: Iterable[Did]) -> dict[Did, bytes]:
        """Whom of these this node may measure, with the proof."""
        own, beacon, wanted = await self._outside.own_did(), await self.beacon(period), list(targets)
        if beacon is None:
            return {}
        if beacon != self._beacon:
            self._beacon, self._drawn = beacon, {}
        new = [did for did in wanted if did not in self._drawn]
        bodies = [right_body(self._network, beacon, period, did, own) for did in new]
        for did, proof in zip(new, await self._outside.proofs(Purpose.MEASURE, bodies), strict=True):
            self._drawn[did] = proof, ticket_of(drawn_by(proof))
        await self._challengers.look_round()
        return {did: self._drawn[did][0] for did in wanted if self._may_measure(own, did, period)}

    def _may_measure(self, own: Did, target: Did, period: int) -> bool:
        _, ticket = self._drawn[target]
        return self._round(period, target).may_look(own, target, ticket, self._challengers.net_of(target))

    async def fault(
        self, period: int, target: Did, challenger: Did, proof: bytes, *, drawn_by_beacon: bytes | None = None
    ) -> str | None:
        """Why somebody has no right to measure a node in a period that is now or has just ended, or None.

        `drawn_by_beacon`: what it says that it was drawn by, where it says so.
        """
        tip = self._outside.tip_seen or await self._outside.tip()
        if tip is None or abs(period - self.period_of(tip.height)) > 1:
            return "its period is not lately"
        beacon = await self.beacon(period)
        if beacon is None:
            return "this node's chain is not there yet"
        if drawn_by_beacon not in (None, beacon):
            return "it was drawn by another beacon"
        await self._challengers.look_round()
        asked = right_input(self._network, beacon, period, target, challenger)
        has_drawn = self._challengers.has_drawn(self._round(period, target), target, challenger, asked, proof)
        return None if has_drawn else "its challenger was not drawn"

    # the measured side

    async def begin(self, ask: BeginAsk, sender: Did) -> BeginAnswer:
        """A challenger shows its right to measure this node."""
        if await self.fault(ask.period, await self._outside.own_did(), sender, ask.proof) is not None:
            return BeginAnswer(refused="you were not drawn for it")
        if len(self._begun) >= BEGUN_MAX:
            self._begun.pop(next(iter(self._begun)))
        self._begun[ask.period, sender] = None
        return BeginAnswer(refused="")

    async def has_begun(self, period: int, challenger: Did) -> bool:
        """Whether a challenger has shown its right, and the period is now or has just ended."""
        tip = self._outside.tip_seen or await self._outside.tip()
        if tip is None or abs(period - self.period_of(tip.height)) > 1:
            return False
        return (period, challenger) in self._begun
