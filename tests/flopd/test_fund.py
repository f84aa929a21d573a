"""The community fund: m of n custodians pay out of it, each signing only what its own wallet knows to be right."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from msgspec import structs

from common.ceremony import WORD_BYTES_MAX, CeremonyPlan, FundWord, Roster, roster_problem, script_of_words
from common.chain.address import pay_to_key
from common.chain.fund import (
    BadPayout,
    FundInput,
    FundPayout,
    payout_fee,
)
from common.chain.settle import MissingSignature
from common.chain.tx import TxOutput
from common.codec import canonical, from_canonical
from common.community_fund import fund_script_of, vault_script_of
from common.contracts.wallet import FUND_COINS, FUND_KEY, FUND_PROVE, FUND_SETTLE, FUND_SIGN
from common.contracts.wallet_contract import FundCoins, PayoutSignatures, ProveKey, SettlePayout, SignPayout
from common.contracts.wallet_errors import KeyNotOurs, NotAgreed
from common.network import Custodian, FundParameters, Quorum
from common.rpc.method import Empty
from common.units import FLOP, Did, Florins
from tests.chain.contract_kit import public_key
from tests.flopd.coin_node import CoinBench
from tests.flopd.wallets import WalletNode, network_of

pytestmark = pytest.mark.patient


@pytest.fixture
async def custodians(tmp_path: Path, bench: CoinBench) -> AsyncIterator[list[WalletNode]]:
    """Three running wallets that keep a 2-of-3 fund holding two coins, 60 and 45 FLOP."""
    plain = network_of(bench)
    nodes = [WalletNode(tmp_path / str(at), bench, network=plain) for at in range(3)]
    network = network_of(bench, [bytes.fromhex(node.made.fund_pubkey) for node in nodes])
    script = fund_script_of(network.fund)
    bench.pay((script, 60 * FLOP))
    bench.pay((script, 45 * FLOP))
    bench.mine()
    async with AsyncExitStack() as stack:
        for node in nodes:
            node.network = network
            await stack.enter_async_context(node.running())
        yield nodes


async def fund(node: WalletNode) -> FundCoins:
    """The fund as one node sees it."""
    return await node.call(FUND_COINS, Empty())


async def payout_of(nodes: list[WalletNode], share: int = 30 * FLOP) -> FundPayout:
    """Three equal shares of all the fund's coins, change back to the fund."""
    seen = await fund(nodes[0])
    pubkeys = tuple(sorted(bytes.fromhex(node.made.fund_pubkey) for node in nodes))
    inputs = [FundInput(coin.outpoint, coin.value_florins) for coin in seen.coins]
    inputs.sort(key=lambda item: (item.outpoint.txid, item.outpoint.vout))
    shares = [TxOutput(Florins(share), pay_to_key(public_key(f"node-{at}"))) for at in range(3)]
    blank = TxOutput(Florins(FLOP), seen.script)
    fee = payout_fee(2, pubkeys, len(inputs), (*shares, blank))
    change = sum(int(item.value_florins) for item in inputs) - 3 * share - int(fee)
    outputs = (*shares, TxOutput(Florins(change), seen.script))
    return FundPayout(nodes[0].network.genesis, "airdrop-1", 2, pubkeys, tuple(inputs), outputs)


async def sign(node: WalletNode, payout: FundPayout, request_id: str = "sign") -> PayoutSignatures:
    """One custodian's signatures."""
    return await node.call(FUND_SIGN, SignPayout(request_id=request_id, payout=canonical(payout)))


async def test_two_of_three_pay_out(custodians: list[WalletNode]) -> None:
    """Two custodians' signatures complete the payout; the shares are on the chain, the change is the fund's again."""
    first, second, third = custodians
    assert (await fund(first)).confirmed_florins == 105 * FLOP
    payout = await payout_of(custodians)
    signatures = [await sign(first, payout), await sign(third, payout)]
    wish = SettlePayout(request_id="settle", payout=canonical(payout), signatures=signatures)
    sent = await second.call(FUND_SETTLE, wish)
    assert await second.call(FUND_SETTLE, wish) == sent
    await second.in_node(sent.txid)
    second.bench.mine()
    outputs = [(output.script, int(output.value_florins)) for output in payout.outputs]
    assert second.bench.outputs_in_tip(sent.txid) == outputs
    for node in custodians:
        await node.synced()
        assert (await fund(node)).confirmed_florins == outputs[-1][1]


