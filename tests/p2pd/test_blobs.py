"""Blobs: kept, moved and verified between real p2pds, and through the HTTP door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from common.blobs import CHUNK_BYTES, StorageReceipt, blob_id, manifest_of
from common.clock import ManualClock
from common.codec import canonical, from_canonical
from common.contracts import p2p
from common.contracts.p2p_errors import BlobMissing, BlobsFull, BlobTooLarge
from common.errors import BadParams, DuxError
from common.identity.purposes import Purpose
from common.identity.signed import Signed, open_signed
from common.store import Store
from common.units import BlockHeight
from dux_p2pd.abuse import Abuse
from dux_p2pd.blob_gather import chunk_headers
from dux_p2pd.blob_store import BlobStore
from dux_p2pd.store import MIGRATIONS, BlobTable
from tests.attacks.registry import attack
from tests.p2pd.overlay_kit import Node, network

DATA = bytes(index % 251 for index in range(3 * CHUNK_BYTES + 1000))


async def pieces(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def put(node: Node, data: bytes) -> str:
    """Put by HTTP, as a daemon does."""
    client = node.http("taskd")
    try:
        headers = {"Authorization": f"Bearer {client.token()}"}
        async with client.session().put(client.url + "blob", data=pieces(data), headers=headers) as response:
            assert response.status == 200, await response.text()
            return await response.text()
    finally:
        await client.close()


async def get(node: Node, blob: str) -> tuple[int, bytes]:
    client = node.http("taskd")
    try:
        headers = {"Authorization": f"Bearer {client.token()}"}
        async with client.session().get(f"{client.url}blob/{blob}", headers=headers) as response:
            return response.status, await response.read()
    finally:
        await client.close()


async def test_a_blob_travels_and_comes_out_as_it_went_in() -> None:
    """PUT at one node, fetch and GET at another; the id is the hash of the content whoever computes it."""
    async with network(2) as (one, two):
        blob = await put(one, DATA)
        assert blob == blob_id(DATA)
        fetch = p2p.BlobFetch(id=blob, providers=[one.did], max_bytes=len(DATA))
        stat = await two.as_caller("taskd").call(p2p.BLOB_FETCH, fetch)
        assert (stat.complete, stat.size_bytes, stat.chunks_here) == (True, len(DATA), 4)
        assert await get(two, blob) == (200, DATA)
        assert (await get(two, "ab" * 32))[0] == 404
        assert (await get(two, "nonsense"))[0] == 400


@attack(
    "blobs",
    tries="the local HTTP door without a token, or from a page in a browser",
    meets="401, 403; nothing goes in or out",
)
async def test_the_door_wants_a_token_and_no_browser() -> None:
    """Without a token, or from a page in a browser, nothing goes in or out."""
    async with network(1) as (node,), aiohttp.ClientSession() as session:
        client = node.http("taskd")
        async with session.put(client.url + "blob", data=b"x") as response:
            assert response.status == 401
        headers = {"Authorization": f"Bearer {client.token()}", "Origin": "http://evil.example"}
        async with session.put(client.url + "blob", data=b"x", headers=headers) as response:
            assert response.status == 403


@attack(
    "blobs",
    tries="gives chunks that are not the blob's",
    meets="not written, the liar is blamed; the blob comes from another",
)
async def test_a_corrupt_chunk_is_refused_and_the_blob_comes_from_another() -> None:
    """The liar's chunks are not written and it is blamed; with an honest provider beside it the blob comes."""
    async with network(3) as (honest, liar, reader):
        blob = await put(honest, DATA)
        await put(liar, DATA)
        path = liar.folder / "data" / "p2pd" / "blobs" / blob[:2] / blob
        damaged = bytearray(path.read_bytes())
        for chunk in range(4):
            damaged[chunk * CHUNK_BYTES] ^= 1
        path.write_bytes(damaged)
        alone = p2p.BlobFetch(id=blob, providers=[liar.did], max_bytes=len(DATA))
        with pytest.raises(BlobMissing):
            await reader.as_caller("taskd").call(p2p.BLOB_FETCH, alone)
        assert reader.daemon.net.scores.of(liar.did) >= 49
        assert (await reader.as_caller("taskd").call(p2p.BLOB_STAT, p2p.BlobRef(id=blob))).chunks_here == 0
        both = p2p.BlobFetch(id=blob, providers=[liar.did, honest.did], max_bytes=len(DATA))
        assert (await reader.as_caller("taskd").call(p2p.BLOB_FETCH, both)).complete
        assert await get(reader, blob) == (200, DATA)


async def test_a_fetch_that_was_cut_off_goes_on_where_it_stood() -> None:
    """Chunks that are here are not fetched again; two providers with a half each give the whole."""
    async with network(3) as (one, two, reader):
        blob, manifest = await put(one, DATA), canonical(manifest_of(DATA))
        for node, indexes in ((two, (0, 1)), (reader, (3,))):
            store = node.daemon.blobs
            store.begin(blob, manifest, len(DATA))
            for index in indexes:
                assert store.write_chunk(blob, index, DATA[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES])
        await one.stop()
        fetch = p2p.BlobFetch(id=blob, providers=[one.did, two.did], max_bytes=len(DATA))
        with pytest.raises(BlobMissing):
            await reader.as_caller("taskd").call(p2p.BLOB_FETCH, fetch)
        assert reader.daemon.blobs.missing(blob) == [2]
        await one.start()
        await reader.daemon.net.peers.dial((one.settings.listen_host, one.base + 10), one.did)
        assert (await reader.as_caller("taskd").call(p2p.BLOB_FETCH, fetch)).complete
        assert await get(reader, blob) == (200, DATA)


