"""Services rendered to the network, counted from signed words: one per served node, service and day counts once.

Relay and DHT duty and votes count by the word of those who were served; audits by the auditor's own verdicts;
witnessing by what the registry has seen itself (challenges made).
"""

from __future__ import annotations

from common.clock import Clock
from common.contracts.registry_service import (
    ServedName,
    ServiceHad,
    ServiceLine,
    ServiceNotTaken,
    Services,
    ServicesAsked,
)
from common.errors import BadParams
from common.identity.did import did_bytes
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.quality import DAY_BLOCKS
from common.receipts import attested, body_of
from common.rpc.method import Done
from common.rpc.table import Ctx
from common.standing import STATEMENT_BYTES_MAX, Kind, ServiceDone
from common.units import Did, UnixMs
from dux_registryd.effects import Outside
from dux_registryd.fault_rules import DAY_MS
from dux_registryd.intake import Intake
from dux_registryd.reputation_rules import PRESENCE_WINDOW_DAYS
from dux_registryd.statements import HELD, Heading, Rule, Statements
from dux_registryd.store import Book
from dux_registryd.store_standing import Kept

TOLD = {
    "audit": "its own verdicts",
    "dht": "nodes that it served",
    "relay": "nodes that it served",
    "vote": "parties of its cases",
    "witness": "challenges that it was seen to make",
}


class ServiceBook:
    """Who served whom."""

    def __init__(
        self,
        book: Book,
        outside: Outside,
        intake: Intake,
        statements: Statements,
        *,
        network: NetworkProfile,
        clock: Clock,
    ) -> None:
        self._book = book
        self._outside = outside
        self._intake = intake
        self._statements = statements
        self._network = network
        self._clock = clock
        statements.judge(Kind.SERVICE, Rule(Purpose.SERVICE_DONE, ServiceDone, _heading, self._fault))

    async def _fault(self, done: ServiceDone) -> str | None:
        tip = await self._outside.tip()
        if done.server == done.served:
            return "nobody serves itself"
        if done.service not in ("relay", "dht", "vote"):
            return "no such service is counted by the word of who was served"
        if tip is None or not 0 <= tip.height // DAY_BLOCKS - done.day <= 1:
            return "its day is not lately"
        if not self._book.presence_days(done.served):
            return "who was served was never witnessed here"
        return None if await self._intake.introduced(done.server) else "its server is not registered here"

    def counts(self, did: Did) -> tuple[tuple[str, int], ...]:
        """How often a node served, by service, in the last sixty days."""
        from_ms = self._clock.unix_ms() - PRESENCE_WINDOW_DAYS * DAY_MS
        found = dict.fromkeys(TOLD, 0)
        for kept in self._book.statements_about(Kind.SERVICE, did, from_ms):
            done = _service_of(kept)
            found[done.service] = found.get(done.service, 0) + 1
        found["audit"] = len(self._book.statements_by(Kind.VERDICT, did, from_ms))
        tip = self._outside.tip_seen
        first_day = (tip.height // DAY_BLOCKS if tip else 0) - PRESENCE_WINDOW_DAYS + 1
        found["witness"] = self._book.probing(did, first_day)[1]
        return tuple(sorted(found.items()))

    async def had(self, params: ServiceHad, ctx: Ctx) -> Done:
        """Sign that another node has served this one."""
        did_bytes(params.server)
        if params.server == await self._outside.own_did():
            raise BadParams(detail="server: nobody serves itself")
        await self.say(params.service, Did(params.server), params.amount)
        with self._book.store.transaction() as tx:
            ctx.remember(tx, Done())
        return Done()

    def told_of(self, own: Did, service: str) -> int:
        """How many nodes this one has told of for a service in the last day."""
        since = self._clock.unix_ms() - DAY_MS
        kept = self._book.statements_by(Kind.SERVICE, own, since)
        return sum(_service_of(one).service == service for one in kept)

    async def say(self, service: ServedName, server: Did, amount: int) -> None:
        """Sign that a node has served this one; once per node, service and day of blocks.

        Raises:
            ServiceNotTaken: the chain is not read yet, or the server is not known here.
        """
        own, tip = await self._outside.own_did(), await self._outside.tip()
        if tip is None:
            raise ServiceNotTaken(reason="the chain is not read yet")
        done = ServiceDone(
            network=self._network.genesis,
            service=service,
            server=server,
            served=own,
            day=tip.height // DAY_BLOCKS,
            amount=amount,
            at_ms=UnixMs(self._clock.unix_ms()),
        )
        if self._book.statement_at(Kind.SERVICE, own, _place(done)) is None:
            taken = await self._statements.say(Kind.SERVICE, done)
            if taken.word != "accept" and taken.reason != HELD:
                raise ServiceNotTaken(reason=taken.reason)

    async def listed(self, params: ServicesAsked, _ctx: Ctx) -> Services:
        """What a node did for the network."""
        did = Did(params.node_id)
        lines = (ServiceLine(service=name, count=count, told=TOLD[name]) for name, count in self.counts(did))
        return Services(node_id=did, services=tuple(lines))


def _service_of(kept: Kept) -> ServiceDone:
    return body_of(attested(kept.note.body), ServiceDone, STATEMENT_BYTES_MAX)


def _place(done: ServiceDone) -> str:
    return f"{done.service}/{done.day}/{done.server}"


def _heading(done: ServiceDone) -> Heading:
    return Heading(done.server, done.served, _place(done), done.at_ms)
