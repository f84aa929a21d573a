"""What the owner and the taskd of each node would do: read escrowd's events, act on them, again until it is taken.

Each player follows the plan's character for its node. It keeps what it still has to say, with the same request_id, as a
taskd's outbox would; so a crash of its escrowd costs it nothing but time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from common.contracts import escrow
from common.contracts.base import EventsSince
from common.contracts.escrow_views import (
    CaseOpened,
    Closed,
    Delivered,
    EscrowEvent,
    Funded,
    KeyRevealed,
    OfferReceived,
    read_event,
)
from common.errors import CallerMistake, DuxError
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.rpc.method import Method
from common.units import Florins
from dux_sim.money.plan import ARBITERS, BUYER, SELLER, Plan
from dux_sim.world.node import SimNode

JOB = b"\x93job"
GOOD, BAD = b"g" * 32, b"b" * 32  # commitments to a right and to a wrong result
EVENTS_AT_ONCE = 100
TRIES_MAX = 40  # blocks over which a refused wish is repeated


class Wish(msgspec.Struct):
    """A call that has to be taken once."""

    method: Method[Any, Any]
    params: Any
    tries: int = 0


class Player:
    """One node's owner."""

    def __init__(self, node: SimNode, plan: Plan) -> None:
        self.node = node
        self.plan = plan
        self.kind = plan.kind_of(node.number)
        self.cursor = 0
        self.wishes: dict[str, Wish] = {}
        self.events: list[EscrowEvent] = []
        self.proposed: list[str] = []
        self.on_funded: Callable[[Player], None] = lambda _player: None

    async def turn(self) -> None:
        """Read what is new, then try what is to be said."""
        if not self.node.is_up("escrowd"):
            return
        try:
            await self._read()
            for name in list(self.wishes):
                await self._try(name)
        except DuxError:
            return  # escrowd or the wallet is away: next block

    async def _read(self) -> None:
        newest = self.node.disk("escrowd").rows("SELECT max(cursor) AS cursor FROM events")
        if not newest or (newest[0]["cursor"] or 0) <= self.cursor:
            return
        page = await self.node.call(
            "escrowd", escrow.EVENTS, EventsSince(cursor=self.cursor, limit=EVENTS_AT_ONCE), caller="taskd"
        )
        for view in page.events:
            event = read_event(view)
            self.events.append(event)
            self._react(event)
        self.cursor = page.cursor

    async def _try(self, name: str) -> None:
        wish = self.wishes[name]
        wish.tries += 1
        try:
            answer = await self.node.call("escrowd", wish.method, wish.params, caller="taskd")
        except CallerMistake:
            del self.wishes[name]
        except (escrow.WrongPhase, escrow.Refused):
            if wish.tries > TRIES_MAX:
                del self.wishes[name]
        else:
            del self.wishes[name]
            if wish.method is escrow.PROPOSE:
                self.proposed.append(answer.contract_id)

    def wish(self, name: str, method: Method[Any, Any], params: Any) -> None:
        """Say this until it is taken."""
        self.wishes.setdefault(name, Wish(method, params))

    # --- reactions ----------------------------------------------------------------------------------------------------

    def _react(self, event: EscrowEvent) -> None:
        if isinstance(event, OfferReceived) and self.node.number == SELLER:
            self._quote(event)
        elif isinstance(event, Funded) and self.node.number == SELLER:
            self._work(event)
        elif isinstance(event, KeyRevealed | Delivered) and self.node.number == BUYER:
            self._look(event)
        elif isinstance(event, CaseOpened) and self.node.number in ARBITERS:
            self._vote(event)
        if isinstance(event, Funded | Closed):
            self.on_funded(self)

    def _quote(self, event: OfferReceived) -> None:
        said = escrow.Quote(
            request_id=f"q/{event.contract_id}", contract_id=event.contract_id, accept=self.kind != "refuses", reason=""
        )
        self.wish(said.request_id, escrow.QUOTE, said)

    def _work(self, event: Funded) -> None:
        if self.kind == "cancels":
            self.wish(f"c/{event.contract_id}", escrow.CANCEL, _ref(escrow.Cancel, "c", event))
        elif self.kind in ("honest", "bad-work"):
            name = f"d/{event.contract_id}"
            delivered = escrow.Deliver(
                request_id=name, contract_id=event.contract_id, ciphertext_blob="bb" * 32,
                output_commitment=GOOD if self.kind == "honest" else BAD, receipts=(),
                holders=(self.node.did,), work_receipt=b"work",
            )  # fmt: skip
            self.wish(name, escrow.DELIVER, delivered)

    def _look(self, event: KeyRevealed | Delivered) -> None:
        """The buyer judges what it can read: with the key, or at once where the script locks nothing."""
        if self.kind == "idle" or (isinstance(event, Delivered) and self.plan.lock):
            return
        made = next((e for e in self.events if isinstance(e, Delivered) and e.contract_id == event.contract_id), None)
        good = made is not None and made.output_commitment == GOOD and self.kind != "denies"
        name = f"j/{event.contract_id}"
        judged = escrow.Judge(
            request_id=name, contract_id=event.contract_id, good=good, reason="" if good else "it is not what I asked",
            evidence=b"seen",
        )  # fmt: skip
        self.wish(name, escrow.JUDGE, judged)

    def _vote(self, event: CaseOpened) -> None:
        earned = event.output_commitment == GOOD and (event.content_key is not None or not self.plan.lock)
        for_seller = earned if self.kind == "honest" else not earned
        name = f"v/{event.contract_id}"
        vote = escrow.Vote(
            request_id=name, contract_id=event.contract_id, reason="",
            gross_florins=event.price_florins if for_seller else Florins(0),
        )  # fmt: skip
        self.wish(name, escrow.VOTE, vote)

    def propose(self, number: int, seller: SimNode, arbiters: list[SimNode]) -> None:
        """The buyer asks for a job."""
        plan, name = self.plan, f"p/{number}"
        job = JOB + bytes([number])
        wanted = escrow.Propose(
            request_id=name, seller=seller.did, service_id="upscale", job=job,
            job_hash=bytes(tagged_hash(Purpose.JOB, job)), price_florins=Florins(plan.price_florins),
            arbiters=tuple(node.did for node in arbiters), deliver_blocks=plan.deliver_blocks,
            result_lock=plan.lock, policy=plan.policy, swap_limit_florins=Florins(plan.price_florins),
        )  # fmt: skip
        self.wish(name, escrow.PROPOSE, wanted)


def _ref(form: Any, prefix: str, event: Funded) -> Any:
    return form(request_id=f"{prefix}/{event.contract_id}", contract_id=event.contract_id)
