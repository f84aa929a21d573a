"""A channel's whole life on the embedded chain: rolled over, refunded, watched, reorganised, recovered, metered."""

from __future__ import annotations

import msgspec
import pytest

from common.chain.channel_heights import channel_profile
from common.channel_messages import Outcome, Pricing
from common.contracts import channel as c
from common.contracts.channel_errors import BadChannelTerms
from common.contracts.registry import NODE_LIST, ListNodes, NodeList
from common.errors import DuxError
from common.receipts import attested
from common.rpc.table import Ctx
from common.units import FLOP, Florins
from tests.escrow.channel_kit import (
    PRICE,
    admit,
    call,
    finish,
    is_in,
    live,
    new_oid,
    offer,
    open_channel,
    pay,
    resp_of,
    view,
)
from tests.escrow.kit import Net, Node, market, request_id, until

pytestmark = pytest.mark.patient


async def channels_of(node: Node) -> list[c.ChannelView]:
    return list((await node.call(c.LIST, c.ListChannels(open_only=False))).channels)


async def test_rolled_over_topped_up_and_given_back(net: Net) -> None:
    """One transaction closes and opens; a top-up runs beside it; an unused channel is given back by both."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        chid, made = await open_channel(net, buyer, seller), await offer(seller)
        await call(buyer, seller, made)
        await buyer.call(c.CLOSE, c.CloseChannel(request_id=request_id(), chid=chid, roll=True))
        await until(lambda: is_in(seller, chid, "CLOSE_SEEN", "CLOSED"), "the close is seen")
        await net.mine(3)
        following = next(one.chid for one in await channels_of(buyer) if one.chid != chid)
        await live(buyer, following)
        assert (await view(buyer, following)).cap_florins > 9 * FLOP
        await call(buyer, seller, made)
        more = (await buyer.call(c.TOP_UP, c.TopUp(request_id=request_id(), chid=following,
                                                   cap_florins=Florins(2 * FLOP)))).chid  # fmt: skip
        await until(lambda: bool(net.bench.rpc("getrawmempool")), "the second funding waits")
        await net.mine(2)
        await live(buyer, more)
        await buyer.call(c.REFUND, c.ChannelAct(request_id=request_id(), chid=more))
        await until(lambda: is_in(buyer, more, "CLOSE_SEEN"), "given back by both")
        assert (await view(seller, more)).held_florins == 0
        paid = await pay(buyer, seller, made, oid := new_oid(), b"x")
        assert paid.call.chid == following
        assert (await admit(seller, paid, oid, b"x")).verdict == "admitted"


async def test_a_silent_seller_and_a_watcher(net: Net) -> None:
    """The seller is gone: the watcher publishes its close in time; where nobody does, the payer takes all back."""
    async with market(net, "buyer", "seller", "carl") as (buyer, seller, carl):
        seller.settings = {"channel_watchers": (carl.did,), "channel_mirror_florins": Florins(1)}
        before = seller.daemon
        seller.death.set()
        await until(lambda: seller.daemon not in (None, before), "the seller is up with its settings")
        wish = c.OpenChannel(request_id=request_id(), payee=seller.did, cap_florins=Florins(3 * FLOP), blocks=64)
        watched = (await buyer.call(c.OPEN, wish)).chid
        alone = (await buyer.call(c.OPEN, c.OpenChannel(request_id=request_id(), payee=carl.did, blocks=64,
                                                        cap_florins=Florins(3 * FLOP)))).chid  # fmt: skip
        await until(lambda: bool(net.bench.rpc("getrawmempool")), "the first funding waits")
        await net.mine(1)  # its change pays the second
        await until(lambda: bool(net.bench.rpc("getrawmempool")), "the second funding waits")
        await net.mine(2)
        await live(buyer, watched)
        await live(buyer, alone)
        await call(buyer, seller, await offer(seller))
        seller.off = carl.off = True  # carl, too: asked to, it would give the unused channel back before EXP
        exp = (await view(buyer, watched)).exp
        await net.mine_to(exp - 18)
        books = carl.daemon.parts.table.store
        await until(lambda: books.row("SELECT 1 FROM watched_closes WHERE published = 1"), "the watcher publishes")
        await until(lambda: bool(net.bench.rpc("getrawmempool")), "its close waits at the node")
        await net.mine(1)
        await until(lambda: is_in(buyer, watched, "CLOSE_SEEN", "CLOSED"), "the watcher's close is seen")
        await net.mine_to((await view(buyer, alone)).exp)
        await until(lambda: is_in(buyer, alone, "REFUND_SENT", "REFUND_SEEN"), "the refund is sent")
        await until(lambda: bool(net.bench.rpc("getrawmempool")), "the refund waits at the node")
        await net.mine(2)
        await until(lambda: is_in(buyer, alone, "CLOSED"), "everything is back")


async def test_a_seller_that_named_nobody_has_found_a_watcher(net: Net) -> None:
    """No setting, no step reached: the active node that is not the payer gets the close, renewed, and publishes it."""
    async with market(net, "buyer", "seller", "carl") as (buyer, seller, carl):
        lives = [msgspec.structs.replace(NODE_LIST.example[1].nodes[0], node_id=one.did) for one in (buyer, carl)]

        async def listed(_params: ListNodes, _ctx: Ctx) -> NodeList:
            return NodeList(nodes=tuple(lives), total=len(lives))

        seller.registryd.serve(NODE_LIST, listed)
        wish = c.OpenChannel(request_id=request_id(), payee=seller.did, cap_florins=Florins(3 * FLOP), blocks=64)
        chid = (await buyer.call(c.OPEN, wish)).chid
        await until(lambda: bool(net.bench.rpc("getrawmempool")), "the funding waits")
        await net.mine(2)
        await live(buyer, chid)
        await call(buyer, seller, await offer(seller))
        await net.mine(1)
        books = carl.daemon.parts.table.store
        await until(lambda: books.row("SELECT 1 FROM watched_closes"), "carl has the close")
        assert buyer.daemon.parts.table.store.row("SELECT 1 FROM watched_closes") is None, "the payer is not asked"
        first = books.row("SELECT raw FROM watched_closes")["raw"]
        await call(buyer, seller, await offer(seller, price=FLOP // 2), price=FLOP // 2)
        renew = channel_profile(net.profile().heights).renew_blocks
        await net.mine(renew)
        await until(lambda: books.row("SELECT raw FROM watched_closes")["raw"] != first, "carl has a newer one")
        seller.off = True
        await net.mine_to((await view(buyer, chid)).exp - 18)
        await until(lambda: books.row("SELECT 1 FROM watched_closes WHERE published = 1"), "carl publishes")


async def test_an_offer_is_made_anew_when_its_maker_s_key_has_changed(net: Net) -> None:
    """The same wish gets the same offer, until the key that signed it is not the node's any more."""
    async with market(net, "seller") as (seller,):
        made = await offer(seller)
        assert await offer(seller) == made
        seller.changes_key()
        anew = await offer(seller)
        assert (attested(made.offer).key_seq, attested(anew.offer).key_seq) == (0, 1)
        assert await offer(seller) == anew


