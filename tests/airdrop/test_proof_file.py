"""The public proof file: it holds for a machine without a node, and every lie planted in it has its words."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestServer

from common.chain.tx import parse
from common.chain.wire import shown
from common.codec import canonical, from_canonical, json_bytes
from common.contracts import airdrop_fund as af
from common.contracts.airdrop import PROOF_BYTES_MAX
from common.errors import NotFound
from common.identity.purposes import Purpose
from common.network import save_profile
from common.parameters import SweepParameters
from common.receipts import Outcome, opened_receipt
from common.units import FLOP, Florins
from dux_airdropd.evidence_rules import in_order
from dux_airdropd.file_chain import FileChain, Scan, node_problems
from dux_airdropd.file_model import FILE_BYTES_MAX, FundFile
from dux_airdropd.file_rules import Verdict, check_file, check_spend
from dux_airdropd.model import Carried, Item, Kind, Owed, Proof, SweepProof
from dux_cli.command import run_main
from dux_cli.main import duxnet
from dux_sim.chain.server import RpcServer
from tests.airdrop.conftest import Made
from tests.airdrop.world import World, did_of
from tests.attacks.registry import attack


async def airdrop_file(world: World, number: int = 0) -> bytes:
    return (await world.nodes[0].ask(af.AIRDROP_FILE, af.AirdropFileAsked(number=number))).file


def checked(file: bytes, **more: Any) -> Verdict:
    return check_file(file, kind=more.pop("kind", "airdrop"), **more)


def opened(file: bytes) -> tuple[FundFile, Proof]:
    found = from_canonical(file, FundFile, max_bytes=FILE_BYTES_MAX)
    return found, from_canonical(found.proof, Proof, max_bytes=PROOF_BYTES_MAX)


def lied(file: bytes, **changes: Any) -> bytes:
    """The file with other words in the proof's proposal, or (named `file_…`, `proof_…`) elsewhere."""
    found, proof = opened(file)
    outer = {key.removeprefix("file_"): value for key, value in changes.items() if key.startswith("file_")}
    middle = {key.removeprefix("proof_"): value for key, value in changes.items() if key.startswith("proof_")}
    inner = {key: value for key, value in changes.items() if not key.startswith(("file_", "proof_"))}
    proposal = msgspec.structs.replace(proof.proposal, **inner)
    told = msgspec.structs.replace(proof, proposal=proposal, **middle)
    return canonical(msgspec.structs.replace(found, **({"proof": canonical(told)} | outer)))


@attack(
    "payment",
    tries="a stranger's payment in the airdrop's evidence, by two names and with the lowest contract id",
    meets="the owners' keys stand in the script that it spends: they are paid, and the file shows it",
)
async def test_the_keys_of_the_spent_script_decide_who_is_paid(make: Made) -> None:
    """Custodians and whoever verifies the file come to the same: the owners, not the two who named their payment."""
    world = await make()
    world.announce(*range(5))
    world.trade_by_contract(0, 1, thieves=(2, 3), gross=20 * FLOP)
    await world.run(12)
    assert [world.paid(number) > 0 for number in range(5)] == [True, True, False, False, False]
    file = await airdrop_file(world)
    verdict = checked(file, trusted=world.network)
    assert (verdict.problems, verdict.nodes) == ([], 2)
    _, proof = opened(file)
    told = next(item for item in proof.proposal.items if item.kind is Kind.RECEIPT and _told_by(item) == did_of(1))
    lie = msgspec.structs.replace(opened_receipt(told.data)[1], outcome=Outcome.AWARDED)
    signed = world.attest(world.nodes[1], Purpose.SETTLED_RECEIPT, lie)
    items = [Item(Kind.RECEIPT, signed) if item == told else item for item in proof.proposal.items]
    problems = checked(lied(file, items=in_order(items)), trusted=world.network).problems
    assert any("by buyer and seller together: that is released or cancelled, not awarded" in one for one in problems)


def _told_by(item: Item) -> str:
    return opened_receipt(item.data)[1].signer


