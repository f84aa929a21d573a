"""Fidelity bonds as evidence: what counts, for whom, until when, and what may be attested of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from common.chain.bond import Bond, BondProof, bond_digest, bond_output_script
from common.chain.tx import Outpoint, TxOutput
from common.codec import canonical
from common.contracts import registry
from common.contracts.registry import ListNodes, NodeName
from common.contracts.registry_claims import AttestMe, Disclose, VerifyClaim
from common.contracts.wallet_bonds import BondCoin, BondView
from common.identity.purposes import Purpose
from common.rpc.client import LocalClient
from common.standing import BondTold, Kind, Note
from common.units import FLOP, BlockHeight, Did, Florins, UnixMs
from dux_registryd.bond_rules import (
    Locked,
    bond_properties,
    counted,
    florins_locked,
    height_fault,
    output_fault,
    place_of,
)
from dux_registryd.bonds import DEEP_BLOCKS
from dux_registryd.daemon import RegistryDaemon
from tests.attacks.registry import attack
from tests.chain.contract_kit import public_key, sign_digest
from tests.market.fakes import FakeNet, attest, did_number, running, until
from tests.market.makers import NETWORK, NOW_MS, changed, did
from tests.market.test_registryd import QUICK, register

OWNER, POINT, UNTIL = public_key("bond"), Outpoint("ab" * 32, 1), 500
SCRIPT = bond_output_script(OWNER, UNTIL)
OUTPUTS = [TxOutput(Florins(1), b"\x51"), TxOutput(Florins(150 * FLOP), SCRIPT)]
A, B = did("a"), did("b")


def proof_for(whose: Did, until_height: int = UNTIL, *, key: str = "bond", network: str = NETWORK) -> bytes:
    bond = Bond(network, whose, OWNER, until_height, POINT)
    return canonical(BondProof(bond, sign_digest(key, bond_digest(bond))))


def told(whose: Did = A, **changes: Any) -> BondTold:
    plain = BondTold(
        network=NETWORK,
        did=whose,
        proof=proof_for(whose),
        value_florins=Florins(150 * FLOP),
        height=BlockHeight(90),
        block_hash="cd" * 32,
        at_ms=UnixMs(NOW_MS),
    )
    found: BondTold = changed(plain, **changes)
    return found


@pytest.mark.parametrize(
    ("tip", "fault"),
    [(90, "not deep enough"), (94, "not deep enough"), (95, None), (499, None), (500, "locks nothing")],
)
def test_a_bond_counts_from_its_depth_to_its_height(tip: int, fault: str | None) -> None:
    """Six deep, and not a block longer than it is locked."""
    found = height_fault(told(), tip=tip, depth=6)
    assert (found is None) if fault is None else fault in str(found)


@pytest.mark.parametrize(
    ("statement", "outputs", "fault"),
    [
        (told(), OUTPUTS, None),
        (told(), OUTPUTS[:1], "does not show it"),
        (told(value_florins=Florins(151 * FLOP)), OUTPUTS, "another sum"),
        (told(did=B), OUTPUTS, "another node"),
        (told(proof=proof_for(A, key="other")), OUTPUTS, "signature is wrong"),
        (told(proof=proof_for(A, UNTIL + 1)), OUTPUTS, "another script"),
        (told(proof=proof_for(A, network="ef" * 32)), OUTPUTS, "another network"),
    ],
)
def test_the_chain_shows_it_or_it_is_none(statement: BondTold, outputs: list[TxOutput], fault: str | None) -> None:
    """Sum, script, name, network and the bond key's own signature, each alone."""
    found = output_fault(statement, outputs)
    assert (found is None) if fault is None else fault in str(found)


@attack("registry", tries="one bond claimed for two names", meets="counts for neither")
def test_what_two_nodes_claim_is_neither_s() -> None:
    """One output with proofs for two names counts for nobody, in any order; told again by one node it counts once."""
    mine, other = Locked("x:0", A, 500, 7), Locked("y:0", A, 600, 5)
    assert counted([mine, other, mine]) == {A: (other, mine)}
    stolen = Locked("x:0", B, 500, 7)
    for claims in ([mine, stolen, other], [stolen, other, mine]):
        assert counted(claims) == {A: (other,)}
    assert [florins_locked(counted([mine, other])[A], tip) for tip in (499, 500, 600)] == [12, 5, 0]


def test_steps_are_attested_with_the_height_until_which_they_hold() -> None:
    """150 FLOP until 500 and 20 until 600: 100 and more until 500 only, 10 and more until 600; two steps are shown."""
    bonds = counted([Locked("x:0", A, 500, 150 * FLOP), Locked("y:0", A, 600, 20 * FLOP)])[A]
    assert bond_properties(bonds, 100) == [("bond>=10", "until 600"), ("bond>=100", "until 500")]
    assert bond_properties(bonds, 500) == [("bond>=1", "until 600"), ("bond>=10", "until 600")]
    assert bond_properties(bonds, 600) == []
    assert bond_properties((Locked("x:0", A, 500, FLOP - 1),), 100) == []


def test_a_bond_mined_again_is_told_again() -> None:
    """After a reorganisation the same output stands in another block: another place, no contradiction."""
    assert place_of(told()) != place_of(told(block_hash="ce" * 32))
    assert place_of(told()) == place_of(told(at_ms=UnixMs(NOW_MS + 1)))


