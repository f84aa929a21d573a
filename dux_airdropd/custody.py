"""A custodian's half of an airdrop: exchanging evidence, proposing, judging, signing, having the payout sent.

Promises: it signs a proposal iff every item in it verifies, every item that it showed the proposer (or held) and that
still verifies is in it, and its own recomputation gives the same payout. Before it proposes or signs, the network is
asked for the newest logs of those whose word decides. Every step is on disk before the next, and doing a step again
gives the same outcome: all proposals of one cut-off spend the same largest coin, so at most one of them is ever mined.
Source: settled.md 23, money.md §6.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from structlog.typing import FilteringBoundLogger

from common.chain.fund import payout_signatures_are_right
from common.codec import Wire, canonical, from_canonical, from_json
from common.contracts.airdrop import PROOF_BYTES_MAX, NotACustodian, OtherRound, PayoutProposed, Phase
from common.contracts.peer_airdrop import BondCall, EvidenceHeld, Kept, ProposalCall, RoundName, SignatureCall
from common.contracts.wallet_contract import PayoutSignatures
from common.errors import BadParams, DuxError
from common.network import Custodian
from common.store import Effect, Tx
from common.units import Did, Florins
from dux_airdropd import rules
from dux_airdropd.effects import Outside
from dux_airdropd.evidence_rules import in_order, item_id, open_bond, open_item
from dux_airdropd.model import Bundle, Figures, FundCoin, Held, Item, Kind, Plan, Proposal, Round
from dux_airdropd.payout_rules import NothingToPay
from dux_airdropd.recount import Recount
from dux_airdropd.store import Books

REFUSAL_CHARS_MAX = 500
SEND_PROPOSAL, SEND_ANSWER, SETTLE = "send-proposal", "send-answer", "settle"


class Errand(Wire, frozen=True):
    """What the outbox is to do: about which proposal, and with whom."""

    proposal_id: bytes
    did: Did = Did("")
    blob: str = ""
    size_bytes: int = 0


class Settlement(Wire, frozen=True):
    """A payout with the signatures that settle it, chosen once."""

    proposal_id: bytes
    signatures: list[PayoutSignatures]


class Custody:
    """One custodian's work."""

    def __init__(
        self,
        books: Books,
        outside: Outside,
        recount: Recount,
        *,
        figures: Figures,
        custodians: Sequence[Custodian],
        log: FilteringBoundLogger,
    ) -> None:
        self._books = books
        self._outside = outside
        self._recount = recount
        self._figures = figures
        self._keys = {custodian.did: bytes.fromhex(custodian.pubkey) for custodian in custodians}
        self._order = [custodian.did for custodian in custodians]
        self._log = log
        self._gathered: tuple[int, int] = (-1, -1)  # number and height at which own evidence was last read
        self._tried: tuple[int, str, int] = (-1, "", -1)  # the last attempt made here; after a restart it is made again
        self.problem = ""

    def is_custodian(self, did: Did) -> bool:
        """Whether the network profile names this node."""
        return did in self._keys

    async def work(self, mine: Round, tip: int, coins: Sequence[FundCoin]) -> None:
        """The next steps of this custodian at this height."""
        await self._gather(mine, tip)
        attempt = rules.attempt_at(tip, mine.cutoff_height, self._figures)
        in_time = rules.may_sign(tip, mine.cutoff_height, self._figures)
        if attempt is not None and in_time and mine.phase in (Phase.GATHERING, Phase.SIGNING):
            await self._propose_in_turn(mine, attempt, tip, coins)
            await self._judge_all(mine, coins)
            await self._settle_when_signed(mine, attempt)

    # evidence

    async def _gather(self, mine: Round, tip: int) -> None:
        """Own evidence, once per height."""
        if self._gathered == (mine.number, tip):
            return
        found = await self._outside.own_evidence(mine.from_height, mine.cutoff_height)
        found += await self._bonded_evidence(mine)
        self._books.add_items(mine.number, await self._recount.verified(found, mine))
        self._gathered = (mine.number, tip)

    async def _bonded_evidence(self, mine: Round) -> list[Item]:
        """By rule `bonded`: the bonds that nodes have shown, and this custodian's own words, given once per cut-off."""
        figures = self._recount.figures_at(mine.cutoff_height)
        if figures.rule != "bonded":
            return []
        own = await self._outside.own_did()
        held = self._books.items(mine.number)
        if any(item.kind is Kind.WITNESS and open_item(item)[0].did == own for item in held):
            return self._books.bonds(mine.cutoff_height)
        words = await self._outside.own_words(own, mine, figures)
        return [*self._books.bonds(mine.cutoff_height), *words]

    async def take_bond(self, call: BondCall, sender: Did) -> Kept:
        """A node shows a bond: kept when its form is right and it is the sender's own; judged with a cut-off."""
        item = Item(Kind.BOND, call.shown)
        shown, proof = open_bond(item)
        if proof.bond.did != sender:
            raise BadParams(detail="a node shows its own bonds only")
        return Kept(kept=self._books.put_bond(sender, item, shown.height, proof.bond.until))

    async def show(self, name: RoundName, sender: Did) -> EvidenceHeld:
        """All that is held for this airdrop, to another custodian, which has to include it from now on."""
        self._check_sender(sender)
        mine = self._same_round(name)
        await self._gather(mine, (await self._outside.tip()).height)
        data = canonical(Bundle(in_order(self._books.show_items(mine.number, sender))))
        return EvidenceHeld(blob=await self._outside.put_blob(data), size_bytes=len(data))

    async def _ask_others(self, mine: Round) -> None:
        """What the other custodians hold, as far as they answer and it verifies."""
        for did in await self._others():
            try:
                bundle = await self._outside.ask_evidence(did, _name(mine))
            except DuxError as error:
                self._log.info("no evidence from custodian", did=did, reason=error.message)
                continue
            self._books.add_items(mine.number, await self._recount.verified(bundle.items, mine))

    # proposals

    async def _propose_in_turn(self, mine: Round, attempt: int, tip: int, coins: Sequence[FundCoin]) -> None:
        own = await self._outside.own_did()
        if rules.proposer(self._order, mine.number, attempt) != own:
            return
        if self._tried == (mine.number, mine.cutoff_hash, attempt):
            return
        await self._gather(mine, tip)
        await self._ask_others(mine)
        items: list[Item] = self._books.show_items(mine.number, own)
        await self._confirm(items)
        self._tried = (mine.number, mine.cutoff_hash, attempt)
        try:
            proposal, plan, _ = await self._recount.own_proposal(
                items, mine, coins, self._books.ledger(), self._books.carried()
            )
        except NothingToPay as error:
            self.problem = error.message
            return
        self.problem = ""
        await self._publish(mine, Held(rules.proposal_id(proposal), own, attempt, proposal, None), plan)

    async def _publish(self, mine: Round, held: Held, plan: Plan) -> None:
        """Write the proposal down and have it handed to every other custodian."""
        data = canonical(held.proposal)
        blob = await self._outside.put_blob(data)
        others = await self._others()
        with self._books.store.transaction() as tx:
            if self._books.add_proposal(tx, held):
                tx.audit("payout proposed", {"number": mine.number, "proposal": held.proposal_id.hex()})
            self._books.put_round(tx, msgspec.structs.replace(mine, phase=Phase.SIGNING))
            for did in others:
                errand = Errand(proposal_id=held.proposal_id, did=did, blob=blob, size_bytes=len(data))
                _want(tx, SEND_PROPOSAL, held.proposal_id, did, errand)
        self._log.info("payout proposed", number=mine.number, eligible=len(plan.lines), paid_florins=plan.paid_florins)

    async def take_proposal(self, call: ProposalCall, sender: Did) -> Kept:
        """A proposal from another custodian: kept now, judged at the next look."""
        self._check_sender(sender)
        mine = self._same_round(call.round)
        if self._books.proposal(call.proposal_id) is None:
            data = await self._outside.fetch_proposal(sender, call)
            proposal = from_canonical(data, Proposal, max_bytes=PROOF_BYTES_MAX)
            if rules.proposal_id(proposal) != call.proposal_id or proposal.number != mine.number:
                raise BadParams(detail="the blob holds another proposal")
            with self._books.store.transaction() as tx:
                self._books.add_proposal(tx, Held(call.proposal_id, sender, 0, proposal, None))
        return Kept(kept=True)

    async def _judge_all(self, mine: Round, coins: Sequence[FundCoin]) -> None:
        for held in self._books.proposals(mine.number):
            if held.verdict is None:
                await self._judge(mine, held, coins)

    async def _judge(self, mine: Round, held: Held, coins: Sequence[FundCoin]) -> None:
        """Recompute, then sign or refuse; the verdict and the signatures land together."""
        held_here = self._books.items(mine.number)
        await self._confirm([*held.proposal.items, *held_here])
        owed = await self._owed(mine, held.sender, held_here)
        fault, plan = await self._recount.fault_of(
            held.proposal, mine, owed, coins, self._books.ledger(), self._books.carried()
        )
        own, others = await self._outside.own_did(), await self._others()
        signatures: tuple[bytes, ...] = ()
        if not fault:
            signatures = await self._outside.sign(_request_id("sign", held.proposal_id), held.proposal.payout)
        told = PayoutProposed(
            number=mine.number,
            proposal_id=held.proposal_id.hex(),
            eligible=len(plan.lines) if plan else 0,
            paid_florins=Florins(plan.paid_florins if plan else 0),
            own_verdict=fault,
        )
        with self._books.store.transaction() as tx:
            self._books.judge(tx, held.proposal_id, fault, plan)
            self._books.put_round(tx, msgspec.structs.replace(mine, phase=Phase.SIGNING))
            self._keep_answer(tx, held.proposal_id, own, signatures, fault)
            for did in others:
                _want(tx, SEND_ANSWER, held.proposal_id, did, Errand(proposal_id=held.proposal_id, did=did))
            tx.emit("PayoutProposed", told)
            tx.audit("payout judged", told)

    async def _confirm(self, items: Sequence[Item]) -> None:
        """Before money moves, what is known of those whom the payout rests on is asked of the network."""
        told = await self._outside.confirm(items)
        self._log.info("event logs confirmed", signers=told)

    async def _owed(self, mine: Round, sender: Did, held_here: Sequence[Item]) -> list[bytes]:
        """What a proposal has to include: what its sender was shown, as far as it still verifies by the newest logs."""
        shown = set(self._books.owed_to_see(mine.number, sender))
        wanted = [item for item in held_here if item_id(item) in shown]
        return [item_id(item) for item in await self._recount.verified(wanted, mine)]

    def _keep_answer(self, tx: Tx, proposal_id: bytes, did: Did, signatures: Sequence[bytes], refusal: str) -> None:
        if signatures:
            self._books.add_signatures(tx, proposal_id, did, signatures)
        else:
            self._books.add_refusal(tx, proposal_id, did, refusal[:REFUSAL_CHARS_MAX])

    # signatures

    async def take_answer(self, call: SignatureCall, sender: Did) -> Kept:
        """Another custodian's signatures, kept when they are right; or why it refuses."""
        self._check_sender(sender)
        self._same_round(call.round)
        held = self._books.proposal(call.proposal_id)
        if held is None:
            raise OtherRound(number=call.round.number, cutoff_height=call.round.cutoff_height)
        if call.signatures and not _right(held, self._keys[sender], call.signatures):
            raise BadParams(detail="these signatures do not fit the payout")
        with self._books.store.transaction() as tx:
            self._keep_answer(tx, call.proposal_id, sender, call.signatures, call.refusal)
        return Kept(kept=True)

    async def _settle_when_signed(self, mine: Round, attempt: int) -> None:
        """The proposer has a signed payout sent at once; the others when its attempt is over and nothing is mined."""
        own = await self._outside.own_did()
        for held in self._books.proposals(mine.number):
            signatures = self._books.signatures(held.proposal_id)
            if held.verdict != "" or len(signatures) < self._figures.needed:
                continue
            if held.sender == own or attempt > held.attempt:
                chosen = [
                    PayoutSignatures(pubkey=self._keys[did], signatures=list(signatures[did]))
                    for did in sorted(signatures)[: self._figures.needed]
                ]
                with self._books.store.transaction() as tx:
                    errand = Settlement(proposal_id=held.proposal_id, signatures=chosen)
                    tx.outbox(_request_id(SETTLE, held.proposal_id), SETTLE, errand)
                return

    # the outbox

    async def perform(self, effect: Effect) -> None:
        """Do what a decision wanted, unless the airdrop has ended meanwhile."""
        if effect.kind == SETTLE:
            order = from_json(effect.body, Settlement)
            held = self._books.proposal(order.proposal_id)
            if held is not None and self._is_open(held):
                await self._outside.settle(effect.effect_id, held.proposal.payout, order.signatures)
            return
        errand = from_json(effect.body, Errand)
        held = self._books.proposal(errand.proposal_id)
        mine = self._books.open_round()
        if held is None or mine is None or mine.number != held.proposal.number:
            return
        if effect.kind == SEND_PROPOSAL:
            call = ProposalCall(_name(mine), held.proposal_id, errand.blob, errand.size_bytes)
            await self._outside.send_proposal(errand.did, call)
        else:
            await self._outside.send_signature(errand.did, await self._answer(mine, held))

    async def _answer(self, mine: Round, held: Held) -> SignatureCall:
        own = await self._outside.own_did()
        signatures = self._books.signatures(held.proposal_id).get(own, ())
        return SignatureCall(_name(mine), held.proposal_id, signatures, (held.verdict or "")[:REFUSAL_CHARS_MAX])

    def _is_open(self, held: Held) -> bool:
        mine = self._books.open_round()
        return mine is not None and mine.number == held.proposal.number

    # who

    async def _others(self) -> list[Did]:
        own = await self._outside.own_did()
        return [did for did in self._order if did != own]

    def _check_sender(self, sender: Did) -> None:
        if sender not in self._keys:
            raise NotACustodian(did=sender)

    def _same_round(self, name: RoundName) -> Round:
        mine = self._books.open_round()
        if mine is None or _name(mine) != name:
            number, height = (-1, -1) if mine is None else (mine.number, mine.cutoff_height)
            raise OtherRound(number=number, cutoff_height=height)
        return mine


def _name(round_: Round) -> RoundName:
    return RoundName(round_.number, round_.cutoff_height, round_.cutoff_hash)


def _request_id(what: str, proposal_id: bytes) -> str:
    return f"airdrop-{what}-{proposal_id.hex()}"


def _right(held: Held, pubkey: bytes, signatures: Sequence[bytes]) -> bool:
    return payout_signatures_are_right(held.proposal.payout, pubkey, tuple(signatures))


def _want(tx: Tx, kind: str, proposal_id: bytes, did: Did, errand: Errand) -> None:
    tx.outbox(f"{kind}-{proposal_id.hex()}-{did}", kind, errand, lane=f"custodian-{did}")
