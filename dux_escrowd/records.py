"""Documents that escrowd keeps beside its lots, and what is read out of several of them together.

Promise: what is put together here follows from the shelf alone. Source: escrow_protocol.md §9, §10.
"""

from __future__ import annotations

from common.chain.bond_award import LotCoin
from common.chain.contract import Contract, Royalty
from common.chain.spends import SpendKind
from common.chain.tx import Outpoint
from common.codec import Canon, from_canonical
from common.contracts.escrow_views import Settlement
from common.contracts.peer_escrow import CaseCall, Offer, OfferedStage, Quote
from common.receipt_keys import OUTCOMES
from common.receipts import Attested
from common.units import Did, Florins
from dux_escrowd.agreement import TERMS_BYTES_MAX, Accept, Terms
from dux_escrowd.content_key import content_key
from dux_escrowd.model import Exit, Lot
from dux_escrowd.store import Agreed, Shelf
from dux_escrowd.words import SaidDelivered

WISH, OFFER, QUOTE, CONTRACT, TERMS, ACCEPT, CASE, SPEND, VOTE, DELIVERY = (
    "wish", "offer", "quote", "contract", "terms", "accept", "case", "spend", "vote", "delivery",
)  # fmt: skip
OUTCOME_OF = {way: OUTCOMES[SpendKind(way.value)] for way in Exit}


class Wish(Canon, frozen=True):
    """What this node's buyer asked for, before any key was made."""

    seller: Did
    service_id: str
    job: bytes
    job_hash: bytes
    price_florins: Florins
    arbiters: tuple[Did, ...]
    arbiters_needed: int
    deliver_blocks: int
    result_lock: bool
    policy: str
    swap_limit_florins: Florins
    nonce: bytes
    stage: OfferedStage
    royalty: Royalty
    weights: tuple[int, ...]


class SpendRead(Canon, frozen=True):
    """What a spend of the lot paid, read from its outputs."""

    gross_florins: Florins
    provider_florins: Florins
    fund_florins: Florins
    fee_florins: Florins


class VoteNote(Canon, frozen=True):
    """An arbiter's own vote until it is revealed: its salt and its reason."""

    salt: bytes
    reason: str


class Records:
    """Typed reading of a contract's documents."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def wish(self, contract_id: str) -> Wish | None:
        """The buyer's wish."""
        return self._shelf.document(contract_id, WISH, Wish)

    def offer(self, contract_id: str) -> Offer | None:
        """OFFER, at buyer and seller."""
        return self._shelf.document(contract_id, OFFER, Offer)

    def quote(self, contract_id: str) -> Quote | None:
        """QUOTE, at buyer and seller."""
        return self._shelf.document(contract_id, QUOTE, Quote)

    def contract(self, contract_id: str) -> Contract | None:
        """The full contract."""
        return self._shelf.document(contract_id, CONTRACT, Contract)

    def terms(self, contract_id: str) -> Terms | None:
        """The terms, whoever signed them."""
        signed = self._shelf.owned(contract_id, TERMS)
        return opened_terms(next(iter(signed.values()))) if signed else None

    def accepts(self, contract_id: str) -> list[Accept]:
        """The arbiters' acceptances."""
        return [opened_accept(body) for body in self._shelf.owned(contract_id, ACCEPT).values()]

    def job(self, contract_id: str) -> bytes:
        """The job's text where this node has it: parties from the offer, arbiters from a case; else empty."""
        offer = self.offer(contract_id)
        if offer is not None:
            return offer.job
        return next((case.job for case in self.cases(contract_id).values()), b"")

    def cases(self, contract_id: str) -> dict[str, CaseCall]:
        """Evidence by who showed it."""
        shown = self._shelf.owned(contract_id, CASE)
        return {owner: from_canonical(body, CaseCall, max_bytes=len(body)) for owner, body in shown.items()}

    def delivery(self, contract_id: str) -> SaidDelivered | None:
        """Where the result lies: as this seller means to say it, or as it was said."""
        mine = self._shelf.document(contract_id, DELIVERY, SaidDelivered)
        if mine is not None:
            return mine
        said = [heard.said for heard in self._shelf.heard(contract_id, "delivered")]
        return next((body for body in reversed(said) if isinstance(body, SaidDelivered)), None)

    def content_key(self, row: Agreed) -> bytes | None:
        """The result's key, once r and (where the script has a lock) K are here."""
        contract = self.contract(row.contract_id)
        if contract is None or row.salt is None:
            return None
        if not contract.result_hash:
            return content_key(row.contract_id, b"", row.salt)
        return content_key(row.contract_id, row.preimage, row.salt) if row.preimage else None

    def bond(self, contract_id: str) -> LotCoin | None:
        """The seller's bond lot beside a lot of work, with the coin that it rests on; None where there is none."""
        row = self._shelf.contract(contract_id)
        held = self._shelf.bond_of(row) if row and row.series and not row.bond else None
        contract = self.contract(held.contract_id) if held else None
        lot = self._shelf.lot(held.contract_id) if held else None
        if contract is None or lot is None or lot.coin is None:
            return None
        txid, _, vout = lot.coin.outpoint.partition(":")
        return LotCoin(contract, Outpoint(txid, int(vout)), lot.coin.value_florins)

    def settlement(self, lot: Lot) -> Settlement | None:
        """How the lot's coin was spent."""
        if lot.spend is None:
            return None
        read = self._shelf.document(lot.contract_id, SPEND, SpendRead, lot.spend.txid)
        if read is None:
            return None
        return Settlement(
            outcome=OUTCOME_OF[lot.spend.exit],
            gross_florins=read.gross_florins,
            provider_florins=read.provider_florins,
            fund_florins=read.fund_florins,
            fee_florins=read.fee_florins,
            txid=lot.spend.txid,
            height=lot.spend.height,
        )


def opened_terms(attested: bytes) -> Terms:
    """The terms in a signed envelope; the signature is not checked here.

    Raises:
        BadParams: not that.
    """
    envelope = from_canonical(attested, Attested, max_bytes=TERMS_BYTES_MAX)
    return from_canonical(envelope.body, Terms, max_bytes=TERMS_BYTES_MAX)


def opened_accept(attested: bytes) -> Accept:
    """The acceptance in a signed envelope; the signature is not checked here.

    Raises:
        BadParams: not that.
    """
    envelope = from_canonical(attested, Attested, max_bytes=TERMS_BYTES_MAX)
    return from_canonical(envelope.body, Accept, max_bytes=TERMS_BYTES_MAX)
