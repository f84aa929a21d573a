"""The wallet's books are put back to an earlier day, escrowd's are not: nothing that is younger is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from common.contracts import channel as c
from common.contracts import wallet_channel as purse
from common.contracts.wallet_restore import CONTRACT_MISSING, Standing
from common.receipts import Outcome
from common.units import FLOP, BlockHeight
from dux_escrowd import adopting
from dux_flopd import chain_methods
from dux_flopd.scanner import Scanner
from tests.escrow.channel_kit import call, is_in, offer, open_channel, view
from tests.escrow.kit import Net, Node, give, in_state, propose, request_id, until

pytestmark = pytest.mark.patient


@asynccontextmanager
async def others(net: Net, *names: str) -> AsyncIterator[list[Node]]:
    """Nodes that run through all of it."""
    async with AsyncExitStack() as stack:
        nodes = [Node(net, name) for name in names]
        for node in nodes:
            await stack.enter_async_context(node.running())
        yield nodes


def books(node: Node) -> Path:
    (found,) = (node.net.folder / node.name / "data").rglob("flopd.sqlite")
    return found


def keep(node: Node, to: Path) -> None:
    """As `duxnet wallet backup` does."""
    store = node.wallet.daemon.parts.table.store
    assert store is not None
    store.backup(to)


def put_back(node: Node, backup: Path) -> None:
    """As `duxnet wallet restore` does, while the node is off."""
    there = books(node)
    for ending in ("-wal", "-shm"):
        there.with_name(there.name + ending).unlink(missing_ok=True)
    there.write_bytes(backup.read_bytes())


async def new_key(node: Node) -> int:
    """The number of the key that would be handed out now."""
    wish = purse.NewChannelKey(request_id=request_id(), side="payer", nonce=request_id().encode().ljust(32, b"."))
    return (await node.wallet.call(purse.PURSE_KEY, wish, "escrowd")).index


async def test_a_buyer_with_an_older_wallet_has_both_refunds(net: Net, tmp_path: Path) -> None:
    """A contract at T and a channel at EXP, with everybody else away; no key in use is handed out a second time."""
    async with others(net, "seller", "anna", "bert", "carl") as (seller, *arbiters):
        buyer = Node(net, "buyer")
        async with buyer.running():
            await give(net, buyer, 40 * FLOP)
            keep(buyer, tmp_path / "backup")
            contract_id = await propose(buyer, seller, arbiters)
            await net.mine_until(in_state(buyer, contract_id, "FUNDED"), "funded")
            chid, made = await open_channel(net, buyer, seller), await offer(seller)
            await call(buyer, seller, made)
            cid = (await buyer.show(contract_id)).cid
            assert cid is not None
            used = await new_key(buyer)
        put_back(buyer, tmp_path / "backup")
        for node in (seller, *arbiters):
            node.off = True
        async with buyer.running():
            await net.mine(1)

            async def knows_both() -> bool:
                asked = Standing(names=(cid, chid), highest=-1, from_height=BlockHeight(0))
                return not (await buyer.wallet.call(CONTRACT_MISSING, asked, "escrowd")).names

            await until(knows_both, "the wallet knows both again")
            assert await new_key(buyer) >= used
            assert (await buyer.show(contract_id)).state == "FUNDED"
            heights = (await buyer.show(contract_id)).heights
            assert heights is not None
            await net.mine_to(heights.timeout)
            await net.mine_until(in_state(buyer, contract_id, "CLOSED"), "the refund is final")
            settlement = (await buyer.show(contract_id)).settlement
            assert settlement is not None
            assert settlement.outcome is Outcome.REFUNDED
            await net.mine_to((await view(buyer, chid)).exp)
            await net.mine_until(partial(is_in, buyer, chid, "CLOSED"), "the channel's coin is back")
            page = await buyer.call(c.LIST, c.ListChannels(open_only=False))
            assert [one.state for one in page.channels] == ["CLOSED"]


async def test_a_wallet_that_reads_for_long_makes_no_contract_void(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Synced, and the contract's old blocks not read: nobody concludes that its coin is gone, in however many rounds.

    The buyer's wallet is put back to before the contract, so that both need its old blocks; the lot is past its last
    height for a funding, where one without a coin is void for good.
    """
    is_slow, plain = [True], Scanner._read_unread

    async def slowly(self: Scanner) -> None:
        if not is_slow[0]:
            await plain(self)

    async with others(net, "seller", "anna", "bert", "carl") as (seller, *arbiters):
        buyer = Node(net, "buyer")
        async with buyer.running():
            await give(net, buyer, 40 * FLOP)
            keep(buyer, tmp_path / "backup")
            contract_id = await propose(buyer, seller, arbiters)
            await net.mine_until(in_state(buyer, contract_id, "FUNDED"), "funded")
            chid = await open_channel(net, buyer, seller)
            heights = (await buyer.show(contract_id)).heights
            assert heights is not None
            await net.mine_to(heights.fund_by + 1)
        put_back(buyer, tmp_path / "backup")
        monkeypatch.setattr(Scanner, "_read_unread", slowly)
        monkeypatch.setattr(chain_methods, "WATCH_WAIT_MAX_S", 0.1)
        monkeypatch.setattr(adopting, "READS_MAX", 2)
        monkeypatch.setattr(adopting, "PAUSE_S", 0.1)
        for node in (seller, *arbiters):
            node.off = True
        async with buyer.running():
            for _ in range(3):
                await net.mine(1)
                await asyncio.sleep(1.5)  # more than a round of handing over, and than a look that is tried again
                assert (await buyer.show(contract_id)).state == "FUNDED"
                assert await is_in(buyer, chid, "OPEN", "RESYNC")
            is_slow[0] = False
            await net.mine_to(heights.timeout)
            await net.mine_until(in_state(buyer, contract_id, "CLOSED"), "the refund is final")
            settlement = (await buyer.show(contract_id)).settlement
            assert settlement is not None
            assert settlement.outcome is Outcome.REFUNDED
