"""The light wallet's only way out: a real p2pd's SOCKS5 between a real flopd and a real coin node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.chain.address import address_to_script
from common.chain.coin_network import coin_network
from common.contracts.wallet import CHAIN_STATUS, WALLET_SEND
from common.rpc.method import Empty
from common.units import FLOP
from dux_flopd.spv_book import AddressBook, owner_block_of
from tests.flopd.coin_node import CoinBench, embedded
from tests.flopd.test_spv_peers import Honest, Town, holds, own
from tests.flopd.test_tools import to_bank
from tests.flopd.wallets import WalletNode
from tests.p2pd.overlay_kit import Node, profile

pytestmark = pytest.mark.patient


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoinBench]:
    """The embedded chain alone: nothing here hangs on a chain's opinion."""
    with embedded(tmp_path_factory.mktemp("chain")) as bench:
        yield bench


def beside(wallet: WalletNode, *allowed: str) -> Node:
    """A p2pd of the wallet's node that lets flopd out to these places."""
    p2pd = Node(1, wallet.folder, profile(), egress_allow={"flopd": allowed})
    wallet.changes = {"source": "spv", "egress": True, "port_base": p2pd.base}
    return p2pd


@pytest.mark.timeout(120)
async def test_every_connection_of_the_light_wallet_goes_through_p2pd_and_waits_for_it(wallet: WalletNode) -> None:
    """No p2pd: no peer, told as such. With it: headers, proofs and an own payment; all by flopd's token."""
    p2pd = beside(wallet, wallet.bench.p2p)
    running = wallet.running()
    entering = asyncio.ensure_future(running.__aenter__())
    try:
        await wallet.until(lambda: hasattr(wallet, "daemon") and _problem(wallet, "egress"), "no way out is told")
        assert not entering.done()
        await p2pd.start()
        await entering
        script = address_to_script(wallet.made.address, wallet.bench.family)
        wallet.bench.pay((script, 5 * FLOP))
        wallet.bench.mine()
        await wallet.synced()
        assert (await wallet.balance()).spendable_florins == 5 * FLOP
        sent = await wallet.call(WALLET_SEND, to_bank(wallet, "a", FLOP))
        await wallet.in_node(sent.txid)
        status = await wallet.call(CHAIN_STATUS, Empty())
        assert [peer.address for peer in status.peers] == [wallet.bench.p2p]
        assert p2pd.daemon.egress._open["flopd"] == len(status.peers)
    finally:
        await running.__aexit__(None, None, None)
        await p2pd.stop()


def _problem(wallet: WalletNode, word: str) -> bool:
    return hasattr(wallet.daemon, "parts") and any(word in one() for one in wallet.daemon.parts.problems)


@pytest.mark.timeout(120)
async def test_four_coin_nodes_in_different_address_blocks_are_asked_through_p2pd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as main wants, apart, each over a connection of its own: a coin, a payment, and one of them that goes."""
    town = Town(tmp_path, monkeypatch)
    async with town.of(*[Honest] * coin_network("flopcoin-main").peers_wanted) as peers:
        assert len({owner_block_of(address) for address in peers}) == len(peers) == 4
        wallet = town.wallet(tmp_path / "w", peers)
        p2pd = beside(wallet, *peers)
        wallet.changes |= {"peers": tuple(peers)}
        await p2pd.start()
        try:
            async with wallet.running():
                await wallet.until(lambda: asked(wallet, peers), "all four can be asked")
                assert p2pd.daemon.egress._open["flopd"] == len(peers)
                town.bench.pay((own(wallet), 3 * FLOP))
                town.bench.mine()
                await wallet.until(lambda: holds(wallet, 3 * FLOP))
                await wallet.in_node((await wallet.call(WALLET_SEND, to_bank(wallet, "a", FLOP))).txid)
                await town.servers[0].stop()
                await wallet.until(lambda: asked(wallet, peers[1:]), "three are left")
                await wallet.until(lambda: p2pd.daemon.egress._open["flopd"] == len(peers) - 1, "its way out is shut")
        finally:
            await p2pd.stop()


async def asked(wallet: WalletNode, addresses: list[str]) -> bool:
    """Whether these, and no others, are the coin nodes that the wallet can ask."""
    return sorted(peer.address for peer in (await wallet.call(CHAIN_STATUS, Empty())).peers) == sorted(addresses)


@pytest.mark.timeout(120)
async def test_a_coin_node_that_is_not_on_the_list_is_never_reached(wallet: WalletNode) -> None:
    """p2pd refuses it, the wallet says so, and stays without a chain rather than going another way."""
    p2pd = beside(wallet, "127.0.0.1:1")
    await p2pd.start()
    running = wallet.running()
    entering = asyncio.ensure_future(running.__aenter__())
    try:
        await wallet.until(lambda: hasattr(wallet, "daemon") and p2pd.daemon.egress.refused > 0, "p2pd refuses")
        await wallet.until(lambda: _problem(wallet, wallet.bench.p2p), "the wallet says which peer it cannot reach")
        assert not entering.done()
        assert (await wallet.status()).height == -1
    finally:
        entering.cancel()
        wallet.daemon.stopping.set()
        await p2pd.stop()


def test_a_shut_way_out_is_no_fault_of_the_coin_s_nodes() -> None:
    """They are tried again after a second, however long p2pd is away."""
    book = AddressBook(["a:1"], apart=True, draw=lambda _: 0)
    for _ in range(5):
        book.failed("a:1", 100.0, is_its_own=False)
    assert (book.next([], 100.9), book.next([], 101.0)) == (None, "a:1")
