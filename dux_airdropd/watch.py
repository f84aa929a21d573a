"""Every node's half of an airdrop: when the cut-off is reached, and what became of the payout on the chain.

Promises: the books never run ahead of the chain: a round whose cut-off block left it is forgotten, a payout counts when
it lies deep enough, and counts no more when a deeper fork takes it away; a payout that this node did not see being made
is taken over only after recomputing its proof.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from structlog.typing import FilteringBoundLogger

from common.codec import canonical
from common.contracts.airdrop import AirdropAbandoned, AirdropPaid, AirdropReopened, CutoffReached, Phase
from common.contracts.wallet_chain import Tip
from common.errors import DuxError
from common.units import BlockHeight, Did, Florins
from dux_airdropd import rules
from dux_airdropd.effects import Outside
from dux_airdropd.model import Figures, FundCoin, Plan, Proof, Round
from dux_airdropd.recount import Recount
from dux_airdropd.store import Books


class Watch:
    """Follows the fund on the chain."""

    def __init__(
        self,
        books: Books,
        outside: Outside,
        recount: Recount,
        *,
        figures: Figures,
        custodians: Sequence[Did],
        log: FilteringBoundLogger,
    ) -> None:
        self._books = books
        self._outside = outside
        self._recount = recount
        self._figures = figures
        self._custodians = custodians
        self._log = log

    async def look(self, tip: Tip, coins: Sequence[FundCoin]) -> Round | None:
        """The airdrop in progress after taking in what the chain shows; None when there is none."""
        mine = self._reopened(coins) or self._books.open_round()
        if mine is not None and await self._outside.block_hash(mine.cutoff_height) != mine.cutoff_hash:
            self._forget(mine)
            mine = None
        if mine is None:
            mine = await self._open(tip, coins)
        if mine is None:
            return None
        spent, lapse = rules.spent_by(coins, mine.cutoff_height), rules.lapse_height(mine.cutoff_height, self._figures)
        if spent is None or (spent.spent_height or 0) > lapse:
            if not rules.is_deep(lapse, tip.height, self._figures.depth_blocks):
                return mine
            self._lapsed(mine, lapse)
            return None
        return await self._spent(mine, spent, tip, coins)

    def _reopened(self, coins: Sequence[FundCoin]) -> Round | None:
        """The last paid airdrop, open again with the ledger as it was, when its payout is not where the books say.

        A fork deeper than the depth took it away; it comes back in another block, perhaps under another id, and is
        closed anew from there. Airdrops after it rested on coins that may never have been: they are forgotten.
        """
        paid = self._books.last_paid()
        if paid is None or rules.stands(paid, rules.spent_by(coins, paid.cutoff_height)):
            return None
        held = self._books.proof(paid.number)
        if held is None:
            return None
        opened = msgspec.structs.replace(paid, phase=Phase.PAYING, paid_height=None, proposal_id=b"")
        told = AirdropReopened(number=paid.number, txid=paid.txid)
        with self._books.store.transaction() as tx:
            self._books.drop_rounds_after(tx, paid.number)
            self._books.put_ledger(tx, held[0].proposal.ledger)
            self._books.put_carried(tx, held[0].proposal.carried)
            self._books.drop_proof(tx, paid.number)
            self._books.put_round(tx, opened)
            tx.emit("AirdropReopened", told)
            tx.audit("airdrop open again", told)
        return opened

    def _lapsed(self, mine: Round, lapse: int) -> None:
        """No payout came: nobody was eligible, or too few custodians were there. A later cut-off sees more evidence."""
        self._abandon(mine, lapse, f"no payout was in a block up to height {lapse}; a later cut-off decides anew")

    async def _open(self, tip: Tip, coins: Sequence[FundCoin]) -> Round | None:
        last, owed = self._books.last_round(), sum(self._books.ledger().values())
        after = -1 if last is None else (last.paid_height if last.paid_height is not None else last.cutoff_height)
        height = rules.cutoff_height(
            coins,
            after=max(
                after, 0, rules.earliest_cutoff(self._books.window_start(), self._recount.figures_at(tip.height))
            ),
            tip=tip.height,
            depth=self._figures.depth_blocks,
            owed_florins=owed,
            threshold_at=lambda at: self._recount.figures_at(at).threshold_florins,
        )
        if height is None:
            return None
        opened = Round(
            number=0 if last is None else last.number + 1,
            from_height=self._books.window_start(),
            cutoff_height=BlockHeight(height),
            cutoff_hash=await self._outside.block_hash(height),
            phase=Phase.GATHERING,
        )
        with self._books.store.transaction() as tx:
            self._books.put_round(tx, opened)
            tx.emit("CutoffReached", CutoffReached(number=opened.number, cutoff_height=opened.cutoff_height))
            tx.audit("cut-off reached", {"number": opened.number, "height": height, "hash": opened.cutoff_hash})
        return opened

    def _forget(self, mine: Round) -> None:
        with self._books.store.transaction() as tx:
            self._books.drop_round(tx, mine.number)
            reason = "its cut-off block left the chain"
            tx.emit("AirdropAbandoned", AirdropAbandoned(number=mine.number, reason=reason))
            tx.audit("airdrop forgotten", {"number": mine.number, "reason": reason})

    async def _spent(self, mine: Round, spent: FundCoin, tip: Tip, coins: Sequence[FundCoin]) -> Round | None:
        """One of the cut-off's coins is spent in a block: by a payout of this airdrop, or by something else."""
        height = spent.spent_height or 0
        proof, deep = self._known(mine, spent, height), rules.is_deep(height, tip.height, self._figures.depth_blocks)
        if proof is None and deep:
            proof = await self._fetched(mine, spent)
        if proof is None:
            return self._unknown(mine, spent, tip)
        if not deep:
            paying = msgspec.structs.replace(mine, phase=Phase.PAYING, txid=spent.spent_txid)
            if paying != mine:
                with self._books.store.transaction() as tx:
                    self._books.put_round(tx, paying)
            return paying
        plan = await self._recount.plan_of(proof.proposal, mine, coins, self._books.ledger(), self._books.carried())
        await self._close(mine, proof, plan)
        return None

    def _known(self, mine: Round, spent: FundCoin, height: int) -> Proof | None:
        for held in self._books.proposals(mine.number):
            if held.verdict == "" and rules.pays(spent, held.proposal.payout):
                return Proof(held.proposal, spent.spent_txid, height)
        return None

    async def _fetched(self, mine: Round, spent: FundCoin) -> Proof | None:
        """The proof from a custodian that has it, once this node's own recomputation agrees with it."""
        own = await self._outside.own_did()
        for did in self._custodians:
            if did == own:
                continue
            try:
                proof = await self._outside.ask_proof(did, mine.number)
            except DuxError as error:
                self._log.info("no proof from custodian", did=did, reason=error.message)
                continue
            if proof is None or proof.txid != spent.spent_txid or not rules.pays(spent, proof.proposal.payout):
                continue
            problems = await self._recount.problems(proof, mine, self._books.ledger(), self._books.carried())
            if not problems:
                return proof
            self._log.warning("proof refused", did=did, number=mine.number, reason=problems[0])
        return None

    def _unknown(self, mine: Round, spent: FundCoin, tip: Tip) -> Round | None:
        """Nobody has shown a right proof: wait for one, then let the next cut-off decide anew."""
        if tip.height - (spent.spent_height or 0) < rules.FORGET_FOREIGN_BLOCKS:
            return mine
        reason = f"a fund coin was spent by {spent.spent_txid}, which is no payout that anybody has proven"
        self._abandon(mine, spent.spent_height or 0, reason)
        return None

    def _abandon(self, mine: Round, height: int, reason: str) -> None:
        """Close it unpaid; the next cut-off is looked for from this height on."""
        closed = msgspec.structs.replace(mine, phase=Phase.ABANDONED, reason=reason, paid_height=BlockHeight(height))
        with self._books.store.transaction() as tx:
            self._books.put_round(tx, closed)
            tx.emit("AirdropAbandoned", AirdropAbandoned(number=mine.number, reason=reason))
            tx.audit("airdrop abandoned", {"number": mine.number, "reason": reason})

    async def _close(self, mine: Round, proof: Proof, plan: Plan) -> None:
        """The payout is deep enough: the ledger moves on, the proof is kept and offered."""
        blob = await self._outside.put_blob(canonical(proof))
        paid = msgspec.structs.replace(
            mine,
            phase=Phase.PAID,
            txid=proof.txid,
            paid_height=BlockHeight(proof.paid_height),
            proposal_id=rules.proposal_id(proof.proposal),
        )
        told = AirdropPaid(
            number=mine.number,
            txid=proof.txid,
            height=BlockHeight(proof.paid_height),
            paid_florins=Florins(plan.paid_florins),
            eligible=len(plan.lines),
        )
        with self._books.store.transaction() as tx:
            self._books.put_round(tx, paid)
            self._books.put_ledger(tx, plan.ledger_after)
            self._books.put_carried(tx, plan.carried_after)
            self._books.put_proof(tx, proof, plan, blob)
            tx.emit("AirdropPaid", told)
            tx.audit("airdrop paid", told)
