"""Recomputing: from a proposal's evidence, or a proof's, to the one payout that it gives. What anyone can do.

Promises: nothing is believed but this node's own chain, its ledger and the signatures in the evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.units import Did
from dux_airdropd import rules
from dux_airdropd.effects import Outside
from dux_airdropd.evidence_rules import item_id, open_item
from dux_airdropd.model import Figures, FundCoin, Item, Plan, Proof, Proposal, Round, Window, Witness
from dux_airdropd.rules import NothingToPay


class Recount:
    """Verifies evidence and computes payouts from it."""

    def __init__(self, outside: Outside, figures: Figures, *, tax_bps: int, arbiters: frozenset[Did]) -> None:
        self._outside = outside
        self._figures = figures
        self._tax_bps = tax_bps
        self._arbiters = arbiters

    def window(self, from_height: int, to_height: int) -> Window:
        """What evidence between these heights is judged against."""
        return Window(
            network=self._figures.network,
            tax_bps=self._tax_bps,
            arbiters=self._arbiters,
            fund_script=self._figures.fund_script,
            from_height=from_height,
            to_height=to_height,
        )

    async def verified(self, items: Sequence[Item], round_: Round) -> list[Item]:
        """Those of the items that verify for this airdrop."""
        window = self.window(round_.from_height, round_.cutoff_height)
        faults = await self._outside.faults(items, window, round_.cutoff_hash)
        return [item for item in items if item_id(item) not in faults]

    async def own_proposal(
        self, items: Sequence[Item], round_: Round, coins: Sequence[FundCoin], ledger: Mapping[Did, int]
    ) -> tuple[Proposal, Plan, dict[bytes, str]]:
        """The proposal that these items give, its shares, and the items that do not verify (they are left out).

        Raises:
            NothingToPay: they give none.
        """
        window = self.window(round_.from_height, round_.cutoff_height)
        faults = await self._outside.faults(items, window, round_.cutoff_hash)
        evidence = {
            item_id(item): (item, Witness(item_id(item), open_item(item)[1]))
            for item in items
            if item_id(item) not in faults
        }
        proposal, plan = rules.recompute(round_, evidence, window, coins, ledger, self._figures)
        return proposal, plan, faults

    async def fault_of(
        self,
        proposal: Proposal,
        round_: Round,
        owed_to_see: Sequence[bytes],
        coins: Sequence[FundCoin],
        ledger: Mapping[Did, int],
    ) -> tuple[str, Plan | None]:
        """Why this node would not sign a proposal, or an empty string and its shares."""
        fault = rules.round_fault(proposal, round_, self._figures.network)
        if fault:
            return fault, None
        try:
            own, plan, faults = await self.own_proposal(proposal.items, round_, coins, ledger)
        except NothingToPay as error:
            return error.message, None
        fault = rules.signing_fault(proposal, own, owed_to_see, faults)
        return fault, None if fault else plan

    async def plan_of(
        self, proposal: Proposal, round_: Round, coins: Sequence[FundCoin], ledger: Mapping[Did, int]
    ) -> Plan:
        """The shares of a proposal that has been found right before.

        Raises:
            NothingToPay: it was not.
        """
        return (await self.own_proposal(proposal.items, round_, coins, ledger))[1]

    async def problems(self, proof: Proof, round_: Round, ledger: Mapping[Did, int]) -> list[str]:
        """What is wrong with a proof of this airdrop as this node's chain has it; nothing when it holds."""
        coins = await self._outside.coins()
        fault, _ = await self.fault_of(proof.proposal, round_, (), coins, ledger)
        found = [fault] if fault else []
        spends = [coin for coin in coins if coin.spent_txid == proof.txid]
        inputs = {item.outpoint for item in proof.proposal.payout.inputs}
        if {coin.outpoint for coin in spends} != inputs or not spends:
            found.append("the chain does not show its transaction spending these coins")
        elif not all(rules.pays(coin, proof.proposal.payout) for coin in spends):
            found.append("its transaction does not pay these outputs")
        elif spends[0].spent_height != proof.paid_height:
            found.append(f"its transaction is at height {spends[0].spent_height}, not {proof.paid_height}")
        return found
