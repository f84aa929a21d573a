"""Payments on every coin node: what comes is seen, what goes goes once, and the books are the chain's."""

from __future__ import annotations

import asyncio

import pytest

from common.chain.address import address_to_script, script_to_address
from common.chain.tx import parse
from common.contracts.wallet import (
    WALLET_HISTORY,
    WALLET_LIMITS,
    WALLET_NEW_ADDRESS,
    WALLET_SEND,
    WALLET_UTXOS,
    HistoryAsked,
    NewAddress,
    Send,
    Sent,
)
from common.contracts.wallet_errors import CoinsPending, DustAmount, InsufficientFunds, OverLimit
from common.contracts.wallet_preview import WALLET_PREVIEW, Preview
from common.errors import RequestIdReused
from common.rpc.client import LocalClient
from common.rpc.method import Empty
from common.units import FLOP, Florins
from tests.flopd.coin_node import BANK_SCRIPT, CoinBench
from tests.flopd.wallets import WalletNode

pytestmark = pytest.mark.patient


async def funded(wallet: WalletNode, *amounts: int) -> None:
    """Coins from the bank, one output each, in a block."""
    script = address_to_script(wallet.made.address, wallet.bench.family)
    wallet.bench.pay(*((script, amount) for amount in amounts))
    wallet.bench.mine()
    await wallet.synced()


def bank_address(bench: CoinBench) -> str:
    """Where the tests send coins to."""
    return script_to_address(BANK_SCRIPT, bench.family) or ""


async def test_a_coin_is_pending_then_spendable(wallet: WalletNode) -> None:
    """A payment to us is seen while it waits, and may be spent only once a block holds it."""
    async with wallet.running():
        script = address_to_script(wallet.made.address, wallet.bench.family)
        wallet.bench.pay((script, 7 * FLOP))
        await wallet.until(lambda: _has(wallet, "pending_florins", 7 * FLOP))
        with pytest.raises(CoinsPending):
            await wallet.call(
                WALLET_SEND,
                Send(request_id="a", address=bank_address(wallet.bench), amount_florins=Florins(FLOP)),
            )
        wallet.bench.mine()
        await wallet.until(lambda: _has(wallet, "spendable_florins", 7 * FLOP))
        seen = await wallet.events("CoinSeen")
        assert [event["height"] for event in seen if event["value_florins"] == str(7 * FLOP)] == [
            None,
            wallet.bench.height,
        ]


async def _has(wallet: WalletNode, part: str, florins: int) -> bool:
    return bool(getattr(await wallet.balance(), part) == florins)


async def test_a_payment_arrives_and_the_books_balance(wallet: WalletNode) -> None:
    """What leaves the wallet is amount plus stated fee; the receiver's output is on the chain; history tells both."""
    async with wallet.running():
        await funded(wallet, 3 * FLOP, 4 * FLOP)
        wish = Send(request_id="pay-1", address=bank_address(wallet.bench), amount_florins=Florins(5 * FLOP))
        sent = await wallet.call(WALLET_SEND, wish)
        assert sent.fee_florins >= FLOP // 100
        await wallet.in_node(sent.txid)
        wallet.bench.mine()
        await wallet.synced()
        left = 7 * FLOP - 5 * FLOP - int(sent.fee_florins)
        assert await _has(wallet, "spendable_florins", left)
        balance = await wallet.balance()
        assert balance.total_florins == left
        assert (BANK_SCRIPT, 5 * FLOP) in wallet.bench.outputs_in_tip(sent.txid)
        history = await wallet.call(WALLET_HISTORY, HistoryAsked())
        assert [(entry.kind, entry.state, int(entry.change_florins)) for entry in history.entries] == [
            ("send", "confirmed", -5 * FLOP - int(sent.fee_florins)),
            ("received", "confirmed", 7 * FLOP),
        ]


