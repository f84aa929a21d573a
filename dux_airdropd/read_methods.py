"""RPC handlers: contract in, books and rules, contract out. Nothing here starts a payout."""

from __future__ import annotations

from common.codec import canonical, from_canonical
from common.contracts import airdrop
from common.contracts.airdrop import PROOF_BYTES_MAX, BadProof, NoSuchAirdrop, Phase, ProofNotReady
from common.contracts.peer_airdrop import ProofAsk, ProofHeld
from common.errors import BadParams, Unavailable
from common.network import NetworkProfile
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.units import BlockHeight, Did, Florins
from dux_airdropd import payout_rules, rules, views
from dux_airdropd.custody import Custody
from dux_airdropd.effects import Outside
from dux_airdropd.evidence_rules import item_id, witness_of
from dux_airdropd.model import NOTHING_CARRIED, Census, Figures, FundCoin, Plan, Proof, Round
from dux_airdropd.payout_rules import NothingToPay
from dux_airdropd.recount import Recount
from dux_airdropd.store import Books


class Methods:
    """Handlers of airdrop.*."""

    def __init__(
        self,
        books: Books,
        outside: Outside,
        recount: Recount,
        custody: Custody,
        *,
        figures: Figures,
        network: NetworkProfile,
    ) -> None:
        self._books = books
        self._outside = outside
        self._recount = recount
        self._custody = custody
        self._figures = figures
        self._network = network

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(airdrop.AIRDROP_STATUS, self.status)
        table.serve(airdrop.AIRDROP_HISTORY, self.history)
        table.serve(airdrop.AIRDROP_SHOW, self.show)
        table.serve(airdrop.AIRDROP_ELIGIBLE, self.eligible)
        table.serve(airdrop.AIRDROP_EXPLAIN, self.explain)
        table.serve(airdrop.AIRDROP_LEDGER, self.ledger)
        table.serve(airdrop.AIRDROP_PROOF, self.proof)
        table.serve(airdrop.AIRDROP_VERIFY, self.verify)

    async def status(self, _params: Empty, _ctx: Ctx) -> airdrop.AirdropStatus:
        """How far the next airdrop is."""
        tip, coins = (await self._outside.tip()).height, await self._outside.coins()
        mine, last, owed = self._books.open_round(), self._books.last_round(), sum(self._books.ledger().values())
        proposals = self._books.proposals(mine.number) if mine else []
        held = max((len(self._books.signatures(item.proposal_id)) for item in proposals), default=0)
        return airdrop.AirdropStatus(
            rule=self._network.airdrop.rule,
            is_custodian=self._custody.is_custodian(await self._outside.own_did()),
            custodians=len(self._figures.pubkeys),
            signatures_needed=self._figures.needed,
            number=mine.number if mine else (last.number + 1 if last else 0),
            phase=mine.phase if mine else Phase.WATCHING,
            tip=tip,
            threshold_florins=Florins(self._figures.threshold_florins),
            balance_florins=Florins(self._balance(coins, tip)),
            reserved_florins=Florins(owed),
            cutoff_height=mine.cutoff_height if mine else None,
            proposal_after=self._proposal_after(mine),
            signatures=held,
            refusals=[f"{did}: {reason}" for did, reason in self._books.refusals(mine.number)] if mine else [],
            problem=self._custody.problem,
        )

    def _balance(self, coins: list[FundCoin], tip: int) -> int:
        return payout_rules.available(coins, max(0, tip - self._figures.depth_blocks + 1), 0)

    def _proposal_after(self, mine: Round | None) -> BlockHeight | None:
        return BlockHeight(rules.proposal_after(mine.cutoff_height, self._figures)) if mine else None

    async def history(self, params: airdrop.HistoryAsked, _ctx: Ctx) -> airdrop.History:
        """Airdrops, newest first."""
        rounds = self._books.rounds(params.limit)
        return airdrop.History(airdrops=[views.airdrop_view(round_, self._plan(round_)) for round_ in rounds])

    async def show(self, params: airdrop.NumberAsked, _ctx: Ctx) -> airdrop.AirdropDetail:
        """One airdrop with every share."""
        round_ = self._round(params.number)
        return views.detail_view(round_, self._plan(round_))

    def _round(self, number: int) -> Round:
        round_ = self._books.round(number)
        if round_ is None:
            raise NoSuchAirdrop(number=number)
        return round_

    def _plan(self, round_: Round) -> Plan | None:
        """The shares of a paid airdrop, or of the payout that this node would sign."""
        found = self._books.proof(round_.number)
        if found is not None:
            return found[1]
        plans = [self._books.plan_of(held.proposal_id) for held in self._books.proposals(round_.number)]
        return next((plan for plan in plans if plan is not None), None)

    async def eligible(self, _params: Empty, _ctx: Ctx) -> airdrop.Eligible:
        """Who would get a share now."""
        start, height, found = await self._census()
        return airdrop.Eligible(from_height=start, height=BlockHeight(height), candidates=views.candidates(found))

    async def _census(self) -> tuple[BlockHeight, int, Census]:
        """As this node's own evidence stands: of an airdrop in progress what custodians have shown, too."""
        mine = self._books.open_round()
        start, height = self._books.window_start(), (await self._outside.tip()).height
        if mine is not None:
            start, height = mine.from_height, mine.cutoff_height
        figures, block = self._recount.figures_at(height), await self._outside.block_hash(height)
        window = self._recount.window(start, height, block)
        items = [*await self._outside.own_evidence(start, height), *self._books.bonds(height)]
        items += self._books.items(mine.number) if mine else []
        faults = await self._outside.faults(items, window, "now")
        good = {item_id(item): witness_of(item) for item in items if item_id(item) not in faults}
        beacon, carried = await self._recount.beacon(height), self._books.carried()
        return start, height, rules.census_of(good.values(), window, figures, carried, beacon, self._recount.asns)

    async def explain(self, params: airdrop.ExplainAsked, _ctx: Ctx) -> airdrop.Explanation:
        """What is waited for, or why a node gets a share or not."""
        tip, coins, mine = (await self._outside.tip()).height, await self._outside.coins(), self._books.open_round()
        if not params.did:
            held = self._balance(coins, tip)
            lines = views.progress_lines(mine, held, tip, self._proposal_after(mine), self._figures)
            lines += [f"{did} refused: {reason}." for did, reason in self._books.refusals(mine.number)] if mine else []
            return airdrop.Explanation(lines=lines + ([self._custody.problem] if self._custody.problem else []))
        start, height, found = await self._census()
        known = {item.did: item for item in views.candidates(found)}
        if params.did not in known:
            return airdrop.Explanation(lines=[f"{params.did} is unknown here: it sent neither heartbeat nor receipt."])
        share = self._share_now(found, coins, start, height)
        return airdrop.Explanation(lines=views.candidate_lines(known[Did(params.did)], share))

    def _share_now(self, found: Census, coins: list[FundCoin], start: int, height: int) -> int | None:
        now = Round(0, BlockHeight(start), BlockHeight(height), "", Phase.WATCHING)
        figures, carried = self._recount.figures_at(height), self._books.carried()
        try:
            made = rules.plan_of(found, now, coins, self._books.ledger(), carried, figures, name="as of now")
        except NothingToPay:
            return None
        return made.share_florins

    async def ledger(self, _params: Empty, _ctx: Ctx) -> airdrop.Ledger:
        """The carry-over ledger."""
        owed = self._books.ledger()
        return airdrop.Ledger(owed_florins={did: Florins(florins) for did, florins in owed.items()})

    async def proof(self, params: airdrop.NumberAsked, _ctx: Ctx) -> airdrop.ProofFile:
        """The proof file of a paid airdrop."""
        round_, found = self._round(params.number), self._books.proof(params.number)
        if found is None:
            raise ProofNotReady(number=params.number, phase=round_.phase.value)
        return airdrop.ProofFile(number=params.number, txid=found[0].txid, proof=canonical(found[0]))

    async def verify(self, params: airdrop.VerifyProof, _ctx: Ctx) -> airdrop.ProofVerdict:
        """Recompute an airdrop from its proof and this node's own chain, books and ledger of that time."""
        try:
            proof = from_canonical(params.proof, Proof, max_bytes=PROOF_BYTES_MAX)
        except BadParams as error:
            raise BadProof(detail=error.message) from error
        problems = await self._problems(proof)
        return airdrop.ProofVerdict(
            valid=not problems,
            problems=problems,
            number=proof.proposal.number,
            cutoff_height=BlockHeight(proof.proposal.cutoff_height),
            txid=proof.txid,
        )

    async def _problems(self, proof: Proof) -> list[str]:
        number = proof.proposal.number
        round_, before = self._books.round(number), self._books.proof(number - 1)
        if round_ is None or (number > 0 and before is None and self._books.round(number - 1) is not None):
            return [f"this node's own books have not come to airdrop {number} yet: repeat when they have"]
        ledger = {line.did: int(line.florins) for line in before[1].ledger_after} if before else {}
        carried = before[1].carried_after if before else NOTHING_CARRIED
        try:
            return await self._recount.problems(proof, round_, ledger, carried)
        except Unavailable as error:
            return [f"not everything could be looked up: {error.message}"]

    async def proof_for_peer(self, params: ProofAsk, _sender: Did) -> ProofHeld:
        """The proof of an airdrop as a blob, for whoever asks."""
        found = self._books.proof(params.number)
        if found is None:
            return ProofHeld(blob="", size_bytes=0)
        return ProofHeld(blob=found[2], size_bytes=len(canonical(found[0])))
