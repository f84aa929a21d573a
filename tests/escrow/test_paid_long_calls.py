"""Paid runs that outlive whoever waits for them, and sellers' programs that end in the middle of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from common.channel_messages import Outcome
from common.contracts import channel as c
from common.contracts import peer_channel as peer
from common.contracts.task import CallRunning
from common.units import Florins
from dux_taskd.paid_buying import ATTEMPTS_MAX, oid_of
from dux_taskd.paid_rules import call_hash, output_hash, what_of
from dux_taskd.paid_selling import PaidSelling
from dux_taskd.sandbox.model import Outcome as RunOutcome
from tests.escrow.channel_kit import is_in, open_channel, view
from tests.escrow.kit import Net, Node, market, until
from tests.escrow.test_paid_calls import PRICE, Wire, parts, wish

SOON_S = 0.2  # what a caller waits, where the run lasts until the test lets it end


class Gate:
    """Holds every run of a seller until it is opened."""

    def __init__(self, there: Wire) -> None:
        self.opened, self.begun, plain = asyncio.Event(), asyncio.Event(), there.run

        async def run(kind: Any, run: Any, progress: Any) -> RunOutcome:
            self.begun.set()
            await self.opened.wait()
            return await plain(kind, run, progress)

        there.run = run  # type: ignore[method-assign]


@asynccontextmanager
async def shop(net: Net) -> AsyncIterator[tuple[Node, Node, str, PaidSelling, Wire]]:
    """Buyer and seller with an open channel, and the seller's side of it: it lets nobody wait for long."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        chid = await open_channel(net, buyer, seller)
        _, selling, _, there = parts(buyer, seller, wait_s=SOON_S)
        yield buyer, seller, chid, selling, there


async def bought(
    buyer: Node, seller: Node, selling: PaidSelling, data: bytes = b"duck"
) -> tuple[c.Paid, peer.PaidCall]:
    """A voucher for one call of the service, and the call as it goes over the wire."""
    offer = (await selling.quote(peer.AskQuote(service_id="svc"), buyer.did)).offer
    oid = oid_of(data.decode())
    asked = c.Pay(payee=seller.did, offer=offer, oid=oid, req=call_hash("svc", (), data, oid),
                  price_max_florins=Florins(PRICE))  # fmt: skip
    paid = await buyer.call(c.PAY, asked)
    return paid, peer.PaidCall(voucher=paid.voucher, service_id="svc", args=(), data=data)


async def settled(buyer: Node, paid: c.Paid, said: peer.PaidAnswer) -> c.SettledCall:
    outcome = Outcome.FAILED if said.detail else Outcome.OK
    return await buyer.call(
        c.SETTLED, c.Settle(call=paid.call, answer=said.answer, resp=output_hash(outcome, said.data))
    )


async def closes(net: Net, buyer: Node, seller: Node, chid: str) -> None:
    """Nothing is left in the way of the cooperative close."""
    await buyer.call(c.CLOSE, c.CloseChannel(request_id="close", chid=chid))
    await net.mine_until(lambda: is_in(seller, chid, "CLOSED"), "closed")


async def test_a_run_longer_than_its_callers_deadline_ends_and_is_paid(net: Net) -> None:
    """Callers are cut or told that it runs; it runs once, whoever asks again gets it, and the channel closes."""
    async with shop(net) as (buyer, seller, chid, selling, there):
        gate = Gate(there)
        paid, asked = await bought(buyer, seller, selling)
        cut = asyncio.ensure_future(selling.call(asked, buyer.did))
        await gate.begun.wait()
        cut.cancel()  # what the method table does at its deadline
        await asyncio.wait((cut,))
        assert (await selling.call(asked, buyer.did)).reason == "running"
        await buyer.call(c.REFUSED, c.ReportRefusal(call=paid.call, reason="resync"))
        again, later = await bought(buyer, seller, selling)
        assert again.call == paid.call
        assert again.voucher != paid.voucher, "the hello began another session"
        assert (await selling.call(later, buyer.did)).reason == "running"
        selling._wait_s = 60.0
        waiting = [asyncio.ensure_future(selling.call(one, buyer.did)) for one in (asked, later)]
        gate.opened.set()
        first, second = await asyncio.gather(*waiting)
        assert (first.data, second.data, there.runs) == (b"DUCK", b"DUCK", [b"duck"])
        assert (await selling.call(asked, buyer.did)).answer == first.answer, "stored"
        done = await settled(buyer, paid, first)
        assert (done.outcome, done.charged_florins) == (Outcome.OK, PRICE)
        await closes(net, buyer, seller, chid)


