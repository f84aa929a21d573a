"""The purse between two wallets on every chain: what the chain takes of a channel, and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs

from common.chain.channel import ChannelTerms, channel_output_script, chid
from common.chain.tx import Outpoint
from common.channel_messages import NO_ROOT, Ack, Final, Voucher, open_voucher
from common.clock import ManualClock
from common.codec import canonical, from_canonical
from common.community_fund import fund_script_of
from common.contracts import wallet_channel as purse
from common.contracts.wallet import WALLET_NEW_ADDRESS, NewAddress
from common.contracts.wallet_contract import CONTRACT_NEW_KEY, NewContractKey
from common.contracts.wallet_errors import KeyNotOurs, NotAgreed, TooEarly
from common.identity.signed import decode_signed
from common.store import Store
from common.units import FLOP, Florins
from dux_flopd.schema import MIGRATIONS
from tests.flopd.coin_node import CoinBench
from tests.flopd.wallets import WalletNode

CAP = 5 * FLOP
BLOCKS = 60


@asynccontextmanager
async def pair(tmp_path: Path, bench: CoinBench) -> AsyncIterator[tuple[WalletNode, WalletNode]]:
    """Payer and payee with coins."""
    payer, payee = WalletNode(tmp_path / "payer", bench), WalletNode(tmp_path / "payee", bench)
    async with payer.running(), payee.running():
        for wallet, florins in ((payer, 20 * FLOP), (payee, FLOP // 10), (payee, FLOP)):
            address = await wallet.call(WALLET_NEW_ADDRESS, NewAddress(request_id=f"a{florins}"))
            bench.pay((address.script, florins))
        bench.mine(2)
        await payer.synced()
        await payee.synced()
        yield payer, payee


async def agreed(payer: WalletNode, payee: WalletNode, bench: CoinBench, name: bytes) -> ChannelTerms:
    """Terms that both wallets have adopted."""
    nonce = name * 32
    keys = {}
    for side, wallet in (("payer", payer), ("payee", payee)):
        wish = purse.NewChannelKey(request_id=f"{name!r}/{side}", side=side, nonce=nonce)
        keys[side] = await wallet.call(purse.PURSE_KEY, wish, "escrowd")
    terms = ChannelTerms(
        version=1, network=bench.genesis, payer="did:dux:payer", payee="did:dux:payee",
        payer_key=keys["payer"].pubkey, payee_key=keys["payee"].pubkey, change_script=keys["payer"].script,
        payout_script=keys["payee"].script, fund_script=fund_script_of(payer.network.fund), tax_bps=500,
        developer_script=b"", royalty_bps=0, fee_rate_florins_per_kb=1_200_000, cap_florins=Florins(CAP),
        exp=bench.height + BLOCKS, profile="demo", window=32, mirror_florins=Florins(FLOP),
        limit_florins=Florins(100 * FLOP),
    )  # fmt: skip
    for side, wallet in (("payer", payer), ("payee", payee)):
        adopt = purse.AdoptChannel(
            request_id=f"{name!r}/{side}/adopt", terms=canonical(terms), side=side, key_index=keys[side].index,
            from_height=bench.height,
        )  # fmt: skip
        await wallet.call(purse.PURSE_ADOPT, adopt, "escrowd")
    return terms


async def funded(payer: WalletNode, payee: WalletNode, bench: CoinBench, terms: ChannelTerms) -> Outpoint:
    """The channel's coin in a block that both have read."""
    made = await payer.call(purse.PURSE_FUND, purse.FundChannel(request_id="f", chid=chid(terms).hex()), "escrowd")
    await payer.in_node(made.txid)
    bench.mine(2)
    await payer.synced()
    await payee.synced()
    coins = await payee.coins(channel_output_script(terms))
    return coins.coins[0].outpoint


async def voucher(payer: WalletNode, terms: ChannelTerms, point: Outpoint, cum: int) -> Voucher:
    """A voucher that the payer's wallet signed, opened."""
    body = Voucher(
        v=1, network=terms.network, chid=chid(terms), outpoint=point, session=b"s" * 32, j=1, oid="order-0000000001",
        cum_florins=Florins(cum), price_max_florins=Florins(1), offer=b"o" * 32, req=b"r" * 32,
        ack=Ack(low=1, root=NO_ROOT, bits=0, paid_florins=Florins(0)), coin_sig=bytes(8),
    )  # fmt: skip
    signed = await payer.call(purse.PURSE_VOUCHERS, purse.SignVouchers(vouchers=[canonical(body)]), "escrowd")
    return open_voucher(signed.envelopes[0], terms.payer_key)