@attack(
    "payment",
    tries="an award in the airdrop's evidence, told as a release by both parties under their keys, and by strangers",
    meets="the branch by which its lot was taken: nobody's receipt of it counts",
)
async def test_an_award_told_as_a_release_is_no_evidence(make: Made) -> None:
    """Custodians leave it out, the honest job beside it is paid for, and the file holds."""
    world = await make()
    world.announce(*range(5))
    world.trade(3, 4)
    world.trade_by_contract(0, 1, thieves=(2, 0), gross=20 * FLOP, awarded=True)
    await world.run(12)
    assert [world.paid(number) > 0 for number in range(5)] == [False, False, False, True, True]
    verdict = checked(await airdrop_file(world), trusted=world.network)
    assert (verdict.problems, verdict.nodes) == ([], 2)


async def test_a_file_of_an_airdrop_holds_and_every_lie_in_it_is_found(make: Made) -> None:
    """Recomputed without any node; each change of each part is told by its own words."""
    world = await make()
    world.announce(*range(5))
    world.trade(0, 1)
    world.trade(2, 3)
    await world.run(12)
    file = await airdrop_file(world)
    verdict = checked(file, trusted=world.network)
    assert verdict.problems == []
    assert any("event logs are the file's own" in note for note in verdict.notes)
    assert all("event logs" in note for note in verdict.notes)
    assert all("stands in another chain" in note for note in verdict.chain_notes)
    assert (verdict.nodes, verdict.paid_florins) == (4, sum(world.paid(n) for n in range(4)))
    assert verdict.spent_florins == verdict.paid_florins + verdict.fee_florins
    found, proof = opened(file)
    told, payout = proof.proposal, proof.proposal.payout
    change = msgspec.structs.replace
    one, other, *rest = payout.outputs
    shifted = (
        change(one, value_florins=Florins(one.value_florins + 1)),
        change(other, value_florins=Florins(other.value_florins - 1)),
        *rest,
    )
    item = told.items[0]
    wrong_item = msgspec.structs.replace(item, data=item.data[:-1] + bytes([item.data[-1] ^ 1]))
    tx = next(one for one in found.txs if one.height == proof.paid_height)
    others = tuple(one for one in found.txs if one != tx)
    lies: list[tuple[dict[str, Any], str]] = [
        ({"items": told.items[1:]}, "not what its evidence gives"),
        ({"items": in_order([wrong_item, *told.items[1:]])}, "does not verify"),
        ({"items": told.items[::-1]}, "out of order"),
        ({"payout": msgspec.structs.replace(payout, outputs=shifted)}, "not this payout"),
        ({"ledger": (Owed(did_of(1), Florins(5)),)}, "names no airdrop before it"),
        ({"carried": Carried((did_of(1),), (), strict=False, bound=0)}, "names no airdrop before it"),
        ({"beacon": b"\x01" * 32}, "draws nothing"),
        ({"cutoff_height": told.cutoff_height - 1}, "cut-off block is not"),
        ({"cutoff_hash": "0c" * 32}, "cut-off block is not"),
        ({"parameters": 2}, "parameter set 1 held"),
        ({"network": "0c" * 32}, "another network"),
        ({"from_height": 1}, "names no airdrop before it"),
        ({"number": 3}, "not what its evidence gives"),
        ({"proof_paid_height": proof.paid_height + 1}, "not in the block that it names"),
        ({"proof_txid": "ab" * 32}, "not in the block that it names"),
        ({"file_form": 2}, "form 2"),
        ({"file_kind": "sweep"}, "about a sweep"),
        ({"file_logs": found.logs[1:]}, "event log is missing"),
        ({"file_logs": (b"\x00", *found.logs)}, "event log does not verify"),
        ({"file_txs": others}, "not in the block that it names"),
        ({"file_txs": (msgspec.structs.replace(tx, height=tx.height - 1), *others)}, "is not in block"),
        ({"file_txs": (msgspec.structs.replace(tx, height=10**6), *others)}, "there is no header"),
        ({"file_txs": (msgspec.structs.replace(tx, raw=tx.raw[:-1]), *others)}, "cannot be read"),
        ({"file_txs": (msgspec.structs.replace(tx, index=64), *others)}, "two ways"),
        ({"file_headers": found.headers[:-160]}, "deep enough"),
        ({"file_headers": found.headers[80:]}, "first block"),
        ({"file_headers": found.headers[:-1]}, "cut off"),
        ({"file_headers": found.headers[:160] + found.headers[240:]}, "does not follow"),
        ({"file_profile": b"{}"}, "is no proof file"),
        ({"file_profile": found.profile.replace(b'"tax_bps":500', b'"tax_bps":501')}, "not the one you trust"),
        ({"file_sets": b"[1]"}, "is no proof file"),
    ]  # fmt: skip
    for changes, words in lies:
        told_problems = checked(lied(file, **changes), trusted=world.network)
        assert any(words in problem for problem in told_problems.problems), (changes.keys(), told_problems.problems)
    assert checked(b"\x00").problems
    assert any("compare them" in note for note in checked(file).notes)


