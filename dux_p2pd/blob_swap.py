"""Blobs between nodes: fetched from several at once, served by stream, kept for others against a signed receipt.

Promise: what arrives is checked chunk by chunk; who sends a chunk that does not hash to its place is blamed and not
asked again, and the blob still comes from the others; a fetch that is cut off goes on where it stood. A receipt is
signed only when all of the blob is here.

Source: settled.md 11, network.md §6.
"""

from __future__ import annotations

import asyncio
from collections import deque

from structlog.typing import FilteringBoundLogger

from common.blobs import CHUNK_BYTES, StorageReceipt
from common.clock import Clock
from common.codec import canonical
from common.contracts.p2p import BlobFetch, BlobHold, BlobStat, Held, HeldBy
from common.contracts.p2p_errors import BlobMissing, BlobTooLarge
from common.contracts.peer_p2p import (
    BLOB_CHUNKS_STREAM,
    BLOB_KEEP,
    BLOB_MANIFEST,
    AskManifest,
    HoldAnswer,
    HoldBlob,
    ManifestAnswer,
)
from common.errors import BadParams, DuxError, NotFound
from common.identity.purposes import Purpose
from common.identity.signed import sign
from common.units import Did
from dux_p2pd.blob_store import BlobStore, has_chunk
from dux_p2pd.keeper import Keeper
from dux_p2pd.peers import PeerBook
from dux_p2pd.scores import BLAME_BAD_CHUNK
from dux_p2pd.session import Headers, Incoming, Peer, Session, Stream
from dux_p2pd.settings import P2pdSettings

CHUNKS_PER_STREAM = 16  # 4 MiB: a stream of this size outlives no deadline on a line of 150 KB/s
STREAM_S = 30.0
PROVIDERS_MAX = 8
HOLDERS_MAX = 16
HOLD_S = 30.0
READ_BYTES = 65_536