async def test_metered_and_priced_anew(net: Net) -> None:
    """Chunks leave only when covered, fuel makes them leave; failed work costs nothing; an old offer ends by height."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        await open_channel(net, buyer, seller)
        made = await offer(seller, pricing=Pricing.METERED, valid_blocks=4)
        paid = await pay(buyer, seller, made, oid := new_oid(), b"x", price=25_000_000)
        assert (await admit(seller, paid, oid, b"x")).verdict == "admitted"
        at = c.Chunk(call=paid.call, price_florins=Florins(25_000_000))
        assert (await seller.call(c.CHUNK, at)).go
        more = c.Chunk(call=paid.call, price_florins=Florins(40_000_000))
        assert not (await seller.call(c.CHUNK, more)).go
        fuel = await buyer.call(c.FUEL, c.Fuel(call=paid.call, price_max_florins=Florins(40_000_000)))
        await admit(seller, fuel, oid, b"x")
        assert (await seller.call(c.CHUNK, more)).go
        answer = await finish(seller, paid, b"X")
        settled = await buyer.call(c.SETTLED, c.Settle(call=paid.call, answer=answer, resp=resp_of(b"X")))
        assert (settled.outcome, settled.charged_florins) == (Outcome.OK, 40_000_000)
        await net.mine(5)
        await until(lambda: knows(buyer, net), "the buyer knows the tip")
        await until(lambda: knows(seller, net), "the seller knows the tip")
        with pytest.raises(DuxError):
            await pay(buyer, seller, made, new_oid(), b"x", price=25_000_000)
        assert (await offer(seller, price=2 * PRICE)).hash != made.hash


async def knows(node: Node, net: Net) -> bool:
    return (await node.call(c.RULES, c.RULES.example[0])).height >= net.height


async def test_a_copy_put_back_learns_from_the_other_side(net: Net) -> None:
    """The payer's books from before three calls: a hello brings numbers and amounts back; nothing is paid twice."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        chid, made = await open_channel(net, buyer, seller), await offer(seller)
        await call(buyer, seller, made)
        store = buyer.daemon.parts.table.store
        old = store.row("SELECT state, phase FROM channels WHERE chid = ?", chid)
        for _ in range(3):
            await call(buyer, seller, made)
        with store.transaction() as tx:
            tx.execute("UPDATE channels SET state = ?, phase = ? WHERE chid = ?", old["state"], old["phase"], chid)
            tx.execute("DELETE FROM channel_calls WHERE chid = ? AND j > 1", chid)
        buyer.death.set()
        await until(lambda: buyer.daemon is not None and buyer.daemon.parts.table.store is not store, "restarted")
        await live(buyer, chid)
        mine, theirs = await view(buyer, chid), await view(seller, chid)
        assert (mine.calls, mine.owed_florins, theirs.owed_florins) == (4, 4 * PRICE, 4 * PRICE)
        assert (await call(buyer, seller, made)).call.j == 5


