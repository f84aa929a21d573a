"""What this registry has witnessed of every node, for a custodian that puts its name to it (rule `bonded`).

Presence counts from the first slot ever judged of a node; a fault's height is told from its time, a block a minute.
"""

from __future__ import annotations

from common.clock import Clock
from common.contracts.registry_seen import SeenAsked, SeenNode, SeenNodes
from common.nets import UNSEEN
from common.network import PresenceParameters
from common.quality import DAY_BLOCKS
from common.rpc.table import Ctx
from common.units import BPS
from dux_registryd.model import RatedNode
from dux_registryd.networks import Networks
from dux_registryd.presence_rules import slot_of
from dux_registryd.scores import Scores
from dux_registryd.store import Book

BLOCK_MS = 60_000


class SeenMethods:
    """The handler of evidence.seen."""

    def __init__(self, book: Book, scores: Scores, networks: Networks, rules: PresenceParameters, clock: Clock) -> None:
        self._book = book
        self._scores = scores
        self._networks = networks
        self._rules = rules
        self._clock = clock

    async def seen(self, params: SeenAsked, _ctx: Ctx) -> SeenNodes:
        """Every registered node in figures."""
        rated = sorted(self._scores.rate_all(self._book.nodes()), key=lambda one: one.node.info.did)
        faults, nets = self._book.fault_times(), self._networks.at(slot_of(params.height, self._rules))
        return SeenNodes(
            nodes=tuple(
                self._node(one, params, faults.get(did, []), nets.get(did, UNSEEN))
                for one in rated
                for did in (one.node.info.did,)
            )
        )

    def _node(self, one: RatedNode, asked: SeenAsked, faults: list[int], net: str) -> SeenNode:
        info, last = one.node.info, slot_of(asked.height, self._rules)
        slots = max(1, asked.days * asked.day_blocks // self._rules.slot_blocks)
        up, _ = self._book.up_slots(info.did, last - slots, last)
        views = [self._book.slot_view(info.did, last - back) for back in (1, 2)]
        days = self._book.presence_days(info.did)
        return SeenNode(
            did=info.did,
            since_height=min(days) * DAY_BLOCKS if days else asked.height,
            up_bps=min(BPS, up * BPS // min(slots, max(1, last))),
            up_last=any(view is not None and view.up for view in views),
            standing_milli=one.score.standing_milli,
            fault_height=self._height_of(max(faults), asked.height) if faults else -1,
            net=net,
        )

    def _height_of(self, at_ms: int, height: int) -> int:
        return max(0, height - max(0, self._clock.unix_ms() - at_ms) // BLOCK_MS)