class BlobSwap:
    """Gets blobs from others and gives them to others."""

    def __init__(
        self,
        store: BlobStore,
        peers: PeerBook,
        keeper: Keeper,
        *,
        settings: P2pdSettings,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._store = store
        self._peers = peers
        self._keeper = keeper
        self._settings = settings
        self._clock = clock
        self._log = log

    # fetching

    async def fetch(self, wanted: BlobFetch) -> BlobStat:
        """Bring a blob here from any of its providers.

        Raises:
            BlobMissing: none of them gave all of it. BlobTooLarge, BlobsFull, BadParams.
        """
        stat = self._store.stat(wanted.id)
        if stat.complete:
            return stat
        providers = [did for did in dict.fromkeys(wanted.providers) if did != self._keeper.did][:PROVIDERS_MAX]
        holders = await self._manifests(wanted, providers)
        while holders and (missing := self._store.missing(wanted.id)):
            left = await self._round(wanted.id, holders, missing)
            if len(left) == len(holders) and len(self._store.missing(wanted.id)) == len(missing):
                break
            holders = left
        stat = self._store.stat(wanted.id)
        if not stat.complete:
            raise BlobMissing(blob=wanted.id, providers=len(providers))
        return stat

    async def _manifests(self, wanted: BlobFetch, providers: list[Did]) -> dict[Did, bytes]:
        """Which chunks each provider has; the blob is begun with the first good manifest."""
        holders: dict[Did, bytes] = {}
        for did in providers:
            try:
                answer = await self._peers.call(did, BLOB_MANIFEST, AskManifest(blob=bytes.fromhex(wanted.id)))
                self._store.begin(wanted.id, answer.manifest, wanted.max_bytes)
            except BlobTooLarge:
                raise
            except DuxError as error:
                self._log.info("provider has no manifest", did=did, blob=wanted.id, reason=error.message)
                continue
            holders[did] = answer.have
        return holders

    async def _round(self, blob: str, holders: dict[Did, bytes], missing: list[int]) -> dict[Did, bytes]:
        """Share the missing chunks among the holders; those that did not fail."""
        work = deque(missing)
        share = max(1, min(CHUNKS_PER_STREAM, -(-len(missing) // len(holders))))
        async with asyncio.TaskGroup() as group:
            asked = {
                did: group.create_task(self._take_from(did, have, blob, work, share)) for did, have in holders.items()
            }
        return {did: holders[did] for did, task in asked.items() if task.result()}

    async def _take_from(self, did: Did, have: bytes, blob: str, work: deque[int], share: int) -> bool:
        """Fetch runs of missing chunks from one provider until there are none left (True) or it fails (False)."""
        while run := _next_run(work, have, share):
            try:
                taken = await self._take_run(did, blob, run)
            except (DuxError, TimeoutError) as error:
                self._log.info("chunks not had", did=did, blob=blob, reason=str(error))
                taken = 0
            work.extend(run[taken:])
            if taken < len(run):
                return False
        return True

    async def _take_run(self, did: Did, blob: str, run: list[int]) -> int:
        """How many chunks of the run came and were right."""
        session = await self._peers.session_to(did)
        stream = await session.open_stream(BLOB_CHUNKS_STREAM, chunk_headers(blob, run), deadline_s=STREAM_S)
        try:
            async with asyncio.timeout(STREAM_S):
                await stream.close()
                return await self._take_chunks(stream, did, blob, run)
        finally:
            stream.reset()

    async def _take_chunks(self, stream: Stream, did: Did, blob: str, run: list[int]) -> int:
        found = self._store.manifest(blob)
        if found is None:
            return 0
        size_bytes = found[0].size_bytes
        for taken, index in enumerate(run):
            wanted_bytes = min(CHUNK_BYTES, size_bytes - index * CHUNK_BYTES)
            chunk = await _read_exactly(stream, wanted_bytes)
            if len(chunk) < wanted_bytes:
                return taken
            if not self._store.write_chunk(blob, index, chunk):
                self._peers.blame(did, BLAME_BAD_CHUNK, f"chunk {index} of blob {blob} is corrupt")
                return taken
        return len(run)

    # serving

    async def on_manifest(self, params: AskManifest, _peer: Peer) -> ManifestAnswer:
        """BLOB_MANIFEST.

        Raises:
            NotFound: nothing of this blob is here.
        """
        found = self._store.manifest(params.blob.hex())
        if found is None:
            raise NotFound(what="blob", name=params.blob.hex())
        return ManifestAnswer(manifest=canonical(found[0]), have=found[1])

    async def serve_chunks(self, session: Session, incoming: Incoming) -> None:
        """BLOB_CHUNKS_STREAM: the chunks asked for, one after another; it ends at the first that is not here."""
        blob, first, count = read_chunk_headers(incoming.headers)
        for index in range(first, first + count):
            chunk = self._store.read_chunk(blob, index)
            if chunk is None:
                break
            await incoming.stream.write(chunk)
        await incoming.stream.close()
        self._log.debug("chunks served", did=session.peer.did, blob=blob, first=first, count=count)

    # keeping for others

    async def on_keep(self, params: HoldBlob, peer: Peer) -> HoldAnswer:
        """BLOB_KEEP: fetch the blob from who asks, keep it, sign the receipt.

        Raises:
            BlobTooLarge, BlobsFull, BlobMissing, BadParams.
        """
        if params.size_bytes > self._settings.hold_bytes_max:
            raise BlobTooLarge(size_bytes=params.size_bytes, limit_bytes=self._settings.hold_bytes_max)
        if not 1 <= params.keep_s <= self._settings.hold_s_max:
            raise BadParams(detail=f"a blob is kept for 1 to {self._settings.hold_s_max} s, not {params.keep_s}")
        blob = params.blob.hex()
        await self.fetch(BlobFetch(id=blob, providers=[peer.did], max_bytes=params.size_bytes))
        self._store.keep(blob, params.keep_s)
        receipt = StorageReceipt(
            v=1,
            blob=params.blob,
            holder=self._keeper.did,
            key_seq=self._keeper.key_seq,
            until_height=params.until_height,
            at_ms=self._clock.unix_ms(),
        )
        return HoldAnswer(receipt=canonical(sign(self._keeper.signer, Purpose.STORAGE_RECEIPT, receipt)))

    async def hold(self, wanted: BlobHold) -> Held:
        """Ask others to keep a blob that is here.

        Raises:
            BlobMissing: not all of it is here.
        """
        stat = self._store.stat(wanted.id)
        if not stat.complete:
            raise BlobMissing(blob=wanted.id, providers=0)
        self._store.keep(wanted.id, wanted.keep_s)
        ask = HoldBlob(
            blob=bytes.fromhex(wanted.id),
            size_bytes=stat.size_bytes,
            until_height=wanted.until_height,
            keep_s=wanted.keep_s,
        )
        holders = list(dict.fromkeys(wanted.holders))[:HOLDERS_MAX]
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._ask_to_keep(did, ask)) for did in holders]
        return Held(holders=[task.result() for task in asked])

    async def _ask_to_keep(self, did: Did, ask: HoldBlob) -> HeldBy:
        try:
            answer = await self._peers.call(did, BLOB_KEEP, ask, deadline_s=HOLD_S)
        except DuxError as error:
            return HeldBy(did=did, receipt=None, reason=error.message)
        return HeldBy(did=did, receipt=answer.receipt, reason="")


def _next_run(work: deque[int], have: bytes, share: int) -> list[int]:
    """The next chunks in a row that this provider has, taken out of the work; empty when it has none of it."""
    run: list[int] = []
    for _ in range(len(work)):
        index = work.popleft()
        follows = not run or index == run[-1] + 1
        if has_chunk(have, index) and follows and len(run) < share:
            run.append(index)
        else:
            work.append(index)
    return run


async def _read_exactly(stream: Stream, size_bytes: int) -> bytes:
    parts: list[bytes] = []
    left = size_bytes
    while left > 0:
        data = await stream.read(min(left, READ_BYTES))
        if not data:
            break
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


def chunk_headers(blob: str, run: list[int]) -> Headers:
    """The headers that ask for a run of chunks."""
    return (("blob", bytes.fromhex(blob)), ("first", run[0].to_bytes(4, "big")), ("count", len(run).to_bytes(4, "big")))


def read_chunk_headers(headers: Headers) -> tuple[str, int, int]:
    """Blob, first chunk and number of chunks that are asked for.

    Raises:
        BadParams: missing, or more than one stream carries.
    """
    found = dict(headers)
    blob, first, count = found.get("blob", b""), found.get("first", b""), found.get("count", b"")
    if (len(blob), len(first), len(count)) != (32, 4, 4):
        raise BadParams(detail="a stream of chunks wants the headers blob, first and count")
    number = int.from_bytes(count, "big")
    if not 1 <= number <= CHUNKS_PER_STREAM:
        raise BadParams(detail=f"1 to {CHUNKS_PER_STREAM} chunks per stream, not {number}")
    return blob.hex(), int.from_bytes(first, "big"), number
