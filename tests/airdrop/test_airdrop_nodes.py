"""Three whole nodes on loopback (p2pd, flopd, registryd, airdropd each a process) hand a fund back on a real chain.

By rule `full`, and by rule `bonded` with bonds that real wallets lock, register and show.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from common.chain.address import script_to_address
from common.chain.fund import fund_output_script
from common.chain.params import EMBEDDED
from common.clock import SystemClock
from common.codec import canonical
from common.contracts import airdrop as ac
from common.contracts.p2p import IDENTITY_SIGN, P2P_INFO, Sign
from common.contracts.registry import (
    NODE_LIST,
    NODE_REGISTER,
    NODE_UPDATE_HEALTH,
    REPUTATION_SUBMIT,
    ListNodes,
    RegisterNode,
    SubmitReceipt,
    UpdateHealth,
)
from common.contracts.registry_claims import (
    CLAIMS_ATTEST,
    CLAIMS_DISCLOSE,
    CLAIMS_VERIFY,
    AttestMe,
    Disclose,
    VerifyClaim,
)
from common.contracts.wallet import CHAIN_TIP, WALLET_BALANCE, WALLET_SEND, Send
from common.contracts.wallet_bonds import WALLET_BOND_MAKE, WALLET_BOND_REGISTER, WALLET_BONDS, BondName, MakeBond
from common.errors import DuxError
from common.identity.purposes import Purpose
from common.keygen import KeysMade, make_keys
from common.network import Bootstrap, Custodian, FundParameters, KeyFileCosts, NetworkProfile, save_profile
from common.parameters import EASY_CENT, AirdropParameters, BondedParameters
from common.randomness import SystemRandomness
from common.receipts import Attested, Outcome, SettledReceipt
from common.rpc.method import Empty
from common.units import FLOP, BlockHeight, Florins
from dux_cli.demo.coin_chain import CoinChain
from dux_cli.demo.stage import free_port_base
from dux_cli.node_dir import NodeDir
from dux_cli.node_files import ChainLogin, outside_endpoint, port_base_of, write_config
from dux_cli.supervisor import Node
from dux_sim.chain.profile import chain_of, genesis_hash
from tests.ports import free_ports

DAEMONS = ("p2pd", "flopd", "registryd", "airdropd")
TAX = Florins(FLOP // 2)
FULL = AirdropParameters(evidence_blocks=3)
pytestmark = [pytest.mark.constellation, pytest.mark.timeout(240)]


class Three:
    """The nodes, their keys, the fund and the chain."""

    def __init__(self, folder: Path, rule: AirdropParameters, purse: int) -> None:
        draft = NetworkProfile(
            name="three",
            chain="embedded",
            genesis="00" * 32,
            heights="demo",
            key_file_costs=KeyFileCosts(memory_kib=8192, iterations=1),
        )
        now, self.ports = SystemClock().unix_ms(), free_port_base()
        self.keys: list[KeysMade] = [
            make_keys(folder / str(n) / "data", draft, randomness=SystemRandomness(), made_ms=now) for n in range(3)
        ]
        custodians = tuple(Custodian(did=keys.did, pubkey=keys.fund_pubkey) for keys in self.keys)
        fund = fund_output_script(2, tuple(sorted(bytes.fromhex(item.pubkey) for item in custodians)))
        self.fund_address = script_to_address(fund, EMBEDDED) or ""
        profile = msgspec.structs.replace(
            draft,
            fund=FundParameters(threshold=2, custodians=custodians),
            bootstrap=(Bootstrap(address=outside_endpoint(0, self.ports), did=self.keys[0].did),),
            airdrop=rule,
            premine=(
                (self.fund_address, Florins(9_960_000_000)),
                *((keys.address, Florins(purse)) for keys in self.keys),
            ),
        )
        self.profile = msgspec.structs.replace(profile, genesis=genesis_hash(chain_of(profile)))
        save_profile(self.profile, folder / "network.yaml")
        self.chain = CoinChain("embedded", folder / "chain", "127.0.0.1", free_ports())
        self.folder = folder
        self.nodes: list[Node] = []

    def make_nodes(self) -> None:
        """Configure them for the running chain."""
        login = ChainLogin(self.chain.url, self.chain.user, self.chain.password_file)
        for index in range(3):
            directory = NodeDir(self.folder / str(index))
            base = port_base_of(index, self.ports)
            write_config(directory, self.profile, index=index, port_base=base, chain=login)
            self.nodes.append(Node(directory))

    async def until(self, what: str, holds: Callable[[], Awaitable[bool]], *, mine: bool = False) -> None:
        """Wait for a predicate, mining a block per look when asked to."""
        for _ in range(200):
            try:
                if await holds():
                    return
            except DuxError:
                pass
            if mine:
                await self.chain.mine(1)
            await asyncio.sleep(0.25)
        raise AssertionError(f"never: {what}")


@asynccontextmanager
async def three(folder: Path, rule: AirdropParameters = FULL, purse: int = 5 * FLOP) -> AsyncIterator[Three]:
    stage = Three(folder, rule, purse)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(stage.chain.stop)
        await stage.chain.start(folder / "network.yaml")
        stage.make_nodes()
        for node in stage.nodes:
            stack.push_async_callback(node.close)
            await node.start(*DAEMONS)
        for node in stage.nodes:
            await node.wait_ready(*DAEMONS, deadline_s=60)
        await stage.until("all meet", lambda: met(stage), mine=True)
        yield stage


async def met(stage: Three) -> bool:
    infos = [await node.call(P2P_INFO, Empty()) for node in stage.nodes]
    tips = [await node.call(CHAIN_TIP, Empty()) for node in stage.nodes]
    return all(info.sessions >= 2 for info in infos) and all(tip.synced and tip.height > 0 for tip in tips)


async def registered(stage: Three) -> bool:
    return all([(await node.call(NODE_LIST, ListNodes())).total >= 3 for node in stage.nodes])


async def register_all(stage: Three) -> None:
    """Every node says who it is and that it is here."""
    for number, (node, keys) in enumerate(zip(stage.nodes, stage.keys, strict=True)):
        await node.call(NODE_REGISTER, RegisterNode(request_id=f"r{number}", wallet_address=keys.address))
        await node.call(NODE_UPDATE_HEALTH, UpdateHealth(request_id=f"h{number}"))
    await stage.until("all know all", lambda: registered(stage))


async def pay_tax(stage: Three) -> SettledReceipt:
    """Node 0 "buys" from node 1: the tax of a job goes to the fund; returns what the seller can say of it."""
    sent = await stage.nodes[0].call(
        WALLET_SEND, Send(request_id="tax", address=stage.fund_address, amount_florins=TAX)
    )
    await stage.until("the payment waits", lambda: waits(stage, sent.txid))
    await stage.chain.mine(1)
    height = await stage.chain.height()
    return SettledReceipt(
        network=stage.profile.genesis,
        cid=b"\x05" * 32,
        buyer=stage.keys[0].did,
        seller=stage.keys[1].did,
        service_id="upscale",
        price_florins=Florins(10 * FLOP),
        gross_florins=Florins(10 * FLOP),
        tax_florins=TAX,
        txid=sent.txid,
        height=BlockHeight(height),
        outcome=Outcome.RELEASED,
        output_hash=b"",
        signer=stage.keys[1].did,
        at_ms=SystemClock().unix_ms(),
    )


async def waits(stage: Three, txid: str) -> bool:
    return txid in await stage.chain.call("getrawmempool")


async def attested(stage: Three, receipt: SettledReceipt) -> bytes:
    """The receipt under the seller's signature, asked of its p2pd in taskd's name."""
    p2pd = stage.nodes[1].folder.client("p2pd", caller="taskd")
    try:
        body = canonical(receipt)
        by = await p2pd.call(IDENTITY_SIGN, Sign(purpose=Purpose.SETTLED_RECEIPT.value, body=body))
        return canonical(Attested(body, by.did, by.key_seq, by.signature))
    finally:
        await p2pd.close()


async def paid_everywhere(stage: Three) -> bool:
    return all([(await node.call(ac.AIRDROP_STATUS, Empty())).number == 1 for node in stage.nodes])


async def test_three_real_nodes_hand_the_fund_back(tmp_path: Path) -> None:
    """Buyer and seller get half of it each, the third node proves it from its own chain, wallets show the coins."""
    async with three(tmp_path) as stage:
        await register_all(stage)
        receipt = await pay_tax(stage)
        signed = await attested(stage, receipt)
        await stage.nodes[1].call(REPUTATION_SUBMIT, SubmitReceipt(request_id="receipt", receipt=signed))
        await stage.until("the airdrop is paid", lambda: paid_everywhere(stage), mine=True)
        detail = await stage.nodes[2].call(ac.AIRDROP_SHOW, ac.NumberAsked(number=0))
        assert {share.did for share in detail.shares} == {stage.keys[0].did, stage.keys[1].did}
        share = detail.airdrop.share_florins
        assert int(share) * 2 + int(detail.airdrop.fee_florins) == pytest.approx(100 * FLOP + FLOP // 10, abs=1)
        proof = await stage.nodes[0].call(ac.AIRDROP_PROOF, ac.NumberAsked(number=0))
        verdict = await stage.nodes[2].call(ac.AIRDROP_VERIFY, ac.VerifyProof(proof=proof.proof), deadline_s=60)
        assert verdict.valid, verdict.problems
        balance = await stage.nodes[1].call(WALLET_BALANCE, Empty())
        assert int(balance.total_florins) == 5 * FLOP + int(share)


BONDED = BondedParameters(
    day_blocks=1,
    bond_least_florins=Florins(20 * FLOP),
    bond_days=20,
    bond_left_days=1,
    tax_least_florins=Florins(FLOP // 10),
    counterparties=1,
    presence_days=1,
    presence_bps=0,
    age_days=0,
    age_early_days=0,
    one_per_net=False,
    standing_milli=0,
)


async def bond(stage: Three, number: int) -> None:
    """Lock 20 FLOP and register the bond, as its owner would."""
    wallet = stage.nodes[number]
    tip = await stage.chain.height()
    lock = MakeBond(request_id="bond", amount_florins=Florins(20 * FLOP), until=tip + 400)
    made = await wallet.call(WALLET_BOND_MAKE, lock)
    await stage.until("the bond waits", lambda: waits(stage, made.txid))
    await stage.chain.mine(1)
    await stage.until("the bond is seen", lambda: holds_bond(stage, number))
    await wallet.call(WALLET_BOND_REGISTER, BondName(request_id="name", number=made.number))


async def holds_bond(stage: Three, number: int) -> bool:
    bonds = (await stage.nodes[number].call(WALLET_BONDS, Empty())).bonds
    return bool(bonds) and all(coin.height is not None for coin in bonds[0].coins)


async def bonds_shown(stage: Three) -> bool:
    """Whether every registry lists the two bonded nodes."""
    wish = ListNodes(min_bond_florins=Florins(20 * FLOP))
    return all([(await node.call(NODE_LIST, wish)).total == 2 for node in stage.nodes])


async def test_wallets_bonds_are_seen_attested_and_give_paid_seats(tmp_path: Path) -> None:
    """Two wallets lock and register; every registry shows it, one attests it, another believes that; both are paid."""
    rule = AirdropParameters(evidence_blocks=3, rule="bonded", bonded=BONDED, carry_below_florins=EASY_CENT)
    async with three(tmp_path, rule, 30 * FLOP) as stage:
        await register_all(stage)
        for number in (0, 1):
            await bond(stage, number)
        await stage.until("all know the bonds", lambda: bonds_shown(stage), mine=True)
        first, issuer, verifier = stage.nodes
        held = await first.call(CLAIMS_ATTEST, AttestMe(request_id="attest", peer=stage.keys[1].did))
        assert {"bond>=1", "bond>=10"} <= set(held.names)
        shown = await first.call(CLAIMS_DISCLOSE, Disclose(name="bond>=10", nonce="ab" * 32))
        verdict = await verifier.call(CLAIMS_VERIFY, VerifyClaim(presentation=shown, nonce="ab" * 32))
        assert (verdict.valid, verdict.issuer, verdict.value[:6]) == (True, stage.keys[1].did, "until ")
        signed = await attested(stage, await pay_tax(stage))
        await issuer.call(REPUTATION_SUBMIT, SubmitReceipt(request_id="receipt", receipt=signed))
        await stage.until("the airdrop is paid", lambda: paid_everywhere(stage), mine=True)
        detail = await verifier.call(ac.AIRDROP_SHOW, ac.NumberAsked(number=0))
        assert {share.did for share in detail.shares} == {stage.keys[0].did, stage.keys[1].did}
        assert detail.airdrop.share_florins > 0