async def test_one_signature_or_a_wrong_one_is_not_enough(custodians: list[WalletNode]) -> None:
    """Fewer than m right signatures pay nothing, whatever else comes with them."""
    first, second, _ = custodians
    payout = await payout_of(custodians)
    other = await payout_of(custodians, 20 * FLOP)
    right, wrong = await sign(first, payout), await sign(second, other, "other")
    for at, given in enumerate(
        ([right], [right, wrong], [right, right], [right, structs.replace(wrong, signatures=[])])
    ):
        wish = SettlePayout(request_id=f"s{at}", payout=canonical(payout), signatures=given)
        with pytest.raises(MissingSignature):
            await first.call(FUND_SETTLE, wish)
    assert first.bench.rpc("getrawmempool") == []


async def test_a_custodian_signs_only_the_funds_own_coins(custodians: list[WalletNode]) -> None:
    """Another network, fund, value, unknown coin, greedy fee or dust: refused before any signature is made."""
    node = custodians[0]
    payout = await payout_of(custodians)
    one = payout.inputs[0]
    dearer = structs.replace(one, value_florins=one.value_florins + 1)
    unknown = structs.replace(one, outpoint=structs.replace(one.outpoint, vout=7))
    others = tuple(sorted(public_key(f"custodian-{at}") for at in range(3)))
    less = structs.replace(payout.outputs[0], value_florins=Florins(20 * FLOP))
    dust = TxOutput(Florins(1000), payout.outputs[0].script)
    cases = [
        (structs.replace(payout, network="00" * 32), NotAgreed),
        (structs.replace(payout, pubkeys=others), NotAgreed),
        (structs.replace(payout, needed=1), NotAgreed),
        (structs.replace(payout, inputs=(dearer, *payout.inputs[1:])), NotAgreed),
        (structs.replace(payout, inputs=(*payout.inputs[1:], unknown)), NotAgreed),
        (structs.replace(payout, outputs=(less, *payout.outputs[1:])), BadPayout),
        (structs.replace(payout, outputs=(*payout.outputs, dust)), BadPayout),
        (structs.replace(payout, inputs=(one, *payout.inputs)), BadPayout),
    ]
    for at, (wrong, error) in enumerate(cases):
        with pytest.raises(error):
            await sign(node, wrong, f"case-{at}")


async def test_who_is_no_custodian_signs_nothing(custodians: list[WalletNode], tmp_path: Path) -> None:
    """A node of the same network that keeps no part of the fund has no key for it."""
    stranger = WalletNode(tmp_path / "stranger", custodians[0].bench, network=custodians[0].network)
    payout = await payout_of(custodians)
    async with stranger.running():
        assert (await stranger.call(FUND_KEY, Empty())).pubkey not in payout.pubkeys
        stranger_payout = structs.replace(payout)
        with pytest.raises((KeyNotOurs, NotAgreed)):
            await sign(stranger, stranger_payout)


async def test_collectors_coins_go_to_the_fund_and_nowhere_else(tmp_path: Path, bench: CoinBench) -> None:
    """A wallet signs a sweep into the fund, with whichever script; to anybody else, or in part, it does not."""
    plain = network_of(bench)
    node = WalletNode(tmp_path / "0", bench, network=plain)
    network = network_of(bench, [bytes.fromhex(node.made.fund_pubkey)])
    keepers = network.fund.custodians
    second = structs.replace(keepers[0], pubkey=public_key("another custodian").hex())
    fund_ = structs.replace(
        network.fund,
        threshold=1,
        custodians=(keepers[0], second),
        collectors=(Quorum(threshold=1, custodians=keepers),),
    )
    node.network = structs.replace(network, fund=fund_)
    collector, vault = fund_script_of(fund_), vault_script_of(fund_)
    bench.pay((collector, 5 * FLOP))
    bench.mine()
    async with node.running():
        (coin,) = (await node.coins(collector)).coins
        keys = fund_.collectors[0].pubkeys
        fee = int(payout_fee(1, keys, 1, (TxOutput(Florins(FLOP), vault),)))
        inputs = (FundInput(coin.outpoint, coin.value_florins),)
        whole = TxOutput(Florins(5 * FLOP - fee), vault)
        sweep = FundPayout(node.network.genesis, "sweep 4", 1, keys, inputs, (whole,))
        assert len((await sign(node, sweep, "sweep")).signatures) == 1
        away = structs.replace(whole, script=pay_to_key(public_key("thief")))
        with pytest.raises(NotAgreed, match="goes to the fund, whole"):
            await sign(node, structs.replace(sweep, outputs=(away,)), "away")


