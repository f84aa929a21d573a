"""A payment that comes after fund_by, on a real chain with real daemons: LATE_OK by both, or back to the buyer."""

from __future__ import annotations

import msgspec
import pytest

from common.chain.contract import CONTRACT_BYTES_MAX, Contract, lot_output_script
from common.codec import from_canonical
from common.contracts import escrow
from common.contracts.escrow_cases import CASE_FILE
from common.contracts.escrow_late import LATE_OK, LateOk, NoLateCoin
from common.contracts.escrow_views import ArbitersSilent, Closed, Funded, KeyRevealed, Voided
from common.contracts.wallet_chain import CHAIN_COINS, ScriptAsked
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.receipts import Outcome
from common.units import FLOP
from dux_escrowd import follower
from dux_escrowd.book import Book
from dux_escrowd.case_chain import outputs_of
from dux_escrowd.case_file import CaseFile, audited
from dux_escrowd.model import Exit, Lot, State
from tests.attacks.registry import attack
from tests.escrow.kit import Net, Node, deliver, in_state, judge, market, propose, request_id, until

POOR = ("seller", "buyer", "anna", "bert", "carl")  # the buyer's own wallet has nothing to pay with
NAMES = ("buyer", "seller", "anna", "bert", "carl")
LOT_FLORINS = 10 * FLOP + 3 * FLOP // 10


async def paid_late(net: Net, nodes: list[Node]) -> str:
    """Agreed by all, not funded in time, and then somebody pays the lot for the buyer."""
    seller, buyer, *arbiters = nodes
    contract_id = await propose(buyer, seller, arbiters, deliver_blocks=24)
    for node in nodes:
        await until(in_state(node, contract_id, "AGREED"), "agreed")
    heights = (await buyer.show(contract_id)).heights
    assert heights is not None
    await net.mine_to(heights.fund_by)
    await net.mine_until(lambda: seller.told(Voided), "nobody has paid in time", blocks=3)
    await pay(net, buyer, contract_id)
    return contract_id


async def pay(net: Net, node: Node, contract_id: str) -> None:
    """A + a to the contract's script, d deep."""
    assert node.daemon is not None
    assert node.daemon.parts.table.store is not None
    row = Book(node.daemon.parts.table.store).shelf.contract(contract_id)
    assert row is not None
    assert row.script is not None
    net.bench.pay((row.script, LOT_FLORINS))
    await net.mine(2)


