"""The buyer's side of the agreement: its steps from a wish to the sealed contract.

Promise: every step may be done again (keys, nonces and signatures come out the same), the buyer signs only terms
that it built itself, and an agreement that comes to nothing locks nothing. Source: escrow_protocol.md §5; settled.md 2.
"""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from common.chain.contract_rules import check_contract
from common.chain.fees import FEE_RATE_FLORINS_PER_KB
from common.codec import canonical, from_canonical
from common.community_fund import fund_script_of
from common.contracts import peer_escrow as peer
from common.contracts import wallet_contract as wallet
from common.contracts.escrow import BadTerms, PeerNotReady, TermsDiffer
from common.contracts.escrow_views import QuoteRefused, Voided
from common.contracts.p2p_errors import PeerAnswered
from common.errors import DuxError
from common.identity.purposes import Purpose
from common.receipts import Attested
from common.units import Did
from dux_escrowd import agreement as deal
from dux_escrowd.desk import Desk
from dux_escrowd.draw import ranking, strikes_problem
from dux_escrowd.drawing import committed, drawn_beacon, exchanged, require_drawn, shown_nonces
from dux_escrowd.lots import Lots
from dux_escrowd.model import Role, State
from dux_escrowd.pen import Pen, Step
from dux_escrowd.records import ACCEPT, OFFER, QUOTE, TERMS, Wish, opened_accept
from dux_escrowd.store import Agreed

ASK_TERMS, ASK_SEATS, ASK_SEAL = "terms", "seats", "seal"


def agree_lane(contract_id: str) -> str:
    """The steps of one agreement go in order."""
    return f"{contract_id}/agree"


