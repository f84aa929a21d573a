"""Presence whole: registryds on a small network at the contract look at each other, and one that lies is not seen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from common.codec import canonical, from_canonical
from common.contracts import registry
from common.contracts.base import PEER_HANDLE, PeerCallIn
from common.contracts.peer_registry import (
    PRESENCE_SHOW_PEER,
    PRESENCE_TELL,
    TOPIC_PRESENCE,
    PresenceAsk,
    PresenceShown,
    SightingTaken,
    SightingTold,
)
from common.contracts.registry import ListNodes, NodeName
from common.contracts.registry_witness import PresenceAsked, PresenceView, TopologyAsked
from common.contracts.wallet_chain import CHAIN_BEACON, HeightAsked
from common.identity.ecvrf import PROOF_BYTES, prove
from common.identity.purposes import Purpose
from common.network import PresenceParameters
from common.receipts import attested, body_of
from common.rpc.client import LocalClient
from common.units import BlockHeight, UnixMs
from common.witness import SIGHTING_BYTES_MAX, Sighting, SlotEvidence, look_input
from dux_registryd.daemon import RegistryDaemon
from dux_registryd.presence_rules import SETTLED_BLOCKS
from tests.attacks.registry import attack
from tests.market.fakes import FakeNet, attest, did_number, look_seed, network, running, until
from tests.market.makers import NETWORK
from tests.market.test_registryd import gossip, register

pytestmark = pytest.mark.patient

QUICK: dict[str, Any] = {"heartbeat_s": 0.1, "check_s": 0.02, "sync_s": 60.0, "probe_s": 0.02, "probe_spread_s": 0.0}
RULES = PresenceParameters(slot_blocks=10)


@contextlib.asynccontextmanager
async def crowd(
    net: FakeNet, folder: Path, count: int, rules: PresenceParameters = RULES
) -> AsyncIterator[dict[int, LocalClient]]:
    """`count` registered nodes that know each other, each at an address of its own."""
    profile = network(presence=rules)
    async with contextlib.AsyncExitStack() as stack:
        made = {
            number: await stack.enter_async_context(
                running(net.node(number), RegistryDaemon, folder, profile=profile, **QUICK)
            )
            for number in range(1, count + 1)
        }
        for number, client in made.items():
            await client.call(registry.NODE_REGISTER, register(ip_address=f"127.1.{number}.1", region="eu"))
        for client in made.values():
            await until(lambda client=client: _heard_of(client, count))
        yield made


async def _heard_of(client: LocalClient, count: int) -> bool:
    found = await client.call(registry.NODE_LIST, ListNodes(status=registry.NodeStatus.ACTIVE))
    return found.total == count


async def shown(client: LocalClient, number: int, **asked: Any) -> PresenceView:
    return await client.call(registry.PRESENCE_SHOW, PresenceAsked(node_id=did_number(number), **asked))


async def ups(client: LocalClient, number: int) -> dict[int, int]:
    """Slots that are up, with how many saw the node."""
    return {view.slot: view.seen for view in (await shown(client, number)).slots if view.up}


@attack(
    "presence",
    tries="a node that nobody sees says of itself that it is up",
    meets="its slots are not up: uptime is what others saw",
)
async def test_nodes_see_each_other_and_a_silent_one_is_not_up(tmp_path: Path) -> None:
    """In a slot every node is seen by the others; cut off, it says what it likes and its slot is not up."""
    net = FakeNet()
    async with crowd(net, tmp_path, 4) as made:
        net.chain.height = 110
        for number, client in made.items():
            await until(lambda client=client, number=number: _seen_by(client, number, 11, 3))
        net.chain.height = 120  # the slot is over: each spreads who saw it
        await until(lambda: _seen_by(made[1], 2, 11, 3))
        await until(lambda: _up(made[2], 2, 12))
        net.node(3).cut = True
        net.chain.height = 130
        await until(lambda: _up(made[2], 2, 13))
        net.chain.height = 140
        await until(lambda: _up(made[1], 2, 12))
        await until(lambda: _up(made[1], 2, 13))
        assert max(await ups(made[1], 3), default=0) <= 12  # cut off before it could tell, it has none
        listed = (await made[1].call(registry.NODE_LIST, ListNodes())).nodes
        uptime = {view.node_id: view.witnessed_uptime or 0.0 for view in listed}
        assert uptime[did_number(3)] < uptime[did_number(2)]
        wanted = ListNodes(min_witnessed_uptime=uptime[did_number(2)])
        met = {view.node_id for view in (await made[1].call(registry.NODE_LIST, wanted)).nodes}
        assert did_number(2) in met
        assert did_number(3) not in met


async def _up(client: LocalClient, number: int, slot: int) -> bool:
    return slot in await ups(client, number)


async def test_the_evidence_is_signed_and_taken_from_the_node_itself(tmp_path: Path) -> None:
    """A node that was away asks the seen one for its sightings, checks each, and comes to the same judgement."""
    net = FakeNet()
    async with crowd(net, tmp_path, 3) as made:
        net.node(3).cut = True
        net.chain.height = 110
        await until(lambda: _up(made[2], 1, 11))
        net.chain.height = 120
        await until(lambda: _up(made[2], 1, 12))
        await until(
            lambda: _up(made[1], 2, 12)
        )  # node 1 looks already in slot 12: it has spread slot 11 to who was there
        net.node(3).cut = False
        assert not await _up(made[3], 1, 11)
        view = await shown(made[3], 1, evidence=True)
        assert {slot.slot: slot.up for slot in view.slots}[11]
        seen = [body_of(attested(data), Sighting, SIGHTING_BYTES_MAX) for data in view.evidence]
        assert (did_number(2), did_number(1), 11) in {(one.prober, one.target, one.slot) for one in seen}
        assert {one.net for one in seen} == {"127.1.1.0/24"}  # where its witnesses' connections to it end
        reputation = await made[3].call(registry.REPUTATION_GET, NodeName(node_id=did_number(1)))
        assert reputation.uptime is not None


async def test_duties_are_counted_once_per_slot(tmp_path: Path) -> None:
    """Who was drawn and looked has done its duty; who was drawn and did not has not."""
    net = FakeNet()
    async with crowd(net, tmp_path, 3) as made:
        for slot in (41, 42, 43, 44):  # a jump: the slot in which they met is counted by nobody
            net.chain.height = slot * 10
            for number in (1, 2, 3):
                await until(lambda number=number, slot=slot: _seen_by(made[number], number, slot, 2))
                if slot > 41:  # and what was seen has been spread
                    await until(lambda number=number, slot=slot: _seen_by(made[1], number, slot - 1, 2))
        net.chain.height = 450
        await until(lambda: _probing(made[1], 3))
        assert await _probing(made[1], 3) == 1.0
        await until(lambda: _seen_by(made[1], 2, 44, 2))
        net.chain.height = 460  # and a slot's duties are counted once, whatever is asked again
        await asyncio.sleep(0.1)
        assert await _probing(made[1], 3) == 1.0


async def _seen_by(client: LocalClient, number: int, slot: int, count: int) -> bool:
    return (await ups(client, number)).get(slot) == count


async def _probing(client: LocalClient, number: int) -> float | None:
    return (await shown(client, number)).probing


@attack(
    "presence",
    tries="sightings by who has not drawn itself, of another slot, in another's name, forged",
    meets="no slot is up by them, nobody passes them on",
)
async def test_false_sightings_count_for_nothing(tmp_path: Path) -> None:
    """No proof, another's, of another slot, another's name, a wrong beacon, a forged signature: not up by any."""
    net = FakeNet()
    async with crowd(net, tmp_path, 3) as made:
        target, asker = net.node(1), net.node(2)
        asker.cut = net.node(3).cut = True
        net.chain.height = 110
        await until(lambda: net.node(1).daemons["registryd"].parts.gauges["nodes_seen_by_me"]() >= 0)
        beacon = await right_beacon(net, 11)
        good = sighting_of(2, 1, 11, beacon, net.clock.unix_ms())
        cases: list[tuple[int, dict[str, Any]]] = [
            (20, {"prober": did_number(20), "proof": proof_of(20, 1, 11, beacon)}),
            (2, {"proof": bytes(PROOF_BYTES)}),
            (2, {"proof": proof_of(3, 1, 11, beacon)}),
            (2, {"proof": proof_of(2, 3, 11, beacon)}),
            (2, {"proof": proof_of(2, 1, 12, beacon)}),
            (2, {"beacon": bytes(32), "proof": proof_of(2, 1, 11, bytes(32))}),
            (2, {"slot": 12}),
            (3, {}),
        ]
        for signer, changes in cases:
            told = attest(signer, Purpose.SIGHTING, msgspec.structs.replace(good, **changes))
            bundle = SlotEvidence(target=did_number(1), slot=11, sightings=(canonical(told),))
            assert await gossip(target, TOPIC_PRESENCE.name, canonical(bundle)) in ("ignore", "reject")
        for slot in (5_000, 13):
            bundle = SlotEvidence(target=did_number(1), slot=slot, sightings=(b"junk",))
            assert await gossip(target, TOPIC_PRESENCE.name, canonical(bundle)) == "ignore"
        bundle = SlotEvidence(target=did_number(1), slot=11, sightings=(b"junk",))
        assert await gossip(target, TOPIC_PRESENCE.name, canonical(bundle)) == "reject"
        bundle = SlotEvidence(target=did_number(25), slot=11, sightings=(b"junk",))
        assert await gossip(target, TOPIC_PRESENCE.name, canonical(bundle)) == "ignore"
        forged = attest(2, Purpose.SIGHTING, msgspec.structs.replace(good, prober=did_number(3)))
        call = PeerCallIn(
            method=PRESENCE_TELL.name, params=canonical(SightingTold(signed=canonical(forged))), sender=did_number(2)
        )
        answer = await target.client("registryd", "p2pd").call(PEER_HANDLE, call)
        assert not from_canonical(answer.result, SightingTaken, max_bytes=1_000).taken
        assert 11 not in await ups(made[1], 1)
        right = SlotEvidence(target=did_number(1), slot=11, sightings=(canonical(attest(2, Purpose.SIGHTING, good)),))
        assert await gossip(target, TOPIC_PRESENCE.name, canonical(right)) == "accept"  # nothing else was wrong
        assert 11 in await ups(made[1], 1)


async def right_beacon(net: FakeNet, slot: int) -> bytes:
    found = await LocalClient(net.node(1).flopd, "registryd").call(
        CHAIN_BEACON, HeightAsked(height=BlockHeight(slot * 10 - SETTLED_BLOCKS))
    )
    return found.beacon


def proof_of(number: int, target: int, slot: int, beacon: bytes) -> bytes:
    """What node `number` draws for another in a slot."""
    return prove(look_seed(number), look_input(NETWORK, beacon, slot, did_number(target), did_number(number)))


def sighting_of(number: int, target: int, slot: int, beacon: bytes, at_ms: int) -> Sighting:
    """Node `number` has seen another, and had drawn itself to look."""
    proof = proof_of(number, target, slot, beacon)
    return Sighting(NETWORK, slot, beacon, did_number(target), did_number(number), 5, UnixMs(at_ms), "", proof)


@attack(
    "presence",
    tries="many identities of one network type addresses of different networks",
    meets="one seat: the network is what others' connections show",
)
async def test_a_typed_address_buys_no_seat(tmp_path: Path) -> None:
    """Of three nodes in one network one is drawn, whatever they say of themselves; of a fourth elsewhere as well."""
    net = FakeNet()
    for number in (3, 4, 5):
        net.node(number).host = f"127.1.9.{number}"
    async with crowd(net, tmp_path, 5) as made:
        seen_by_1 = net.node(1).daemons["registryd"].parts.gauges["nodes_seen_by_me"]
        before, net.chain.height = seen_by_1(), 110
        await until(lambda: seen_by_1() > before)  # so it has looked round with all of them there
        net.chain.height = 120
        await until(lambda: _drawn(made[1], 1, 12, 2))
        await until(lambda: _drawn(made[3], 3, 12, 2))  # and none of its own network


async def _drawn(client: LocalClient, number: int, slot: int, count: int) -> bool:
    return (slot, count) in {(view.slot, view.drawn) for view in (await shown(client, number)).slots}


@attack(
    "presence",
    tries="names made after a slot's beacon is known, so that they win its draw",
    meets="they come after all that were known an hour before",
)
async def test_a_name_made_after_the_beacon_takes_no_seat(tmp_path: Path) -> None:
    """Nobody new looks at a node while there are others, in whatever slot; once known for long enough it does."""
    net, rules = FakeNet(), PresenceParameters(slot_blocks=10, challengers=1, needed=1)
    async with crowd(net, tmp_path, 2, rules) as made, contextlib.AsyncExitStack() as stack:
        net.chain.height = 300
        for number in (3, 4, 5):
            late = await stack.enter_async_context(
                running(net.node(number), RegistryDaemon, tmp_path, profile=network(presence=rules), **QUICK)
            )
            await late.call(registry.NODE_REGISTER, register(ip_address=f"127.1.{number}.1", region="eu"))
            await until(lambda late=late, number=number: _heard_of(late, number))
        for slot in (31, 32, 33):
            net.chain.height = slot * 10
            await until(lambda slot=slot: _seen_by(made[1], 1, slot, 1))
        view = await shown(made[1], 1, evidence=True)
        seen = [body_of(attested(data), Sighting, SIGHTING_BYTES_MAX) for data in view.evidence]
        assert {one.prober for one in seen if one.slot > 30} == {did_number(2)}


@attack(
    "presence",
    tries="many names of one network sign sightings, so that an answer has no room for others'",
    meets="of each slot one of every network comes first, the newest slot before older ones",
)
async def test_what_is_shown_has_every_network_before_a_second_of_any(tmp_path: Path) -> None:
    """Two neighbours whose names sort first come before and after the one from elsewhere; for callers and for peers."""
    net = FakeNet()
    *neighbours, elsewhere = sorted((2, 3, 4), key=did_number)
    for number in neighbours:
        net.node(number).host = f"127.1.9.{number}"
    async with crowd(net, tmp_path, 4) as made:
        for slot in (11, 12):
            net.chain.height = slot * 10
            await until(lambda slot=slot: _witnesses(made[1], slot, 3))
        ask = PresenceAsk(from_slot=11, to_slot=12)
        asked = PeerCallIn(sender=did_number(2), method=PRESENCE_SHOW_PEER.name, params=canonical(ask))
        answer = await net.node(1).client("registryd", "p2pd").call(PEER_HANDLE, asked)
        peer = from_canonical(answer.result, PresenceShown, max_bytes=1_000_000)
        for evidence in ((await shown(made[1], 1, evidence=True)).evidence, peer.sightings):
            seen = [body_of(attested(data), Sighting, SIGHTING_BYTES_MAX) for data in evidence]
            assert [one.slot for one in seen[:6]] == [12] * 3 + [11] * 3
            for at in (0, 3):
                assert [one.prober for one in seen[at : at + 3]] == [
                    did_number(number) for number in (neighbours[0], elsewhere, neighbours[1])
                ]


async def _witnesses(client: LocalClient, slot: int, count: int) -> bool:
    view = await shown(client, 1, evidence=True)
    seen = [body_of(attested(data), Sighting, SIGHTING_BYTES_MAX) for data in view.evidence]
    return sum(one.slot == slot for one in seen) == count


async def test_the_picture_has_nodes_links_and_regions(tmp_path: Path) -> None:
    """Every node heard of, a measured link each way, the region's median; another region is empty."""
    net = FakeNet()
    async with crowd(net, tmp_path, 3) as made:
        net.chain.height = 110
        for number in (1, 2, 3):
            await until(lambda number=number: _seen_by(made[number], number, 11, 2))
        net.chain.height = 120
        await until(lambda: _linked(made[1], 6))
        seen = await made[1].call(registry.TOPOLOGY_SHOW, TopologyAsked(region="EU"))
        assert {node.node_id for node in seen.nodes} == {did_number(number) for number in (1, 2, 3)}
        assert [(one.one, one.other, one.links) for one in seen.regions] == [("eu", "eu", 6)]
        assert set(seen.connected) == {did_number(2), did_number(3)}
        assert [node.own for node in seen.nodes].count(True) == 1
        none = await made[1].call(registry.TOPOLOGY_SHOW, TopologyAsked(region="us"))
        assert (none.nodes, none.links, none.regions) == ((), (), ())


async def _linked(client: LocalClient, count: int) -> bool:
    return len((await client.call(registry.TOPOLOGY_SHOW, TopologyAsked())).links) == count
