"""Calls of a service over a channel: both taskds' parts on real escrowds; sandbox and wire are stood in for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from common.channel_messages import Outcome
from common.clock import SystemClock
from common.codec import canonical, from_canonical
from common.contracts import channel as c
from common.contracts import peer_channel
from common.contracts.channel_errors import ChannelBusy
from common.contracts.escrow_royalties import ROYALTIES
from common.contracts.p2p_errors import PeerAnswered, PeerUnreachable
from common.contracts.registry import NODE_SHOW
from common.contracts.store import SERVICE_SHOW, ServiceView
from common.contracts.task import CallPaid, CallRefused, NotForSale, PriceAbove
from common.contracts.wallet import WALLET_BALANCE, WALLET_NEW_ADDRESS, NewAddress
from common.errors import DuxError, may_repeat
from common.rpc.method import Empty
from common.units import FLOP, Did, Florins
from dux_taskd.paid_buying import PaidBuying
from dux_taskd.paid_selling import PaidSelling
from dux_taskd.sandbox.model import Ended
from dux_taskd.sandbox.model import Outcome as RunOutcome
from tests.escrow.channel_kit import is_in, open_channel, view
from tests.escrow.kit import LOG, Net, Node, market, until

pytestmark = pytest.mark.patient

PRICE = FLOP // 1000


class Wire:
    """Peers and neighbours of one taskd."""

    def __init__(self, node: Node, service: ServiceView) -> None:
        self.node, self.service = node, service
        self.other: PaidSelling | None = None
        self.lose = 0
        self.runs: list[bytes] = []
        self.developer = ""  # where the service's developer is paid

    async def info(self) -> Any:
        return msgspec.structs.replace(await self.node._info(None, None), did=self.node.did)

    async def fetch_blob(self, *_: Any, **__: Any) -> bytes:
        return b"module"

    async def call(self, _did: Did, method: Any, params: Any, **_: Any) -> Any:
        """To the seller's taskd, through canonical bytes; answers may get lost."""
        handlers: dict[str, Callable[..., Awaitable[Any]]] = {
            peer_channel.QUOTE.name: self.other.quote, peer_channel.CALL.name: self.other.call,
        }  # fmt: skip
        given = from_canonical(canonical(params), method.params, max_bytes=method.params_bytes_max)
        try:
            answer = await handlers[method.name](given, self.node.did)
        except DuxError as error:
            raise PeerAnswered(did="", method=method.name, peer_code=error.code, peer_key=error.key,
                               detail=error.message, retry=may_repeat(error)) from error  # fmt: skip
        if method is peer_channel.CALL and self.lose:
            self.lose -= 1
            raise PeerUnreachable(address="", detail="the answer is lost")
        return answer

    async def show(self, _params: Any) -> Any:
        return msgspec.structs.replace(SERVICE_SHOW.example[1], service=self.service)

    async def run(self, _kind: Any, run: Any, _progress: Any) -> RunOutcome:
        self.runs.append(run.input)
        if run.input == b"fail":
            return RunOutcome(ended=Ended.FAILED, engine="test", detail="it trapped")
        return RunOutcome(ended=Ended.DONE, engine="test", output=run.input.upper())


class Client:
    """A neighbour: the node's own escrowd, or the store."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    async def call(self, method: Any, params: Any, **_: Any) -> Any:
        if method is SERVICE_SHOW:
            return await self.wire.show(params)
        if method is NODE_SHOW:
            return msgspec.structs.replace(NODE_SHOW.example[1], wallet_address=self.wire.developer)
        return await self.wire.node.call(method, params)


class Serving:
    def serving(self) -> tuple[str, ...]:
        return ("svc",)


def parts(buyer: Node, seller: Node, lease_s: int = 0, **changes: Any) -> tuple[PaidBuying, PaidSelling, Wire, Wire]:
    shown = msgspec.structs.replace(
        SERVICE_SHOW.example[1].service, id="svc", kind="wasm", withdrawn=False, provider=seller.did,
        price_florins=Florins(PRICE), package="ab" * 32,
    )  # fmt: skip
    here = Wire(buyer, msgspec.structs.replace(shown, own=False))
    there = Wire(seller, msgspec.structs.replace(shown, own=True))
    ours, theirs = Client(here), Client(there)
    selling = PaidSelling(escrowd=theirs, stored=theirs, registryd=theirs, peers=there, store=Serving(), executor=there,
                          clock=SystemClock(), lease_s=lease_s, log=LOG, **changes)  # fmt: skip
    here.other = selling
    return PaidBuying(escrowd=ours, stored=ours, registryd=ours, peers=here), selling, here, there


def wish(number: int, data: bytes = b"duck", **changes: Any) -> CallPaid:
    said = {"call_id": f"call-{number}", "service_id": "svc", "data": data, "price_limit_florins": Florins(PRICE)}
    return CallPaid(**{**said, **changes})


async def test_paid_run_answered_once_whatever_is_lost(net: Net) -> None:
    """A lost answer is asked for again and not run again; a failed run costs nothing; limits hold before anything."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        chid = await open_channel(net, buyer, seller)
        buying, selling, here, there = parts(buyer, seller)
        done = await buying.call(wish(1))
        assert (done.outcome, done.output, done.charged_florins, done.chid) == (Outcome.OK, b"DUCK", PRICE, chid)
        here.lose = 2
        assert (await buying.call(wish(2))).output == b"DUCK"
        assert (await buying.call(wish(2))).output == b"DUCK"
        assert len(there.runs) == 2, "a lost answer is not another run"
        failed = await buying.call(wish(3, b"fail"))
        assert (failed.outcome, failed.charged_florins) == (Outcome.FAILED, 0)
        assert "trapped" in failed.detail
        with pytest.raises(PriceAbove):
            await buying.call(wish(4, price_limit_florins=Florins(PRICE - 1)))
        here.service = msgspec.structs.replace(here.service, withdrawn=True)
        buying._services.clear()
        with pytest.raises(NotForSale):
            await buying.call(wish(5))
        mine, theirs = await view(buyer, chid), await view(seller, chid)
        assert mine.owed_florins == theirs.owed_florins == 2 * PRICE
        with pytest.raises(NotForSale):
            await selling.quote(peer_channel.AskQuote(service_id="other"), buyer.did)