def closing(terms: ChannelTerms, point: Outpoint, said: Voucher | Final, **changes: object) -> purse.CloseWish:
    wish = purse.CloseWish(request_id=f"c{said.cum_florins}", chid=chid(terms).hex(), outpoint=point,
                           cum_florins=said.cum_florins, payer_sig=said.coin_sig)  # fmt: skip
    return structs.replace(wish, **changes)


async def test_close_with_more_fee_and_no_forgery(tmp_path: Path, bench: CoinBench) -> None:
    """The close is taken, gets more fee by a coin of the payee's or by a child, and pays exactly the voucher."""
    async with pair(tmp_path, bench) as (payer, payee):
        terms = await agreed(payer, payee, bench, b"a")
        point = await funded(payer, payee, bench, terms)
        low, high = [await voucher(payer, terms, point, cum) for cum in (FLOP, 2 * FLOP)]
        with pytest.raises(NotAgreed):
            await payee.call(purse.PURSE_CLOSE, closing(terms, point, low, cum_florins=high.cum_florins), "escrowd")
        with pytest.raises(NotAgreed):
            await voucher(payer, terms, Outpoint("ef" * 32, 0), FLOP)
        copy = await payee.call(purse.PURSE_CLOSE, closing(terms, point, low, publish=False), "escrowd")
        assert copy.txid not in bench.rpc("getrawmempool")
        first = await payee.call(purse.PURSE_CLOSE, closing(terms, point, high), "escrowd")
        await payee.in_node(first.txid)
        more = await payee.call(purse.PURSE_CLOSE, closing(terms, point, high, step=1, request_id="again"), "escrowd")
        assert more.fee_florins > first.fee_florins
        assert more.how == ("replaced" if bench.family.replaces else "child")
        if bench.family.replaces:
            await payee.in_node(more.txid)
            assert first.txid not in bench.rpc("getrawmempool")
        else:
            await payee.until(lambda: len(bench.rpc("getrawmempool")) == 2, "parent and child wait")
        bench.mine(2)
        await payee.synced()
        spend = (await payee.coins(channel_output_script(terms))).coins[0].spend
        assert spend is not None
        assert spend.txid == more.txid
        stale = await payee.call(purse.PURSE_CLOSE, closing(terms, point, low, request_id="stale"), "escrowd")
        await payee.synced()
        assert stale.txid not in bench.rpc("getrawmempool")  # an older voucher after a newer: the chain has decided


async def test_refund_alone_and_not_before(tmp_path: Path, bench: CoinBench) -> None:
    """Before EXP the wallet signs no refund; from EXP on the payer alone has everything back."""
    async with pair(tmp_path, bench) as (payer, payee):
        terms = await agreed(payer, payee, bench, b"b")
        point = await funded(payer, payee, bench, terms)
        wish = purse.RefundWish(request_id="r0", chid=chid(terms).hex(), outpoint=point)
        with pytest.raises(TooEarly):
            await payer.call(purse.PURSE_REFUND, wish, "escrowd")
        bench.mine(terms.exp - bench.height)
        await payer.synced()
        made = await payer.call(purse.PURSE_REFUND, structs.replace(wish, request_id="r1"), "escrowd")
        await payer.in_node(made.txid)
        bench.mine(1)
        await payer.synced()
        assert (await payer.balance()).total_florins > 19 * FLOP


@pytest.mark.one_source
async def test_the_last_state_may_open_the_next_channel(tmp_path: Path, bench: CoinBench) -> None:
    """One transaction closes and opens: the rest pays the next channel's script; state 0 gives all back."""
    async with pair(tmp_path, bench) as (payer, payee):
        terms = await agreed(payer, payee, bench, b"c")
        following = await agreed(payer, payee, bench, b"d")
        point = await funded(payer, payee, bench, terms)
        ask = purse.SignFinal(chid=chid(terms).hex(), outpoint=point, cum_florins=Florins(FLOP),
                              next_chid=chid(following).hex())  # fmt: skip
        signed = await payer.call(purse.PURSE_FINAL, ask, "escrowd")
        final = from_canonical(decode_signed(signed.envelope, max_bytes=1_024).body, Final, max_bytes=1_024)
        assert final.next_script == channel_output_script(following)
        made = await payee.call(
            purse.PURSE_CLOSE, closing(terms, point, final, next_script=final.next_script), "escrowd"
        )
        await payee.in_node(made.txid)
        bench.mine(2)
        await payer.synced()
        await payee.synced()
        coin = (await payee.coins(channel_output_script(following))).coins[0]
        assert coin.value_florins == CAP - FLOP - 1_000_000
        back = await payer.call(
            purse.PURSE_FINAL,
            purse.SignFinal(chid=chid(following).hex(), outpoint=coin.outpoint, cum_florins=Florins(0)),
            "escrowd",
        )
        nothing = from_canonical(decode_signed(back.envelope, max_bytes=1_024).body, Final, max_bytes=1_024)
        all_back = await payee.call(purse.PURSE_CLOSE, closing(following, coin.outpoint, nothing), "escrowd")
        await payee.in_node(all_back.txid)


