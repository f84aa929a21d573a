"""A buyer that reaches a seller over HTTP alone: channel opened, greeted and closed, no word between their p2pds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from common.chain.tx import Outpoint
from common.channel_messages import NO_ROOT, Ack, BadVoucher, Final, Hello
from common.codec import canonical
from common.contracts import channel as c
from common.contracts import channel_carried as carried
from common.contracts import peer_channel as peer
from common.contracts import wallet_channel as wallet
from common.contracts.channel_errors import BadChannelMessage
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.receipts import Attested
from common.units import FLOP, Did, Florins
from dux_escrowd.channel.opening import Opening
from dux_pay.messages import PATH, Courier
from dux_pay.purse import Purse
from tests.attacks.registry import attack
from tests.escrow.channel_kit import view
from tests.escrow.kit import Net, Node, request_id, until
from tests.escrow.test_http_calls import buy, is_closed, market, program, purse_of, sold

BETWEEN = {peer.OPEN.name, peer.HELLO.name, peer.FINAL.name, peer.ASK_HELLO.name}


@pytest.fixture
def cut(net: Net) -> Net:
    """The two nodes' own way for channel messages is cut; `net.calls` tells who tried it."""
    net.lost = lambda _sender, _to, method: method in BETWEEN
    return net


@asynccontextmanager
async def buying(net: Net, buyer: Node, seller: Node, folder: Path) -> AsyncIterator[Purse]:
    """A program that buys, with its courier."""
    async with purse_of(net, buyer, seller, folder / "paid.sqlite") as purse, Courier(program(buyer)).running():
        yield purse


def tried(net: Net, method: str) -> int:
    return sum(name == method for _, _, name in net.calls)


async def test_a_channel_is_opened_greeted_and_closed_over_http(cut: Net, tmp_path: Path) -> None:
    """The first call opens it; after the seller's restart the next one greets it; the end is agreed: all over HTTP."""
    async with market(cut) as (buyer, seller), sold(cut, seller) as (url, upstream):
        async with buying(cut, buyer, seller, tmp_path) as purse:
            first = asyncio.ensure_future(buy(purse, f"{url}/v1/x"))
            await cut.mine_until(first.done, "the first call is paid", blocks=20)
            assert ((await first).status, (await first).ended.outcome) == (200, "ok")
            (channel,) = (await buyer.call(c.LIST, c.ListChannels())).channels
            await buyer.call(c.RECOVER, c.RECOVER.example[0])
            await until(lambda: greeted(buyer, channel.chid), "the buyer has greeted over HTTP")
            assert (await buy(purse, f"{url}/v1/y")).status == 200
            assert len(upstream.seen) == 2
            assert [tried(cut, method) for method in sorted(BETWEEN)] == [0, 0, 0, 0]
            await buyer.call(c.CLOSE, c.CloseChannel(request_id=request_id(), chid=channel.chid))
            await cut.mine_until(lambda: is_closed(seller, channel.chid), "the channel is closed")
        assert [tried(cut, method) for method in (peer.OPEN.name, peer.HELLO.name, peer.FINAL.name)] == [0, 0, 0]
        theirs = await view(seller, channel.chid)
        assert int(theirs.owed_florins) == int((await view(buyer, channel.chid)).owed_florins) == 600_000


async def greeted(buyer: Node, chid: str) -> bool:
    return (await view(buyer, chid)).state == "OPEN"


async def test_without_a_carrier_or_a_door_messages_go_from_node_to_node(net: Net, tmp_path: Path) -> None:
    """No courier: the nodes' own way, as for sellers that take none over HTTP; so it is when the HTTP way fails."""
    async with market(net) as (buyer, seller), sold(net, seller) as (url, _):
        async with purse_of(net, buyer, seller, tmp_path / "paid.sqlite") as purse:
            first = asyncio.ensure_future(buy(purse, f"{url}/v1/x"))
            await net.mine_until(first.done, "the first call is paid", blocks=20)
            assert (await first).status == 200
        assert tried(net, peer.OPEN.name) == 1
        hellos = tried(net, peer.HELLO.name)
        (channel,) = (await buyer.call(c.LIST, c.ListChannels())).channels
        lost = f"http://127.0.0.1:9{PATH}"
        wish = c.Pay(
            payee=seller.did, offer=await offered(seller), oid="another-way-00001", req=b"r" * 32,
            price_max_florins=Florins(1), messages_url=lost,
        )  # fmt: skip
        async with Courier(program(buyer)).running():
            await buyer.call(c.PAY, wish)
            await buyer.call(c.RECOVER, c.RECOVER.example[0])
            await until(lambda: greeted(buyer, channel.chid), "greeted by the nodes' own way")
        assert tried(net, peer.HELLO.name) > hellos