async def test_time_is_charged_and_an_overdrawn_lease_ends(net: Net) -> None:
    """A second costs the price: work of one and a half costs two; beyond the buyer's limit it is ended and charged."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        await open_channel(net, buyer, seller)
        buying, selling, _, there = parts(buyer, seller, lease_s=1, grace_s=60.0)
        plain = there.run

        async def slow(kind: Any, run: Any, progress: Any) -> RunOutcome:
            await asyncio.sleep(float(run.input))
            return await plain(kind, run, progress)

        there.run = slow
        done = await buying.call(wish(1, b"1.5", price_limit_florins=Florins(5 * PRICE)))
        assert done.outcome is Outcome.OK
        assert done.charged_florins in (2 * PRICE, 3 * PRICE)  # a second and a half, on a busy machine two
        selling._grace_s = 0.2
        ended = await buying.call(wish(2, b"30", price_limit_florins=Florins(2 * PRICE)))
        assert (ended.charged_florins, ended.output) == (2 * PRICE, b"")
        assert "overdrawn" in ended.detail


async def test_a_lease_is_paid_period_by_period(net: Net) -> None:
    """The limit is never signed at once: fuel comes as periods begin, at most one (or what a delay adds) lies ahead."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        await open_channel(net, buyer, seller)
        buying, selling, here, there = parts(buyer, seller, lease_s=1, grace_s=60.0)
        selling._lease_s, limits, plain = 0.2, list[int](), there.run  # type: ignore[assignment]
        escrowd = Client(here)
        buying._escrowd = Noting(escrowd, limits)  # type: ignore[assignment]

        async def long(kind: Any, run: Any, progress: Any) -> RunOutcome:
            await until(lambda: len(limits) >= 3, "fuel came three times")
            return await plain(kind, run, progress)

        there.run = long  # type: ignore[method-assign]
        done = await buying.call(wish(1, price_limit_florins=Florins(1_000 * PRICE)))
        assert (done.outcome, done.output) == (Outcome.OK, b"DUCK")
        assert limits == [PRICE * number for number in range(2, 2 + len(limits))], "one period each"
        assert limits[-1] - 2 * PRICE <= done.charged_florins <= limits[-1]
        mine, theirs = await view(buyer, done.chid), await view(seller, done.chid)
        assert mine.owed_florins == theirs.owed_florins == done.charged_florins


class Noting:
    """A neighbour, and up to which price fuel was asked of it."""

    def __init__(self, client: Client, limits: list[int]) -> None:
        self.client, self.limits = client, limits

    async def call(self, method: Any, params: Any, **kept: Any) -> Any:
        said = await self.client.call(method, params, **kept)
        if method is c.FUEL:
            self.limits.append(int(params.price_max_florins))
        return said


