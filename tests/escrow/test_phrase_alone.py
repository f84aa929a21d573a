"""One phrase brings everything back: a node dies with its disk in the middle of a contract and a channel.

What is restored has the words and nothing else: no file, no name of whom it dealt with, nobody who types anything. The
contract and the channel come back by themselves, go on or end as they have to, and every florin is accounted for.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest

from common.community_fund import fund_script_of
from common.contracts import channel as c
from common.contracts import escrow
from common.contracts.channel_restore import CHANNEL_RESTORE
from common.contracts.escrow_views import Funded, KeyRevealed
from common.contracts.wallet import WALLET_BALANCE
from common.receipts import Outcome
from common.rpc.method import Empty
from common.units import FLOP, Florins
from dux_cli.demo.coin_chain import to_florins
from tests.escrow.channel_kit import PRICE, call, is_in, live, offer, open_channel, view
from tests.escrow.kit import Net, Node, deliver, give, in_state, judge, propose, request_id, until

pytestmark = pytest.mark.patient

PARTIES = ("buyer", "seller")
ARBITERS = ("anna", "bert", "carl")
START_FLORINS = 40 * FLOP


class Market:
    """Nodes of which one may be lost with its disk."""

    def __init__(self, net: Net, stack: AsyncExitStack) -> None:
        self.net = net
        self._stack = stack
        self._lives: dict[str, AsyncExitStack] = {}
        self.since = 0

    async def node(self, name: str, restored: Node | None = None) -> Node:
        node = Node(self.net, name, restored=restored)
        self._lives[name] = life = await self._stack.enter_async_context(AsyncExitStack())
        await life.enter_async_context(node.running())
        return node

    async def ends(self, node: Node) -> None:
        """The machine is gone, and its disk."""
        node.off = True
        await self._lives.pop(node.name).aclose()
        shutil.rmtree(self.net.folder / node.name)
        del self.net.nodes[node.did]

    async def again(self, node: Node) -> Node:
        """Another machine with the same words."""
        if node.name in self._lives:
            await self.ends(node)
        return await self.node(f"{node.name}-again", restored=node)

    async def conserved(self, *nodes: Node) -> bool:
        """What these nodes hold, what the fund got and what miners got is what the buyer had at first."""
        held = 0
        for node in nodes:
            balance = await node.wallet.call(WALLET_BALANCE, Empty())
            held += int(balance.total_florins)
        fund, fees = fund_script_of(self.net.profile().fund).hex(), 0
        for height in range(self.since + 1, self.net.bench.height + 1):
            block = self.net.bench.rpc("getblock", self.net.bench.rpc("getblockhash", height), 2)
            for tx in block["tx"][1:]:
                spent = [self.net.bench.rpc("getrawtransaction", i["txid"], 1)["vout"][i["vout"]] for i in tx["vin"]]
                fees += sum(to_florins(out["value"]) for out in spent)
                fees -= sum(to_florins(out["value"]) for out in tx["vout"])
                paid = [out for out in tx["vout"] if out["scriptPubKey"]["hex"] == fund]
                held += sum(to_florins(out["value"]) for out in paid)
        assert held + fees == START_FLORINS, (held, fees, START_FLORINS - held - fees)
        return True


@asynccontextmanager
async def market(net: Net, *names: str) -> AsyncIterator[tuple[Market, list[Node]]]:
    async with AsyncExitStack() as stack:
        made = Market(net, stack)
        nodes = [await made.node(name) for name in names]
        await give(net, nodes[0], START_FLORINS)
        made.since = net.bench.height
        yield made, nodes


async def knows(node: Node, chid: str) -> bool:
    found = await node.call(c.LIST, c.ListChannels(open_only=False))
    return chid in [one.chid for one in found.channels]


async def is_back(node: Node, contract_id: str, chid: str) -> None:
    """Both came back without a word of anybody."""

    async def both() -> bool:
        found = await node.call(escrow.LIST, escrow.ListContracts())
        return contract_id in [one.contract_id for one in found.contracts] and await knows(node, chid)

    await until(both, "contract and channel are back")


async def paid_and_closed(net: Net, buyer: Node, seller: Node, contract_id: str, chid: str, calls: int) -> None:
    """The contract is released in full, the channel closed at what its calls have cost."""
    await judge(buyer, contract_id, good=True)
    await buyer.call(c.CLOSE, c.CloseChannel(request_id=request_id(), chid=chid))
    for node in (buyer, seller):
        await net.mine_until(in_state(node, contract_id, "CLOSED"), "paid")
        await net.mine_until(partial(is_in, node, chid, "CLOSED"), "the channel is closed")
        settlement = (await node.show(contract_id)).settlement
        assert settlement is not None
        assert (settlement.outcome, settlement.gross_florins) == (Outcome.RELEASED, 10 * FLOP)
        assert (await view(node, chid)).owed_florins == calls * PRICE
    assert not net.spread, "no proof of fault"


async def test_a_buyer_comes_back_in_the_middle_of_a_contract_and_a_channel(net: Net) -> None:
    """Its channel's payee, its calls and what it signed are known again; a call goes on; both end, to the florin."""
    async with market(net, *PARTIES, *ARBITERS) as (made, nodes):
        buyer, seller, *arbiters = nodes
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(in_state(buyer, contract_id, "FUNDED"), "funded")
        chid, terms = await open_channel(net, buyer, seller), await offer(seller)
        for _ in range(3):
            await call(buyer, seller, terms)
        buyer = await made.again(buyer)
        await is_back(buyer, contract_id, chid)
        await net.mine(1)
        await live(buyer, chid)
        assert (await view(buyer, chid)).owed_florins == 3 * PRICE
        assert (await call(buyer, seller, terms)).call.j == 4
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        assert (await buyer.call(CHANNEL_RESTORE, Empty())).known == (chid,)
        await paid_and_closed(net, buyer, seller, contract_id, chid, calls=4)
        assert await made.conserved(buyer, seller, *arbiters)