async def test_lies_about_parameters_places_and_draws_are_found(make: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets that are not the profile's, a payment out of its time, a draw of another rule, a payment too few signed."""
    world = await make()
    world.announce(*range(5))
    world.trade(0, 1)
    world.trade(2, 3)
    await world.run(12)
    file = await airdrop_file(world)
    found, proof = opened(file)
    told, first = proof.proposal, world.network.first_parameters
    bonded = found.profile.replace(b'"rule":"full"', b'"rule":"bonded"')
    assert bonded != found.profile
    empty = msgspec.structs.replace(told.items[0], data=b"")
    lies: list[tuple[dict[str, Any], str]] = [
        ({"file_profile": found.profile.replace(b'"tax_bps":500', b'"tax_bps":99999')}, "is no proof file"),
        ({"file_sets": json_bytes((msgspec.structs.replace(first, version=2),))}, "parameter set"),
        ({"file_sets": json_bytes((first,))}, "parameter sets are not those you trust"),
        ({"proof_paid_height": told.cutoff_height}, "was not paid between"),
        ({"file_profile": bonded, "from_height": told.cutoff_height - 1}, "too soon"),
        ({"items": ()}, "nobody"),
        ({"items": in_order([empty, *told.items[1:]])}, "truncated"),
    ]
    for changes, words in lies:
        problems = checked(lied(file, **changes), trusted=world.network).problems
        assert any(words in problem for problem in problems), (changes.keys(), problems)
    later = lied(file, file_headers=found.headers[80:], file_headers_from=1)
    assert any("begin at height 1" in note for note in checked(later).chain_notes)
    of_bonded = lied(file, file_profile=bonded)
    monkeypatch.setattr(FileChain, "beacon", lambda _self, _height: None)
    assert any("taken on trust" in note for note in checked(of_bonded).notes)
    monkeypatch.setattr(FileChain, "beacon", lambda _self, _height: b"\x01" * 32)
    assert "its draw is not the beacon of its cut-off" in checked(of_bonded).problems
    assert "its draw is not the beacon of its cut-off" not in checked(lied(of_bonded, beacon=b"\x01" * 32)).problems


async def test_a_payment_that_too_few_signed_is_found(make: Made) -> None:
    """As the chain would judge it; a chain that took it all the same proves nothing to a reader of the file."""
    world = await make()
    world.announce(*range(5))
    world.trade(0, 1)
    world.trade(2, 3)
    await world.run(12)
    file = await airdrop_file(world)
    chain, (_, proof) = checked(file).chain, opened(file)
    assert chain is not None
    tx, coins = chain.txs[proof.txid][1], {coin.outpoint: coin for coin in chain.coins(world.fund_script)}
    unsigned = msgspec.structs.replace(
        tx, inputs=tuple(msgspec.structs.replace(one, script_sig=b"\x00") for one in tx.inputs)
    )
    for given, known, words in (
        (tx, coins, []),
        (unsigned, coins, ["too few custodians have signed its payment"]),
        (tx, {}, ["it spends a coin that the file does not show"]),
    ):
        verdict = Verdict(problems=[], notes=[])
        check_spend(given, proof.proposal.payout, known, world.fund_script, verdict)
        assert [problem.partition(":")[0] for problem in verdict.problems] == words


async def test_an_unsigned_payment_and_a_header_without_work_are_found(make: Made) -> None:
    """Signatures of custodians are judged as the chain does; a header is worth its work."""
    world = await make(nodes=5)
    world.announce(*range(5))
    world.trade(0, 1)
    world.trade(2, 3)
    await world.run(12)
    file = await airdrop_file(world)
    found, proof = opened(file)
    chain = checked(file).chain
    assert chain is not None
    coins = chain.coins(world.fund_script)
    hashes = {height: chain.block_hash(height) for height in range(chain.top + 1)}
    assert node_problems(chain, hashes, coins, coins, proof.proposal.cutoff_height) == []
    assert "leaves out" in node_problems(chain, hashes, coins, coins[1:], proof.proposal.cutoff_height)[0]
    assert "makes up" in node_problems(chain, hashes, coins[1:], coins, proof.proposal.cutoff_height)[0]
    assert "another one" in node_problems(chain, hashes | {3: "0c"}, coins, coins, 9)[0]
    at = len(found.headers) - 80
    last = bytearray(found.headers[at:])
    for nonce in range(256):
        last[-1] = nonce
        verdict = checked(lied(file, file_headers=found.headers[:at] + bytes(last)))
        if verdict.problems:
            assert "has no work" in verdict.problems[0]
            return
    pytest.fail("every nonce has work")


async def test_a_chain_of_files_hands_on_what_it_carries(make: Made) -> None:
    """The second airdrop starts from what the first left: told by its file, and by nothing else."""
    world = await make(nodes=5, carry_below_florins=Florins(9 * FLOP), fund=99 * FLOP)
    world.announce(*range(5))
    world.trade(0, 1)
    world.trade(2, 3)
    await world.run(12)
    world.announce(*range(5))
    for buyer in range(4):
        world.trade(buyer, (buyer + 1) % 4, 500 * FLOP)
    await world.run(12)
    first, second = await airdrop_file(world, 0), await airdrop_file(world, 1)
    outcome = checked(first, trusted=world.network).outcome
    assert outcome is not None
    verdict = checked(second, trusted=world.network, before=outcome)
    assert verdict.problems == []
    assert any("--before" in note for note in checked(second, trusted=world.network).notes)
    other = msgspec.structs.replace(outcome, ledger={did_of(1): 5})
    assert "not what the airdrop before left" in checked(second, before=other).problems[0]
    other = msgspec.structs.replace(outcome, proof_hash=b"")
    assert "not the one that it names" in checked(second, before=other).problems[0]
    other = msgspec.structs.replace(outcome, cutoff_height=3)
    assert "does not count from" in checked(second, before=other).problems[0]


async def test_a_file_of_a_sweep_holds_and_its_lies_are_found(make: Made) -> None:
    """The sweep's coins, its place, its signatures, its script."""
    sweep = SweepParameters(every_blocks=4, least_florins=Florins(FLOP))
    world = await make(nodes=4, custodians=3, collector=(2, 3), fund=FLOP, sweep=sweep)
    world.pay_fund(3 * FLOP)
    await world.run(9)
    (view,) = (await world.nodes[0].ask(af.FUND_SWEEPS, af.SweepsAsked())).sweeps
    file = (await world.nodes[0].ask(af.SWEEP_FILE, af.SweepAsked(sweep_id=view.sweep_id))).file
    verdict = checked(file, kind="sweep", trusted=world.network)
    assert verdict.problems == []
    assert (verdict.spent_florins, verdict.fee_florins) == (3 * FLOP, int(view.fee_florins))
    found = from_canonical(file, FundFile, max_bytes=FILE_BYTES_MAX)
    proof = from_canonical(found.proof, SweepProof, max_bytes=PROOF_BYTES_MAX)
    coin = proof.coins[0]
    lies: list[tuple[dict[str, Any], str]] = [
        ({"needed": 1}, "no collector"),
        ({"block_hash": "0c" * 32}, "period's block"),
        ({"coins": (msgspec.structs.replace(coin, value_florins=Florins(4 * FLOP)),)}, "not on the chain as it says"),
        ({"coins": (msgspec.structs.replace(coin, height=2),)}, "not on the chain as it says"),
        ({"txid": "ab" * 32}, "not in the block"),
        ({"mined_height": 1}, "not in the block"),
        ({"network": "0c" * 32}, "another network"),
        ({"payout": msgspec.structs.replace(proof.payout, purpose="x")}, "not what its coins give"),
    ]
    for changes, words in lies:
        changed = canonical(msgspec.structs.replace(found, proof=canonical(msgspec.structs.replace(proof, **changes))))
        problems = checked(changed, kind="sweep", trusted=world.network).problems
        assert any(words in problem for problem in problems), (changes.keys(), problems)
    with pytest.raises(NotFound):
        await world.nodes[0].ask(af.SWEEP_FILE, af.SweepAsked(sweep_id="ab" * 32))


async def test_the_command_checks_files_without_a_node(
    make: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`duxnet verify airdrop|sweep FILE`: exit code 0 and the figures, or 1 and the lie; what is on trust is told."""
    sweep = SweepParameters(every_blocks=4, least_florins=Florins(FLOP))
    world = await make(collector=(2, 3), fund=95 * FLOP, sweep=sweep)
    world.announce(*range(5))
    world.trade(0, 1, 60 * FLOP)
    world.trade(2, 3, 60 * FLOP)
    await world.run(20)
    (view,) = (await world.nodes[0].ask(af.FUND_SWEEPS, af.SweepsAsked())).sweeps
    files = {
        "airdrop": await airdrop_file(world),
        "sweep": (await world.nodes[0].ask(af.SWEEP_FILE, af.SweepAsked(sweep_id=view.sweep_id))).file,
    }
    profile = tmp_path / "network.yaml"
    save_profile(world.network, profile)
    for kind, data in files.items():
        file, forged = tmp_path / f"{kind}.proof", tmp_path / f"{kind}.forged"
        file.write_bytes(data)
        forged.write_bytes(data[:-1])
        words = ["verify", kind, str(file), "--profile", str(profile), "--json"]
        assert await asyncio.to_thread(run_main, duxnet, words) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["holds"], told["problems"]) == (True, [])
        assert any("left out" in note for note in told["notes"])
        with pytest.raises(SystemExit, match="1"):
            await asyncio.to_thread(run_main, duxnet, ["verify", kind, str(forged)])
        assert "is no proof file" in capsys.readouterr().out
        other = "sweep" if kind == "airdrop" else "airdrop"
        with pytest.raises(SystemExit, match="1"):
            await asyncio.to_thread(run_main, duxnet, ["verify", other, str(file)])
        assert f"about a {kind}" in capsys.readouterr().out


async def test_a_scan_of_all_blocks_finds_every_coin(make: Made) -> None:
    """What a coin node's blocks show on the fund's script is what the file tells, spends included."""
    world = await make()
    world.announce(*range(5))
    world.trade(0, 1)
    world.trade(2, 3)
    await world.run(12)
    chain = checked(await airdrop_file(world)).chain
    assert chain is not None
    scan = Scan(world.fund_script)
    for height, entry in enumerate(world.chain.chain.active):
        scan.take(height, [(shown(tx.txid), parse(tx.raw)) for tx in entry.block.txs])
    by_point = {coin.outpoint: coin for coin in chain.coins(world.fund_script)}
    assert {coin.outpoint: coin for coin in scan.coins()} == by_point
    assert all(coin.spent_height for coin in scan.coins())


async def test_a_coin_node_answers_what_a_file_cannot(
    make: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `--coin-node` every block is read: the same chain holds, one block more or another chain is told."""
    world, other = await make(), await make(fund=98 * FLOP)
    world.announce(*range(5))
    world.trade(0, 1)
    world.trade(2, 3)
    await world.run(12)
    other.chain.mine(b"\x51")
    file, profile, login = (tmp_path / name for name in ("a.proof", "network.yaml", "rpc.auth"))
    file.write_bytes(await airdrop_file(world))
    save_profile(world.network, profile)
    login.write_text("user:word\n")
    for chain, holds in ((world.chain, True), (other.chain, False)):
        server = TestServer(RpcServer(chain, "user:word").app())
        await server.start_server()
        words = ["verify", "airdrop", str(file), "--profile", str(profile), "--coin-node", str(server.make_url("/"))]
        words += ["--login", str(login), "--json"]
        if holds:
            assert await asyncio.to_thread(run_main, duxnet, words) == 0
        else:
            with pytest.raises(SystemExit, match="1"):
                await asyncio.to_thread(run_main, duxnet, words)
        told = json.loads(capsys.readouterr().out)
        assert told["holds"] == holds
        assert holds or "block" in told["problems"][-1]
        assert not any("--coin-node" in note for note in told["notes"]), "it was asked: nothing of that is on trust"
        await server.close()
