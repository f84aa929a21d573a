"""Calls whose program has died fail by themselves and keep no close waiting; who says that it lives is believed."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import fields

from common.clock import ManualClock
from common.contracts import channel as c
from common.errors import NeighbourDown
from common.rpc.method import Done
from dux_escrowd.channel.leftover import Leftover
from dux_escrowd.settings import EscrowSettings
from dux_pay.holding import Holding
from dux_pay.streams import Parts
from tests.escrow.channel_kit import PRICE, admit, finish, is_in, new_oid, offer, open_channel, pay, view
from tests.escrow.kit import Net, Node, market, until
from tests.escrow.test_paid_long_calls import Gate, bought, shop

SILENT_S = next(field.default for field in fields(EscrowSettings) if field.name == "channel_silent_s")


def leftover_of(node: Node, clock: ManualClock) -> Leftover:
    """What watches the node's calls at work, on the test's clock."""
    assert node.daemon is not None
    run: Any = next(loop for name, loop in node.daemon.parts.loops if name == "channel calls")
    found: Leftover = run.__self__
    found._clock, found._held = clock, {}
    return found


async def failed(node: Node, chid: str) -> list[int]:
    shown = (await node.call(c.SHOW, c.ChannelRef(chid=chid))).calls
    return [call.j for call in shown if call.state == "FAILED"]


async def test_a_call_whose_program_died_keeps_no_close_waiting(net: Net, monkeypatch: Any) -> None:
    """The close is asked for while two calls run. One goes on and is paid; the dead one fails, and both sides agree."""
    monkeypatch.setattr("dux_escrowd.channel.assembly.SWEEP_S", 0.1)
    async with market(net, "buyer", "seller") as (buyer, seller):
        chid, clock = await open_channel(net, buyer, seller), ManualClock()
        leftover, made = leftover_of(seller, clock), await offer(seller)
        calls = []
        for oid in (new_oid(), new_oid()):
            calls.append(await pay(buyer, seller, made, oid, b"x"))
            assert (await admit(seller, calls[-1], oid, b"x")).verdict == "admitted"
        dead, lives = calls
        await buyer.call(c.CLOSE, c.CloseChannel(request_id="close", chid=chid))

        clock.advance(SILENT_S - 1)
        await seller.call(c.STILL_AT_WORK, c.AtWork(calls=(lives.call,)))
        await leftover.look()
        assert not await failed(seller, chid), "a program may take its time to say so"
        clock.advance(1)
        await leftover.look()
        assert await failed(seller, chid) == [dead.call.j]
        await finish(seller, lives, b"X")
        await net.mine_until(lambda: is_in(seller, chid, "CLOSED"), "closed together, long before EXP", blocks=20)
        assert (await view(seller, chid)).owed_florins == (await view(buyer, chid)).owed_florins == PRICE
        assert await failed(buyer, chid) == [dead.call.j]


async def test_a_taskd_says_which_runs_it_is_at(net: Net, monkeypatch: Any) -> None:
    """As long as it runs, however long that lasts; what another life of it had begun is told of by nobody."""
    monkeypatch.setattr(c, "SAY_EVERY_S", 0.01)
    async with shop(net) as (buyer, seller, chid, selling, there):
        clock, gate = ManualClock(), Gate(there)
        leftover = leftover_of(seller, clock)
        paid, asked = await bought(buyer, seller, selling)
        assert (await selling.call(asked, buyer.did)).reason == "running"
        saying = asyncio.ensure_future(selling.say())
        for _ in range(3):
            clock.advance(SILENT_S)
            said = leftover.worker(paid.call)
            assert said == "taskd"
            await until(lambda: leftover._held[paid.call].heard_s == clock.monotonic(), "it is said again")
            await leftover.look()
        gate.opened.set()
        selling._wait_s = 60.0
        assert (await selling.call(asked, buyer.did)).data == b"DUCK"
        assert not await failed(seller, chid)
        saying.cancel()


class Hearing:
    """A node that notes which calls it is told of, and is away at first."""

    def __init__(self) -> None:
        self.told: list[tuple[c.CallRef, ...]] = []

    async def call(self, _method: Any, params: Any, **_: Any) -> Done:
        self.told.append(params.calls)
        if len(self.told) == 1:
            raise NeighbourDown(daemon="escrowd", detail="away")
        return Done()


async def test_a_selling_program_tells_of_its_calls_until_their_handlers_are_gone(monkeypatch: Any) -> None:
    """A handler that vanished without an answer is no sign of life; the teller ends with the last call."""
    monkeypatch.setattr("dux_pay.holding.SAY_EVERY_S", 0.001)
    node = Hearing()
    holding = Holding(node)  # type: ignore[arg-type]
    one, two = (c.CallRef(chid="c4" * 32, j=j) for j in (1, 2))
    parts = [Parts(), Parts()]
    holding.begins(one, parts[0])
    holding.begins(two, parts[1])
    await until(lambda: len(node.told) > 2, "said again, also after the node was away")
    assert node.told[-1] == (one, two)
    parts.pop()
    await until(lambda: node.told[-1] == (one,), "of the other one nobody speaks any more")
    parts.clear()
    await until(lambda: holding._telling is not None and holding._telling.done(), "and of nothing, nobody speaks")