async def test_a_seller_comes_back_in_the_middle_of_a_contract_and_a_channel(net: Net) -> None:
    """Its payer says hello when asked, and W and S are what they were; a call goes on; both end, to the florin."""
    async with market(net, *PARTIES, *ARBITERS) as (made, nodes):
        buyer, seller, *arbiters = nodes
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        chid, terms = await open_channel(net, buyer, seller), await offer(seller)
        for _ in range(3):
            await call(buyer, seller, terms)
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        held = (await view(seller, chid)).held_florins
        seller = await made.again(seller)
        await is_back(seller, contract_id, chid)
        await net.mine(1)
        await until(lambda: is_in(seller, chid, "OPEN_SEEN", "OPEN"), "the payer said hello")
        mine = await view(seller, chid)
        assert (mine.held_florins, mine.owed_florins) == (held, 3 * PRICE)
        await live(buyer, chid)
        await call(buyer, seller, await offer(seller))
        await paid_and_closed(net, buyer, seller, contract_id, chid, calls=4)
        assert await made.conserved(buyer, seller, *arbiters)


async def test_each_side_comes_back_to_a_channel_whose_other_side_is_gone(net: Net) -> None:
    """The payee closes in time at its copy's voucher, the payer takes all back at EXP: a third node kept the copies."""
    async with market(net, "buyer", "seller", "carl", "anna") as (made, nodes):
        buyer, seller, carl, anna = nodes
        for node in (buyer, seller):
            await again_with(node, channel_watchers=(anna.did,), channel_mirror_florins=Florins(1))
        paid = await opened(net, buyer, seller)
        silent = await opened(net, buyer, carl)
        terms = await offer(seller)
        for _ in range(3):
            await call(buyer, seller, terms)
        seen = await view(seller, paid)
        await made.ends(buyer)
        await made.ends(carl)
        seller = await made.again(seller)
        await until(lambda: knows(seller, paid), "the payee's side is back")
        assert (await view(seller, paid)).held_florins == seen.held_florins
        await net.mine_to(seen.exp - 24)
        await net.mine_until(lambda: is_in(seller, paid, "CLOSED"), "closed without its payer")
        buyer = await made.again(buyer)
        await until(lambda: knows(buyer, silent), "the payer's side is back")
        await net.mine_to((await view(buyer, silent)).exp)
        await net.mine_until(lambda: is_in(buyer, silent, "CLOSED"), "everything is back")
        assert await is_in(buyer, paid, "CLOSED")
        assert await made.conserved(buyer, seller)


async def again_with(node: Node, **settings: Any) -> None:
    """Started anew with these settings."""
    node.settings, before = settings, node.daemon
    node.death.set()
    await until(lambda: node.daemon not in (None, before), f"{node.name} is up with its settings")


async def opened(net: Net, buyer: Node, seller: Node) -> str:
    """A short channel."""
    wish = c.OpenChannel(request_id=request_id(), payee=seller.did, cap_florins=Florins(3 * FLOP), blocks=64)
    before = len(net.calls)
    chid = (await buyer.call(c.OPEN, wish)).chid
    assert (buyer.name, seller.name, "channel.copy_keep") in net.calls[before:]  # before anything is paid
    await until(lambda: bool(net.bench.rpc("getrawmempool")), "the funding waits at the node")
    await net.mine(2)
    await live(buyer, chid)
    return chid
