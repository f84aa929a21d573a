"""Several real p2pds on real sockets: joining, resolving, calling, records, gossip, loss."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from common.codec import canonical
from common.contracts import p2p
from common.contracts.p2p_errors import (
    NoPeerMethod,
    NotYourPurpose,
    NotYourTopic,
    PeerAnswered,
    PeerBusy,
    PeerUnknown,
    RecordRefused,
)
from common.contracts.peer_p2p import DHT_FIND, DHT_STORE, FindNode, Store
from common.errors import NotPermitted
from common.identity.keys import SigningKey, is_signed
from common.identity.log import encode_log
from common.identity.purposes import Purpose
from common.identity.stamp import has_stamp
from common.parts import Parts
from common.rpc.method import Empty
from common.units import Did
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.daemon import P2pDaemon
from dux_p2pd.directory import Directory
from dux_p2pd.keeper import Keeper
from dux_p2pd.memory_transport import MemoryNetwork, MemoryTransport
from dux_p2pd.overlay import shared_arguments
from dux_p2pd.records import RecordBody, record_key, sign_record, split_record, stamped_record
from dux_p2pd.settings import P2pdSettings
from dux_p2pd.wire_limits import CALL_BURST_UNITS, CALL_UNITS_PER_S
from tests.attacks.registry import attack
from tests.p2pd.overlay_kit import WAIT_S, Node, all_connected, network, tagged, wait_until

pytestmark = pytest.mark.patient

NOBODY = Did("did:dux:" + "a" * 52)


async def test_nodes_that_know_one_bootstrap_node_find_all_others() -> None:
    """Discovery: who reaches one node of the network reaches all of it."""
    async with network(4) as nodes:
        for node in nodes:
            peers = await node.as_caller("cli").call(p2p.P2P_PEERS, Empty())
            assert {view.did for view in peers.peers} == {other.did for other in nodes} - {node.did}


async def test_a_node_finds_the_network_again_without_its_bootstrap_node() -> None:
    """Nodes met before are tried too, so the bootstrap node may be dead when a node comes back."""
    async with network(3) as (first, second, third):
        await third.stop()
        await first.stop()
        await third.start()
        await wait_until(lambda: _is_connected(third, second.did), "back without the bootstrap node")


async def _is_connected(node: Node, did: Did) -> bool:
    peers = await node.as_caller("cli").call(p2p.P2P_PEERS, Empty())
    return did in {view.did for view in peers.peers}


# identity


async def test_a_did_resolves_at_a_node_that_never_met_it_while_it_is_off() -> None:
    """Logs and node records are held by the network: key, log and document come out of it, an unknown DID does not."""
    async with network(4) as nodes:
        gone, late = nodes[3], nodes[2]
        await late.stop()
        (late.folder / "data" / "p2pd" / "p2pd.sqlite").unlink()  # late forgets whom it met
        await gone.stop()
        await late.start()
        await all_connected(nodes[:3])
        found = await late.as_caller("escrowd").call(p2p.DID_RESOLVE, p2p.Resolve(did=gone.did))
        assert (found.did, found.key_seq, found.disputed, found.ended) == (gone.did, 0, False, False)
        assert found.document.count(gone.address) == 1
        with pytest.raises(PeerUnknown):
            await late.as_caller("escrowd").call(p2p.DID_RESOLVE, p2p.Resolve(did=NOBODY))


async def test_a_signature_made_at_one_node_verifies_at_another_for_its_purpose_only() -> None:
    """identity.sign serves the purpose's owner alone; identity.verify refuses another purpose, body or time."""
    async with network(2) as (one, two):
        sign = p2p.Sign(purpose="heartbeat", body=tagged("1"))
        made = await one.as_caller("registryd").call(p2p.IDENTITY_SIGN, sign)
        with pytest.raises(NotYourPurpose):
            await one.as_caller("taskd").call(p2p.IDENTITY_SIGN, sign)
        good = p2p.Verify(did=made.did, key_seq=0, purpose="heartbeat", body=tagged("1"), signature=made.signature)
        for changes, valid in (
            ({}, True),
            ({"purpose": "rating"}, False),
            ({"body": tagged("2")}, False),
            ({"at_ms": 1}, False),
            ({"key_seq": 7}, False),
        ):
            asked = msgspec.structs.replace(good, **changes)
            assert (await two.as_caller("stored").call(p2p.IDENTITY_VERIFY, asked)).valid is valid, changes


# peer calls