@pytest.mark.one_source
@pytest.mark.parametrize("florins", [FLOP, 4 * FLOP, 5 * FLOP - 1_000_001])
async def test_a_preview_is_what_the_payment_then_is(wallet: WalletNode, florins: int) -> None:
    """One coin, two coins, and change too small to be made: fee, coins and change; asking binds nothing."""
    async with wallet.running():
        await funded(wallet, 2 * FLOP, 3 * FLOP)
        address = bank_address(wallet.bench)
        asked = Preview(address=address, amount_florins=Florins(florins))
        told = await wallet.call(WALLET_PREVIEW, asked)
        assert await wallet.call(WALLET_PREVIEW, asked) == told, "the first one bound nothing"
        inputs = sum(coin.value_florins for coin in told.coins)
        assert inputs == told.amount_florins + told.fee_florins + told.change_florins
        coins = {coin.outpoint: coin for coin in (await wallet.call(WALLET_UTXOS, Empty())).coins}
        assert all(coins[coin.outpoint].value_florins == coin.value_florins for coin in told.coins)
        sent = await wallet.call(WALLET_SEND, Send(request_id="p", address=address, amount_florins=Florins(florins)))
        assert sent.fee_florins == told.fee_florins
        after = {coin.outpoint: coin.state for coin in (await wallet.call(WALLET_UTXOS, Empty())).coins}
        assert {name for name, state in after.items() if state == "locked"} == {coin.outpoint for coin in told.coins}
        await until_in_pool(wallet, sent.txid)
        raw = bytes.fromhex(wallet.bench.rpc("getrawtransaction", sent.txid))
        assert told.size_bytes - 6 * len(told.coins) - 4 <= len(raw) <= told.size_bytes
        assert sorted(int(out.value_florins) for out in parse(raw).outputs) == sorted(
            value for value in (florins, int(told.change_florins)) if value
        )


async def until_in_pool(wallet: WalletNode, txid: str) -> None:
    async def is_there() -> bool:
        return txid in wallet.bench.rpc("getrawmempool")

    await wallet.until(is_there)


async def test_the_same_request_pays_once(wallet: WalletNode) -> None:
    """Repeated, at once and later, one request_id is one transaction; another wish under it is refused."""
    async with wallet.running():
        await funded(wallet, 4 * FLOP, 4 * FLOP)
        wish = Send(request_id="once", address=bank_address(wallet.bench), amount_florins=Florins(FLOP))
        answers = await asyncio.gather(*(wallet.call(WALLET_SEND, wish) for _ in range(5)))
        assert len({answer.txid for answer in answers}) == 1
        with pytest.raises(RequestIdReused):
            await wallet.call(
                WALLET_SEND, Send(request_id="once", address=wish.address, amount_florins=Florins(2 * FLOP))
            )
        await wallet.in_node(answers[0].txid)
        wallet.bench.mine()
        await wallet.synced()
        assert await wallet.call(WALLET_SEND, wish) == answers[0]
        assert await _has(wallet, "total_florins", 7 * FLOP - int(answers[0].fee_florins))


async def test_two_payments_never_share_a_coin(wallet: WalletNode) -> None:
    """Coins are bound by the decision: a second payment takes another coin, a third waits."""
    async with wallet.running():
        await funded(wallet, 2 * FLOP, 2 * FLOP)
        pay = [
            Send(request_id=f"p{n}", address=bank_address(wallet.bench), amount_florins=Florins(FLOP)) for n in range(3)
        ]
        first, second = [await wallet.call(WALLET_SEND, wish) for wish in pay[:2]]
        assert first.txid != second.txid
        with pytest.raises((CoinsPending, InsufficientFunds)):
            await wallet.call(WALLET_SEND, pay[2])
        await wallet.in_node(first.txid)
        await wallet.in_node(second.txid)


