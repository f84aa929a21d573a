"""The books go back with the chain: what a reorganisation takes is gone, what a stranger rewrote still counts once."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.chain.address import address_to_script
from common.chain.tx import Outpoint, TxOutput, parse, txid
from common.contracts.wallet import CHAIN_BLOCK_HASH, WALLET_HISTORY, WALLET_SEND, HistoryAsked, Send
from common.contracts.wallet_chain import HeightAsked
from common.units import FLOP, BlockHeight, Florins
from tests.flopd.coin_node import BANK_FEE, BANK_SCRIPT, CoinBench, high_s
from tests.flopd.test_payments import bank_address, funded
from tests.flopd.wallets import WalletNode

pytestmark = pytest.mark.patient


@pytest.fixture
def crafting(bench: CoinBench) -> CoinBench:
    """A node on which blocks are crafted by hand; Flopcoin's regtest retargets in a way of its own."""
    if bench.family.name == "flopcoin-regtest":
        pytest.skip("blocks are not crafted by hand on flopcoin's regtest")
    return bench


def own_script(wallet: WalletNode) -> bytes:
    """The script of the wallet's first address."""
    return address_to_script(wallet.made.address, wallet.bench.family)


async def test_a_rolled_back_block_leaves_nothing_behind(wallet: WalletNode) -> None:
    """A coin whose block went away waits again; it is confirmed anew in its new block, at its new height."""
    async with wallet.running():
        await funded(wallet, 5 * FLOP)
        height = wallet.bench.roll_back(1)
        wallet.bench.mine(2)
        await wallet.synced()
        balance = await wallet.balance()
        assert balance.spendable_florins == balance.total_florins == 5 * FLOP
        assert height in [event["rolled_back_to"] for event in await wallet.events("TipChanged")]
        told = await wallet.call(CHAIN_BLOCK_HASH, HeightAsked(height=BlockHeight(height + 1)))
        assert told.hash == wallet.bench.rpc("getblockhash", height + 1)


async def test_a_respent_payment_is_gone(wallet: WalletNode, crafting: CoinBench) -> None:
    """When another branch spends the payer's coin elsewhere, our coin and all built on it vanish from the books."""
    async with wallet.running():
        before = crafting.coins[0]
        paid = crafting.pay((own_script(wallet), 5 * FLOP))
        crafting.mine()
        await wallet.until(lambda: holds(wallet, 5 * FLOP))
        wish = Send(request_id="built-on-it", address=bank_address(crafting), amount_florins=Florins(FLOP))
        await wallet.call(WALLET_SEND, wish)
        crafting.roll_back(1)
        other = crafting.bank_tx([before[0]], [TxOutput(Florins(before[1] - BANK_FEE), BANK_SCRIPT)])
        crafting.craft(other)
        crafting.mine()
        crafting.coins = [coin for coin in crafting.coins if coin[0].txid != txid(paid)]
        crafting.coins.append((Outpoint(txid(other), 0), before[1] - BANK_FEE))
        await wallet.until(lambda: holds(wallet, 0))
        assert [event["outpoint"][0] for event in await wallet.events("CoinGone")].count(txid(paid)) == 1
        history = await wallet.call(WALLET_HISTORY, HistoryAsked())
        assert [(entry.kind, entry.state) for entry in history.entries] == [("send", "waiting")]


async def test_a_rewritten_payment_to_us_counts_once(wallet: WalletNode, crafting: CoinBench) -> None:
    """The same payment with another id (high s) in another branch: one coin, under its new outpoint."""
    async with wallet.running():
        paid = crafting.pay((own_script(wallet), 5 * FLOP))
        crafting.mine()
        await wallet.until(lambda: holds(wallet, 5 * FLOP))
        crafting.roll_back(1)
        rewritten = high_s(paid)
        crafting.craft(rewritten)
        crafting.mine()
        crafting.coins = [_moved(coin, txid(paid), txid(rewritten)) for coin in crafting.coins]
        await wallet.synced()
        await wallet.until(lambda: holds(wallet, 5 * FLOP))
        coins = await wallet.coins(own_script(wallet))
        assert [coin.outpoint.txid for coin in coins.coins] == [txid(rewritten)]


