"""The other side of the agreement: a seller's quote and terms, an arbiter's seat, and the sealed contract for both.

Promise: nothing is signed but what this node rebuilt from the offer, its own quote and its own network profile; a
repeated request gets the first answer. Source: escrow_protocol.md §5; settled.md 2.
"""

from __future__ import annotations

from msgspec.structs import replace

from common.chain.contract import LOT, NO_ROYALTY, Arbiter, Contract, LotKind, bond_value
from common.chain.contract_rules import check_contract
from common.codec import canonical, from_canonical
from common.contracts import peer_escrow as peer
from common.contracts import wallet_contract as wallet
from common.contracts.escrow import BadTerms, NodeFull, NotKnownYet, TermsDiffer, TooManyOpen
from common.contracts.escrow_views import OfferReceived, Voided
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.receipts import Attested
from common.store import Tx
from common.units import Did, Florins, format_flop
from dux_escrowd import agreement as deal
from dux_escrowd.desk import Desk
from dux_escrowd.draw import STRIKES_MAX
from dux_escrowd.drawing import committed, drawn_beacon, keep_shown, require_drawn, shown_nonces, take_nonce
from dux_escrowd.lots import Lots
from dux_escrowd.model import Role
from dux_escrowd.pen import Pen, Step
from dux_escrowd.records import ACCEPT, OFFER, QUOTE, TERMS, WISH, Wish, opened_terms
from dux_escrowd.standing import faults_of, weights_fault
from dux_escrowd.store import Agreed

ASK_OFFER, ASK_QUOTE = "offer", "quote"


