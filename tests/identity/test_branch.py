"""Laws of key derivation and of the operational branch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.identity.branch import decode_branch, did_of_branch, encode_branch, inception_of, make_branch
from common.identity.did import did_of, node_id_of
from common.identity.events import event_id
from common.identity.keys import SigningKey
from common.identity.log import read_log
from common.identity.purposes import Purpose
from common.identity.slip10 import master
from common.identity.tagged import tagged_hash

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "identity.json").read_text())
SEED = bytes(range(64))


@pytest.mark.parametrize("vector", VECTORS["slip10"], ids=lambda v: v["path"])
def test_derivation_follows_slip_0010(vector: dict[str, str]) -> None:
    """The published Ed25519 vectors of SLIP-0010 come out."""
    node = master(bytes.fromhex(vector["seed"]))
    for step in vector["path"].split("/")[1:]:
        node = node.child(int(step.removesuffix("'")))
    assert (node.chain_code.hex(), node.private.hex()) == (vector["chain"], vector["private"])
    assert node.signing_key().public.hex() == vector["public"]


@pytest.mark.parametrize("vector", VECTORS["tagged"], ids=lambda v: v["purpose"])
def test_tagged_hashes_and_signatures_are_as_written_down(vector: dict[str, str]) -> None:
    """Hash and signature of a body for a purpose never change: other programs rely on these bytes."""
    purpose, body = Purpose(vector["purpose"]), bytes.fromhex(vector["body"])
    assert tagged_hash(purpose, body).hex() == vector["hash"]
    assert SigningKey(bytes.fromhex(vector["seed"])).sign(purpose, body).hex() == vector["signature"]


def test_the_did_follows_from_the_branch_alone() -> None:
    """The same phrase, time and network give the same DID, before any node has started; the vector pins it."""
    wanted = VECTORS["branch"]
    branch = make_branch(bytes.fromhex(wanted["seed"]), net=1, account=0, made_ms=wanted["made_ms"], inception_bits=0)
    signed = inception_of(decode_branch(encode_branch(branch)), 0)
    assert signed.body.hex() == wanted["inception"]
    assert did_of(event_id(signed)) == did_of_branch(branch, 0) == wanted["did"]
    assert node_id_of(wanted["did"]).hex() == wanted["node_id"]


def test_a_branch_made_for_a_network_with_work_satisfies_it() -> None:
    """The nonce is found when the keys are made and is not searched again."""
    branch = make_branch(SEED, net=1, account=0, made_ms=1_790_000_000_000, inception_bits=4)
    log = read_log([inception_of(branch, 4)], now_ms=1_790_000_000_000, inception_bits=4)
    assert (log.tip.nonce, log.did) == (branch.nonce, did_of_branch(branch, 4))


def test_a_branch_never_prints_its_secret() -> None:
    """Neither the key nor the chain code shows in the text form."""
    branch = make_branch(SEED, net=1, account=0, made_ms=0, inception_bits=0)
    assert branch.private not in repr(branch)
    assert branch.chain_code not in repr(branch)
