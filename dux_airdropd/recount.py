"""Recomputing: from a proposal's evidence, or a proof's, to the one payout that it gives. What anyone can do.

Promises: nothing is believed but this node's own chain, its ledger and the signatures in the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from common.network import NetworkProfile
from common.units import Did
from dux_airdropd import rules
from dux_airdropd.effects import Outside
from dux_airdropd.evidence_rules import item_id, witness_of
from dux_airdropd.model import Carried, Figures, FundCoin, Item, Plan, Proof, Proposal, Round, Window
from dux_airdropd.payout_rules import NothingToPay


class Recount:
    """Verifies evidence and computes payouts from it."""

    def __init__(
        self,
        outside: Outside,
        figures_at: Callable[[int], Figures],
        *,
        tax_scripts: frozenset[bytes],
        network: NetworkProfile,
        arbiters: frozenset[Did],
        asns: Mapping[str, int],
    ) -> None:
        self._outside = outside
        self.figures_at = figures_at
        self._tax_scripts = tax_scripts
        self._network = network
        self._arbiters = arbiters
        self.asns = asns

    def window(self, from_height: int, to_height: int, to_hash: str) -> Window:
        """What evidence between these heights is judged against."""
        figures = self.figures_at(to_height)
        return Window(
            network=figures.network,
            tax_bps=figures.tax_bps,
            arbiters=self._arbiters,
            tax_scripts=self._tax_scripts,
            from_height=from_height,
            to_height=to_height,
            to_hash=to_hash,
            taxes_bps=self._network.taxes_bps,
        )

    async def beacon(self, height: int) -> bytes:
        """The draw of a cut-off; empty where the rule draws nothing."""
        return await self._outside.beacon(height) if self.figures_at(height).rule == "bonded" else b""

    async def verified(self, items: Sequence[Item], round_: Round) -> list[Item]:
        """Those of the items that verify for this airdrop."""
        window = self.window(round_.from_height, round_.cutoff_height, round_.cutoff_hash)
        faults = await self._outside.faults(items, window, round_.cutoff_hash)
        return [item for item in items if item_id(item) not in faults]

    async def own_proposal(
        self,
        items: Sequence[Item],
        round_: Round,
        coins: Sequence[FundCoin],
        ledger: Mapping[Did, int],
        carried: Carried,
    ) -> tuple[Proposal, Plan, dict[bytes, str]]:
        """The proposal that these items give, its shares, and the items that do not verify (they are left out).

        Raises:
            NothingToPay: they give none.
        """
        window = self.window(round_.from_height, round_.cutoff_height, round_.cutoff_hash)
        faults = await self._outside.faults(items, window, round_.cutoff_hash)
        evidence = {item_id(item): (item, witness_of(item)) for item in items if item_id(item) not in faults}
        proposal, plan = rules.recompute(
            round_,
            evidence,
            window,
            coins,
            ledger,
            self.figures_at(round_.cutoff_height),
            carried=carried,
            beacon=await self.beacon(round_.cutoff_height),
            asns=self.asns,
        )
        return proposal, plan, faults

    async def fault_of(
        self,
        proposal: Proposal,
        round_: Round,
        owed_to_see: Sequence[bytes],
        coins: Sequence[FundCoin],
        ledger: Mapping[Did, int],
        carried: Carried,
    ) -> tuple[str, Plan | None]:
        """Why this node would not sign a proposal, or an empty string and its shares."""
        figures = self.figures_at(round_.cutoff_height)
        fault = rules.round_fault(proposal, round_, figures.network, figures.parameters)
        if fault:
            return fault, None
        try:
            own, plan, faults = await self.own_proposal(proposal.items, round_, coins, ledger, carried)
        except NothingToPay as error:
            return error.message, None
        fault = rules.signing_fault(proposal, own, owed_to_see, faults)
        return fault, None if fault else plan

    async def plan_of(
        self, proposal: Proposal, round_: Round, coins: Sequence[FundCoin], ledger: Mapping[Did, int], carried: Carried
    ) -> Plan:
        """The shares of a proposal that has been found right before.

        Raises:
            NothingToPay: it was not.
        """
        return (await self.own_proposal(proposal.items, round_, coins, ledger, carried))[1]

    async def problems(self, proof: Proof, round_: Round, ledger: Mapping[Did, int], carried: Carried) -> list[str]:
        """What is wrong with a proof of this airdrop as this node's chain has it; nothing when it holds."""
        coins = await self._outside.coins()
        fault, _ = await self.fault_of(proof.proposal, round_, (), coins, ledger, carried)
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
