"""Receipts under the keys of a contract, end to end: real wallets and a real chain sign, a real registry judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from common.chain.templates import Release
from common.codec import canonical
from common.contracts import registry
from common.contracts.registry import NodeName, ReceiptState, SubmitReceipt
from common.contracts.wallet_chain import CHAIN_TIP
from common.contracts.wallet_contract import CONTRACT_VOUCH, VouchContract
from common.contracts.wallet_errors import ContractUnknown, NotAgreed
from common.errors import NotPermitted
from common.identity.purposes import Purpose
from common.receipt_keys import word_fault
from common.receipts import KeyedReceipt, LotKeys, SettledReceipt
from common.rpc.client import LocalClient
from common.rpc.method import Empty
from common.units import Florins, tax_of
from dux_registryd.daemon import RegistryDaemon
from tests.attacks.registry import attack
from tests.flopd.coin_node import CoinBench
from tests.flopd.test_contracts import PRICE, Deal, deal
from tests.flopd.wallets import WalletNode
from tests.market.fakes import FakeNet, attest, did_number, running, until
from tests.market.makers import receipt

pytestmark = pytest.mark.patient

SELLER, THIEF, FRIEND, BUYER = 1, 3, 4, 5


def named(d: Deal) -> None:
    """The contract is between two nodes that can sign receipts."""
    buyer = structs.replace(d.contract.buyer, did=did_number(BUYER))
    seller = structs.replace(d.contract.seller, did=did_number(SELLER))
    d.contract = structs.replace(d.contract, buyer=buyer, seller=seller)


async def under_key(wallet: WalletNode, d: Deal, plain: SettledReceipt) -> KeyedReceipt:
    """A receipt with the word of this wallet's key, as taskd has it made."""
    word = await wallet.call(CONTRACT_VOUCH, VouchContract(cid=d.cid))
    lot = LotKeys(buyer=word.buyer_key, seller=word.seller_key)
    return KeyedReceipt(**structs.asdict(plain), lot=lot, lot_signature=word.signature)


async def submit(client: LocalClient, signer: int, body: SettledReceipt) -> ReceiptState:
    """Hand a receipt in as taskd does."""
    signed = canonical(attest(signer, Purpose.SETTLED_RECEIPT, body))
    taskd = LocalClient(client._table, "taskd")
    wish = SubmitReceipt(request_id=f"{signer}/{body.cid.hex()[:8]}", receipt=signed)
    return (await taskd.call(registry.REPUTATION_SUBMIT, wish)).state


async def score(client: LocalClient, number: int) -> float:
    """Q of a node."""
    return (await client.call(registry.REPUTATION_GET, NodeName(node_id=did_number(number)))).score


@attack(
    "payment",
    tries="has the wallet sign a receipt's word as an arbiter, of an unknown contract, or as another daemon",
    meets="only taskd, and only what an adopted contract says of its own two parties",
)
async def test_a_wallet_vouches_for_its_own_contracts_alone(tmp_path: Path, bench: CoinBench) -> None:
    """A caller names a contract and nothing else: the names and keys in the word are the contract's."""
    async with deal(tmp_path, bench) as d:
        named(d)
        await d.fund()
        with pytest.raises(NotAgreed, match="arbiter"):
            await d.arbiters[0].call(CONTRACT_VOUCH, VouchContract(cid=d.cid))
        with pytest.raises(ContractUnknown):
            await d.buyer.call(CONTRACT_VOUCH, VouchContract(cid="00" * 32))
        for caller in ("cli", "escrowd", "registryd"):
            table = LocalClient(d.buyer.daemon.parts.table, caller)
            with pytest.raises(NotPermitted):
                await table.call(CONTRACT_VOUCH, VouchContract(cid=d.cid))
        told = "SELECT kind FROM audit WHERE kind = 'contract vouched for'"
        assert d.buyer.daemon.parts.table.store.rows(told) == []
        await d.buyer.call(CONTRACT_VOUCH, VouchContract(cid=d.cid))
        assert len(d.buyer.daemon.parts.table.store.rows(told)) == 1


@attack(
    "registry",
    tries="a stranger's payment on a real chain, told by two names before its parties, and after",
    meets="the keys of the spent script: the parties count, the thief's standing falls",
)
@pytest.mark.timeout(120)
async def test_the_keys_of_a_real_spend_take_a_payment_back(tmp_path: Path, bench: CoinBench) -> None:
    """Funded, released, stolen by two names, told by the parties under their wallets' keys: theirs is the standing."""
    async with deal(tmp_path, bench) as d:
        named(d)
        await d.fund()
        settled = await d.settle(d.seller, Release(Florins(PRICE)), await d.sign(d.buyer, Release(Florins(PRICE))))
        height = bench.height
        await d.mine(8)
        fields: dict[str, Any] = {
            "network": d.network.genesis,
            "txid": settled.txid,
            "height": height,
            "price_florins": Florins(PRICE),
            "gross_florins": Florins(PRICE),
            "tax_florins": tax_of(Florins(PRICE), d.network.tax_bps),
        }
        stolen = receipt(**fields, cid=b"\x66" * 32, buyer=did_number(FRIEND), seller=did_number(THIEF))
        own = receipt(**fields, cid=bytes.fromhex(d.cid), buyer=did_number(BUYER), seller=did_number(SELLER))
        stranger = WalletNode(tmp_path / "stranger", bench, network=d.network, birth_height=height)
        node = FakeNet().node(1)
        async with stranger.running():
            await stranger.synced()
            assert (await stranger.call(CHAIN_TIP, Empty())).height == bench.height
            node.flopd = stranger.daemon.parts.table
            settings = {"heartbeat_s": 0.1, "check_s": 0.05, "sync_s": 0.05}
            async with running(node, RegistryDaemon, tmp_path, profile=d.network, **settings) as one:
                for thief in (THIEF, FRIEND):
                    lie = structs.replace(stolen, signer=did_number(thief))
                    assert await submit(one, thief, lie) is ReceiptState.SETTLED
                await until(lambda: scored(one, THIEF, 0.9))
                for number, wallet in ((SELLER, d.seller), (BUYER, d.buyer)):
                    told = await under_key(wallet, d, structs.replace(own, signer=did_number(number)))
                    assert word_fault(told) is None
                    assert await submit(one, number, told) is ReceiptState.SETTLED
                await until(lambda: scored(one, SELLER, 0.9))
                assert await score(one, THIEF) == 0.5
                again = structs.replace(stolen, cid=b"\x67" * 32, signer=did_number(THIEF))
                assert await submit(one, THIEF, again) is ReceiptState.REFUSED


async def scored(client: LocalClient, number: int, least: float) -> bool:
    return await score(client, number) >= least
