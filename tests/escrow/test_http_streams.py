"""A metered answer in parts between two real nodes: fuel beside it, a reader that comes back, both books alike."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import aiohttp

from common.clock import SystemClock
from common.contracts import channel as c
from common.units import FLOP
from dux_pay.answers import Shelf
from dux_pay.headers import RESPONSE
from dux_pay.seller import Seller
from tests.escrow.channel_kit import view
from tests.escrow.kit import Net
from tests.escrow.test_http_calls import market, program, purse_of
from tests.pay.test_exchange import served
from tests.pay.test_streams import Buyer, Shop, read


async def test_a_metered_answer_is_fed_over_a_real_channel(net: Net, tmp_path: Path) -> None:
    """What was promised at first covers one part; fuel lets three more go; S is the same on both sides."""
    async with (
        market(net) as (buyer, seller),
        purse_of(net, buyer, seller, tmp_path / "paid.sqlite", per_call=FLOP) as purse,
        aiohttp.ClientSession() as session,
    ):
        goods = Seller(
            escrowd=program(seller), flopd=program(seller, "flopd"), network=net.profile(), clock=SystemClock(),
            shelf=Shelf(net.folder / "shelf"),
        )  # fmt: skip
        shop = Shop(SimpleNamespace(seller=goods))
        async with served(shop.app) as url:
            caller = Buyer(SimpleNamespace(purse=purse), session, f"{url}/parts?parts=4&wait=25")
            paying = asyncio.ensure_future(caller.pay())
            await net.mine_until(paying.done, "the call is paid", blocks=20)
            await paying
            async with caller.ask(0) as stream:
                assert (stream.status, RESPONSE in stream.headers) == (200, False), await stream.text()
                had = await stream.content.readexactly(6)
            following = asyncio.ensure_future(read(caller.ask(len(had))))
            assert await caller.fuel(40_000_000) == (503, "running")
            had += await following
            assert await caller.settle(had) == (b"part0 part1 part2 part3 end", 40_000_000)
            assert await caller.settle(had[:3]) == (b"part0 part1 part2 part3 end", 40_000_000)
        (channel,) = (await buyer.call(c.LIST, c.ListChannels())).channels
        assert int(channel.owed_florins) == int((await view(seller, channel.chid)).owed_florins) == 40_000_000
        assert shop.runs == 1
