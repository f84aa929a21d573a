"""One blob from several nodes at once: who gives which chunks, who is dropped, who takes over.

Promise: a chunk that does not hash to its place costs its giver everything else it might have given; a giver that is
slow, dead or lying is dropped, and its chunks come from the others; when the last chunk is here nobody is waited for.

Source: network.md §6.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from structlog.typing import FilteringBoundLogger

from common.blobs import CHUNK_BYTES
from common.contracts.peer_p2p import BLOB_CHUNKS_STREAM
from common.errors import BadParams, DuxError
from common.units import Did
from dux_p2pd.blob_store import BlobStore, has_chunk
from dux_p2pd.peers import PeerBook
from dux_p2pd.scores import BLAME_BAD_CHUNK
from dux_p2pd.session import Headers, Stream

CHUNKS_PER_STREAM = 16  # 4 MiB
STREAM_S = 180.0
CHUNK_S = 10.0  # a giver that needs longer for 256 KiB is dropped
TAKE_OVER_S = 2.0  # a chunk asked of one for so long is asked of an idle one too
IDLE_S = 0.1
READ_BYTES = 65_536


class Gathering:
    """The fetch of one blob's missing chunks."""

    def __init__(
        self, store: BlobStore, peers: PeerBook, log: FilteringBoundLogger, blob: str, holders: Mapping[Did, bytes]
    ) -> None:
        """`holders` are the nodes to ask, with one bit for each chunk that they have."""
        self._store = store
        self._peers = peers
        self._log = log
        self._blob = blob
        self._holders = holders
        self._missing = set(store.missing(blob))
        self._todo = deque(sorted(self._missing))
        self._asked: dict[int, tuple[Did, float]] = {}  # chunk -> of whom, since when
        self._tasks: dict[Did, asyncio.Task[None]] = {}
        self.failed: list[Did] = []

    async def run(self) -> bool:
        """Gather until all chunks are here (True) or no holder is left that has what is missing (False)."""
        if self._missing:
            async with asyncio.TaskGroup() as group:
                for did, have in self._holders.items():
                    self._tasks[did] = group.create_task(self._work(did, have))
        return not self._missing

    async def _work(self, did: Did, have: bytes) -> None:
        """Take run after run from one holder, until there is nothing more for it or it fails."""
        while self._missing:
            run = self._next_run(did, have)
            if not run:
                if not self._may_come(did, have):
                    return
                await asyncio.sleep(IDLE_S)
                continue
            try:
                whole = await self._take_run(did, run)
            except (DuxError, TimeoutError) as error:
                self._log.info("chunks not had", did=did, blob=self._blob, reason=str(error))
                whole = False
            self._put_back(did, run)
            if not whole:
                self.failed.append(did)
                return
        for other, task in self._tasks.items():
            if other != did:
                task.cancel()

    def _next_run(self, did: Did, have: bytes) -> list[int]:
        """Chunks in a row that it has: of those nobody was asked for, else of those another is slow with."""
        now_s = asyncio.get_running_loop().time()
        share = max(1, min(CHUNKS_PER_STREAM, -(-len(self._todo) // len(self._holders))))
        run = next_run(self._todo, have, share)
        if not run:
            late = (i for i, (who, at_s) in sorted(self._asked.items()) if who != did and at_s + TAKE_OVER_S <= now_s)
            run = [index for index in late if index in self._missing and has_chunk(have, index)][:1]
        for index in run:
            self._asked[index] = did, now_s
        return run

    def _may_come(self, did: Did, have: bytes) -> bool:
        """Whether another may still fail with chunks that this one has."""
        return any(who != did and i in self._missing and has_chunk(have, i) for i, (who, _) in self._asked.items())

    def _put_back(self, did: Did, run: list[int]) -> None:
        for index in run:
            if self._asked.get(index, ("", 0.0))[0] == did:
                del self._asked[index]
                if index in self._missing:
                    self._todo.append(index)

    async def _take_run(self, did: Did, run: list[int]) -> bool:
        """Whether all of the run came and was right."""
        session = await self._peers.session_to(did)
        stream = await session.open_stream(BLOB_CHUNKS_STREAM, chunk_headers(self._blob, run), deadline_s=STREAM_S)
        try:
            await stream.close()
            return await self._take_chunks(stream, did, run)
        finally:
            stream.reset()

    async def _take_chunks(self, stream: Stream, did: Did, run: list[int]) -> bool:
        found = self._store.manifest(self._blob)
        if found is None:
            return False
        size_bytes = found[0].size_bytes
        for index in run:
            wanted_bytes = min(CHUNK_BYTES, size_bytes - index * CHUNK_BYTES)
            async with asyncio.timeout(CHUNK_S):
                chunk = await read_exactly(stream, wanted_bytes)
            if len(chunk) < wanted_bytes:
                return False
            if index in self._missing and not self._store.write_chunk(self._blob, index, chunk):
                self._peers.blame(did, BLAME_BAD_CHUNK, f"chunk {index} of blob {self._blob} is corrupt")
                return False
            self._missing.discard(index)
        return True


def next_run(work: deque[int], have: bytes, share: int) -> list[int]:
    """The next chunks in a row that this holder has, taken out of the work; empty when it has none of it."""
    run: list[int] = []
    for _ in range(len(work)):
        index = work.popleft()
        follows = not run or index == run[-1] + 1
        if has_chunk(have, index) and follows and len(run) < share:
            run.append(index)
        else:
            work.append(index)
    return run


async def read_exactly(stream: Stream, size_bytes: int) -> bytes:
    """So many bytes, fewer at the stream's end."""
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