class Parley:
    """The buyer's steps."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._pen = Pen(desk)
        self._book = desk.book
        self._shelf = desk.book.shelf
        self._lots = Lots(desk.book)

    async def offer(self, step: Step) -> None:
        """OFFER: a fresh key, then the wish to the seller."""
        row, wish = self._desk.row(step.contract_id), self._book.records.wish(step.contract_id)
        if wish is None or row.stage != "wished":
            return
        key = await self._pen.key(step.contract_id, "buyer", wish.nonce)
        offer = self._offer_of(row, wish, key)
        with self._book.store.transaction() as tx:
            if deal.is_committed(offer):
                offer = replace(offer, draw_commitment=committed(self._desk, tx, row.contract_id))
            self._shelf.keep(tx, row.contract_id, OFFER, offer)
            self._shelf.note(tx, row.contract_id, key_index=key.index)
        try:
            await self._desk.call(row.seller, peer.OFFER, offer)
        except PeerAnswered as error:
            self.refuse(row, str(error.fields.get("detail", "the seller refused the offer")))

    async def _order(self, row: Agreed, terms: deal.Terms) -> tuple[Did, ...]:
        """Whom to ask for a seat, in order: the first lot's panel, or the draw.

        Raises:
            PeerNotReady: the draw block or the first lot's panel is not there yet.
        """
        panel = self._lots.panel(row)
        if panel:
            return panel
        beacon = await drawn_beacon(self._desk, terms)
        return ranking(terms, beacon, await exchanged(self._desk, row, terms, beacon))

    def _offer_of(self, row: Agreed, wish: Wish, key: wallet.ContractKey) -> peer.Offer:
        return peer.Offer(
            contract_id=bytes.fromhex(row.contract_id),
            network=self._desk.profile.genesis,
            buyer_nonce=wish.nonce,
            buyer_key=key.pubkey,
            buyer_payout_script=key.payout_script,
            seller=wish.seller,
            service_id=wish.service_id,
            job=wish.job,
            job_hash=wish.job_hash,
            price_florins=wish.price_florins,
            arbiters=wish.arbiters,
            arbiters_needed=wish.arbiters_needed,
            deliver_blocks=wish.deliver_blocks,
            result_lock=wish.result_lock,
            policy=wish.policy,
            swap_limit_florins=wish.swap_limit_florins,
            result_salt_hash=deal.salt_hash(row.salt or b""),
            fund_script=fund_script_of(self._desk.profile.fund),
            tax_bps=self._desk.profile.tax_bps,
            fee_rate_florins_per_kb=FEE_RATE_FLORINS_PER_KB,
            heights_profile=self._desk.profile.heights,
            stage=wish.stage,
            royalty=wish.royalty,
            weights=wish.weights,
            parameters=self._desk.profile.parameters.version,
        )

    async def terms(self, step: Step) -> None:
        """TERMS: signed here, sent with r, signed by the seller; then there is a lot."""
        row = self._desk.row(step.contract_id)
        offer, quote = self._book.records.offer(row.contract_id), self._book.records.quote(row.contract_id)
        if offer is None or quote is None or row.salt is None or row.stage != "agreeing":
            return
        problem = deal.quote_problem(offer, quote, await self._desk.height())
        if problem:
            self.refuse(row, f"the quote cannot be taken: {problem}")
            return
        terms = deal.terms_of(offer, quote, self._desk.me)
        mine = await self._desk.attest(Purpose.ESCROW_TERMS, terms)
        answer = await self._desk.call(row.seller, peer.TERMS, peer.TermsCall(canonical(mine), row.salt))
        theirs = from_canonical(answer.terms, Attested, max_bytes=deal.TERMS_BYTES_MAX)
        if theirs.body != mine.body or theirs.did != row.seller:
            raise TermsDiffer(contract_id=row.contract_id, reason="the seller signed other terms")
        await self._desk.require_signed(Purpose.ESCROW_TERMS, theirs, row.contract_id)
        height = await self._desk.height()
        with self._book.store.transaction() as tx:
            self._pen.begin(tx, row, terms, {row.buyer: canonical(mine), row.seller: answer.terms}, height)
            tx.outbox(f"{row.contract_id}/seats", ASK_SEATS, Step(row.contract_id), lane=agree_lane(row.contract_id))

    async def seats(self, step: Step) -> None:
        """ROLE: candidates are asked until all seats are taken; then the contract is whole and goes to everybody.

        Raises:
            PeerNotReady: too few have accepted; asked again until fund_by.
        """
        row, terms = self._desk.row(step.contract_id), self._book.records.terms(step.contract_id)
        lot = self._shelf.lot(step.contract_id)
        if (
            terms is None
            or lot is None
            or lot.state is not State.DRAWING
            or self._book.records.contract(row.contract_id)
        ):
            return
        signed = self._shelf.owned(row.contract_id, TERMS)
        call = peer.RoleCall(signed[row.buyer], signed[row.seller])
        order = await self._order(row, terms)
        missing = deal.seats_of(terms) - len(self._shelf.owned(row.contract_id, ACCEPT))
        for at in range(0, len(order), max(1, missing)):
            accepted = self._shelf.owned(row.contract_id, ACCEPT)
            asked = [did for did in order[at : at + max(1, missing)] if did not in accepted]
            await asyncio.gather(*(self._ask(row, terms, did, call) for did in asked))
            if len(self._shelf.owned(row.contract_id, ACCEPT)) >= deal.seats_of(terms):
                break
        await self._seal(row, terms, order)

    async def _ask(self, row: Agreed, terms: deal.Terms, did: Did, call: peer.RoleCall) -> None:
        try:
            answer = await self._desk.call(did, peer.ROLE, call)
            accept = await self._pen.right_accept(terms, answer.accept)
        except DuxError as error:  # whatever this one does, the others are asked
            self._desk.log.info("arbiter not seated", contract_id=row.contract_id, arbiter=did, reason=error.message)
            return
        taken = [opened_accept(body).arbiter.key for body in self._shelf.owned(row.contract_id, ACCEPT).values()]
        if accept.arbiter.did == did and accept.arbiter.key not in taken:
            with self._book.store.transaction() as tx:
                self._shelf.keep(tx, row.contract_id, ACCEPT, answer.accept, did)

    async def _seal(self, row: Agreed, terms: deal.Terms, order: tuple[Did, ...]) -> None:
        bodies = self._shelf.owned(row.contract_id, ACCEPT)
        accepts = [opened_accept(bodies[did]) for did in order if did in bodies][: deal.seats_of(terms)]
        if len(accepts) < deal.seats_of(terms):
            raise PeerNotReady(did="arbiters", method=peer.ROLE.name, detail=f"{len(accepts)} have accepted")
        contract = deal.contract_of(terms, accepts)
        check_contract(contract)
        await require_drawn(self._desk, self._lots, row, terms, contract)
        height = await self._desk.height()
        with self._book.store.transaction() as tx:
            self._pen.complete(tx, row, contract, height)
            for did in (row.seller, *(arbiter.did for arbiter in contract.arbiters)):
                step = Step(row.contract_id, to=did)
                tx.outbox(f"{row.contract_id}/seal/{did}", ASK_SEAL, step, lane=f"{row.contract_id}/to/{did}")

    async def seal(self, step: Step) -> None:
        """The sealed contract, to one of those named."""
        row, contract = self._desk.row(step.contract_id), self._book.records.contract(step.contract_id)
        if contract is None:
            return
        terms, accepts = self._shelf.owned(row.contract_id, TERMS), self._shelf.owned(row.contract_id, ACCEPT)
        seated = tuple(accepts[arbiter.did] for arbiter in contract.arbiters)
        nonces = shown_nonces(self._desk, row.contract_id)
        call = peer.SealCall(canonical(contract), terms[row.buyer], terms[row.seller], seated, nonces)
        await self._desk.call(Did(step.to), peer.SEAL, call)

    def refuse(self, row: Agreed, reason: str) -> None:
        """There will be no contract."""
        with self._book.store.transaction() as tx:
            self._shelf.note(tx, row.contract_id, stage="refused", reason=reason)
            tx.cancel_effects(agree_lane(row.contract_id))
            if row.role is Role.BUYER:
                self._book.tell(tx, QuoteRefused(contract_id=row.contract_id, reason=reason))
            elif row.role is Role.SELLER:
                self._book.tell(tx, Voided(contract_id=row.contract_id))

    async def take_quote(self, quote: peer.Quote, sender: Did) -> peer.Ack:
        """QUOTE came: the terms follow, or the end."""
        row = self._shelf.contract(quote.contract_id.hex())
        if row is None or row.role is not Role.BUYER or sender != row.seller:
            raise BadTerms(reason="no such offer was made to this seller")
        if row.stage != "wished":
            return peer.Ack(kept=True)
        offer = self._book.records.offer(row.contract_id)
        seats = 2 * offer.arbiters_needed - 1 if offer else 0
        problem = strikes_problem(quote.strikes, offer.arbiters, seats) if offer and quote.accept else None
        if not quote.accept or problem:
            self.refuse(row, problem or quote.reason or "the seller does not take this job")
            return peer.Ack(kept=True)
        with self._book.store.transaction() as tx:
            self._shelf.keep(tx, row.contract_id, QUOTE, quote)
            self._shelf.note(tx, row.contract_id, stage="agreeing")
            tx.outbox(f"{row.contract_id}/terms", ASK_TERMS, Step(row.contract_id), lane=agree_lane(row.contract_id))
        return peer.Ack(kept=True)
