"""p2pds as processes, as systemd runs them: killed, restarted, spoken to over HTTP by `common.peers`."""

from __future__ import annotations

import asyncio
import signal

import pytest

from common.codec import canonical
from common.contracts import p2p
from common.contracts.p2p_errors import PeerAnswered
from common.contracts.peer_store import SERVICES_SYNC, TAG_NS, ServicesAsk, TagPointer
from common.identity.purposes import Purpose
from common.randomness import SeededRandomness
from common.rpc.method import Empty
from common.units import BlockHeight
from tests.p2pd.overlay_kit import tagged, wait_until
from tests.p2pd.process_kit import Process, all_see, processes

pytestmark = pytest.mark.constellation


async def test_a_daemon_does_all_its_business_with_other_nodes_through_common_peers() -> None:
    """Records, signatures, resolution, blobs and receipts over HTTP, as every daemon of a node does it."""
    async with processes(3) as (one, two, three):
        stored, other = one.peers("stored"), two.peers("stored")
        assert (await stored.info()).did == one.node.did
        assert await stored.put_record(TAG_NS, "t/upscale", TagPointer(service_ids=("s1",)), ttl_s=600) == 2
        found = await other.get_records(TAG_NS, "t/upscale")
        assert [(record.did, record.payload) for record in found] == [
            (one.node.did, canonical(TagPointer(service_ids=("s1",))))
        ]
        value = TagPointer(service_ids=("signed",))
        made = await stored.sign(Purpose.SERVICE, value)
        assert await other.is_signed(Purpose.SERVICE, canonical(value), made)
        assert not await other.is_signed(Purpose.RATING, canonical(value), made)
        assert (await other.resolve(one.node.did, max_age_s=0)).did == one.node.did
        with pytest.raises(PeerAnswered, match="owner-away"):
            await stored.call(two.node.did, SERVICES_SYNC, ServicesAsk(after=0, limit=1))
        data = SeededRandomness(1).bytes(700_000)
        blob = await one.peers("taskd").put_blob(data)
        assert await two.peers("taskd").fetch_blob(blob, [one.node.did], max_bytes=1_000_000) == data
        held = await one.peers("escrowd").hold_blob(
            p2p.BlobHold(request_id="h1", id=blob, holders=[three.node.did], until_height=BlockHeight(77), keep_s=3600)
        )
        assert [holder.did for holder in held.holders if holder.receipt] == [three.node.did]


async def test_a_killed_node_is_missed_by_nobody_and_comes_back_as_itself() -> None:
    """Kill -9 of the bootstrap node: its records are still found; restarted, it is the same DID and has them."""
    async with processes(4) as made:
        first, rest = made[0], made[1:]
        put = p2p.DhtPut(ns="tag", name="t/x", payload=tagged("1"), ttl_s=3600)
        await first.client("stored").call(p2p.DHT_PUT, put)
        assert await first.end(signal.SIGKILL) == -signal.SIGKILL
        for process in rest:
            found = await process.client("cli").call(p2p.DHT_GET, p2p.DhtGet(ns="tag", name="t/x"))
            assert [record.did for record in found.records] == [first.node.did]
        await first.start()
        await wait_until(lambda: all_see(made, 3), "all connected again")
        info = await first.client("cli").call(p2p.P2P_INFO, Empty())
        assert info.did == first.node.did
        assert info.records >= 1


async def test_a_stopped_node_ends_in_order() -> None:
    """SIGTERM: it leaves within seconds with code 0 and the others have noticed."""
    async with processes(2) as (one, two):
        assert await asyncio.wait_for(two.end(signal.SIGTERM), 8) == 0
        await wait_until(lambda: _none_left(one), "noticed")


async def _none_left(process: Process) -> bool:
    return await process.sessions() == 0


async def test_with_every_bootstrap_node_dead_all_are_back_within_ten_seconds() -> None:
    """Once in the network: everybody stops, the only bootstrap node never returns, the others find each other."""
    async with processes(5) as made:
        first, rest = made[0], made[1:]
        for process in made:
            await process.end(signal.SIGKILL if process is first else signal.SIGTERM)
        await rest[0].start()  # alone first: it has nobody to go to
        begun = asyncio.get_running_loop().time()
        await asyncio.gather(*(process.start() for process in rest[1:]))
        await wait_until(lambda: all_see(rest, 3), "everybody sees everybody", 10)
        taken_s = asyncio.get_running_loop().time() - begun
        print(f"\nback with the bootstrap node dead: {taken_s:.1f} s, processes' start included")  # noqa: T201