class Counterpart:
    """Seller and arbiter."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._pen = Pen(desk)
        self._book = desk.book
        self._shelf = desk.book.shelf

    async def take_offer(self, offer: peer.Offer, sender: Did) -> peer.Ack:
        """OFFER came: kept for taskd to answer.

        Raises:
            BadTerms: this node cannot enter it, or the buyer's name is disputed or closed.
            TooManyOpen, NodeFull: the buyer, or all buyers together, have unfunded ones.
        """
        contract_id = offer.contract_id.hex()
        known = self._book.records.offer(contract_id)
        if known is not None:
            return peer.Ack(kept=known == offer)
        wrong = deal.offer_problem(offer, sender, self._desk.me, self._desk.profile)
        if wrong:
            raise BadTerms(reason=wrong)
        is_bond = offer.stage.kind is LotKind.BOND
        problem = self._series_problem(offer, sender)
        if problem:
            raise BadTerms(reason=problem)
        if not is_bond:
            self._check_open(sender, self._desk.settings.open_offers_max, series=offer.stage.series)
        await self._desk.require_sound(sender)
        height = await self._desk.height()
        with self._book.store.transaction() as tx:
            stage, me = "agreeing" if is_bond else "offered", self._desk.me
            self._pen.open(
                tx, contract_id, Role.SELLER, stage, buyer=sender, seller=me, height=height, place=offer.stage
            )
            self._shelf.keep(tx, contract_id, OFFER, offer)
            if is_bond:  # it was asked for with the work: nobody has to think about it again
                tx.outbox(f"{contract_id}/quote", ASK_QUOTE, Step(contract_id), lane=f"{contract_id}/agree")
            else:
                self._book.tell(tx, _received(offer, sender))
        return peer.Ack(kept=True)

    def _series_problem(self, offer: peer.Offer, sender: Did) -> str | None:
        """Why this offer has no place in its series here, or None."""
        name, number = offer.stage.series.hex(), offer.stage.number
        if not name:
            return None
        if offer.stage.kind is LotKind.BOND:
            works = self._shelf.of_series(name, buyer=self._desk.me, seller=sender, bond=0)
            wishes = [self._book.records.wish(work.contract_id) for work in works]
            wanted = [wish for wish in wishes if wish is not None and wish.stage.bonded]
            if not wanted or self._shelf.of_series(name, buyer=sender, seller=self._desk.me, bond=1):
                return "no bond of this series is waited for"
            least = max(int(bond_value(wish.price_florins, 2 * wish.arbiters_needed - 1)) for wish in wanted)
            return None if int(offer.price_florins) >= least else f"the bond is less than {format_flop(least)} FLOP"
        known = self._shelf.of_series(name, buyer=sender, seller=self._desk.me, bond=0)
        return "that lot of the series was offered before" if number in {row.number for row in known} else None

    async def quote(self, step: Step) -> None:
        """QUOTE: a fresh key and the result's lock, or a refusal, to the buyer."""
        row, offer = self._desk.row(step.contract_id), self._book.records.offer(step.contract_id)
        if offer is None:
            return
        quote = self._book.records.quote(row.contract_id) or await self._make_quote(row, offer, step)
        await self._desk.call(row.buyer, peer.QUOTE, quote)

    async def _make_quote(self, row: Agreed, offer: peer.Offer, step: Step) -> peer.Quote:
        name = bytes.fromhex(row.contract_id)
        fault = await self._weights_fault(offer) if step.accept else None
        refusal = fault if step.accept else step.reason
        if fault:
            with self._book.store.transaction() as tx:
                self._shelf.note(tx, row.contract_id, stage="refused", reason=fault)
                self._book.tell(tx, Voided(contract_id=row.contract_id))
        if refusal is not None:
            return peer.Quote(name, accept=False, reason=refusal, seller_nonce=b"", seller_key=b"",
                              seller_payout_script=b"", result_hash=b"", start=0, strikes=())  # fmt: skip
        nonce = self._desk.random.bytes(32)
        key = await self._pen.key(row.contract_id, "seller", nonce)
        lock = wallet.ResultLockAsked(nonce=nonce, lot=LOT)
        locked = await self._desk.flopd.call(wallet.CONTRACT_RESULT_LOCK, lock) if offer.result_lock else None
        quote = peer.Quote(
            contract_id=name, accept=True, reason="", seller_nonce=nonce, seller_key=key.pubkey,
            seller_payout_script=key.payout_script, result_hash=locked.result_hash if locked else b"",
            start=await self._desk.height(), strikes=await self._strikes(offer),
        )  # fmt: skip
        with self._book.store.transaction() as tx:
            if offer.draw_commitment:
                quote = replace(quote, draw_commitment=committed(self._desk, tx, row.contract_id))
            self._shelf.keep(tx, row.contract_id, QUOTE, quote)
            self._shelf.note(tx, row.contract_id, key_index=key.index)
            self._want_bond(tx, row, offer)
        return quote

    async def _weights_fault(self, offer: peer.Offer) -> str | None:
        return await weights_fault(self._desk, offer.arbiters, offer.weights, 2 * offer.arbiters_needed - 1)

    async def _strikes(self, offer: peer.Offer) -> tuple[Did, ...]:
        """Candidates that something stands against, as many as may be struck and as the seats allow."""
        spare = len(offer.arbiters) - (2 * offer.arbiters_needed - 1)
        if spare <= 0:
            return ()
        faulty = await faults_of(self._desk, offer.arbiters)
        return tuple(did for did in offer.arbiters if did in faulty)[: min(spare, STRIKES_MAX)]

    def _want_bond(self, tx: Tx, row: Agreed, offer: peer.Offer) -> None:
        """With the quote of the last lot the seller offers the bond that was asked for: the same, roles swapped."""
        stage = offer.stage
        if not stage.bonded or stage.number != stage.count - 1:
            return
        offers = [self._book.records.offer(one.contract_id) for one in self._shelf.series(row)]
        values = [bond_value(one.price_florins, 2 * one.arbiters_needed - 1) for one in offers if one]
        nonce = bytes(tagged_hash(Purpose.ESCROW_OFFER, b"bond" + stage.series + self._desk.me.encode()))
        contract_id = deal.contract_id_of(offer.network, self._desk.me, nonce).hex()
        place = peer.OfferedStage(
            series=stage.series, number=0, count=stage.count, begins_blocks=0, kind=LotKind.BOND, bonded=False
        )
        wish = Wish(
            seller=row.buyer, service_id=offer.service_id, job=offer.job, job_hash=offer.job_hash,
            price_florins=max(values), arbiters=offer.arbiters, arbiters_needed=offer.arbiters_needed,
            deliver_blocks=deal.bond_blocks(offer.deliver_blocks, offer.heights_profile), result_lock=False,
            policy=offer.policy, swap_limit_florins=Florins(0), nonce=nonce, stage=place, royalty=NO_ROYALTY,
            weights=offer.weights,
        )  # fmt: skip
        height, me = int(row.created_height), self._desk.me
        self._pen.open(tx, contract_id, Role.BUYER, "wished", buyer=me, seller=row.buyer, height=height, place=place)
        self._shelf.note(tx, contract_id, salt=nonce)
        self._shelf.keep(tx, contract_id, WISH, wish)
        tx.outbox(f"{contract_id}/offer", ASK_OFFER, Step(contract_id), lane=f"{contract_id}/agree")

    async def take_terms(self, call: peer.TermsCall, sender: Did) -> peer.TermsAnswer:
        """TERMS came with r: signed as well, if they are what follows from offer and quote.

        Raises:
            TermsDiffer: they are not.
        """
        theirs = from_canonical(call.terms, Attested, max_bytes=deal.TERMS_BYTES_MAX)
        terms = opened_terms(call.terms)
        row = self._shelf.contract(terms.contract_id.hex())
        offer = self._book.records.offer(row.contract_id) if row else None
        quote = self._book.records.quote(row.contract_id) if row else None
        if row is None or offer is None or quote is None or sender != row.buyer:
            raise NotKnownYet(contract_id=terms.contract_id.hex())
        if not quote.accept or row.stage == "refused":
            raise TermsDiffer(contract_id=row.contract_id, reason="the offer was refused or has run out")
        if terms != deal.terms_of(offer, quote, sender) or deal.salt_hash(call.salt) != offer.result_salt_hash:
            raise TermsDiffer(contract_id=row.contract_id, reason="they do not follow from offer and quote")
        if theirs.did != sender:
            raise TermsDiffer(contract_id=row.contract_id, reason="another node signed them")
        await self._desk.require_signed(Purpose.ESCROW_TERMS, theirs, row.contract_id)
        mine = await self._desk.attest(Purpose.ESCROW_TERMS, terms)
        height = await self._desk.height()
        if self._shelf.lot(row.contract_id) is None:
            with self._book.store.transaction() as tx:
                self._shelf.note(tx, row.contract_id, salt=call.salt)
                self._pen.begin(tx, row, terms, {row.buyer: call.terms, row.seller: canonical(mine)}, height)
        return peer.TermsAnswer(self._shelf.owned(row.contract_id, TERMS)[row.seller])

    async def take_nonce(self, call: peer.NonceCall, sender: Did) -> peer.NonceAnswer:
        """The buyer shows its nonce for the draw: the seller's is the answer.

        Raises:
            NotKnownYet, PeerNotReady, TermsDiffer: see `drawing.take_nonce`.
        """
        return await take_nonce(self._desk, call, sender)

    # --- an arbiter's step, and the seal for all

    async def take_role(self, call: peer.RoleCall, sender: Did) -> peer.RoleAnswer:
        """A seat is offered: taken with a fresh key.

        Raises:
            BadTerms: this node does not arbitrate, or not under such terms.
            TooManyOpen, NodeFull: the buyer, or all buyers together, have unfunded ones.
        """
        terms = await self._both_signed(call.by_buyer, call.by_seller)
        contract_id = terms.contract_id.hex()
        held = self._shelf.raw(contract_id, ACCEPT, self._desk.me)
        if held is not None and sender == terms.buyer.did:
            return peer.RoleAnswer(held)
        problem = deal.terms_problem(terms, self._desk.profile, self._desk.me, await self._desk.height())
        if problem or sender != terms.buyer.did or not self._desk.settings.arbitrate:
            raise BadTerms(reason=problem or "this node takes no seat")
        self._check_open(sender, self._desk.settings.open_seats_max, series=terms.stage.series)
        return peer.RoleAnswer(await self._accept(call, terms))

    def _check_open(self, buyer: Did, limit: int, *, series: bytes) -> None:
        if series and self._shelf.is_known_series(series.hex(), buyer):
            return  # counted with its first lot
        unfunded = self._shelf.unfunded(buyer)
        if unfunded >= limit:
            raise TooManyOpen(did=buyer, open_contracts=unfunded, limit=limit)
        if self._shelf.unfunded_of_others(self._desk.me) >= self._desk.settings.open_total_max:
            raise NodeFull(limit=self._desk.settings.open_total_max)

    async def _accept(self, call: peer.RoleCall, terms: deal.Terms) -> bytes:
        contract_id = terms.contract_id.hex()
        fault = await weights_fault(self._desk, terms.candidates, terms.weights, deal.seats_of(terms))
        if fault:
            raise BadTerms(reason=fault)
        nonce = bytes(tagged_hash(Purpose.ESCROW_ACCEPT, deal.terms_hash(terms) + self._desk.me.encode()))
        key = await self._pen.key(contract_id, "arbiter", nonce)
        accept = deal.Accept(deal.terms_hash(terms), Arbiter(self._desk.me, key.pubkey, key.payout_script))
        signed = canonical(await self._desk.attest(Purpose.ESCROW_ACCEPT, accept))
        height = await self._desk.height()
        if self._shelf.contract(contract_id) is None:
            with self._book.store.transaction() as tx:
                buyer, seller = Did(terms.buyer.did), Did(terms.seller.did)
                self._pen.open(
                    tx, contract_id, Role.ARBITER, "agreeing", buyer=buyer, seller=seller, height=height,
                    place=terms.stage,
                )  # fmt: skip
                self._shelf.note(tx, contract_id, key_index=key.index)
                self._shelf.keep(tx, contract_id, ACCEPT, signed, self._desk.me)
                row = self._desk.row(contract_id)
                self._pen.begin(tx, row, terms, {buyer: call.by_buyer, seller: call.by_seller}, height)
        return signed

    async def _both_signed(self, by_buyer: bytes, by_seller: bytes) -> deal.Terms:
        terms = opened_terms(by_buyer)
        contract_id = terms.contract_id.hex()
        for body, did in ((by_buyer, terms.buyer.did), (by_seller, terms.seller.did)):
            attested = from_canonical(body, Attested, max_bytes=deal.TERMS_BYTES_MAX)
            if attested.did != did or opened_terms(body) != terms:
                raise TermsDiffer(contract_id=contract_id, reason="buyer and seller did not sign the same")
            await self._desk.require_signed(Purpose.ESCROW_TERMS, attested, contract_id)
        return terms

    async def take_seal(self, call: peer.SealCall, sender: Did) -> peer.Ack:
        """The sealed contract came: checked against own terms and all acceptances, then rebuilt by the wallet.

        Raises:
            TermsDiffer: it does not follow from the terms.
        """
        contract = from_canonical(call.contract, Contract, max_bytes=deal.TERMS_BYTES_MAX)
        terms = opened_terms(call.by_buyer)
        row, mine = self._shelf.contract(terms.contract_id.hex()), self._book.records.terms(terms.contract_id.hex())
        if row is None or mine is None or sender != row.buyer:
            raise NotKnownYet(contract_id=terms.contract_id.hex())
        accepts = [await self._pen.right_accept(mine, data) for data in call.accepts]
        problem = "they are other terms" if terms != mine else deal.seal_problem(mine, contract, accepts)
        if problem:
            raise TermsDiffer(contract_id=row.contract_id, reason=problem)
        check_contract(contract)
        if call.nonces and not shown_nonces(self._desk, row.contract_id):
            keep_shown(self._desk, row, mine, call.nonces, await drawn_beacon(self._desk, mine))
        await require_drawn(self._desk, Lots(self._book), row, mine, contract)
        height = await self._desk.height()
        if self._book.records.contract(row.contract_id) is None:
            with self._book.store.transaction() as tx:
                for accept, data in zip(accepts, call.accepts, strict=True):
                    self._shelf.keep(tx, row.contract_id, ACCEPT, data, accept.arbiter.did)
                self._pen.complete(tx, row, contract, height)
        return peer.Ack(kept=True)


def _received(offer: peer.Offer, buyer: Did) -> OfferReceived:
    return OfferReceived(
        contract_id=offer.contract_id.hex(),
        buyer=buyer,
        service_id=offer.service_id,
        job=offer.job,
        job_hash=offer.job_hash,
        price_florins=offer.price_florins,
        deliver_blocks=offer.deliver_blocks,
    )
