"""What other nodes hand to this one about a contract that stands: statements, K, evidence, signs of life, copies.

Promise: nothing is believed before its signature verified; what is acknowledged is on disk; a repetition changes
nothing; a contradiction is kept as proof and published. Source: escrow_protocol.md §7, §9, §10.
"""

from __future__ import annotations

import asyncio

from common.chain.contract import Contract, result_hash_of
from common.codec import canonical
from common.contracts.base import GossipIn
from common.contracts.escrow import BadStatement, NotKnownYet
from common.contracts.escrow_views import FaultProven
from common.contracts.peer_escrow import (
    STATEMENTS_AT_ONCE,
    Ack,
    AskStatements,
    CaseCall,
    ContractCopy,
    ContractGet,
    FaultProof,
    KeyCall,
    StandbyAnswer,
    StandbyCall,
    StatementsAnswer,
    StatementsCall,
)
from common.errors import BadParams, DuxError, NotFound
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.units import Did
from dux_escrowd.agreement import salt_hash
from dux_escrowd.desk import Desk
from dux_escrowd.facts import Equivocation, EvidenceArrived, KeyShown
from dux_escrowd.hearing import named_in
from dux_escrowd.model import Role
from dux_escrowd.records import ACCEPT, CASE, CONTRACT, TERMS
from dux_escrowd.statements import (
    Heard,
    Place,
    heads_of,
    is_fault,
    larger_release,
    opened_statement,
    place_of,
    statement_problem,
)
from dux_escrowd.store import Agreed
from dux_escrowd.words import SaidDispute


