"""The bounds of escrow_protocol.md §2 for the histories whose script says who has earned what."""

from __future__ import annotations

from collections.abc import Iterator

from common.chain.spends import SpendKind
from dux_sim.money.laws import Books, OnChainLot, Violation
from dux_sim.money.plan import SELLER, Plan
from dux_sim.world.world import World

MARGIN_BLOCKS = 2
REVIEW_BLOCKS = 14  # two pings of the arbiters, K, the check, the release, and pauses of the outbox in between


class PlannedBooks(Books):
    """The books of a history whose plan is known."""

    def __init__(self, world: World, plan: Plan) -> None:
        super().__init__(world, plan)
        self._plan = plan

    def bounds(self, outputs: list[OnChainLot]) -> Iterator[Violation]:
        """Nobody honest loses more than §2 says, where the world was calm when it counted."""
        for output in outputs:
            gross = int(output.spend.gross_florins) if output.spend is not None else 0
            if self._entitled(output) and gross != int(output.contract.price_florins):
                yield Violation("bounds", f"an entitled seller got {gross} of {output.contract.price_florins}")
            if self._cheated(output) and gross:
                yield Violation("bounds", f"an honest buyer paid {gross} for a bad result")

            if self._agreed_in_time(output) and output.spend is not None and output.spend.kind is not SpendKind.RELEASE:
                yield Violation("bounds", f"both sides were content and it ended by {output.spend.kind.value}")

    def _agreed_in_time(self, output: OnChainLot) -> bool:
        """Good work, delivered, a buyer that pays, and long calm before anybody had to ask the arbiters."""
        parties = self._plan.buyer == "honest" and self._entitled(output)
        height = self.world.history.calm_from
        return parties and height is not None and height < int(output.contract.heights.dispute_by) - REVIEW_BLOCKS

    def _entitled(self, output: OnChainLot) -> bool:
        """Delivered what was agreed, in time, and was there when it counted."""
        if self._plan.seller != "honest" or not self._plan.quorum or not self._calm(output):
            return False
        lots = [lot for lot in self.lots(self.world.nodes[SELLER]) if lot.contract_id == output.contract_id]
        return any(lot.number == 0 and lot.delivered_at is not None for lot in lots)

    def _cheated(self, output: OnChainLot) -> bool:
        goes_second = self._plan.policy == "standby" or not self._plan.lock
        parties = self._plan.seller == "bad-work" and self._plan.buyer == "honest"
        return parties and goes_second and self._plan.quorum and self._calm(output)

    def _calm(self, output: OnChainLot) -> bool:
        """Nothing was wrong with the world from shortly before the last moment to dispute on."""
        height = self.world.history.calm_from
        return height is not None and height < int(output.contract.heights.dispute_by) - MARGIN_BLOCKS