async def ceremony(nodes: list[WalletNode], number: int) -> Roster:
    """Every wallet's two words with its custodian key of this number."""
    members = tuple(sorted("did:dux:" + "abc"[at] * 52 for at in range(len(nodes))))
    plan = CeremonyPlan(nodes[0].network.genesis, "second fund", 2, members, number)

    async def words(script: bytes) -> tuple[FundWord, ...]:
        asked = [ProveKey(plan=canonical(plan), did=Did(did), script=script) for did in members]
        told = [(await node.call(FUND_PROVE, ask, "airdropd")).word for node, ask in zip(nodes, asked, strict=True)]
        return tuple(from_canonical(word, FundWord, max_bytes=WORD_BYTES_MAX) for word in told)

    keys = await words(b"")
    return Roster(plan, keys, await words(script_of_words(plan, {word.claim.did: word.claim.pubkey for word in keys})))


async def test_wallets_prove_new_custodian_keys_and_these_keys_move_the_fund(tmp_path: Path, bench: CoinBench) -> None:
    """A ceremony of real wallets makes a roster that anybody can check; two of the new keys pay out of the new fund."""
    nodes = [WalletNode(tmp_path / str(at), bench) for at in range(3)]
    network = nodes[0].network
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.running())
        roster = await ceremony(nodes, 1)
        assert roster_problem(roster, network.genesis) == ""
        first = {(await node.call(FUND_KEY, Empty())).pubkey for node in nodes}
        assert not first & {word.claim.pubkey for word in roster.keys}, "keys of their own, beside those from the start"
        assert {word.claim.pubkey for word in (await ceremony(nodes, 0)).keys} == first
        other = structs.replace(roster.plan, network="00" * 32)
        with pytest.raises(NotAgreed, match="another network"):
            await nodes[0].call(FUND_PROVE, ProveKey(plan=canonical(other), did=Did("did:dux:0"), script=b""))
        swapped = structs.replace(roster, agreements=roster.keys)
        assert "agrees to another script" in roster_problem(swapped, network.genesis)
    made = tuple(Custodian(did=word.claim.did, pubkey=word.claim.pubkey.hex()) for word in roster.keys)
    earlier = Quorum(threshold=network.fund.threshold, custodians=network.fund.custodians)
    later = structs.replace(network.fund, custodians=made, before=(earlier,))
    async with AsyncExitStack() as stack:
        for node in nodes:
            node.network = structs.replace(network, fund=later)
            await stack.enter_async_context(node.running())
        await paid_by_new_keys(nodes, later)


async def paid_by_new_keys(nodes: list[WalletNode], later: FundParameters) -> None:
    """Two wallets find their new keys among the fund's, sign, and the network takes it."""
    bench, script = nodes[0].bench, fund_script_of(later)
    bench.pay((script, 9 * FLOP))
    bench.mine()
    for node in nodes:
        await node.synced()
    (coin,) = (await fund(nodes[0])).coins
    share = TxOutput(Florins(FLOP), pay_to_key(public_key("node-0")))
    fee = payout_fee(2, later.pubkeys, 1, (share, TxOutput(Florins(FLOP), script)))
    outputs = (share, TxOutput(Florins(8 * FLOP - int(fee)), script))
    inputs = (FundInput(coin.outpoint, coin.value_florins),)
    payout = FundPayout(nodes[0].network.genesis, "airdrop-2", 2, later.pubkeys, inputs, outputs)
    signatures = [await sign(node, payout, "new") for node in nodes[:2]]
    wish = SettlePayout(request_id="new", payout=canonical(payout), signatures=signatures)
    await nodes[2].in_node((await nodes[2].call(FUND_SETTLE, wish)).txid)
