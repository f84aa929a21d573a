"""Anybody may pay a channel's script: real daemons, a real chain, and nothing of the payer's is left there."""

from __future__ import annotations

import pytest

from common.contracts import channel as c
from common.contracts.channel_errors import ChannelBusy, NoChannel
from common.contracts.wallet import WALLET_BALANCE
from common.contracts.wallet_errors import InsufficientFunds
from common.rpc.method import Empty
from common.units import FLOP, Florins
from tests.escrow.channel_kit import call, is_in, live, new_oid, offer, pay, view
from tests.escrow.kit import Net, Node, give, market, request_id, until


async def opened(buyer: Node, seller: Node, cap: int = 3 * FLOP, blocks: int | None = None) -> tuple[str, bytes]:
    """A channel of which the funding waits, and its script."""
    wish = c.OpenChannel(request_id=request_id(), payee=seller.did, cap_florins=Florins(cap), blocks=blocks)
    chid = (await buyer.call(c.OPEN, wish)).chid
    row = buyer.daemon.parts.table.store.row("SELECT * FROM channels WHERE chid = ?", chid)
    return chid, bytes(row["output_script"])


async def owned(node: Node) -> int:
    return int((await node.wallet.call(WALLET_BALANCE, Empty())).total_florins)


@pytest.mark.parametrize("stranger", [2_000_000, 2 * FLOP])
async def test_a_stranger_pays_the_script_first(net: Net, stranger: int) -> None:
    """Dust is passed over, and enough carries the channel: either way the rest of the script is the payer's at EXP."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        had = await owned(buyer)
        chid, script = await opened(buyer, seller, blocks=64)
        await until(lambda: bool(net.bench.rpc("getrawmempool")), "the funding waits at the node")
        net.bench.craft(net.bench.pay((script, stranger), send=False))
        await net.mine(2)
        await live(buyer, chid)
        await live(seller, chid)
        usable = (await view(buyer, chid)).usable_florins
        assert usable == (await view(seller, chid)).usable_florins
        assert (usable > 2 * FLOP) == (stranger < FLOP)
        await call(buyer, seller, await offer(seller))
        with pytest.raises(ChannelBusy, match="calls were paid; close it"):
            await buyer.call(c.REFUND, c.ChannelAct(request_id=request_id(), chid=chid))
        await buyer.call(c.CLOSE, c.CloseChannel(request_id=request_id(), chid=chid))
        await until(lambda: is_in(buyer, chid, "CLOSE_SEEN", "CLOSED"), "the close is seen")
        await net.mine_to((await view(buyer, chid)).exp)
        await until(lambda: bool(net.bench.rpc("getrawmempool")), "the further output is on its way back")
        await net.mine(2)
        spent_at_most = FLOP // 5 + FLOP // 10  # the first voucher, and fees
        if stranger < FLOP:
            assert await owned(buyer) > had - spent_at_most
        else:
            assert await owned(buyer) > had + stranger - spent_at_most


async def test_a_channel_whose_funding_was_sent_is_closed_once_its_coin_is_there(net: Net) -> None:
    """A payment cannot be called back: the close waits for it, also over a start, no call goes out, and all returns."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        had = await owned(buyer)
        chid, _ = await opened(buyer, seller)
        wish = c.CloseChannel(request_id=request_id(), chid=chid)
        assert (await buyer.call(c.CLOSE, wish)).state == "FUND_SENT"
        assert "its end is wanted" in (await buyer.call(c.SHOW, c.ChannelRef(chid=chid))).lines[-2]
        with pytest.raises(NoChannel):
            await pay(buyer, seller, await offer(seller), new_oid(), b"x")
        await until(lambda: bool(net.bench.rpc("getrawmempool")), "the funding waits at the node")
        before = buyer.daemon
        buyer.death.set()
        await until(lambda: buyer.daemon not in (None, before), "the buyer is there again")
        assert await is_in(buyer, chid, "FUND_SENT")
        await net.mine(1)
        await until(lambda: is_in(buyer, chid, "CLOSE_SEEN"), "the close is seen")
        await net.mine(2)
        await until(lambda: is_in(buyer, chid, "CLOSED"), "the close lies deep")
        assert (await view(seller, chid)).owed_florins == 0
        assert await owned(buyer) > had - FLOP // 10


async def test_an_empty_wallet_opens_nothing_and_what_was_never_paid_is_withdrawn(net: Net) -> None:
    """Refused before anything is agreed; a channel whose funding is held up is closed without a coin."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        with pytest.raises(InsufficientFunds):
            await opened(seller, buyer)
        assert seller.daemon.parts.table.store.row("SELECT 1 FROM channels") is None
        assert buyer.daemon.parts.table.store.row("SELECT 1 FROM channels") is None
        paid, _ = await opened(buyer, seller, 30 * FLOP)
        waits, _ = await opened(buyer, seller, 5 * FLOP)
        held_up, _ = await opened(buyer, seller, 4 * FLOP)
        await until(lambda: bool(net.bench.rpc("getrawmempool")), "the first funding waits at the node")
        assert await is_in(buyer, held_up, "FUND_SENT"), "the change of the first is in no block yet"
        done = await buyer.call(c.CLOSE, c.CloseChannel(request_id=request_id(), chid=held_up))
        assert done.state == "CLOSED"
        await net.mine(3)
        await live(buyer, paid)
        await until(lambda: bool(net.bench.rpc("getrawmempool")), "the second funding waits at the node")
        await net.mine(3)
        await live(buyer, waits)
        assert await is_in(buyer, held_up, "CLOSED")
        assert await owned(buyer) > 4 * FLOP
        await give(net, buyer, 10 * FLOP)
        assert await is_in(buyer, held_up, "CLOSED")