async def test_a_peer_call_reaches_the_owner_with_the_sender_s_proved_did() -> None:
    """The answer comes back the same way; a call of the own DID takes the same road without the network."""
    async with network(2) as (one, two):
        two.owner.answer = b"\x91\x2a"
        call = p2p.PeerCall(did=two.did, method="store.services", params=b"\x92\x00\x05", deadline_ms=5000)
        answer = await one.as_caller("stored").call(p2p.PEER_CALL, call)
        assert answer.result == b"\x91\x2a"
        assert [(c.method, c.params, c.sender) for c in two.owner.calls] == [
            ("store.services", b"\x92\x00\x05", one.did)
        ]
        await one.as_caller("stored").call(p2p.PEER_CALL, msgspec.structs.replace(call, did=one.did))
        assert [c.sender for c in one.owner.calls] == [one.did]


@attack(
    "call",
    tries="calls a local method, a foreign caller's or an unknown one over the network",
    meets="refused at the called node, and before it at one's own",
)
async def test_peer_calls_that_may_not_be_are_refused() -> None:
    """The caller's node refuses foreign callers and unknown methods, the called one local methods."""
    async with network(2) as (one, two):
        call = p2p.PeerCall(did=two.did, method="store.services", params=b"\x90", deadline_ms=5000)
        with pytest.raises(NotPermitted):
            await one.as_caller("taskd").call(p2p.PEER_CALL, call)
        with pytest.raises(NoPeerMethod):
            await one.as_caller("stored").call(p2p.PEER_CALL, msgspec.structs.replace(call, method="wallet.send"))
        session = await one.daemon.net.peers.session_to(two.did)
        for method in ("wallet.send", "p2p.info", "identity.sign", "peer.handle"):
            with pytest.raises(PeerAnswered) as refused:
                await session.request(method, b"\x90", deadline_s=5)
            assert refused.value.fields["peer_key"] == NoPeerMethod.key
        with pytest.raises(NoPeerMethod):
            await one.daemon.net.router.relay(DHT_FIND.name, canonical(FindNode(key=bytes(32))), one.did, 1.0)
        two.owner.down = True
        with pytest.raises(PeerAnswered) as refused:
            await one.as_caller("stored").call(p2p.PEER_CALL, call)
        assert refused.value.fields["peer_key"] == "owner-away"
        assert two.owner.calls == []


async def test_strangers_get_a_tenth_and_are_told_when_it_is_used_up() -> None:
    """A stranger gets the units of its bucket and what refills meanwhile, no more; a known peer's flood is answered."""
    async with network(2, known_after_s=3600) as (one, two):
        elapsed_s, answered = await _flood(two, one)  # two is a stranger to one
        assert answered * DHT_STORE.cost <= (CALL_BURST_UNITS + CALL_UNITS_PER_S * elapsed_s) / 10 + DHT_STORE.cost
        assert answered < FLOOD
        _, answered = await _flood(one, two)  # one is the bootstrap node in two's profile
        assert answered == FLOOD


FLOOD = 450  # calls of 8 units: within a known peer's burst of 4000, nine times a stranger's


async def _flood(node: Node, other: Node) -> tuple[float, int]:
    """Seconds it took, and how many calls were taken on (and answered, if only with an error)."""
    session = await node.daemon.net.peers.session_to(other.did)
    loop, body, taken = asyncio.get_running_loop(), canonical(Store(record=b"", log=b"", salt=0, stamp=0)), 0
    started = loop.time()
    for _ in range(FLOOD // 3):
        calls = (session.request(DHT_STORE.name, body, deadline_s=20) for _ in range(3))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, PeerBusy | PeerAnswered) for outcome in outcomes)
        taken += sum(isinstance(outcome, PeerAnswered) for outcome in outcomes)
    return loop.time() - started, taken


# records


async def test_records_of_several_signers_come_back_together() -> None:
    """A value is a set of records, one per signer, the newest of each; a withdrawn one is gone."""
    async with network(4) as nodes:
        for number, node in enumerate(nodes[:3]):
            put = p2p.DhtPut(ns="tag", name="t/upscale", payload=tagged(str(number)), ttl_s=3600)
            await node.as_caller("stored").call(p2p.DHT_PUT, put)
        again = p2p.DhtPut(ns="tag", name="t/upscale", payload=tagged("99"), ttl_s=3600)
        assert (await nodes[0].as_caller("stored").call(p2p.DHT_PUT, again)).stored_at == 3
        withdrawn = p2p.DhtPut(ns="tag", name="t/upscale", payload=b"", ttl_s=3600)
        await nodes[1].as_caller("stored").call(p2p.DHT_PUT, withdrawn)
        found = await nodes[3].as_caller("cli").call(p2p.DHT_GET, p2p.DhtGet(ns="tag", name="t/upscale"))
        wanted = {nodes[0].did: tagged("99"), nodes[2].did: tagged("2")}
        assert {record.did: record.payload for record in found.records} == wanted


