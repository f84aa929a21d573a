"""Assembly of airdropd: its parts meet here and nowhere else."""

from __future__ import annotations

import asyncio

from common.community_fund import swept_quorums, tax_scripts_of
from common.contracts.airdrop import AIRDROP_EVENTS, RuleRefused
from common.contracts.peer_airdrop import BOND, CEREMONY, EVIDENCE, PROOF, PROPOSAL, SIGNATURE, SWEEP
from common.contracts.wallet_chain import Tip
from common.daemon import DuxOSDaemon
from common.errors import NotNow, Unavailable
from common.network import NetworkProfile
from common.parts import Parts
from common.store import Effect
from dux_airdropd import rules
from dux_airdropd.announcing import Announcing
from dux_airdropd.bond_teller import BondTeller
from dux_airdropd.ceremonies import Ceremonies
from dux_airdropd.custody import Custody
from dux_airdropd.effects import Outside
from dux_airdropd.figures import figures_by_height, figures_of, read_asns, renew
from dux_airdropd.fund_methods import FundMethods
from dux_airdropd.read_methods import Methods
from dux_airdropd.recount import Recount
from dux_airdropd.settings import AirdropdSettings
from dux_airdropd.store import MIGRATIONS, Books
from dux_airdropd.sweeper import SEND_SWEEP, SETTLE_SWEEP, Keeping, Sweeper, keeping_of
from dux_airdropd.watch import Watch

SWEEP_ERRANDS = (SEND_SWEEP, SETTLE_SWEEP)


def keepings_of(network: NetworkProfile) -> list[Keeping]:
    """Collectors, which wait until a sweep is worth it, and the scripts of earlier custodians, which do not."""
    least, collectors = int(network.airdrop.sweep.least_florins), network.fund.collectors
    return [keeping_of(one, least if one in collectors else 0) for one in swept_quorums(network.fund)]


class AirdropDaemon(DuxOSDaemon[AirdropdSettings]):
    """Guards that the fund goes back to the nodes evenly, once, and recomputably."""

    name = "airdropd"
    settings_type = AirdropdSettings
    _unfit: str = ""  # why a later parameter set cannot be worked under here
    _idle_at: Tip | None = None  # the tip at which there was nothing to do

    async def assemble(self, parts: Parts[AirdropdSettings]) -> None:
        """Store, neighbours, the watch, the custodian's work, methods, the loop."""
        problem = rules.rule_problem(parts.network)
        if problem:
            raise RuleRefused(rule=parts.network.airdrop.rule, network=parts.network.name, reason=problem)
        network, fund = parts.network, parts.network.fund
        figures = figures_of(network)
        books = Books(parts.store(MIGRATIONS))
        outside = Outside(parts.neighbours, parts.peers, figures.fund_script, parts.clock)
        recount = Recount(
            outside,
            figures_by_height(network),
            tax_scripts=tax_scripts_of(fund),
            network=network,
            arbiters=frozenset(network.arbiters),
            asns=read_asns(network, parts.settings.asn_map),
        )
        custodians = fund.custodians
        custody = Custody(books, outside, recount, figures=figures, custodians=custodians, log=parts.log)
        watch = Watch(
            books, outside, recount, figures=figures, custodians=[item.did for item in custodians], log=parts.log
        )
        sweeper = Sweeper(
            books,
            outside,
            keepings_of(network),
            figures=figures,
            every_blocks=network.airdrop.sweep.every_blocks,
            log=parts.log,
        )
        ceremonies = Ceremonies(books, outside, network=network.genesis, log=parts.log)
        methods = Methods(books, outside, recount, custody, figures=figures, network=network)
        methods.serve(parts.table)
        FundMethods(books, outside, sweeper, ceremonies, figures=figures, network=network).serve(parts.table)
        announcing = Announcing(books, outside, network, clock=parts.clock, log=parts.log)
        announcing.serve(parts.table)
        if network.council:
            parts.background("parameter sets", announcing.run)
        parts.serve_peer(EVIDENCE, custody.show)
        parts.serve_peer(PROPOSAL, custody.take_proposal)
        parts.serve_peer(SIGNATURE, custody.take_answer)
        parts.serve_peer(PROOF, methods.proof_for_peer)
        parts.serve_peer(BOND, custody.take_bond)
        parts.serve_peer(SWEEP, sweeper.take)
        parts.serve_peer(CEREMONY, ceremonies.show)
        parts.serve_events(AIRDROP_EVENTS, books.store)
        parts.outbox(books.store, self.perform)
        self.watch, self.custody, self.outside, self.recount = watch, custody, outside, recount
        self.sweeper, self.ceremonies, self.announcing = sweeper, ceremonies, announcing
        parts.on_parameters.append(self._under_a_later_set)
        parts.problems.append(lambda: self._unfit)
        self._figures = figures
        self.teller = BondTeller(outside, custody, custodians=[item.did for item in custodians], log=parts.log)
        if figures.pubkeys:
            parts.background("airdrop", self.follow)

    def _under_a_later_set(self) -> None:
        """New figures for what comes; a round keeps those of its cut-off."""
        problem = rules.rule_problem(self.network)
        if problem:
            self._unfit = problem
            return
        renew(self._figures, self.network)
        self.sweeper.renew(keepings_of(self.network), self.network.airdrop.sweep.every_blocks)
        try:
            self.recount.asns = read_asns(self.network, self.settings.asn_map)
        except RuleRefused as error:
            self._unfit = error.message

    async def perform(self, effect: Effect) -> None:
        """What a decision of the custodian, or of a keeper of a swept script, wanted."""
        await (self.sweeper if effect.kind in SWEEP_ERRANDS else self.custody).perform(effect)

    async def follow(self) -> None:
        """Look at the chain as often as the settings say; a neighbour that is down is asked again at the next look."""
        while True:
            try:
                await self.look()
            except (NotNow, Unavailable) as error:
                self.log.info("airdrop waits", reason=error.message)
            await asyncio.sleep(self.settings.look_s)

    async def look(self) -> None:
        """One look: take in what the chain shows, then do a custodian's next steps.

        While no airdrop is under way, only a block can change anything: without a new one nothing is asked or judged.
        """
        tip = await self.outside.tip()
        await self.ceremonies.work()
        if not tip.synced:
            return
        await self.sweeper.look(tip)
        if self.network.airdrop.rule == "bonded":
            await self.teller.look(tip.height)
        if tip == self._idle_at:
            return
        coins = await self.outside.coins()
        mine = await self.watch.look(tip, coins)
        self._idle_at = tip if mine is None else None
        if mine is not None and self.custody.is_custodian(await self.outside.own_did()):
            await self.custody.work(mine, tip.height, coins)