@contextlib.asynccontextmanager
async def bonded(net: FakeNet, folder: Path, height: int = 90) -> AsyncIterator[dict[int, LocalClient]]:
    """Three registered nodes; the wallet of the first has a registered bond, mined at `height`."""
    coin = BondCoin(POINT, Florins(150 * FLOP), BlockHeight(height), proof_for(did_number(1)))
    secret = BondCoin(Outpoint("dd" * 32, 0), Florins(900 * FLOP), BlockHeight(90), b"")
    net.node(1).bonds = [BondView(50, "", BlockHeight(UNTIL), Florins(0), registered=True, coins=[coin, secret])]
    net.chain.txs[POINT.txid] = (height, OUTPUTS)
    quick = QUICK | {"benchmark": False, "probe_s": 60.0, "check_s": 0.05, "sync_s": 0.2}
    async with contextlib.AsyncExitStack() as stack:
        made = {}
        for number in (1, 2, 3):
            made[number] = await stack.enter_async_context(running(net.node(number), RegistryDaemon, folder, **quick))
            await made[number].call(registry.NODE_REGISTER, register())
        yield made


async def florins(client: LocalClient, number: int = 1) -> int:
    view = await client.call(registry.NODE_SHOW, NodeName(node_id=did_number(number)))
    return int(view.bonded_florins)


async def test_a_registered_bond_shows_in_every_registry_and_is_attested(tmp_path: Path) -> None:
    """Told by gossip, checked by each node, listed by its sum; a verifier sees the step and its height, not the sum."""
    net = FakeNet()
    async with bonded(net, tmp_path) as made:
        await until(lambda: _is(made[2], 150 * FLOP))
        await until(lambda: _is(made[3], 150 * FLOP))
        for least, total in ((150 * FLOP, 1), (150 * FLOP + 1, 0)):
            found = await made[3].call(registry.NODE_LIST, ListNodes(min_bond_florins=Florins(least)))
            assert found.total == total
        held = await made[1].call(registry.CLAIMS_ATTEST, AttestMe(request_id="a", peer=did_number(2)))
        assert {"bond>=10", "bond>=100"} <= set(held.names)
        assert "bond>=1000" not in held.names, "what is not registered in the wallet is told to nobody"
        shown = await made[1].call(registry.CLAIMS_DISCLOSE, Disclose(name="bond>=100", nonce="ab" * 32))
        verdict = await made[3].call(registry.CLAIMS_VERIFY, VerifyClaim(presentation=shown, nonce="ab" * 32))
        assert (verdict.valid, verdict.name, verdict.value) == (True, "bond>=100", f"until {UNTIL}")
        assert str(150 * FLOP).encode() not in shown.shown + shown.root
        net.chain.height = UNTIL
        await until(lambda: _is(made[2], 0))
        held = await made[1].call(registry.CLAIMS_ATTEST, AttestMe(request_id="b", peer=did_number(2)))
        assert not [name for name in held.names if name.startswith("bond")]


async def test_a_bond_of_another_branch_counts_no_more(tmp_path: Path) -> None:
    """Its block goes: nobody counts it; mined again it is told again by its new block."""
    net = FakeNet()
    net.chain.height = 103
    async with bonded(net, tmp_path, height=96) as made:
        await until(lambda: _is(made[2], 150 * FLOP))
        net.chain.branch, net.chain.height = 1, 96
        await until(lambda: _is(made[2], 0))
        net.chain.height = 104
        await until(lambda: _is(made[2], 150 * FLOP))
        net.chain.height = 96 + DEEP_BLOCKS + 1
        await until(lambda: _is(made[2], 150 * FLOP))


@attack("registry", tries="registers another's bond", meets="refused with its reason")
async def test_somebody_else_s_bond_is_refused_with_its_reason(tmp_path: Path) -> None:
    """A proof that names another node, and one signed over to two names."""
    net = FakeNet()
    async with bonded(net, tmp_path) as made:
        await until(lambda: _is(made[3], 150 * FLOP))
        statements = _statements(net, 3)
        block_hash = net.chain.hash_at(90)
        forged = told(did_number(2), proof=proof_for(did_number(1)), block_hash=block_hash)
        taken = await statements.take(_note(2, forged), tell=False)
        assert "another node" in taken.reason
        twice = told(did_number(2), block_hash=block_hash)
        assert (await statements.take(_note(2, twice), tell=False)).word == "accept"
        await until(lambda: _is(made[3], 0))
        away = told(did_number(2), block_hash="77" * 32)
        assert "another block" in (await statements.take(_note(2, away), tell=False)).reason
        net.chain.up = False
        later = told(did_number(2), height=BlockHeight(80), block_hash=net.chain.hash_at(80))
        assert "not there yet" in (await statements.take(_note(2, later), tell=False)).reason


def _note(number: int, statement: BondTold) -> Note:
    now = msgspec.structs.replace(statement, at_ms=UnixMs(NOW_MS))
    return Note(kind=Kind.BOND, body=canonical(attest(number, Purpose.BOND_TOLD, now)))


def _statements(net: FakeNet, number: int) -> Any:
    daemon: Any = net.node(number).daemons["registryd"]
    return daemon.bonds._statements


async def _is(client: LocalClient, wanted: int) -> bool:
    return await florins(client) == wanted