async def test_a_stranger_does_the_work_that_its_record_needs() -> None:
    """Where strangers need stamps, a put makes one, and it goes along when the record is offered again."""
    async with network(3, stamp_bits=8, known_after_s=3600) as nodes:
        put = p2p.DhtPut(ns="tag", name="t/x", payload=tagged("1"), ttl_s=3600)
        assert (await nodes[0].as_caller("stored").call(p2p.DHT_PUT, put)).stored_at == 2
        held = nodes[1].daemon.net.dht.shelf.at(record_key("tag", "t/x"))[0]
        assert has_stamp(stamped_record(split_record(held.envelope)[1]), held.stamp, 8)


async def test_only_the_owner_puts_into_its_namespace() -> None:
    """Another daemon, an unknown namespace and a name that is not the own DID are refused before anything is signed."""
    async with network(1) as (node,):
        put = p2p.DhtPut(ns="tag", name="t/x", payload=tagged("1"), ttl_s=60)
        for caller, ns in (("taskd", "tag"), ("stored", "nonsense"), ("stored", "node")):
            with pytest.raises(NotYourTopic):
                await node.as_caller(caller).call(p2p.DHT_PUT, msgspec.structs.replace(put, ns=ns))
        with pytest.raises(RecordRefused):
            await node.as_caller("stored").call(p2p.DHT_PUT, msgspec.structs.replace(put, ttl_s=10**6))


@attack(
    "DHT",
    tries="a record in the victim's name, signed by another key",
    meets="who should store it refuses and blames; who reads it ignores it",
)
async def test_a_forged_record_is_refused_by_who_should_store_it_and_by_who_reads_it() -> None:
    """Signed by a foreign key in the victim's name: a storer refuses and blames, a reader ignores the liar's answer."""
    async with network(3) as (victim, liar, reader):
        body = RecordBody(
            v=1, ns="tag", name="t/upscale", did=victim.did, key_seq=0,
            seq_ms=liar.daemon.clock.unix_ms(), ttl_s=3600, payload=tagged("102"),
        )  # fmt: skip
        forged = sign_record(body, SigningKey(b"f" * 32))
        log = encode_log(victim.daemon.net.directory.get(victim.did).log)  # type: ignore[union-attr]
        with pytest.raises(PeerAnswered) as refused:
            await liar.daemon.net.peers.call(
                reader.did, DHT_STORE, Store(record=forged, log=log, salt=0, stamp=0), deadline_s=5
            )
        assert refused.value.fields["peer_key"] == "bad-signature"
        assert reader.daemon.net.scores.of(liar.did) > 0
        liar.daemon.net.dht.shelf.keep_own(body, forged, 0)
        found = await reader.as_caller("cli").call(p2p.DHT_GET, p2p.DhtGet(ns="tag", name="t/upscale"))
        assert found.records == []


@attack("DHT", tries="replays a signer's older record over its newer one", meets="nothing changes")
async def test_an_old_record_never_comes_back() -> None:
    """Replaying a signer's older record over its newer one changes nothing."""
    async with network(2) as (one, two):
        put = p2p.DhtPut(ns="tag", name="t/x", payload=tagged("1"), ttl_s=3600)
        await one.as_caller("stored").call(p2p.DHT_PUT, put)
        old = two.daemon.net.dht.shelf.at(record_key("tag", "t/x"))[0].envelope
        await one.as_caller("stored").call(p2p.DHT_PUT, msgspec.structs.replace(put, payload=tagged("2")))
        log = encode_log(one.daemon.net.directory.get(one.did).log)  # type: ignore[union-attr]
        answer = await one.daemon.net.peers.call(
            two.did, DHT_STORE, Store(record=old, log=log, salt=0, stamp=0), deadline_s=5
        )
        assert not answer.kept
        found = await two.as_caller("cli").call(p2p.DHT_GET, p2p.DhtGet(ns="tag", name="t/x"))
        assert [record.payload for record in found.records] == [tagged("2")]


