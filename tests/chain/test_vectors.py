"""Contracts, scripts and signatures as fixed bytes: another implementation, or a later version, must give the same."""

from __future__ import annotations

import json
from pathlib import Path

from common.chain.contract import Contract, cid, lot_script, lot_value
from common.chain.settle import assemble
from common.chain.templates import Award, Cancel, Refund, Release, Side, Template, build
from common.chain.tx import serialize, txid
from common.codec import canonical, from_canonical
from common.units import FLOP, Florins
from tests.chain.contract_kit import OUTPOINT, make_contract

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "contract.json").read_text())
WAYS: dict[str, Template] = {
    "release": Release(Florins(10 * FLOP)),
    "cancel": Cancel(),
    "award": Award(Florins(4 * FLOP), Side.SELLER, (0, 2)),
    "refund": Refund(),
}


def made(*, locked: bool) -> dict[str, object]:
    """What the vectors hold, computed."""
    kit = make_contract(locked=locked, start=985_000, network="11" * 32)
    spends = {}
    for name, template in WAYS.items():
        tx = build(kit.contract, OUTPOINT, int(lot_value(kit.contract)), template)
        signatures = kit.sign(tx, "buyer", "seller", *kit.arbiter_names)
        full = assemble(kit.contract, template, tx, signatures, kit.preimage)
        spends[name] = {"txid": txid(full), "raw": serialize(full).hex()}
    return {
        "canonical": canonical(kit.contract).hex(),
        "cid": cid(kit.contract).hex(),
        "script": lot_script(kit.contract).hex(),
        "spends": spends,
    }


def test_contract_vectors() -> None:
    """Canonical bytes, id, script and all four spends of an E+h and an E contract are those of the file."""
    assert {"E+h": made(locked=True), "E": made(locked=False)} == VECTORS


def test_the_vectors_decode() -> None:
    """The canonical bytes of the file are contracts with the id of the file."""
    for vector in VECTORS.values():
        contract = from_canonical(bytes.fromhex(vector["canonical"]), Contract, max_bytes=4096)
        assert cid(contract).hex() == vector["cid"]