@pytest.mark.one_source
async def test_a_channel_that_older_books_do_not_know_as_paid_is_not_paid_again(
    tmp_path: Path, bench: CoinBench
) -> None:
    """The wallet's books are an older backup's, escrowd asks for the funding once more: it lies there, or waits."""
    async with pair(tmp_path, bench) as (payer, payee):
        terms = await agreed(payer, payee, bench, b"o")
        wish = purse.FundChannel(request_id="f", chid=chid(terms).hex())
        made = await payer.call(purse.PURSE_FUND, wish, "escrowd")
        await payer.in_node(made.txid)
        store = payer.daemon.parts.table.store
        with store.transaction() as tx:  # what a backup from before it does not have
            tx.execute("DELETE FROM binds WHERE payment = ?", made.txid)
            tx.execute("DELETE FROM payments WHERE txid = ?", made.txid)

        async def seen() -> bool:
            return bool((await payer.coins(channel_output_script(terms))).coins)

        for number in range(2):
            await payer.until(seen, "it is seen")
            again = structs.replace(wish, request_id=f"g{number}")
            assert (await payer.call(purse.PURSE_FUND, again, "escrowd")).txid == made.txid
            bench.mine()
            await payer.synced()
        assert len((await payer.coins(channel_output_script(terms))).coins) == 1


async def test_keys_that_were_only_tried_are_still_free(tmp_path: Path, bench: CoinBench) -> None:
    """A search for lost channels binds no key: contracts get their numbers, a channel that is found has its own."""
    async with pair(tmp_path, bench) as (payer, payee):
        tried = purse.LostKeys(request_id="lost", side="payer", first=0, count=20)
        keys = (await payer.call(purse.PURSE_LOST_KEYS, tried, "escrowd")).keys
        assert [key.index for key in keys] == list(range(20))
        wish = NewContractKey(request_id="k", purpose="buyer", nonce=b"k" * 32)
        first = await payer.call(CONTRACT_NEW_KEY, wish, "escrowd")
        assert first.pubkey == keys[first.index].pubkey
        terms = await agreed(payer, payee, bench, b"a")
        own = next(key for key in keys if key.pubkey == terms.payer_key)
        assert own.index == first.index + 1
        earlier = structs.replace(terms, payer_key=keys[9].pubkey, change_script=keys[9].script)
        back = purse.AdoptChannel(
            request_id="back", terms=canonical(earlier), side="payer", key_index=9, from_height=bench.height
        )
        with pytest.raises(KeyNotOurs):
            await payer.call(purse.PURSE_ADOPT, back, "escrowd")
        found = structs.replace(back, request_id="found", lost=True)
        assert (await payer.call(purse.PURSE_ADOPT, found, "escrowd")).chid == chid(earlier).hex()
        nonces = (bytes([at]) * 32 for at in range(3))
        wishes = [NewContractKey(request_id=nonce.hex(), purpose="seller", nonce=nonce) for nonce in nonces]
        later = [(await payer.call(CONTRACT_NEW_KEY, one, "escrowd")).index for one in wishes]
        assert later == [10, 11, 12], "no key of a channel that was found, nor of one before it, is handed out again"


def test_a_wallet_that_tried_keys_before_gets_their_numbers_back() -> None:
    """Rows of an earlier version's search go; what was handed out, and what is bound, stays."""
    store = Store.open(None, MIGRATIONS[:-1], ManualClock())
    with store.transaction() as tx:
        for number, cid in ((0, ""), (1, "ab" * 32), (2, "")):
            tx.execute("INSERT INTO contract_keys VALUES (?, 'payer', ?, ?)", number, bytes([number]) * 32, cid)
        tx.execute("INSERT INTO scripts VALUES (?, 'own', 3, 0, 'channel', 0, 1)", b"script")
        tx.execute("INSERT INTO scripts VALUES (?, 'own', 3, 2, '', 0, 1)", b"followed")
    store.bring_up("flopd", MIGRATIONS)
    assert [row["number"] for row in store.rows("SELECT number FROM contract_keys ORDER BY number")] == [0, 1]