async def test_the_first_call_opens_the_channel(net: Net) -> None:
    """Nothing was open: the call opens one, says so, and waits for its block under the same id."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        buying, _, _, there = parts(buyer, seller)
        asked = wish(1, open_florins=Florins(2 * FLOP))
        with pytest.raises(DuxError):
            await buying.call(wish(9))
        opening = asyncio.ensure_future(buying.call(asked))
        await until(lambda: bool(net.bench.rpc("getrawmempool")), "the funding waits")
        await net.mine(2)
        done = await opening
        assert done.output == b"DUCK"
        assert done.said[0].startswith("opened channel")
        assert await is_in(buyer, done.chid, "OPEN")
        assert there.runs == [b"duck"]


async def test_a_dear_call_waits_for_the_depth_of_the_channel_that_it_opened(net: Net) -> None:
    """10 FLOP over a coin one block old: nothing is signed, the blocks to go are said, then it is paid, once."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        buying, _, here, there = parts(buyer, seller)
        dear = Florins(10 * FLOP)
        here.service, there.service = (msgspec.structs.replace(w.service, price_florins=dear) for w in (here, there))
        asked = wish(1, price_limit_florins=dear, open_florins=Florins(12 * FLOP))
        opening = asyncio.ensure_future(buying.call(asked))
        await until(lambda: bool(net.bench.rpc("getrawmempool")), "the funding waits")
        await net.mine(1)
        with pytest.raises(
            ChannelBusy, match=r"opened channel \w{8} of 12 FLOP; .* too young .* 10 FLOP .* 1 more block"
        ):
            await opening
        (young,) = (await buyer.call(c.LIST, c.ListChannels())).channels
        assert (young.depth, young.trusted_florins, young.calls, young.held_florins) == (1, FLOP, 0, 0)
        with pytest.raises(ChannelBusy, match="1 more block is needed"):
            await buying.call(asked)
        assert len((await buyer.call(c.LIST, c.ListChannels())).channels) == 1, "no other channel was opened for it"
        for start, found in ((young.chid[:4], 1), (young.chid, 1), (young.chid[1:9], 0)):
            assert len((await buyer.call(c.LIST, c.ListChannels(start=start))).channels) == found, start
        assert there.runs == []
        await net.mine(1)

        async def deep() -> bool:
            return (await view(buyer, young.chid)).depth > 1

        await until(deep, "the buyer's node has seen the next block")
        done = await buying.call(asked)
        assert (done.output, done.charged_florins, done.chid) == (b"DUCK", dear, young.chid)
        assert (await view(buyer, young.chid)).trusted_florins == 1_000 * FLOP


async def test_a_refusal_for_depth_is_no_refusal_for_good(net: Net) -> None:
    """The seller's node does not see the block yet: the same call is asked again, and taken once it does."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        chid = await open_channel(net, buyer, seller)
        buying, selling, _, _ = parts(buyer, seller)
        plain, asked = selling.call, list[bytes]()

        async def behind(call: Any, sender: Any) -> Any:
            asked.append(call.voucher)
            if len(asked) == 1:
                return peer_channel.PaidAnswer(
                    answer=b"", data=b"", detail="", reason="depth", missing_florins=Florins(0)
                )
            return await plain(call, sender)

        selling.call = behind  # type: ignore[method-assign]
        done = await buying.call(wish(1))
        assert (done.output, done.chid, len(asked), asked[0]) == (b"DUCK", chid, 2, asked[1])
        assert (await view(buyer, chid)).owed_florins == PRICE


async def test_what_is_refused_for_good_says_why_and_what_was_done(net: Net) -> None:
    """Not the code of a reason, but words; and over which channel."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        await open_channel(net, buyer, seller)
        buying, selling, _, _ = parts(buyer, seller)

        async def closing(_call: Any, _sender: Any) -> Any:
            return peer_channel.PaidAnswer(
                answer=b"", data=b"", detail="", reason="closing", missing_florins=Florins(0)
            )

        selling.call = closing  # type: ignore[method-assign]
        with pytest.raises(CallRefused, match=r"is closing: .* nothing was charged; over channel \w{8}, "):
            await buying.call(wish(1))


async def test_a_developer_is_paid_by_the_calls_of_its_service_alone(net: Net) -> None:
    """A channel is opened with the royalty; one without it carries no such call; the close pays the developer."""
    async with market(net, "buyer", "seller", "dora") as (buyer, seller, dora):
        plain = await open_channel(net, buyer, seller, cap=2 * FLOP)
        buying, _, here, there = parts(buyer, seller)
        place = await dora.wallet.call(WALLET_NEW_ADDRESS, NewAddress(request_id="royalty"))
        here.developer = there.developer = place.address
        there.service = royal(there.service, dora)
        with pytest.raises(DuxError, match="does not pay the developer"):
            await buying.call(wish(1))  # the buyer knows an older listing, without a royalty
        here.service = royal(here.service, dora)
        buying._services.clear()
        with pytest.raises(DuxError, match="there is none"):
            await buying.call(wish(2))
        opening = asyncio.ensure_future(buying.call(wish(3, open_florins=Florins(2 * FLOP))))
        await until(lambda: bool(net.bench.rpc("getrawmempool")), "the funding waits")
        await net.mine(2)
        done = await opening
        assert (done.output, done.chid != plain) == (b"DUCK", True)
        assert (await buying.call(wish(4))).chid == done.chid
        await buyer.call(c.CLOSE, c.CloseChannel(request_id="close", chid=done.chid))
        await net.mine_until(lambda: is_in(seller, done.chid, "CLOSED"), "closed")
        await dora.wallet.synced()
        held = await dora.wallet.call(WALLET_BALANCE, Empty())
        assert held.total_florins == (FLOP // 5 - FLOP // 100) * 1_000 // 10_000
        (account,) = (await seller.call(ROYALTIES, Empty())).accounts
        assert (account.address, account.deals, account.owed_florins) == (place.address, 1, 0)
        assert account.paid_florins == held.total_florins


def royal(service: ServiceView, developer: Node) -> ServiceView:
    return msgspec.structs.replace(service, developer=developer.did, royalty_bps=1_000)
