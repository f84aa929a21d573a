"""Pay per call between real escrowds and wallets on the embedded chain; only the wire is faked."""

from __future__ import annotations

from common.contracts import channel as c
from common.units import FLOP
from tests.escrow.channel_kit import PRICE, admit, call, is_in, new_oid, offer, open_channel, pay, view
from tests.escrow.kit import Net, market, request_id, until


async def test_many_calls_cost_two_transactions(net: Net) -> None:
    """Opened, forty calls, closed together: 95 % to the seller, 5 % to the fund, the rest back; nobody signed more."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        chid = await open_channel(net, buyer, seller)
        made = await offer(seller)
        for _ in range(40):
            settled = await call(buyer, seller, made)
        assert settled.charged_florins == PRICE
        mine, theirs = await view(buyer, chid), await view(seller, chid)
        assert mine.owed_florins == theirs.owed_florins == 40 * PRICE
        assert theirs.held_florins == max(40 * PRICE, FLOP // 5)
        said = (await buyer.call(c.SHOW, c.ChannelRef(chid=chid))).lines
        assert "its encrypted copy is kept by 1 of 1 nodes that were asked" in said
        await buyer.call(c.CLOSE, c.CloseChannel(request_id=request_id(), chid=chid))
        await until(lambda: is_in(seller, chid, "CLOSE_SEEN", "CLOSED"), "the close is seen")
        await net.mine(3)
        await until(lambda: is_in(seller, chid, "CLOSED"), "closed for the seller")
        await until(lambda: is_in(buyer, chid, "CLOSED"), "closed for the buyer")
        assert not [line for line in (await buyer.call(c.SHOW, c.ChannelRef(chid=chid))).lines if "copy" in line]
        assert (mine.taken_florins, (await view(buyer, chid)).taken_florins) == (0, max(40 * PRICE, FLOP // 5))


async def test_a_voucher_that_was_never_sent_keeps_no_close_waiting(net: Net) -> None:
    """A program died with a voucher that it never sent: the owner's close ends that call and is not kept waiting."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        chid, made = await open_channel(net, buyer, seller), await offer(seller)
        await call(buyer, seller, made)
        lost = await pay(buyer, seller, made, oid := new_oid(), b"never sent")
        await buyer.call(c.CLOSE, c.CloseChannel(request_id=request_id(), chid=chid))
        await until(lambda: is_in(seller, chid, "CLOSE_SEEN", "CLOSED"), "the close is seen")
        late = await admit(seller, lost, oid, b"never sent")
        assert late.verdict != "admitted"
        assert (await view(buyer, chid)).in_flight == 0
        assert (await view(seller, chid)).owed_florins == PRICE
