"""Blobs from several nodes at once: slow, lying, dying and restarting ones, on real sockets."""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from typing import Any

import pytest

from common.blobs import CHUNK_BYTES, blob_id, manifest_of
from common.codec import canonical
from common.contracts import p2p
from common.contracts.p2p_errors import BlobMissing
from common.contracts.peer_p2p import BLOB_CHUNKS_STREAM
from common.units import BlockHeight
from dux_p2pd.blob_gather import TAKE_OVER_S, next_run
from dux_p2pd.blob_store import all_chunks
from dux_p2pd.session import Incoming, Session
from tests.attacks.registry import attack
from tests.p2pd.overlay_kit import Node, network, wait_until
from tests.p2pd.process_kit import processes
from tests.p2pd.test_blobs import get, put

pytestmark = pytest.mark.patient

DATA = bytes(index % 251 for index in range(12 * CHUNK_BYTES + 777))


def serve_with(node: Node, before: Any) -> list[tuple[int, int]]:
    """From now on `before` runs before this node serves chunks; the runs it was asked for."""
    asked: list[tuple[int, int]] = []
    plain = node.daemon.net.router._streams[BLOB_CHUNKS_STREAM]

    async def serve(session: Session, incoming: Incoming) -> None:
        headers = dict(incoming.headers)
        asked.append((int.from_bytes(headers["first"], "big"), int.from_bytes(headers["count"], "big")))
        await before()
        await plain(session, incoming)

    node.daemon.net.router.answer_stream(BLOB_CHUNKS_STREAM, serve)
    return asked


async def at_once() -> None:
    """Serve without delay."""


async def never() -> None:
    await asyncio.sleep(60)


async def fetch(node: Node, blob: str, *providers: Node) -> p2p.BlobStat:
    wanted = p2p.BlobFetch(id=blob, providers=[one.did for one in providers], max_bytes=len(DATA))
    return await node.as_caller("taskd").call(p2p.BLOB_FETCH, wanted, deadline_s=60)


async def test_all_holders_give_a_part() -> None:
    """Three holders are asked at once, each for other chunks, and no chunk twice."""
    async with network(4) as (*holders, reader):
        for holder in holders:
            blob = await put(holder, DATA)
        asked = [serve_with(holder, at_once) for holder in holders]
        assert (await fetch(reader, blob, *holders)).complete
        assert all(asked)
        chunks = sorted(index for runs in asked for first, count in runs for index in range(first, first + count))
        assert chunks == list(range(13))
        assert await get(reader, blob) == (200, DATA)


@attack("blobs", tries="a holder promises chunks and stalls", meets="taken over by another after two seconds")
async def test_a_holder_that_stalls_holds_nobody_up() -> None:
    """Its chunks are taken over by the other after two seconds; the fetch does not wait for its end."""
    async with network(3) as (slow, good, reader):
        for holder in (slow, good):
            blob = await put(holder, DATA)
        asked = serve_with(slow, never)
        started = asyncio.get_running_loop().time()
        assert (await fetch(reader, blob, slow, good)).complete
        assert asyncio.get_running_loop().time() - started < TAKE_OVER_S + 6
        assert asked


async def test_two_callers_of_one_blob_fetch_it_once() -> None:
    """The second waits and finds it here."""
    async with network(2) as (one, reader):
        blob = await put(one, DATA)
        asked = serve_with(one, at_once)
        stats = await asyncio.gather(*(fetch(reader, blob, one) for _ in range(3)))
        assert all(stat.complete for stat in stats)
        assert sum(count for _, count in asked) == 13


async def test_after_a_restart_only_what_is_missing_is_fetched() -> None:
    """The reader's process ends with five of thirteen chunks; the new one asks for the other eight."""
    async with network(2) as (one, reader):
        blob, manifest = await put(one, DATA), canonical(manifest_of(DATA))
        store = reader.daemon.blobs
        store.begin(blob, manifest, len(DATA))
        for index in (0, 3, 4, 7, 12):
            assert store.write_chunk(blob, index, DATA[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES])
        await reader.stop()
        await reader.start()
        await wait_until(lambda: reader.daemon.net.peers.is_connected(one.did), "connected")
        asked = serve_with(one, at_once)
        assert (await fetch(reader, blob, one)).complete
        chunks = sorted(index for first, count in asked for index in range(first, first + count))
        assert chunks == [1, 2, 5, 6, 8, 9, 10, 11]
        assert await get(reader, blob) == (200, DATA)


@attack(
    "blobs",
    tries="one of several holders answers with another blob's manifest",
    meets="blamed; another's is taken and the blob comes",
)
async def test_a_manifest_of_another_blob_costs_its_giver_and_not_the_blob() -> None:
    """Who answers with a manifest that does not hash to the id is blamed; the other's is taken."""
    async with network(3) as (liar, honest, reader):
        blob = await put(honest, DATA)
        other = await put(liar, DATA[:-1])
        plain = liar.daemon.blobs.manifest
        liar.daemon.blobs.manifest = lambda _blob: plain(other)  # type: ignore[method-assign]
        assert (await fetch(reader, blob, liar, honest)).complete
        assert reader.daemon.net.scores.of(liar.did) >= 49


async def test_who_has_no_hint_finds_the_keepers_in_the_dht() -> None:
    """A blob that was promised is announced by owner and holder."""
    async with network(4) as (owner, holder, reader, _):
        blob = await put(owner, DATA)
        hold = p2p.BlobHold(
            request_id="hold-1", id=blob, holders=[holder.did], until_height=BlockHeight(900), keep_s=86_400
        )
        held = await owner.as_caller("escrowd").call(p2p.BLOB_HOLD, hold, deadline_s=60)
        assert held.holders[0].receipt is not None

        async def announced() -> bool:
            found = await reader.daemon.net.dht.get("blob", blob)
            return {body.did for body in found} == {owner.did, holder.did}

        await wait_until(announced, "announced by both")
        assert (await fetch(reader, blob)).complete
        missing = blob_id(b"nobody has this")
        with pytest.raises(BlobMissing):
            await fetch(reader, missing)


@pytest.mark.constellation
async def test_a_source_that_is_killed_in_the_middle_is_made_up_for() -> None:
    """SIGKILL to one of two processes while it serves: the other gives the rest, and the content is right."""
    data = bytes(64) * (1 << 20)  # 64 MiB, 256 chunks
    async with processes(3) as (dying, staying, reader):
        for holder in (dying, staying):
            blob = await holder.peers("taskd").put_blob(data)
        wanted = p2p.BlobFetch(id=blob, providers=[dying.node.did, staying.node.did], max_bytes=len(data))
        fetching = asyncio.ensure_future(reader.client("taskd").call(p2p.BLOB_FETCH, wanted, deadline_s=100))
        client, here = reader.client("cli"), 0
        while here < 8:
            here = (await client.call(p2p.BLOB_STAT, p2p.BlobRef(id=blob))).chunks_here
        await dying.end(signal.SIGKILL)
        assert here < 256, "it was over before it could be killed"
        assert (await fetching).complete
        assert await reader.peers("taskd").get_blob(blob) == data


def test_runs_are_chunks_in_a_row_that_the_holder_has() -> None:
    """Nothing is taken from the work that the holder lacks."""
    work = deque([0, 1, 2, 5, 6])
    assert next_run(work, all_chunks(8), 16) == [0, 1, 2]
    assert next_run(work, bytes([0b01000000]), 16) == [6]
    assert list(work) == [5]