async def test_the_phrase_alone_brings_a_channel_back(net: Net) -> None:
    """The payer's books are gone, its wallet's rows too: keys by number, terms from the payee, the rest by hello."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        chid, made = await open_channel(net, buyer, seller), await offer(seller)
        for _ in range(3):
            await call(buyer, seller, made)
        store, purse = buyer.daemon.parts.table.store, buyer.wallet.daemon.parts.table.store
        with store.transaction() as tx:
            for table in ("channels", "channel_calls", "channel_vouchers"):
                tx.execute(f"DELETE FROM {table}")
        with purse.transaction() as tx:
            tx.execute("DELETE FROM contracts")
            tx.execute("DELETE FROM contract_keys")
        buyer.death.set()
        await until(lambda: buyer.daemon is not None and buyer.daemon.parts.table.store is not store, "restarted")
        wish = c.RecoverFrom(request_id=request_id(), payee=seller.did, keys=10)
        found = (await buyer.call(c.RECOVER_FROM, wish)).channels
        assert [one.chid for one in found] == [chid]
        await net.mine(1)
        await live(buyer, chid)
        mine = await view(buyer, chid)
        assert (mine.calls, mine.owed_florins, mine.cap_florins) == (3, 3 * PRICE, 10 * FLOP)
        assert (await call(buyer, seller, made)).call.j == 4


async def test_no_more_channels_than_a_standing_allows(net: Net) -> None:
    """Four and the tier: the fifth wish of a newcomer is refused, and terms of a channel are found again by its key."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        wishes = [c.OpenChannel(request_id=request_id(), payee=seller.did, cap_florins=Florins(2 * FLOP))
                  for _ in range(5)]  # fmt: skip
        for wish in wishes[:4]:
            await buyer.call(c.OPEN, wish)
        with pytest.raises(DuxError) as refused:
            await buyer.call(c.OPEN, wishes[4])
        assert BadChannelTerms.code in (refused.value.code, refused.value.fields.get("peer_code"))
