"""Labels, chosen coins, signed messages, lock and unlock, on every coin node."""

from __future__ import annotations

import asyncio

import pytest

from common.chain.address import BadAddress, script_to_address
from common.contracts.wallet import (
    WALLET_HISTORY,
    WALLET_LABEL,
    WALLET_LOCK,
    WALLET_NEW_ADDRESS,
    WALLET_SEND,
    WALLET_SIGN_MESSAGE,
    WALLET_UNLOCK,
    WALLET_UTXOS,
    WALLET_VERIFY_MESSAGE,
    HistoryAsked,
    NewAddress,
    Send,
)
from common.contracts.wallet_errors import CoinNotFree, DoesNotOpen, InsufficientFunds, NotOwnAddress, WalletLocked
from common.contracts.wallet_tools import Label, LockState, SignMessage, Unlock, VerifyMessage
from common.rpc.method import Empty
from common.units import FLOP, Florins
from tests.flopd.coin_node import BANK_SCRIPT
from tests.flopd.test_payments import bank_address, funded
from tests.flopd.wallets import WalletNode


def to_bank(wallet: WalletNode, name: str, amount: int, **more: object) -> Send:
    address = bank_address(wallet.bench)
    return Send(request_id=name, address=address, amount_florins=Florins(amount), **more)  # type: ignore[arg-type]


async def test_a_payment_spends_the_coins_that_its_owner_names_and_no_other(wallet: WalletNode) -> None:
    """Coin control: of two coins the named one goes; one that is bound, foreign or too small is told."""
    async with wallet.running():
        await funded(wallet, 5 * FLOP, 3 * FLOP)
        coins = (await wallet.call(WALLET_UTXOS, Empty())).coins
        large = next(coin.outpoint for coin in coins if int(coin.value_florins) == 5 * FLOP)
        small = next(coin.outpoint for coin in coins if int(coin.value_florins) == 3 * FLOP)
        with pytest.raises(InsufficientFunds):
            await wallet.call(WALLET_SEND, to_bank(wallet, "a", 4 * FLOP, coins=(small,)))
        await wallet.call(WALLET_SEND, to_bank(wallet, "b", FLOP, coins=(large,), label="rent"))
        left = {coin.outpoint: coin.state for coin in (await wallet.call(WALLET_UTXOS, Empty())).coins}
        assert (left[small], left.get(large, "gone") in ("locked", "gone")) == ("spendable", True)
        with pytest.raises(CoinNotFree):
            await wallet.call(WALLET_SEND, to_bank(wallet, "c", FLOP, coins=(large,)))


async def test_the_books_show_the_owners_words(wallet: WalletNode) -> None:
    """A label of a payment stands in the history; it can be changed and taken away; only real things have names."""
    async with wallet.running():
        await funded(wallet, 5 * FLOP)
        sent = await wallet.call(WALLET_SEND, to_bank(wallet, "a", FLOP, label="rent"))

        async def label() -> str:
            entries = (await wallet.call(WALLET_HISTORY, HistoryAsked())).entries
            return next(entry.label for entry in entries if entry.txid == sent.txid)

        assert await label() == "rent"
        await wallet.call(WALLET_LABEL, Label(name=bank_address(wallet.bench), label="the bank"))
        assert await label() == "rent"
        await wallet.call(WALLET_LABEL, Label(name=sent.txid, label=""))
        assert await label() == "the bank"
        with pytest.raises(BadAddress):
            await wallet.call(WALLET_LABEL, Label(name="rent", label="of May"))


async def test_a_message_is_signed_as_the_coin_s_nodes_do(wallet: WalletNode) -> None:
    """Litecoind itself verifies it; any change makes it false; a foreign address cannot be signed for."""
    async with wallet.running():
        own = (await wallet.call(WALLET_NEW_ADDRESS, NewAddress(request_id="x"))).address
        text = "It is me, wörtlich. " * 20
        signature = (await wallet.call(WALLET_SIGN_MESSAGE, SignMessage(address=own, message=text))).signature
        for message, address, valid in (
            (text, own, True),
            (text + "!", own, False),
            (text, wallet.made.address, False),
        ):
            asked = VerifyMessage(address=address, message=message, signature=signature)
            assert (await wallet.call(WALLET_VERIFY_MESSAGE, asked)).valid is valid
        for junk in ("", "A" * 88, signature[:-4], "?" * 88):
            asked = VerifyMessage(address=own, message=text, signature=junk)
            assert not (await wallet.call(WALLET_VERIFY_MESSAGE, asked)).valid
        with pytest.raises(NotOwnAddress):
            await wallet.call(
                WALLET_SIGN_MESSAGE,
                SignMessage(address=script_to_address(BANK_SCRIPT, wallet.bench.family) or "", message=text),
            )
        if wallet.bench.family.name == "litecoin-regtest":
            assert wallet.bench.rpc("verifymessage", own, signature, text) is True


async def test_a_locked_wallet_sees_and_signs_nothing_until_it_is_opened(wallet: WalletNode) -> None:
    """Lock: no payment, coins are seen all the same. A wrong passphrase opens nothing; a time runs out by itself."""
    async with wallet.running():
        await funded(wallet, 5 * FLOP)
        assert await wallet.call(WALLET_LOCK, Empty()) == LockState(unlocked=False, until_ms=None)
        with pytest.raises(WalletLocked):
            await wallet.call(WALLET_SEND, to_bank(wallet, "a", FLOP))
        assert (await wallet.balance()).spendable_florins == 5 * FLOP
        with pytest.raises(DoesNotOpen):
            await wallet.call(WALLET_UNLOCK, Unlock(passphrase="wrong"))
        assert not (await wallet.status()).unlocked
        assert (await wallet.call(WALLET_UNLOCK, Unlock(for_s=1))).until_ms is not None
        await wallet.call(WALLET_SEND, to_bank(wallet, "b", FLOP))
        await asyncio.sleep(0.5)
        assert (await wallet.status()).unlocked
        await wallet.until(lambda: _locked(wallet), "it locks itself")
        await wallet.call(WALLET_UNLOCK, Unlock())
        assert "secret" not in repr(Unlock(passphrase="secret"))


async def _locked(wallet: WalletNode) -> bool:
    return not (await wallet.status()).unlocked
