"""What hostile neighbours try on gossip, and what they meet. In virtual time; the same code runs on sockets."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from pathlib import Path

import pytest

from common.codec import canonical
from common.contracts.p2p_errors import RateLimited
from common.contracts.peer_p2p import DID_LOG, AskLog, LogAnswer
from common.errors import DuxError
from common.identity.keys import SigningKey
from common.identity.signed import Signed
from common.identity.stamp import make_stamp
from dux_p2pd.abuse import Abuse
from dux_p2pd.gossip_flow import framed
from dux_p2pd.gossip_limits import BACKOFF_S, MESH_HIGH, MESH_OUTBOUND
from dux_p2pd.memory_transport import CalmWeather, MemoryNetwork
from dux_p2pd.records import message_id, split_gossip
from dux_p2pd.rules import stamped_gossip
from dux_p2pd.session import Peer, Stream
from tests.attacks.registry import attack, met
from tests.p2pd.gossip_kit import TOPIC, GossipNode, all_heard, gossip_net, said
from tests.p2pd.virtual_net import until
from tests.p2pd.wire_kit import virtually

pytestmark = pytest.mark.patient


async def say(stream: Stream, *messages: bytes, **more: object) -> None:
    await stream.write(framed(said(*messages, **more)))  # type: ignore[arg-type]
    await asyncio.sleep(0.2)


def forged(envelope: bytes) -> bytes:
    """The same body with a garbage signature."""
    return canonical(Signed(body=split_gossip(envelope)[0].body, sigs=(bytes(64),)))


@attack(
    "gossip",
    tries="a garbage signature on an honest body, sent before the honest copy",
    meets="refused and blamed; the honest copy behind it is delivered",
)
@virtually
async def test_a_garbage_signature_that_comes_first_suppresses_nothing(tmp_path: Path) -> None:
    """The liar's copy is refused and counts against it; the honest copy that follows is delivered.

    Planted bug noticed: with ids over the body alone, or marked before the signature is verified, nothing arrives.
    """
    async with gossip_net(tmp_path, 3, dials=2) as (honest, liar, target):
        good = honest.message(b"news")
        stream = await liar.flow_to(target)
        await say(stream, forged(good))
        assert target.owner.heard == []
        assert target.gossip._conducts.of(liar.did, 0.0).invalid(asyncio.get_running_loop().time()) > 0
        assert target.overlay.scores.of(liar.did) > 0
        await say(await honest.flow_to(target), good)
        assert target.owner.payloads() == [b"news"]


@attack(
    "gossip",
    tries="a message again, at once and after its id was forgotten, and one of the future",
    meets="delivered once; old and early ones go nowhere",
)
@virtually
async def test_a_replay_is_never_new_again(tmp_path: Path) -> None:
    """Neither at once, nor when its id has been forgotten: then it is too old. Early and late ones go nowhere."""
    async with gossip_net(tmp_path, 3, dials=2) as (one, liar, target):
        envelope = one.message(b"once")
        stream = await liar.flow_to(target)
        await say(stream, envelope, envelope)
        await say(stream, envelope)
        await asyncio.sleep(150)
        await say(stream, envelope)
        target.gossip._seen._at.clear()
        stream = await liar.flow_to(target)
        await say(stream, envelope)
        await say(stream, one.message(b"early", seq_ms=one.overlay.gossip._clock.unix_ms() + 130_000))
        assert target.owner.payloads() == [b"once"]
        assert target.gossip.counted["age"] == 2
        assert target.overlay.scores.of(liar.did) == 0, "an old copy is no lie"


@attack(
    "gossip",
    tries="a message that its owner rejects, and one of no topic",
    meets="it stops here, and who brought it is blamed",
)
@virtually
async def test_what_its_owner_rejects_goes_no_further_and_counts_against_who_brought_it(tmp_path: Path) -> None:
    """Also a message of no topic, which nobody here can judge."""
    async with gossip_net(tmp_path, 3, dials=2) as (one, two, three):
        two.owner.verdict = "reject"
        stream = await one.flow_to(two)
        await say(stream, one.message(b"x", topic="nonsense"))
        await say(stream, one.message(b"bad"))
        assert (two.owner.payloads(), three.owner.payloads()) == ([b"bad"], [])
        assert two.overlay.scores.of(one.did) > 0


@attack(
    "gossip",
    tries="invalid messages again and again, over new streams",
    meets="graylisted at twenty a minute, then banned for half an hour",
)
@virtually
async def test_twenty_invalid_messages_are_the_graylist_and_going_on_is_a_ban(tmp_path: Path) -> None:
    """Graylisted: nothing of it is read. Going on over new streams ends in a ban, and the ban ends by itself."""
    async with gossip_net(tmp_path, 2, dials=1) as (liar, target):
        stream = await liar.flow_to(target)
        for number in range(20):
            await say(stream, forged(liar.message(bytes([number]))))
        assert target.gossip.is_graylisted(liar.did)
        with suppress(DuxError):
            await say(stream, liar.message(b"honest now"))
            await say(await liar.flow_to(target), liar.message(b"honest now"))
        assert target.owner.heard == []
        assert target.overlay.peers.is_connected(liar.did)
        await asyncio.sleep(600)
        assert not target.gossip.is_graylisted(liar.did)
        stream = await liar.flow_to(target)
        await say(stream, liar.message(b"honest again"))
        assert target.owner.payloads() == [b"honest again"]
        with suppress(DuxError):
            for number in range(60):
                stream = await liar.flow_to(target)
                await say(stream, forged(liar.message(bytes([number, 1]))))
        await until(lambda: not target.overlay.peers.is_connected(liar.did))
        with pytest.raises(DuxError):
            await liar.dial(target)
        await asyncio.sleep(1900)
        await liar.dial(target)


@attack(
    "gossip",
    tries="1,500 messages at once from one neighbour",
    meets="200 verifications a second; other neighbours' messages come through meanwhile",
)
@virtually
async def test_a_flood_by_one_neighbour_costs_a_bounded_number_of_verifications(tmp_path: Path) -> None:
    """The neighbour's 200 verifications a second hold, and other neighbours' messages come through meanwhile."""
    async with gossip_net(tmp_path, 3, dials=2) as (honest, liar, target):
        stream = await liar.flow_to(target)
        batch = [liar.message(b"%d" % number) for number in range(1500)]
        for start in range(0, 1500, 100):
            await stream.write(framed(said(*batch[start : start + 100])))
        await asyncio.sleep(0.5)
        await say(await honest.flow_to(target), honest.message(b"honest"))
        counted = target.gossip.counted
        assert counted["verification_rate"] > 0
        assert len(target.owner.heard) <= 200 + 200 * 2
        assert b"honest" in target.owner.payloads()
        met(f"{len(target.owner.heard) - 1} of 1,500 delivered in half a second, and the honest one behind them")


@attack(
    "gossip",
    tries="one signer floods through eight neighbours",
    meets="cut at the signer's own rate, whoever carries it",
)
@virtually
async def test_one_signer_cannot_flood_through_many_neighbours(tmp_path: Path) -> None:
    """Its messages are within each neighbour's rate and above its own: what is too much is not passed on."""
    async with gossip_net(tmp_path, 9, dials=8) as (target, *others):
        signer = others[0]
        envelopes = [signer.message(b"%d" % number) for number in range(1200)]
        streams = [await one.flow_to(target) for one in others]
        for start in range(0, 1200, 15):
            await streams[start // 15 % 8].write(framed(said(*envelopes[start : start + 15])))
            await asyncio.sleep(0.005)
        await asyncio.sleep(2)
        assert target.gossip.counted["signer_rate"] > 0
        assert len(target.owner.heard) <= TOPIC.signer_per_s * 13
        met(f"{len(target.owner.heard)} of 1,200 delivered, {target.gossip.counted['signer_rate']} refused by its rate")


@attack(
    "gossip",
    tries="strangers' messages without the work that they owe",
    meets="refused before the signer's log is asked for",
)
@virtually
async def test_strangers_without_work_are_not_even_looked_up(tmp_path: Path) -> None:
    """Their message is refused before its signer's log is asked for; with the work it is delivered."""
    net = MemoryNetwork(CalmWeather(delay_s=0.01))
    stranger, carrier, target = nodes = [
        GossipNode(net, number, tmp_path, known_after_s=3600, stamp_bits=8) for number in (1, 2, 3)
    ]
    for node in nodes:
        await node.start()
    try:
        await carrier.dial(stranger)
        await carrier.dial(target)
        await asyncio.sleep(1)
        asked: list[object] = []
        plain = carrier.overlay.dht.on_log

        def noted(params: AskLog, peer: Peer) -> LogAnswer:
            asked.append(params)
            return plain(params, peer)

        carrier.overlay.router.answer_at_once(DID_LOG, noted)
        stream = await carrier.flow_to(target)
        await say(stream, *(stranger.message(b"%d" % number) for number in range(10)))
        assert (target.owner.heard, asked) == ([], [])
        assert target.gossip.counted["stamp"] >= 9, "one in 256 has the work by chance"
        carrier.overlay.router.answer_at_once(DID_LOG, plain)
        _, body = split_gossip(stranger.message(b"worked"))
        nonce = make_stamp(stamped_gossip(body), 8)
        await say(stream, stranger.message(b"worked", seq_ms=body.seq_ms, stamp=nonce))
        await all_heard([target], b"worked", 5)
    finally:
        for node in nodes:
            await node.stop()


@attack(
    "gossip",
    tries="asks for thousands of messages that were never offered to it",
    meets="gets each offered one once, loses its place in the mesh",
)
@virtually
async def test_only_what_was_offered_may_be_asked_for_and_each_once(tmp_path: Path) -> None:
    """A flood of wishes gets each offered message once and nothing else, and costs the asker its standing."""
    async with gossip_net(tmp_path, 3, dials=2) as (one, liar, other):
        identity = await one.publish(b"mine")
        await asyncio.sleep(5)  # its two heartbeats of being offered are over
        stream = await liar.flow_to(one)
        flow = one.gossip._flows[liar.did]
        flow._offered.clear()
        given: list[bytes] = []
        plain = flow.message
        flow.message = lambda identity, topic, envelope: given.append(identity) or plain(identity, topic, envelope)  # type: ignore[method-assign]
        for _ in range(6):
            await say(stream, wants=[identity, *(bytes([n]) * 32 for n in range(200))])
        assert given == []
        flow._offered[identity] = math.inf
        await say(stream, wants=[identity, identity])
        assert given.count(identity) <= 1
        for _ in range(6):
            await say(stream, wants=[bytes([n]) * 32 for n in range(100)])
        now = one.gossip._clock.monotonic()
        assert one.gossip._conducts.of(liar.did, now).score(now) < 0
        await asyncio.sleep(11)
        assert liar.did not in one.mesh()
        assert other.did in one.mesh()


@attack(
    "gossip",
    tries="offers what it does not give",
    meets="found out; the message is asked of another, the list of wishes stays short",
)
@virtually
async def test_lies_in_offers_cost_the_liar_and_not_the_message(tmp_path: Path) -> None:
    """Who offers what it does not give is found out; the message is then asked of who offered it too."""
    async with gossip_net(tmp_path, 3, dials=2) as (liar, honest, target):
        envelope = honest.message(b"real")
        identity = message_id(envelope)
        stream = await liar.flow_to(target)
        await say(stream, offers=[identity])
        honest.gossip._keep(identity, TOPIC.name, envelope)
        honest.gossip._flows[target.did]._offered[identity] = math.inf
        await say(await honest.flow_to(target), offers=[identity])
        await all_heard([target], b"real", 10)
        for start in range(10):
            await say(stream, offers=[bytes([start, number]) * 16 for number in range(20)])
            await asyncio.sleep(4)
        now = target.gossip._clock.monotonic()
        assert target.gossip._conducts.of(liar.did, now).score(now) < 0
        assert target.gossip._conducts.of(honest.did, now).score(now) >= 0
        assert len(target.gossip._wants) <= 40


@attack("gossip", tries="7,200 ids in offers at once", meets="500 a second are read after a burst of 1,000")
@virtually
async def test_too_many_ids_are_not_read(tmp_path: Path) -> None:
    """500 a second and a burst of 1,000; what is above is dropped and counts as a breach."""
    async with gossip_net(tmp_path, 2, dials=1) as (liar, target):
        stream = await liar.flow_to(target)
        for start in range(8):
            await stream.write(framed(said(offers=[bytes([start, n % 256, n // 256, 7]) * 8 for n in range(900)])))
        await asyncio.sleep(0.5)
        assert len(target.gossip._wants) <= 1000 + 500
        met(f"{len(target.gossip._wants)} of 7,200 ids read")


@attack(
    "gossip",
    tries="40 identities dial one node, graft it and pass nothing on",
    meets="it keeps neighbours that it dialled itself, and hears every message",
)
@virtually
async def test_sybils_do_not_take_over_a_mesh(tmp_path: Path) -> None:
    """Forty nodes dial the victim, graft it and pass nothing on: it keeps neighbours it dialled, and hears all."""
    async with gossip_net(tmp_path, 6, dials=5) as honest:
        victim, net = honest[-1], honest[0].net
        sybils = [GossipNode(net, 200 + number, tmp_path) for number in range(40)]
        try:
            for sybil in sybils:
                await sybil.start()
                sybil.gossip._judged = lambda *_: None  # type: ignore[method-assign]
                sybil.gossip._verdicts._on_verdict = lambda *_: None
                stream = await sybil.flow_to(victim)
                await say(stream, grafts=(TOPIC.name,))
            await asyncio.sleep(30)
            members = victim.mesh()
            assert len(members) <= MESH_HIGH
            assert sum(did in members for did in (node.did for node in honest)) >= MESH_OUTBOUND
            for number in range(10):
                await honest[number % 5].publish(b"%d" % number)
            await asyncio.sleep(5)
            assert sorted(victim.owner.payloads()) == sorted(b"%d" % number for number in range(10))
            met(f"a mesh of {len(members)}, {sum(node.did in members for node in honest)} of them honest; all heard")
        finally:
            for sybil in sybils:
                await sybil.stop()


@attack("gossip", tries="grafts again and again after a prune", meets="stays out for a minute, and its score falls")
@virtually
async def test_a_graft_within_the_back_off_is_refused_and_counts(tmp_path: Path) -> None:
    """Who was pruned stays out for a minute, and pays for trying."""
    async with gossip_net(tmp_path, 2, dials=1) as (liar, target):
        stream = await liar.flow_to(target)
        await say(stream, prunes=(TOPIC.name,))
        for _ in range(8):
            await say(stream, grafts=(TOPIC.name,))
        assert liar.did not in target.mesh()
        now = target.gossip._clock.monotonic()
        assert target.gossip._conducts.of(liar.did, now).score(now) < 0
        assert BACKOFF_S == 60


@attack(
    "gossip",
    tries="frames too long, cut off, not canonical",
    meets="the stream ends and it counts; the next stream works",
)
@virtually
async def test_frames_that_are_none_end_the_stream_and_count(tmp_path: Path) -> None:
    """Too long, not canonical, cut off: no exception, no growth, and the next stream works."""
    async with gossip_net(tmp_path, 2, dials=1) as (liar, target):
        for data in (
            b"\xff\xff\xff\xff",
            b"\x00\x01\x00\x01" + bytes(70_000),
            b"\x00\x00\x00\x03abc",
            b"\x00\x00\x00\x05",
        ):
            stream = await liar.flow_to(target)
            with suppress(DuxError):
                await stream.write(data)
            await asyncio.sleep(0.2)
            stream.reset()
        assert target.gossip._conducts.of(liar.did, 0.0).invalid(asyncio.get_running_loop().time()) >= 2.9
        await say(await liar.flow_to(target), liar.message(b"well"))
        assert target.owner.payloads() == [b"well"]


@attack(
    "gossip",
    tries="bytes that are no message, a DID that is none, a payload over its topic's limit",
    meets="invalid by form, nothing is verified",
)
@virtually
async def test_a_message_that_is_too_long_or_nonsense_is_invalid(tmp_path: Path) -> None:
    """Bytes that are no message, a DID that is none, a payload above the topic's limit."""
    async with gossip_net(tmp_path, 2, dials=1) as (liar, target):
        stream = await liar.flow_to(target)
        await say(stream, b"nonsense", liar.message(b"x", did="did:dux:nobody"), liar.message(b"x", v=1) + b"\x00")
        assert target.gossip.counted["form"] == 3
        assert target.owner.heard == []


@attack(
    "gossip",
    tries="signs in another's name, or with a key of another time",
    meets="refused: the signer's key of that moment and no other",
)
@virtually
async def test_a_signature_by_another_key_or_of_another_time_does_not_hold(tmp_path: Path) -> None:
    """The signer's key of that moment, and no other, signs."""
    async with gossip_net(tmp_path, 3, dials=2) as (one, liar, target):
        stream = await liar.flow_to(target)
        await say(stream, one.message(b"x", signer=SigningKey(b"f" * 32)), one.message(b"y", signer=liar.signer))
        assert target.gossip.counted["signature"] == target.gossip.gauges()["gossip_signature"]() == 2
        assert target.overlay.peers.abuse.of(Abuse.BLAMED_GOSSIP) == 2
        assert target.owner.heard == []


@virtually
async def test_this_node_does_not_flood_either(tmp_path: Path) -> None:
    """What others would not take is refused to the own daemon, with the time to wait."""
    async with gossip_net(tmp_path, 2, dials=1) as (one, _):
        for number in range(int(TOPIC.signer_per_s * 10)):
            await one.publish(b"%d" % number)
        with pytest.raises(RateLimited):
            await one.publish(b"too many")