@pytest.mark.parametrize(
    ("florins", "error"),
    [(0, DustAmount), (FLOP // 100 - 1, DustAmount), (3 * FLOP, InsufficientFunds), (10**17, InsufficientFunds)],
)
async def test_impossible_amounts_bind_nothing(wallet: WalletNode, florins: int, error: type[Exception]) -> None:
    """Dust and more than there is are refused with what to do, and every coin stays free."""
    async with wallet.running():
        await funded(wallet, 3 * FLOP)
        wish = Send(request_id="no", address=bank_address(wallet.bench), amount_florins=Florins(florins))
        with pytest.raises(error):
            await wallet.call(WALLET_SEND, wish)
        assert await _has(wallet, "spendable_florins", 3 * FLOP)


async def test_dust_change_goes_to_the_fee(wallet: WalletNode) -> None:
    """Change under 0.01 FLOP is never made: the node takes the payment, and its fee says so."""
    async with wallet.running():
        await funded(wallet, 2 * FLOP)
        amount = 2 * FLOP - FLOP // 100 - FLOP // 200
        wish = Send(request_id="all", address=bank_address(wallet.bench), amount_florins=Florins(amount))
        sent = await wallet.call(WALLET_SEND, wish)
        assert int(sent.fee_florins) == 2 * FLOP - amount
        await wallet.in_node(sent.txid)
        wallet.bench.mine()
        await wallet.synced()
        assert await _has(wallet, "total_florins", 0)


async def test_new_addresses_differ_and_are_followed(wallet: WalletNode) -> None:
    """Every address is new, the same request gets the same one, and coins on all of them are found."""
    async with wallet.running():
        made = [
            await wallet.call(WALLET_NEW_ADDRESS, NewAddress(request_id=f"n{at}", label=f"l{at}")) for at in range(25)
        ]
        again = await wallet.call(WALLET_NEW_ADDRESS, NewAddress(request_id="n0", label="l0"))
        assert again == made[0]
        assert len({view.address for view in made} | {wallet.made.address}) == 26
        wallet.bench.pay(*((view.script, FLOP) for view in made))
        wallet.bench.mine()
        await wallet.synced()
        coins = await wallet.call(WALLET_UTXOS, Empty())
        assert len(coins.coins) == 25
        assert await _has(wallet, "spendable_florins", 25 * FLOP)


async def test_many_coins_pay_together(wallet: WalletNode) -> None:
    """A payment of many small coins is built, judged and taken by the node, with the fee its size asks for."""
    async with wallet.running():
        await funded(wallet, *[FLOP] * 40)
        wish = Send(request_id="sweep", address=bank_address(wallet.bench), amount_florins=Florins(39 * FLOP))
        sent = await wallet.call(WALLET_SEND, wish)
        assert int(sent.fee_florins) > FLOP // 20
        await wallet.in_node(sent.txid)


@pytest.mark.one_source
async def test_a_program_spends_its_own_limit_and_no_more(wallet: WalletNode) -> None:
    """A day's limit of one caller holds over a restart, is nobody else's, and counts in what is shown as used."""
    wallet.changes = {"limits_of_callers": {"module": Florins(2 * FLOP)}}
    async with wallet.running():
        await funded(wallet, 2 * FLOP, 2 * FLOP, 3 * FLOP)
        await by_module(wallet, "m1")
    async with wallet.running():
        await wallet.synced()
        asked = Preview(bank_address(wallet.bench), Florins(FLOP))
        assert (await wallet.call(WALLET_PREVIEW, asked)).amount_florins == FLOP, "the owner has no limit"
        with pytest.raises(OverLimit, match="1 FLOP break the limit of module and day of 2 FLOP"):
            await wallet.call(WALLET_PREVIEW, asked, caller="module")
        with pytest.raises(OverLimit, match="of module and day"):
            await by_module(wallet, "m2")
        used = {one.name: one.spent_florins for one in (await wallet.call(WALLET_LIMITS, Empty())).limits}
        assert (used["of module and day"], used["per day"]) == (3 * FLOP // 2, 3 * FLOP // 2)
        wish = Send(request_id="c1", address=bank_address(wallet.bench), amount_florins=Florins(3 * FLOP // 2))
        assert await wallet.call(WALLET_SEND, wish), "the owner's own hand is not limited"


async def by_module(wallet: WalletNode, name: str) -> Sent:
    """A program of the owner's pays one and a half."""
    wish = Send(request_id=name, address=bank_address(wallet.bench), amount_florins=Florins(3 * FLOP // 2))
    return await LocalClient(wallet.daemon.parts.table, "module").call(WALLET_SEND, wish)
