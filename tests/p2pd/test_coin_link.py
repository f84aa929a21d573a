"""The coin key in the DID document: signed by both hands, seen by another node, kept through a rotation."""

from __future__ import annotations

import msgspec
import structlog

from common.chain.address import pay_to_key, script_to_address
from common.chain.params import family_named
from common.contracts.p2p import DID_RESOLVE, IDENTITY_ROTATE, Resolve, Rotate
from common.keygen import BRANCH_RECEIVE, secrets_of
from common.keys import new_phrase, seed_of
from common.randomness import SeededRandomness
from dux_flopd.coin_link import CoinLinker
from dux_flopd.keyring import Keyring
from tests.p2pd.overlay_kit import Node, network, wait_until

FAMILY = family_named("embedded")


async def document_at(node: Node, did: str, key_seq: int) -> dict[str, object] | None:
    """The DID document as this node derives it, once it knows that key and a record by it."""
    found = await node.as_caller("cli").call(DID_RESOLVE, Resolve(did=did, max_age_s=0))
    document: dict[str, object] = msgspec.json.decode(found.document)
    return document if found.key_seq == key_seq and "alsoKnownAs" in document else None


async def test_another_node_derives_the_coin_address_and_a_rotation_keeps_it() -> None:
    """Flopd signs its half once; p2pd renews its own with every key; the document is a W3C one with Multikeys."""
    keyring = Keyring("nowhere")
    keyring.open(secrets_of(seed_of(new_phrase(SeededRandomness(3))), FAMILY.coin_type, 1_790_000_000_000, 0))
    address = script_to_address(pay_to_key(keyring.public(BRANCH_RECEIVE, 0)), FAMILY)
    async with network(2) as (one, two):
        linker = CoinLinker(keyring, one.as_caller("flopd"), structlog.get_logger())
        await linker.link()
        record = one.daemon.net.keeper.record()
        await linker.link()
        assert one.daemon.net.keeper.record() == record  # the same link changes nothing
        seen = await wait_until(lambda: document_at(two, one.did, 0), "the link is known")
        assert seen["alsoKnownAs"] == [f"flopcoin:{address}"]
        await one.as_caller("cli").call(IDENTITY_ROTATE, Rotate())
        seen = await wait_until(lambda: document_at(two, one.did, 1), "the link is renewed")
        assert seen["alsoKnownAs"] == [f"flopcoin:{address}"]
        assert seen["versionId"] == "1"
        assert seen["assertionMethod"] == [f"{one.did}#k1"]
        assert [m["publicKeyMultibase"][:4] for m in seen["verificationMethod"]] == ["z6Mk", "z6Mk"]  # type: ignore[index, union-attr]