async def test_a_seller_that_stops_says_that_its_runs_failed(net: Net) -> None:
    """What was at work at the stop costs nothing, and a new process of the seller says so to the repeat."""
    async with shop(net) as (buyer, seller, chid, selling, there):
        gate = Gate(there)
        paid, asked = await bought(buyer, seller, selling)
        assert (await selling.call(asked, buyer.did)).reason == "running"
        assert gate.begun.is_set()
        await selling.stop()
        assert (await view(seller, chid)).owed_florins == 0
        _, anew, _, _ = parts(buyer, seller)
        done = await settled(buyer, paid, await anew.call(asked, buyer.did))
        assert (done.outcome, done.charged_florins, there.runs) == (Outcome.FAILED, 0, [])
        await closes(net, buyer, seller, chid)


async def test_a_call_that_another_program_holds_is_not_failed(net: Net) -> None:
    """A call that this daemon does not hold, but another program of the seller does, stays that one's."""
    async with shop(net) as (buyer, seller, chid, selling, there):
        paid, asked = await bought(buyer, seller, selling)
        req = call_hash("svc", (), asked.data, oid_of("duck"))
        admission = await seller.call(
            c.ADMIT, c.Admit(voucher=paid.voucher, req=req, what=what_of("svc"), worker="other")
        )
        assert admission.verdict == "admitted"
        assert (await selling.call(asked, buyer.did)).reason == "running"
        done = c.Finish(call=paid.call, outcome=Outcome.OK, resp=output_hash(Outcome.OK, b"X"), response=b"X")
        await seller.call(c.FINISH, done)
        said = await selling.call(asked, buyer.did)
        assert (said.data, there.runs) == (b"X", [])
        assert (await view(seller, chid)).owed_florins == PRICE


async def test_more_calls_than_may_be_at_work_are_told_so(net: Net, monkeypatch: Any) -> None:
    """Beyond the bound nothing is admitted, so nothing is charged."""
    monkeypatch.setattr("dux_taskd.paid_work.WORKS_MAX", 1)
    async with shop(net) as (buyer, seller, chid, selling, there):
        gate = Gate(there)
        _, first = await bought(buyer, seller, selling, b"one")
        _, second = await bought(buyer, seller, selling, b"two")
        assert (await selling.call(first, buyer.did)).reason == "running"
        assert (await selling.call(second, buyer.did)).reason == "busy"
        assert (await view(seller, chid)).owed_florins == PRICE
        gate.opened.set()
        await until(lambda: there.runs == [b"one"], "the first ran")
        selling._wait_s = 60.0
        assert (await selling.call(first, buyer.did)).data == b"ONE"
        assert (await selling.call(second, buyer.did)).data == b"TWO"


async def test_a_buyer_waits_for_a_run_that_is_longer_than_every_deadline(net: Net, monkeypatch: Any) -> None:
    """That it runs is no failed try, however often it is heard; a caller that has waited enough goes on later."""
    monkeypatch.setattr("dux_taskd.paid_buying.PAUSE_S", 0.001)
    async with market(net, "buyer", "seller") as (buyer, seller):
        await open_channel(net, buyer, seller)
        buying, selling, _, there = parts(buyer, seller, wait_s=0.01)
        gate, heard, plain = Gate(there), [], selling.call

        async def listened(params: peer.PaidCall, sender: Any) -> peer.PaidAnswer:
            said = await plain(params, sender)
            heard.append(said.reason)
            return said

        monkeypatch.setattr(selling, "call", listened)
        waiting = asyncio.ensure_future(buying.call(wish(1)))
        await until(lambda: heard.count("running") > 2 * ATTEMPTS_MAX, "asked again and again")
        monkeypatch.setattr("dux_taskd.paid_buying.RUNNING_S", 0.0)
        with pytest.raises(CallRunning):
            await buying.call(wish(1))
        gate.opened.set()
        assert (await waiting).output == b"DUCK"
        monkeypatch.undo()
        assert (await buying.call(wish(1))).output == b"DUCK"
        assert there.runs == [b"duck"]
