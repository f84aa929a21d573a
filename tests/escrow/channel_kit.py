"""A buyer's and a seller's escrowd on a real chain, and a call over a channel between them as two taskds make it."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

from common.channel_messages import Outcome, request_hash, response_hash
from common.contracts import channel as c
from common.units import FLOP, Florins
from tests.escrow.kit import Net, Node, request_id, until

OIDS = itertools.count(1)
WHAT = "service/echo"
PRICE = FLOP // 1000


def new_oid() -> str:
    return f"order-{next(OIDS):012d}"


def req_of(oid: str, body: bytes) -> bytes:
    return request_hash(method="CALL", path=WHAT, body_hash=hashlib.sha256(body).digest(), oid=oid)


def resp_of(body: bytes) -> bytes:
    return response_hash(status=200, body_hash=hashlib.sha256(body).digest())


async def offer(seller: Node, price: int = PRICE, **changes: Any) -> c.OfferMade:
    return await seller.call(c.MAKE_OFFER, c.MakeOffer(what=WHAT, price_florins=Florins(price), **changes))


async def open_channel(net: Net, buyer: Node, seller: Node, cap: int = 10 * FLOP, depth: int = 2) -> str:
    """A channel that calls can go over."""
    wish = c.OpenChannel(request_id=request_id(), payee=seller.did, cap_florins=Florins(cap))
    chid = (await buyer.call(c.OPEN, wish)).chid
    await until(lambda: bool(net.bench.rpc("getrawmempool")), "the funding waits at the node")
    await net.mine(depth)
    await live(buyer, chid)
    return chid


async def live(buyer: Node, chid: str) -> None:
    await until(lambda: is_in(buyer, chid, "OPEN"), f"channel {chid[:8]} is open")


async def is_in(node: Node, chid: str, *states: str) -> bool:
    return (await view(node, chid)).state in states


async def view(node: Node, chid: str) -> c.ChannelView:
    return (await node.call(c.SHOW, c.ChannelRef(chid=chid))).channel


async def pay(buyer: Node, seller: Node, made: c.OfferMade, oid: str, body: bytes, **changes: Any) -> c.Paid:
    wish = {"payee": seller.did, "offer": made.offer, "oid": oid, "req": req_of(oid, body)}
    price = Florins(changes.pop("price", PRICE))
    return await buyer.call(c.PAY, c.Pay(**wish, price_max_florins=price, **changes))


async def admit(seller: Node, paid: c.Paid, oid: str, body: bytes) -> c.Admission:
    return await seller.call(c.ADMIT, c.Admit(voucher=paid.voucher, req=req_of(oid, body), what=WHAT))


async def finish(seller: Node, paid: c.Paid, output: bytes, outcome: Outcome = Outcome.OK, **changes: Any) -> bytes:
    done = c.Finish(call=paid.call, outcome=outcome, resp=resp_of(output), response=output, **changes)
    return (await seller.call(c.FINISH, done)).answer


async def call(
    buyer: Node, seller: Node, made: c.OfferMade, body: bytes = b"x", oid: str = "", price: int = PRICE
) -> c.SettledCall:
    """One call, whole."""
    oid = oid or new_oid()
    paid = await pay(buyer, seller, made, oid, body, price=price)
    verdict = await admit(seller, paid, oid, body)
    assert verdict.verdict == "admitted", verdict
    answer = await finish(seller, paid, body.upper())
    return await buyer.call(c.SETTLED, c.Settle(call=paid.call, answer=answer, resp=resp_of(body.upper())))