class Inbox:
    """Takes what comes in."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._one_at_a_time = asyncio.Lock()

    async def statements(self, call: StatementsCall, sender: Did) -> StatementsAnswer:
        """Statements handed over; the answer says what is held now."""
        row, contract = self._known(call.contract_id.hex())
        _require_named(contract, sender)
        await self.take(row.contract_id, call.statements)
        return StatementsAnswer(heads_of(self._desk.book.shelf.chains(row.contract_id)))

    async def take(self, contract_id: str, statements: tuple[bytes, ...]) -> None:
        """Each statement that is the next of its chain; one after a gap is left for later.

        Raises:
            BadStatement: one does not hold; those before it were taken.
        """
        row, contract = self._known(contract_id)
        async with self._one_at_a_time:
            height = await self._desk.height()
            for data in statements:
                await self._take(row, contract, opened_statement(data), height)

    async def _take(self, row: Agreed, contract: Contract, heard: Heard, height: int) -> None:
        statement = heard.statement
        cid = bytes.fromhex(row.cid or "")
        problem = statement_problem(statement, net=self._desk.profile.genesis, cid=cid, named=named_in(contract))
        if problem:
            raise BadStatement(contract_id=row.contract_id, reason=problem)
        place = place_of(statement, heard.hash, self._desk.book.shelf.chain(row.contract_id, statement.signer))
        if place in (Place.KNOWN, Place.GAP) or statement.signer == self._desk.me:
            return
        await self._desk.require_signed(Purpose.ESCROW_STATEMENT, heard.attested, row.contract_id)
        if place is Place.FORK:
            self._prove(row, heard)
            return
        with self._desk.book.store.transaction() as tx:
            if isinstance(heard.said, SaidDispute) and not row.reason:
                self._desk.book.shelf.note(tx, row.contract_id, reason=heard.said.reason)
            self._desk.book.add_statement(tx, row.contract_id, heard, height=height)

    def _prove(self, row: Agreed, second: Heard) -> None:
        """Two statements with one number: kept, told, published; the lot applies what is worse for their signer."""
        shelf, signer = self._desk.book.shelf, second.statement.signer
        held = shelf.said(row.contract_id, signer, second.statement.seq, 1)
        if not held:  # it follows another statement than the one held: that one proves the fault, not this
            return
        first = opened_statement(held[0])
        if shelf.fault(row.contract_id, signer) is not None or not is_fault(first, second):
            return
        larger = larger_release(first.said, second.said)
        one, two = canonical(first.attested), canonical(second.attested)
        fact = Equivocation(
            at=second.statement.height,
            by=signer,
            gross_florins=int(larger.gross_florins) if larger else None,
            outpoint=larger.outpoint if larger else None,
        )
        with self._desk.book.store.transaction() as tx:
            shelf.add_fault(tx, row.contract_id, signer, one, two)
            self._desk.book.learn(tx, row.contract_id, fact)
            self._desk.book.tell(tx, FaultProven(contract_id=row.contract_id, signer=signer, first=one, second=two))
        self._desk.log.warning("fault proven", contract_id=row.contract_id, signer=signer)

    async def statements_get(self, ask: AskStatements, sender: Did) -> StatementsCall:
        """A chain, to somebody named in the contract."""
        row, contract = self._known(ask.contract_id.hex())
        _require_named(contract, sender)
        held = self._desk.book.shelf.said(row.contract_id, ask.signer, max(0, ask.from_seq), STATEMENTS_AT_ONCE)
        return StatementsCall(ask.contract_id, await self._desk.under_present_key(held))

    async def key(self, call: KeyCall, sender: Did) -> Ack:
        """K, from the seller or an arbiter, for the buyer."""
        row, contract = self._known(call.contract_id.hex())
        _require_named(contract, sender)
        if result_hash_of(call.preimage) != contract.result_hash:
            raise BadStatement(contract_id=row.contract_id, reason="this is not K")
        height = await self._desk.height()
        if row.role is Role.BUYER and row.preimage is None:
            with self._desk.book.store.transaction() as tx:
                self._desk.book.shelf.note(tx, row.contract_id, preimage=call.preimage)
                self._desk.book.hear(tx, row.contract_id, "key", KeyShown(at=height, by=sender))
        return Ack(kept=True)

    async def case(self, call: CaseCall, sender: Did) -> Ack:
        """Evidence, for an arbiter."""
        row, contract = self._known(call.contract_id.hex())
        problem = _case_problem(row, contract, call, sender)
        if problem:
            raise BadStatement(contract_id=row.contract_id, reason=problem)
        holds_key = not contract.result_hash or result_hash_of(call.preimage) == contract.result_hash
        height = await self._desk.height()
        with self._desk.book.store.transaction() as tx:
            self._desk.book.shelf.keep(tx, row.contract_id, CASE, call, sender)
            self._desk.book.shelf.note(tx, row.contract_id, salt=call.salt)
            if holds_key and contract.result_hash:
                self._desk.book.shelf.note(tx, row.contract_id, preimage=call.preimage)
            fact = EvidenceArrived(at=height, key=holds_key)
            self._desk.book.hear(tx, row.contract_id, f"case/{sender}", fact)
        return Ack(kept=True)

    async def standby(self, call: StandbyCall, sender: Did) -> StandbyAnswer:
        """An arbiter's sign of life, with its tip."""
        _row, contract = self._known(call.contract_id.hex())
        _require_named(contract, sender)
        return StandbyAnswer(await self._desk.height())

    async def contract_get(self, ask: ContractGet, sender: Did) -> ContractCopy:
        """A copy of what was signed, for somebody named in it."""
        row = self._desk.book.shelf.contract_by_cid(ask.cid.hex())
        contract = self._desk.book.records.contract(row.contract_id) if row else None
        if row is None or contract is None:
            raise NotFound(what="contract", name=ask.cid.hex())
        _require_named(contract, sender)
        terms = self._desk.book.shelf.owned(row.contract_id, TERMS)
        return ContractCopy(
            contract=self._desk.book.shelf.raw(row.contract_id, CONTRACT) or b"",
            by_buyer=terms.get(row.buyer, b""),
            by_seller=terms.get(row.seller, b""),
            accepts=tuple(self._desk.book.shelf.owned(row.contract_id, ACCEPT).values()),
        )

    async def fault(self, proof: FaultProof, _message: GossipIn) -> str:
        """A proof of fault, spread by somebody: true ones are passed on, and applied where the contract is known."""
        try:
            first, second = opened_statement(proof.first), opened_statement(proof.second)
            if not is_fault(first, second):
                return "reject"
            for heard in (first, second):
                await self._desk.require_signed(Purpose.ESCROW_STATEMENT, heard.attested, "")
        except (BadParams, BadStatement):
            return "reject"
        except DuxError:
            return "ignore"
        row = self._desk.book.shelf.contract_by_cid(first.statement.cid.hex())
        if row is not None:
            await self.take(row.contract_id, (proof.first, proof.second))
        return "accept"

    def _known(self, contract_id: str) -> tuple[Agreed, Contract]:
        row = self._desk.book.shelf.contract(contract_id)
        contract = self._desk.book.records.contract(contract_id) if row else None
        if row is None or contract is None or row.cid is None:
            raise NotKnownYet(contract_id=contract_id)
        return row, contract


def _require_named(contract: Contract, did: str) -> None:
    if did not in named_in(contract):
        raise NotFound(what="contract", name="of yours")


def _case_problem(row: Agreed, contract: Contract, call: CaseCall, sender: Did) -> str | None:
    if row.role is not Role.ARBITER or sender not in (contract.buyer.did, contract.seller.did):
        return "evidence goes from parties to arbiters"
    if bytes(tagged_hash(Purpose.JOB, call.job)) != contract.job_hash:
        return "the job is not the one agreed"
    return None if salt_hash(call.salt) == contract.result_salt_hash else "r is not the one agreed"