async def test_our_rewritten_payment_is_not_paid_again(wallet: WalletNode, crafting: CoinBench) -> None:
    """A miner's copy of our payment with another id settles it: confirmed in the history, never sent a second time."""
    async with wallet.running():
        await funded(wallet, 5 * FLOP, 5 * FLOP)
        wish = Send(request_id="mine", address=bank_address(crafting), amount_florins=Florins(FLOP))
        sent = await wallet.call(WALLET_SEND, wish)
        await wallet.in_node(sent.txid)
        copy = high_s(parse(bytes.fromhex(crafting.rpc("getrawtransaction", sent.txid))))
        crafting.craft(copy)
        crafting.mine()
        await wallet.until(lambda: holds(wallet, 9 * FLOP - int(sent.fee_florins)))
        history = await wallet.call(WALLET_HISTORY, HistoryAsked())
        first = history.entries[0]
        assert (first.txid, first.kind, first.state, first.request_id) == (txid(copy), "send", "confirmed", "mine")
        assert await wallet.call(WALLET_SEND, wish) == sent
        assert crafting.rpc("getrawmempool") == []


async def test_a_reorganisation_while_away_is_noticed(wallet: WalletNode) -> None:
    """Blocks that change while the daemon is stopped are found to have changed when it starts."""
    async with wallet.running():
        await funded(wallet, 5 * FLOP)
    wallet.bench.roll_back(1)
    wallet.bench.mine(3)
    async with wallet.running():
        balance = await wallet.balance()
        assert balance.total_florins == 5 * FLOP
        assert (await wallet.status()).hash == wallet.bench.rpc("getbestblockhash")


async def test_a_payment_is_handed_over_again_after_a_reorganisation(wallet: WalletNode) -> None:
    """Our payment in a block that went away is in the best chain again, with nothing asked."""
    async with wallet.running():
        await funded(wallet, 5 * FLOP)
        wish = Send(request_id="again", address=bank_address(wallet.bench), amount_florins=Florins(FLOP))
        sent = await wallet.call(WALLET_SEND, wish)
        await wallet.in_node(sent.txid)
        wallet.bench.mine()
        await wallet.synced()
        wallet.bench.roll_back(1)
        await wallet.in_node(sent.txid)
        wallet.bench.mine(2)
        await wallet.until(lambda: holds(wallet, 4 * FLOP - int(sent.fee_florins)))


async def test_a_restored_wallet_finds_its_coins(wallet: WalletNode, tmp_path: Path) -> None:
    """The phrase alone brings the coins back, change and handed-out addresses among them."""
    start = wallet.bench.height
    async with wallet.running():
        await funded(wallet, 5 * FLOP)
        wish = Send(request_id="x", address=bank_address(wallet.bench), amount_florins=Florins(FLOP))
        sent = await wallet.call(WALLET_SEND, wish)
        await wallet.in_node(sent.txid)
        wallet.bench.mine()
        await wallet.synced()
        total = (await wallet.balance()).total_florins
    restored = WalletNode(tmp_path / "again", wallet.bench, phrase=wallet.made.phrase, birth_height=start)
    async with restored.running():
        assert (await restored.balance()).total_florins == total == 4 * FLOP - int(sent.fee_florins)


async def holds(wallet: WalletNode, florins: int) -> bool:
    """Whether the wallet's total is this, all of it spendable."""
    balance = await wallet.balance()
    return balance.total_florins == balance.spendable_florins == florins


def _moved(coin: tuple[Outpoint, int], old: str, new: str) -> tuple[Outpoint, int]:
    return (Outpoint(new, coin[0].vout), coin[1]) if coin[0].txid == old else coin
