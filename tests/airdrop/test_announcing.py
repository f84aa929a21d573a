"""Parameter sets in the network: told by one founder, found by everybody, taken by nobody without being judged."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from common.codec import canonical, from_json, json_bytes
from common.contracts import airdrop as ac
from common.contracts.airdrop_parameters import PARAMETERS_FIND, PARAMETERS_PUBLISH, NoNewerSet, PublishSet
from common.contracts.base import EventsSince
from common.contracts.p2p import RecordView
from common.contracts.peer_airdrop import GovernancePointer
from common.council import signed_words
from common.identity.purposes import Purpose
from common.parameter_file import SignedSet
from common.parameters import ParametersRefused, next_set, set_bytes
from common.rpc.method import Empty
from common.units import UnixMs
from tests.airdrop.conftest import Made
from tests.airdrop.world import Node, World, log_of


def signed_set(world: World, *numbers: int, **changes: Any) -> SignedSet:
    """The set after the network's own, signed by these nodes."""
    made = next_set(world.network.first_parameters, from_height=100, **(changes or {"tax_bps": 450}))
    words = set_bytes(made)
    nodes = [world.nodes[number] for number in numbers]
    signatures = [signed_words(Purpose.PARAMETERS, words, node.did, log_of(node.did), node.key) for node in nodes]
    return SignedSet(parameters=made, signatures=tuple(signatures))


async def told(node: Node, one: SignedSet, name: str = "one") -> int:
    """Tell the network of it at this node; how many keep it."""
    found = await node.ask(PARAMETERS_PUBLISH, PublishSet(request_id=name, signed=json_bytes(one)))
    return found.kept_at


def names(world: World, node: Node, data: bytes, version: int = 2) -> None:
    """A node names these bytes as a version's set, whatever they are."""
    blob = sha256(data).hexdigest()
    node.blobs[blob] = data
    pointer = canonical(GovernancePointer(blob=blob, size_bytes=len(data)))
    view = RecordView(did=node.did, key_seq=0, seq_ms=UnixMs(1), expires_ms=UnixMs(2), payload=pointer)
    world.dht.setdefault(f"parameters/{version}", {})[node.did] = view


async def test_a_set_that_the_council_has_signed_is_found_by_every_node(make: Made) -> None:
    """One founder tells of it; a node that hears of it says so once, and hands it out as it was signed."""
    world = await make()
    founder, other = world.nodes[0], world.nodes[4]
    with pytest.raises(NoNewerSet, match="after version 1"):
        await other.ask(PARAMETERS_FIND, Empty())
    one = signed_set(world, 0, 1)
    assert await told(founder, one) == len(world.nodes)
    for _ in range(2):
        await other.daemon.announcing.look()
    found = await other.ask(PARAMETERS_FIND, Empty())
    assert (found.version, found.from_height) == (2, 100)
    assert from_json(found.signed, SignedSet) == one
    kinds = [event.kind for event in (await other.ask(ac.AIRDROP_EVENTS, EventsSince())).events]
    assert kinds == ["ParametersFound"]


@pytest.mark.parametrize(
    ("numbers", "changes", "words"),
    [
        ((0,), {}, "1 of the council's 3 have signed it, 2 are needed"),
        ((0, 3, 4), {}, "1 of the council's 3 have signed it"),
        ((0, 1, 2), {"tax_bps": 100}, "quarter at once"),
    ],
)
async def test_what_may_not_hold_is_neither_told_nor_found(
    numbers: tuple[int, ...], changes: dict[str, Any], words: str, make: Made
) -> None:
    """Too few of the council, others than the council, a step too far: refused where it is told and read."""
    world = await make()
    one = signed_set(world, *numbers, **changes)
    with pytest.raises(ParametersRefused, match=words):
        await told(world.nodes[0], one)
    assert not world.dht
    names(world, world.nodes[0], json_bytes(one))
    with pytest.raises(NoNewerSet):
        await world.nodes[4].ask(PARAMETERS_FIND, Empty())


async def test_founders_are_judged_by_what_the_network_knows_of_them_now(make: Made) -> None:
    """A name that too few can tell of counts for nothing, though its signature and the log beside it are right."""
    world = await make()
    one = signed_set(world, 0, 1)
    await told(world.nodes[0], one)
    world.unconfirmed = {world.nodes[1].did}
    with pytest.raises(NoNewerSet):
        await world.nodes[4].ask(PARAMETERS_FIND, Empty())
    with pytest.raises(ParametersRefused, match="1 more by keys since replaced"):
        await told(world.nodes[0], one, "two")


async def test_pointers_of_others_hide_nothing(make: Made) -> None:
    """Junk, blobs that are not there, and a set by too few, under the same name: the founder's is read first."""
    world = await make(nodes=14)
    for node in world.nodes[3:12]:
        names(world, node, b"junk")
    names(world, world.nodes[12], json_bytes(signed_set(world, 2)))
    world.nodes[5].blobs.clear()
    with pytest.raises(NoNewerSet):
        await world.nodes[13].ask(PARAMETERS_FIND, Empty())
    await told(world.nodes[1], signed_set(world, 1, 2))
    assert (await world.nodes[13].ask(PARAMETERS_FIND, Empty())).version == 2


async def test_what_was_told_is_told_again(make: Made) -> None:
    """Records live for two days: twice a day the founder's node puts its own anew, also after a restart."""
    world = await make(durable=True)
    await told(world.nodes[0], signed_set(world, 0, 1))
    world.dht.clear()
    await world.nodes[0].daemon.announcing.look()
    assert not world.dht
    await world.nodes[0].stop()
    await world.nodes[0].start()
    world.clock.advance(13 * 3_600)
    await world.nodes[0].daemon.announcing.look()
    assert list(world.dht) == ["parameters/2"]
    assert (await world.nodes[4].ask(PARAMETERS_FIND, Empty())).version == 2
