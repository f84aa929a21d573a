"""RPC of sanctions and faults: the operator's own bans, what the rules keep from whom, and proofs handed in."""

from __future__ import annotations

from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts.registry_standing import (
    LISTED_MAX,
    BadFaultProof,
    BadSanction,
    Ban,
    Faults,
    FaultsAsked,
    FaultView,
    NotSanctioned,
    ReportFault,
    Sanctions,
    SanctionsAsked,
    SanctionView,
    Unban,
)
from common.errors import DuxError
from common.identity.did import did_bytes
from common.rpc.method import Done
from common.rpc.table import Ctx
from common.standing import NOTE_BYTES_MAX, FaultProof, Kind, Note
from common.units import Did
from dux_registryd.effects import Outside
from dux_registryd.enforcer import Enforcer
from dux_registryd.fault_rules import DAY_MS
from dux_registryd.model import Sanction, State
from dux_registryd.sanction_rules import OPERATOR
from dux_registryd.scores import Scores
from dux_registryd.statements import Statements
from dux_registryd.store import Book
from dux_registryd.store_standing import Kept
from dux_registryd.views import iso_time, sanction_view

LOCAL_MAX = 1_000  # sanctions of one operator; p2pd refuses so many names


class SanctionMethods:
    """What callers may do about who is kept out."""

    def __init__(
        self, book: Book, outside: Outside, scores: Scores, statements: Statements, enforcer: Enforcer, clock: Clock
    ) -> None:
        self._book = book
        self._outside = outside
        self._scores = scores
        self._statements = statements
        self._enforcer = enforcer
        self._clock = clock

    async def ban(self, params: Ban, ctx: Ctx) -> SanctionView:
        """Keep a node out, or off lists and draws; a later one replaces an earlier one."""
        did, now_ms = await self._other(params.node_id), self._clock.unix_ms()
        if did not in self._book.sanctions() and len(self._book.sanctions()) >= LOCAL_MAX:
            raise BadSanction(detail=f"{LOCAL_MAX} are held already: lift some with `duxos-node-registry unban`")
        one = Sanction(
            did=did,
            state=State(params.state),
            reason=params.reason,
            evidence=params.evidence,
            set_by=OPERATOR,
            since_ms=now_ms,
            until_ms=None if params.days is None else now_ms + round(params.days * DAY_MS),
        )
        view = sanction_view(one)
        with self._book.store.transaction() as tx:
            self._book.put_sanction(tx, one)
            tx.audit("node-sanctioned", {"node_id": did, "state": one.state.value, "reason": one.reason})
            ctx.remember(tx, view)
        self._enforcer.look_soon()
        return view

    async def unban(self, params: Unban, ctx: Ctx) -> Done:
        """Lift what this operator has set."""
        with self._book.store.transaction() as tx:
            if not self._book.drop_sanction(tx, params.node_id):
                raise NotSanctioned(node_id=params.node_id)
            tx.audit("node-freed", {"node_id": params.node_id})
            ctx.remember(tx, Done())
        self._enforcer.look_soon()
        return Done()

    async def _other(self, node_id: str) -> Did:
        try:
            did_bytes(node_id)
        except DuxError as error:
            raise BadSanction(detail=error.message.rstrip(".")) from error
        if node_id == await self._outside.own_did():
            raise BadSanction(detail="it is this node itself; `duxos-node-registry deregister` takes it off the list")
        return Did(node_id)

    async def sanctions(self, params: SanctionsAsked, _ctx: Ctx) -> Sanctions:
        """What is kept from whom."""
        found = list(self._scores.sanctions(Did(params.node_id))) if params.node_id else self._enforcer.all_sanctions()
        return Sanctions(sanctions=tuple(sanction_view(one) for one in found[:LISTED_MAX]))

    async def report(self, params: ReportFault, ctx: Ctx) -> FaultView:
        """Verify a proof of fault, keep it, have the network told."""
        proof = FaultProof(claim=params.claim[:16], one=params.one, other=params.other)
        taken = await self._statements.take(Note(kind=Kind.FAULT, body=canonical(proof)), tell=True)
        kept = self._book.statement(taken.facts) if taken.facts else None
        if kept is None:
            raise BadFaultProof(detail=taken.reason)
        view = _fault_view(kept)
        with self._book.store.transaction() as tx:
            ctx.remember(tx, view)
        self._enforcer.look_soon()
        return view

    async def faults(self, params: FaultsAsked, _ctx: Ctx) -> Faults:
        """Proven faults with their proofs."""
        found = (
            self._book.statements_about(Kind.FAULT, params.node_id, limit=LISTED_MAX)
            if params.node_id
            else self._book.statements_of(Kind.FAULT, LISTED_MAX)
        )
        return Faults(faults=tuple(_fault_view(kept) for kept in found))


def _fault_view(kept: Kept) -> FaultView:
    proof = from_canonical(kept.note.body, FaultProof, max_bytes=NOTE_BYTES_MAX)
    claim, _, place = kept.place.partition("/")
    return FaultView(
        node_id=kept.signer, claim=claim, place=place, at=iso_time(kept.at_ms), one=proof.one, other=proof.other
    )