async def offered(seller: Node) -> bytes:
    return (await seller.call(c.MAKE_OFFER, c.MakeOffer(what="x", price_florins=Florins(1)))).offer


def signed_wish(node: Node, wish: bytes, payee: Did, *, by: Node | None = None) -> bytes:
    """A wish as an HTTP body; `by`: whose signature stands under it."""
    body = canonical(carried.CarriedOpen(payee=payee, wish=wish, stamp=0))
    made = (by or node).key.sign(Purpose.CHANNEL_ASK, body)
    return message("open", canonical(Attested(body=body, did=node.did, key_seq=0, signature=made)))


def message(kind: str, body: bytes) -> bytes:
    return canonical(carried.CarriedMessage(kind=kind, body=body))


async def a_wish(buyer: Node) -> bytes:
    """A wish as the buyer's own node makes it."""
    run = next(loop for name, loop in buyer.daemon.parts.loops if name == "channel hellos")
    opening = Opening(run.__self__._counter, run.__self__._carrying)
    nonce = opening._counter.random.bytes(32)
    wish = wallet.NewChannelKey(request_id=request_id(), side="payer", nonce=nonce)
    key = await opening._desk.flopd.call(wallet.PURSE_KEY, wish)
    return canonical(await opening._wish(nonce, key, 5 * FLOP, None, b"", 0))


@attack(
    "payment",
    tries="a wish in another node's name or for another payee, a hello and a last state that nobody signed",
    meets="refused by signature; no channel, no session, nothing signed",
)
async def test_a_carrier_cannot_speak_for_a_node(net: Net) -> None:
    """What comes over HTTP counts by its signatures; an honest wish gets terms, the same again for the same wish."""
    async with market(net) as (buyer, seller):
        wish, door = await a_wish(buyer), program(seller)

        async def hand_in(data: bytes) -> bytes:
            return (await door.call(carried.CARRIED, carried.Carried(message=data))).answer

        with pytest.raises(BadChannelMessage, match="not signed"):
            await hand_in(signed_wish(buyer, wish, seller.did, by=seller))
        with pytest.raises(BadChannelMessage, match="for this node"):
            await hand_in(signed_wish(buyer, wish, buyer.did))
        assert (await seller.call(c.LIST, c.ListChannels())).channels == ()
        terms = await hand_in(signed_wish(buyer, wish, seller.did))
        assert await hand_in(signed_wish(buyer, wish, seller.did)) == terms
        (channel,) = (await seller.call(c.LIST, c.ListChannels())).channels
        assert channel.other == buyer.did
        ack = Ack(low=1, root=NO_ROOT, bits=0, paid_florins=Florins(0))
        hello = Hello(v=1, chid=bytes.fromhex(channel.chid), nonce=b"n" * 32, head=b"", ack=ack)
        final = Final(
            v=1, chid=bytes.fromhex(channel.chid), outpoint=Outpoint("ab" * 32, 0), cum_florins=Florins(0),
            next_script=b"", coin_sig=b"s" * 71,
        )  # fmt: skip
        for kind, body in (("hello", hello), ("final", final)):
            with pytest.raises(BadVoucher):
                await hand_in(message(kind, canonical(Signed(body=canonical(body), sigs=(b"s" * 71,)))))


async def test_what_the_door_says_to_strangers(net: Net) -> None:
    """Nonsense 400, too long 413, a node that is away 503; other verbs belong to the endpoint behind."""
    async with market(net) as (_, seller), sold(net, seller) as (url, upstream), aiohttp.ClientSession() as session:

        async def post(data: bytes) -> tuple[int, str]:
            async with session.post(f"{url}{PATH}", data=data) as answer:
                return answer.status, await answer.text()

        assert (await post(b"nonsense"))[0] == 400
        assert (await post(b"x" * (carried.MESSAGE_BYTES_MAX + 1)))[0] == 413
        assert (await post(message("hello", b"\x92")))[0] == 400
        async with session.get(f"{url}{PATH}") as answer:
            assert answer.status == 402
        assert upstream.seen == []


async def test_a_sellers_refusal_is_told_and_not_asked_for_again(cut: Net, tmp_path: Path) -> None:
    """More channels than one buyer may have open: the seller's words reach the caller, no other way is tried."""
    async with market(cut) as (buyer, seller), sold(cut, seller) as (url, _):
        async with buying(cut, buyer, seller, tmp_path) as purse:
            run = next(loop for name, loop in seller.daemon.parts.loops if name == "channel calls")
            run.__self__._counter.ledger.shelf.open_of = lambda _did: 99
            with pytest.raises(Exception, match="channels open here"):
                await buy(purse, f"{url}/v1/x")
        assert tried(cut, peer.OPEN.name) == 0