@attack(
    "escrow",
    tries="two names agree on contracts without end and pay for none, so that an arbiter's node follows ever more",
    meets="of others' void contracts the newest thousand are followed; the buyer's node follows its own until T",
)
async def test_others_void_contracts_are_let_go(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here none may be followed: arbiters and seller look no more, and the buyer gets a late payment back alone."""
    monkeypatch.setattr(follower, "VOID_FOLLOWED_MAX", 0)
    async with market(net, *POOR) as nodes:
        contract_id = await paid_late(net, nodes)
        _, buyer, *_ = nodes
        others = [node for node in nodes if node is not buyer]
        await net.mine_until(lambda: not any(follows(node, contract_id) for node in others), "let go", blocks=3)
        assert follows(buyer, contract_id)
        heights = (await buyer.show(contract_id)).heights
        assert heights is not None
        await net.mine_to(heights.timeout)
        await net.mine_until(lambda: is_spent(buyer, contract_id), "taken back", blocks=8)


def follows(node: Node, contract_id: str) -> bool:
    row = node.shelf().contract(contract_id)
    return row is not None and bool(row.follow)


async def is_spent(node: Node, contract_id: str) -> bool:
    row = node.shelf().contract(contract_id)
    assert row is not None
    assert row.script is not None
    coins = (await node.wallet.call(CHAIN_COINS, ScriptAsked(script=row.script), "escrowd")).coins
    return bool(coins) and all(coin.spend is not None and coin.spend.height is not None for coin in coins)


async def test_a_late_payment_counts_when_both_have_signed_and_everybody_audits_it(net: Net) -> None:
    """The seller answers by itself, works and is paid; asking twice is asking once; every file tells the same end."""
    async with market(net, *POOR) as nodes:
        seller, buyer, *_arbiters = nodes
        contract_id = await paid_late(net, nodes)
        asked = LateOk(request_id=request_id(), contract_id=contract_id)

        async def is_asked() -> bool:
            try:
                return bool(await buyer.call(LATE_OK, asked))
            except NoLateCoin:
                return False  # the buyer's node has not looked at these blocks yet

        await until(is_asked, "the buyer's node has the late coin")
        await buyer.call(LATE_OK, asked)
        await net.mine_until(lambda: seller.told(Funded), "the late coin is the lot's", blocks=3)
        await deliver(seller, contract_id)
        await net.mine_until(lambda: buyer.told(KeyRevealed), "the buyer rests on the coin, and reads", blocks=3)
        await judge(buyer, contract_id, good=True)
        await net.mine_until(lambda: seller.told(Closed), "paid")
        settlement = (await seller.event(Closed)).settlement
        assert (settlement.outcome, settlement.gross_florins) == (Outcome.RELEASED, 10 * FLOP)
        await net.mine_until(lambda: buyer.told(Closed), "the buyer has read it, too")
        ends = [await audit_of(node, contract_id) for node in (buyer, seller)]
        assert ends[0] == ends[1]
        said = [node.lot(contract_id).late_agreed for node in nodes]
        assert set(said) == {seller.lot(contract_id).outpoint}, "arbiters know it, too, without a dispute"


async def audit_of(node: Node, contract_id: str) -> tuple[str, str]:
    """State and outcome as the contract's file gives them on any machine, held against the node's own chain."""
    file = await node.call(CASE_FILE, escrow.ContractRef(contract_id=contract_id))
    case = msgspec.json.decode(file.file, type=CaseFile)
    contract = from_canonical(case.contract, Contract, max_bytes=CONTRACT_BYTES_MAX)
    script = ScriptAsked(script=lot_output_script(contract))
    outputs = outputs_of(contract, await node.neighbours("flopd").call(CHAIN_COINS, script))
    found = audited(case, lambda _purpose, _one: True, outputs)
    assert (found.problems, found.unchecked) == ((), ())
    assert set(found.signers) <= set(case.logs), "whoever has the file can judge keys that a recovery takes out later"
    page = await node.call(escrow.AUDIT, escrow.AuditRead(after=0, limit=1))
    assert page.replayed
    return found.state, found.outcome


async def test_a_late_payment_that_nobody_asks_for_goes_back_before_t(net: Net) -> None:
    """Once it can count no more, the buyer's node asks for it and the seller's signs its cancel: K opens nothing."""
    async with market(net, *POOR) as nodes:
        seller, buyer, *_arbiters = nodes
        contract_id = await paid_late(net, nodes)
        heights = (await buyer.show(contract_id)).heights
        assert heights is not None
        await net.mine_to(heights.deliver_by)
        with pytest.raises((escrow.Refused, NoLateCoin)):
            await buyer.call(LATE_OK, LateOk(request_id=request_id(), contract_id=contract_id))
        await net.mine_until(lambda: strays(buyer, contract_id)[0].state is State.CLOSED, "back at the buyer")
        back = strays(buyer, contract_id)[0].spend
        assert back is not None
        assert back.exit is Exit.CANCEL
        assert net.height < heights.timeout
        assert not await seller.told(Funded)


async def test_a_second_payment_beside_a_live_lot_comes_back_by_the_arbiters(net: Net) -> None:
    """The seller's node keeps K to itself until it is paid; arbiters sign the stray back by chain evidence alone."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters, deliver_blocks=24)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await pay(net, buyer, contract_id)
        heights = (await buyer.show(contract_id)).heights
        assert heights is not None
        await net.mine_to(heights.deliver_by - 10)
        await net.mine_until(lambda: strays(buyer, contract_id)[0].state is State.CLOSED, "back at the buyer")
        back = strays(buyer, contract_id)[0].spend
        assert back is not None
        assert (back.exit, back.gross_florins) == (Exit.AWARD, 0)
        assert strays(seller, contract_id)[0].pushed is None
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        await judge(buyer, contract_id, good=True)
        await net.mine_until(lambda: seller.told(Closed), "paid all the same")
        assert net.height < heights.timeout
        assert (await audit_of(seller, contract_id))[0] == "CLOSED"
        assert (await audit_of(arbiters[0], contract_id))[0] == "CLOSED"


async def test_a_seller_without_arbiters_at_start_stops_and_both_sign_anew(net: Net) -> None:
    """Two of three vanish before START: the seller is told and gives all back; the next contract has others."""
    async with market(net, *NAMES, "dora", "emil") as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters[:3])
        await until(in_state(seller, contract_id, "AGREED", "FUNDED_SEEN"), "agreed")
        await until(in_state(buyer, contract_id, "AGREED", "FUNDED_SEEN"), "the last word has arrived")
        arbiters[0].off = arbiters[1].off = True
        await net.mine_until(lambda: seller.told(ArbitersSilent), "the seller is told", blocks=10)
        stop = escrow.Cancel(request_id=request_id(), contract_id=contract_id)
        await seller.call(escrow.CANCEL, stop)
        await net.mine_until(lambda: buyer.told(Closed), "everything is back")
        assert (await buyer.event(Closed)).settlement.gross_florins == 0
        again = await propose(buyer, seller, arbiters[2:], job=b"\x94job", job_hash=job_hash_of(b"\x94job"))
        await net.mine_until(in_state(seller, again, "FUNDED"), "signed anew, with arbiters who are there", blocks=15)


def job_hash_of(job: bytes) -> bytes:
    """As the contract names it."""
    return bytes(tagged_hash(Purpose.JOB, job))


def strays(node: Node, contract_id: str) -> list[Lot]:
    """What stands beside the lot in this node's book."""
    assert node.daemon is not None
    assert node.daemon.parts.table.store is not None
    return Book(node.daemon.parts.table.store).shelf.lots(contract_id)[1:]