async def test_holders_keep_a_blob_and_sign_for_it() -> None:
    """A receipt names blob, holder and height, verifies with the holder's key, and the blob is there and promised."""
    async with network(3) as (owner, holder, other):
        blob = await put(owner, DATA)
        hold = p2p.BlobHold(
            request_id="hold-1", id=blob, holders=[holder.did, other.did], until_height=BlockHeight(900), keep_s=86_400
        )
        held = await owner.as_caller("escrowd").call(p2p.BLOB_HOLD, hold, deadline_s=60)
        assert await owner.as_caller("escrowd").call(p2p.BLOB_HOLD, hold) == held
        for one, node in zip(held.holders, (holder, other), strict=True):
            assert one.receipt is not None, one.reason
            key = node.daemon.net.keeper.signer.public
            signed = from_canonical(one.receipt, Signed, max_bytes=1000)
            receipt = open_signed(signed, StorageReceipt, key=key, purpose=Purpose.STORAGE_RECEIPT, max_bytes=512)
            assert (receipt.blob.hex(), receipt.holder, receipt.until_height) == (blob, node.did, 900)
            stat = await node.as_caller("cli").call(p2p.BLOB_STAT, p2p.BlobRef(id=blob))
            assert stat.complete
            assert stat.keep_until_ms is not None


@attack(
    "blobs",
    tries="has a blob kept that is larger than it said",
    meets="refused at the stated size and at the real one",
)
async def test_a_holder_refuses_what_is_larger_than_it_offers() -> None:
    """The limit holds against the stated size and against the real one."""
    async with network(2, hold_bytes_max=CHUNK_BYTES) as (owner, holder):
        blob = await put(owner, DATA)
        hold = p2p.BlobHold(request_id="h", id=blob, holders=[holder.did], until_height=BlockHeight(9), keep_s=60)
        held = await owner.as_caller("escrowd").call(p2p.BLOB_HOLD, hold, deadline_s=60)
        assert (held.holders[0].receipt, "bytes" in held.holders[0].reason) == (None, True)
        assert holder.daemon.net.peers.abuse.of(Abuse.BLOB_REFUSED) == 1
        small = p2p.BlobFetch(id=blob, providers=[owner.did], max_bytes=1000)
        with pytest.raises(BlobTooLarge):
            await holder.as_caller("taskd").call(p2p.BLOB_FETCH, small)


@attack("blobs", tries="missing headers and absurd counts on a stream of chunks", meets="an error, no stream")
async def test_nonsense_on_a_stream_of_chunks_is_refused() -> None:
    """Missing headers and absurd counts end in an error, not in a stream."""
    async with network(2) as (one, two):
        session = await one.daemon.net.peers.session_to(two.did)
        for headers in (
            (),
            chunk_headers("ab" * 32, list(range(17))),
            (("blob", b"x"), ("first", b""), ("count", b"")),
        ):
            stream = await session.open_stream("blob.chunks", headers, deadline_s=5)
            await stream.close()
            with pytest.raises(DuxError):
                await stream.read(10)


# the store alone


def store_of(folder: Path, **limits: int) -> tuple[BlobStore, ManualClock]:
    clock = ManualClock()
    table = BlobTable(Store.open(None, MIGRATIONS, clock))
    settings = {"quota_bytes": 10 * CHUNK_BYTES, "blob_bytes_max": 5 * CHUNK_BYTES} | limits
    return BlobStore(folder / "blobs", table, clock=clock, **settings), clock


async def test_the_quota_holds_and_promised_blobs_stay(tmp_path: Path) -> None:
    """The least recently used unpromised blob makes room; when only promised ones are left, nothing more comes in."""
    store, clock = store_of(tmp_path)
    blobs = []
    for number in range(3):
        clock.advance(10)
        blobs.append(await store.put(pieces(bytes([number]) * 4 * CHUNK_BYTES), keep_s=0 if number < 2 else 1000))
    assert [store.stat(blob).complete for blob in blobs] == [False, True, True]
    store.keep(blobs[1], 1000)
    with pytest.raises(BlobsFull):
        await store.put(pieces(b"n" * 4 * CHUNK_BYTES), keep_s=0)
    clock.advance(2000)
    assert store.stat(await store.put(pieces(b"n" * 4 * CHUNK_BYTES), keep_s=0)).complete


async def test_an_upload_that_is_too_large_or_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    """No unfinished file, no row."""
    store, _ = store_of(tmp_path)

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * CHUNK_BYTES
        raise ConnectionResetError

    with pytest.raises(BlobTooLarge):
        await store.put(pieces(b"x" * 6 * CHUNK_BYTES), keep_s=0)
    with pytest.raises(ConnectionResetError):
        await store.put(broken(), keep_s=0)
    assert store.totals() == (0, 0)
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
async def test_every_size_comes_back_whole(tmp_path: Path, size: int) -> None:
    """Also the empty blob and those at the edges of a chunk."""
    store, _ = store_of(tmp_path)
    data = bytes(size)
    blob = await store.put(pieces(data), keep_s=0)
    assert blob == blob_id(data)
    assert b"".join(store.read(blob)) == data


@attack("blobs", tries="a manifest of another blob or size", meets="refused; nothing is begun with it")
def test_a_manifest_of_another_blob_or_size_is_refused(tmp_path: Path) -> None:
    """Nothing is begun with it."""
    store, _ = store_of(tmp_path)
    manifest = canonical(manifest_of(DATA))
    with pytest.raises(BadParams):
        store.begin("ab" * 32, manifest, len(DATA))
    with pytest.raises(BlobTooLarge):
        store.begin(blob_id(DATA), manifest, len(DATA) - 1)
    assert not store.write_chunk(blob_id(DATA), 0, DATA[:CHUNK_BYTES])