async def test_a_late_comer_is_given_the_records_it_is_near_to() -> None:
    """Hand-over: a record put before a node joined is held by it soon after."""
    async with network(3) as nodes:
        await nodes[2].stop()
        put = p2p.DhtPut(ns="tag", name="t/late", payload=tagged("1"), ttl_s=3600)
        await nodes[0].as_caller("stored").call(p2p.DHT_PUT, put)
        await nodes[2].start()
        await wait_until(lambda: nodes[2].daemon.net.dht.shelf.at(record_key("tag", "t/late")), "handed over")


# gossip


async def test_a_message_reaches_every_owner_once_with_its_signer() -> None:
    """Flooding delivers to all, each copy after the first is dropped, and the signer's DID is the one that signed."""
    async with network(4) as nodes:
        publish = p2p.Publish(topic="service", payload=b"\x91\x07")
        told = await nodes[0].as_caller("stored").call(p2p.GOSSIP_PUBLISH, publish)
        assert told.sent_to == 3
        await wait_until(lambda: all(node.owner.heard for node in nodes[1:]), "heard by all")
        second = p2p.Publish(topic="service", payload=b"\x91\x08")
        await nodes[0].as_caller("stored").call(p2p.GOSSIP_PUBLISH, second)
        await wait_until(lambda: all(len(node.owner.heard) >= 2 for node in nodes[1:]), "the second heard by all")
        for node in nodes[1:]:
            heard = [(m.topic, m.payload, m.sender) for m in node.owner.heard]
            assert heard == [("service", payload, nodes[0].did) for payload in (b"\x91\x07", b"\x91\x08")]
        with pytest.raises(NotYourTopic):
            await nodes[0].as_caller("taskd").call(p2p.GOSSIP_PUBLISH, publish)


# loss


async def test_lookups_go_on_when_nodes_die_without_a_word() -> None:
    """Two of seven vanish with their sockets half open: everything is still found, and each dead node costs little."""
    async with network(7) as nodes:
        put = p2p.DhtPut(ns="tag", name="t/x", payload=tagged("1"), ttl_s=3600)
        await nodes[1].as_caller("stored").call(p2p.DHT_PUT, put)
        for dead in nodes[5:]:
            dead.freeze()
        async with asyncio.timeout(WAIT_S):  # one by one, the dead would cost more
            found = await nodes[4].as_caller("cli").call(p2p.DHT_GET, p2p.DhtGet(ns="tag", name="t/x"))
            resolve = p2p.Resolve(did=nodes[2].did, max_age_s=0)
            resolved = await nodes[4].as_caller("cli").call(p2p.DID_RESOLVE, resolve)
        assert [record.did for record in found.records] == [nodes[1].did]
        assert resolved.age_s == 0


async def test_the_signing_key_signs_what_the_log_names() -> None:
    """The node's signature verifies with the key of its own event log."""
    async with network(1) as (node,):
        made = await node.as_caller("registryd").call(p2p.IDENTITY_SIGN, p2p.Sign(purpose="heartbeat", body=b"x"))
        resolved = await node.as_caller("registryd").call(p2p.DID_RESOLVE, p2p.Resolve(did=node.did))
        assert is_signed(resolved.key, Purpose.HEARTBEAT, b"x", made.signature)


# other transports


class InMemory(P2pDaemon):
    """The same daemon on the simulator's transport."""

    world: MemoryNetwork

    def make_transport(self, parts: Parts[P2pdSettings], keeper: Keeper, directory: Directory) -> BaseTransport:
        return MemoryTransport(
            network_of=self.world,
            transport_key=keeper.transport.public,
            listen=(parts.settings.listen_host, parts.settings.listen_port),
            **shared_arguments(parts, directory),
        )


async def test_the_daemon_does_not_know_how_its_bytes_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the memory transport nodes meet, call and gossip as on sockets."""
    world = MemoryNetwork()
    monkeypatch.setattr(InMemory, "world", world, raising=False)
    monkeypatch.setattr("tests.p2pd.overlay_kit.P2pDaemon", InMemory)
    async with network(3) as (one, two, three):
        assert len(world.listening) == 3
        call = p2p.PeerCall(did=two.did, method="store.services", params=b"\x90", deadline_ms=5000)
        await one.as_caller("stored").call(p2p.PEER_CALL, call)
        assert [c.sender for c in two.owner.calls] == [one.did]
        await two.as_caller("stored").call(p2p.GOSSIP_PUBLISH, p2p.Publish(topic="service", payload=b"\x91\x07"))
        await wait_until(lambda: one.owner.heard and three.owner.heard, "heard by both")
