"""Assembly of airdropd: its parts meet here and nowhere else."""

from __future__ import annotations

import asyncio

from common.chain.heights import heights_profile
from common.community_fund import fund_script_of
from common.contracts.airdrop import AIRDROP_EVENTS, RuleRefused
from common.contracts.peer_airdrop import EVIDENCE, PROOF, PROPOSAL, SIGNATURE
from common.contracts.wallet_chain import Tip
from common.daemon import DuxOSDaemon
from common.errors import NotNow, Unavailable
from common.network import NetworkProfile
from common.parts import Parts
from common.quality import PPM
from dux_airdropd import rules
from dux_airdropd.custody import Custody
from dux_airdropd.effects import Outside
from dux_airdropd.model import Figures
from dux_airdropd.read_methods import Methods
from dux_airdropd.recount import Recount
from dux_airdropd.settings import AirdropdSettings
from dux_airdropd.store import MIGRATIONS, Books
from dux_airdropd.watch import Watch


def figures_of(network: NetworkProfile) -> Figures:
    """The fund and the rule's parameters, as every node of the network has them."""
    return Figures(
        network=network.genesis,
        needed=network.fund.threshold,
        pubkeys=network.fund.pubkeys,
        fund_script=fund_script_of(network.fund) if network.fund.custodians else b"",
        family=network.chain,
        threshold_florins=int(network.airdrop.threshold_florins),
        carry_below_florins=int(network.airdrop.carry_below_florins),
        min_quality_ppm=round(network.airdrop.min_reputation * PPM),
        max_nodes=network.airdrop.max_nodes,
        evidence_blocks=network.airdrop.evidence_blocks,
        depth_blocks=heights_profile(network.heights).depth_blocks,
    )


class AirdropDaemon(DuxOSDaemon[AirdropdSettings]):
    """Guards that the fund goes back to the nodes evenly, once, and recomputably."""

    name = "airdropd"
    settings_type = AirdropdSettings
    _idle_at: Tip | None = None  # the tip at which there was nothing to do

    async def assemble(self, parts: Parts[AirdropdSettings]) -> None:
        """Store, neighbours, the watch, the custodian's work, methods, the loop."""
        problem = rules.rule_problem(parts.network)
        if problem:
            raise RuleRefused(rule=parts.network.airdrop.rule, network=parts.network.name, reason=problem)
        figures = figures_of(parts.network)
        books = Books(parts.store(MIGRATIONS))
        outside = Outside(parts.neighbours, parts.peers, figures.fund_script)
        recount = Recount(outside, figures, tax_bps=parts.network.tax_bps, arbiters=frozenset(parts.network.arbiters))
        custodians = parts.network.fund.custodians
        custody = Custody(books, outside, recount, figures=figures, custodians=custodians, log=parts.log)
        watch = Watch(
            books, outside, recount, figures=figures, custodians=[item.did for item in custodians], log=parts.log
        )
        methods = Methods(books, outside, recount, custody, figures=figures, network=parts.network)
        methods.serve(parts.table)
        parts.serve_peer(EVIDENCE, custody.show)
        parts.serve_peer(PROPOSAL, custody.take_proposal)
        parts.serve_peer(SIGNATURE, custody.take_answer)
        parts.serve_peer(PROOF, methods.proof_for_peer)
        parts.serve_events(AIRDROP_EVENTS, books.store)
        parts.outbox(books.store, custody.perform)
        self.watch, self.custody, self.outside = watch, custody, outside
        if figures.pubkeys:
            parts.background("airdrop", self.follow)

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
        if not tip.synced or tip == self._idle_at:
            return
        coins = await self.outside.coins()
        mine = await self.watch.look(tip, coins)
        self._idle_at = tip if mine is None else None
        if mine is not None and self.custody.is_custodian(await self.outside.own_did()):
            await self.custody.work(mine, tip.height, coins)
