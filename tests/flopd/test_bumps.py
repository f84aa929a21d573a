"""Payments that wait too long: replaced where the coin replaces, else paid for by a child; foreign keys swept."""

from __future__ import annotations

import pytest

from common.chain.address import address_to_script, base58check, pay_to_key
from common.chain.tx import Outpoint, txid
from common.contracts.wallet import (
    WALLET_BUMP,
    WALLET_HISTORY,
    WALLET_SEND,
    WALLET_SWEEP,
    WALLET_UTXOS,
    HistoryAsked,
)
from common.contracts.wallet_bump import Bump, Sweep
from common.contracts.wallet_errors import BumpRefused, NothingToSweep
from common.rpc.method import Empty
from common.units import FLOP
from tests.chain.contract_kit import private_key
from tests.flopd.test_payments import funded
from tests.flopd.test_tools import to_bank
from tests.flopd.wallets import WalletNode

pytestmark = pytest.mark.patient


async def states(wallet: WalletNode) -> dict[str, str]:
    entries = (await wallet.call(WALLET_HISTORY, HistoryAsked())).entries
    return {entry.txid: entry.state for entry in entries}


async def bump(wallet: WalletNode, txid_: str, **more: object) -> object:
    return await wallet.call(WALLET_BUMP, Bump(request_id=f"bump {txid_} {more}", txid=txid_, **more))  # type: ignore[arg-type]


async def test_a_payment_is_sped_up_and_its_receiver_is_paid_once(wallet: WalletNode) -> None:
    """The node takes what comes of it; one transaction pays the bank, or the child pays for the one that does."""
    replaces = wallet.bench.family.replaces
    async with wallet.running():
        await funded(wallet, 5 * FLOP, 3 * FLOP)
        sent = await wallet.call(WALLET_SEND, to_bank(wallet, "a", 4 * FLOP))
        await wallet.in_node(sent.txid)
        if not replaces:
            with pytest.raises(BumpRefused, match="replace nothing"):
                await bump(wallet, sent.txid, how="replace")
        made = await bump(wallet, sent.txid)
        assert made.how == ("replace" if replaces else "child")
        await wallet.in_node(made.txid)
        assert (sent.txid in wallet.bench.rpc("getrawmempool")) is not replaces
        assert made.fee_florins > sent.fee_florins or not replaces
        again = await bump(wallet, made.txid)
        await wallet.in_node(again.txid)
        wallet.bench.mine()
        await wallet.synced()
        found = await states(wallet)
        assert found[again.txid] == "confirmed"
        assert found[sent.txid] == ("replaced" if replaces else "confirmed")
        fees = sum(int(e.fee_florins or 0) for e in await confirmed(wallet) if int(e.change_florins) < 0)
        assert (await wallet.balance()).total_florins == 4 * FLOP - fees
        for name, reason in ((again.txid, "in block"), ("00" * 32, "no payment")):
            with pytest.raises(BumpRefused, match=reason):
                await bump(wallet, name)


async def confirmed(wallet: WalletNode) -> list[object]:
    entries = (await wallet.call(WALLET_HISTORY, HistoryAsked())).entries
    return [entry for entry in entries if entry.state == "confirmed"]


async def test_a_replaced_payment_is_not_replaced_twice_and_changes_of_coins_are_told(wallet: WalletNode) -> None:
    """Who asks for the old one is told of the new one; a change that is spent already bars both ways."""
    async with wallet.running():
        await funded(wallet, 5 * FLOP)
        sent = await wallet.call(WALLET_SEND, to_bank(wallet, "a", FLOP))
        await wallet.in_node(sent.txid)
        child = await bump(wallet, sent.txid, how="child", fee_rate_florins_per_kb=3_000_000)
        assert child.how == "child"
        await wallet.in_node(child.txid)
        with pytest.raises(BumpRefused, match="spent already"):
            await bump(wallet, sent.txid, how="auto", fee_rate_florins_per_kb=4_000_000)
        wallet.bench.mine()
        await wallet.synced()
        if wallet.bench.family.replaces:
            first = await wallet.call(WALLET_SEND, to_bank(wallet, "b", FLOP))
            second = await bump(wallet, first.txid, how="replace")
            with pytest.raises(BumpRefused, match=second.txid):
                await bump(wallet, first.txid, how="auto", fee_rate_florins_per_kb=9_000_000)


async def test_what_somebody_pays_us_can_be_sped_up_by_spending_it(wallet: WalletNode) -> None:
    """A child of a stranger's payment pays for both; both are in the next block."""
    async with wallet.running():
        script = address_to_script(wallet.made.address, wallet.bench.family)
        paid = wallet.bench.pay((script, 7 * FLOP))
        name = txid(paid)
        await wallet.until(lambda: _seen(wallet, name), "the payment is seen")
        made = await bump(wallet, name)
        assert made.how == "child"
        await wallet.in_node(made.txid)
        wallet.bench.mine()
        await wallet.synced()
        assert (await wallet.balance()).spendable_florins == 7 * FLOP - made.fee_florins


async def _seen(wallet: WalletNode, name: str) -> bool:
    coins = (await wallet.call(WALLET_UTXOS, Empty())).coins
    return any(coin.outpoint == Outpoint(name, 0) for coin in coins)


def wif(name: str, wallet: WalletNode, *, is_compressed: bool) -> str:
    payload = private_key(name).secret + (b"\x01" if is_compressed else b"")
    return base58check(bytes([wallet.bench.family.wif_prefix]) + payload)


@pytest.mark.parametrize("is_compressed", [True, False])
async def test_a_paper_wallet_is_swept(wallet: WalletNode, is_compressed: bool) -> None:  # noqa: FBT001
    """Every coin of the key comes home in one payment that the node takes; an empty one says so; no book keeps it."""
    name = f"paper {is_compressed} {wallet.folder}"
    key = private_key(name).public_key.format(compressed=is_compressed)
    from_height = wallet.bench.height + 1
    text = wif(name, wallet, is_compressed=is_compressed)
    async with wallet.running():
        with pytest.raises(NothingToSweep):
            await wallet.call(WALLET_SWEEP, Sweep(request_id="a", private_key=text, from_height=from_height))
        wallet.bench.pay((pay_to_key(key), 3 * FLOP), (pay_to_key(key), 2 * FLOP))
        wallet.bench.mine()
        await wallet.synced()
        asked = Sweep(request_id="b", private_key=text, from_height=from_height)
        made = await wallet.call(WALLET_SWEEP, asked)
        assert await wallet.call(WALLET_SWEEP, asked) == made
        assert (made.coins, made.coins_left) == (2, 0)
        assert int(made.amount_florins) + int(made.fee_florins) == 5 * FLOP
        await wallet.in_node(made.txid)
        wallet.bench.mine()
        await wallet.synced()
        assert (await wallet.balance()).spendable_florins == made.amount_florins
        assert text not in repr(asked)
        books = wallet.folder / "data/flopd/flopd.sqlite"
        assert all(text.encode() not in path.read_bytes() for path in books.parent.glob("flopd.sqlite*"))
