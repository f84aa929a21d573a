"""Blobs between nodes: fetched from several at once, served by stream, kept for others against a signed receipt.

Promise: what arrives is checked chunk by chunk (`blob_gather.py`); a fetch that is cut off, also by the end of this
process, goes on where it stood. A receipt is signed only when all of the blob is here, and the DHT then names this node
as one that keeps it.

Source: settled.md 11, network.md §6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from structlog.typing import FilteringBoundLogger

from common.blobs import StorageReceipt
from common.clock import Clock
from common.codec import canonical
from common.contracts.p2p import BlobFetch, BlobHold, BlobStat, Held, HeldBy
from common.contracts.p2p_errors import BlobMissing, BlobsFull, BlobTooLarge
from common.contracts.peer_p2p import (
    BLOB_KEEP,
    BLOB_MANIFEST,
    BLOB_NS,
    AskManifest,
    BlobOffer,
    HoldAnswer,
    HoldBlob,
    ManifestAnswer,
)
from common.errors import BadParams, DuxError, NotFound
from common.identity.purposes import Purpose
from common.identity.signed import sign
from common.units import Did
from dux_p2pd.abuse import Abuse
from dux_p2pd.blob_gather import Gathering, read_chunk_headers
from dux_p2pd.blob_store import BlobStore
from dux_p2pd.keeper import Keeper
from dux_p2pd.peers import PeerBook
from dux_p2pd.records import RecordBody
from dux_p2pd.scores import BLAME_BAD_CHUNK
from dux_p2pd.session import Incoming, Peer, Session
from dux_p2pd.settings import P2pdSettings
from dux_p2pd.tasks import Tasks

PROVIDERS_MAX = 8
HOLDERS_MAX = 16
HOLD_S = 30.0
BLOB_OFFER_S = 86_400  # a kept blob is announced for a day, and twice a day while it is kept
OFFERS_MAX = 32  # blobs announced again; a storer keeps 64 records of one signer

Publish = Callable[[str, str, bytes, int], Awaitable[object]]
Find = Callable[[str, str], Awaitable[list[RecordBody]]]


class BlobSwap:
    """Gets blobs from others and gives them to others."""

    def __init__(
        self,
        store: BlobStore,
        peers: PeerBook,
        keeper: Keeper,
        tasks: Tasks,
        *,
        settings: P2pdSettings,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._store = store
        self._peers = peers
        self._keeper = keeper
        self._tasks = tasks
        self._settings = settings
        self._clock = clock
        self._log = log
        self._locks: dict[str, asyncio.Lock] = {}
        self.publish: Publish | None = None  # puts a record of this node; set at assembly
        self.find: Find | None = None  # reads everybody's

    # fetching

    async def fetch(self, wanted: BlobFetch) -> BlobStat:
        """Bring a blob here from the given providers, and from others that the DHT names when those do not have all.

        Raises:
            BlobMissing: none of them gave all of it. BlobTooLarge, BlobsFull, BadParams.
        """
        lock = self._locks.setdefault(wanted.id, asyncio.Lock())
        try:
            async with lock:  # who asks for the same blob meanwhile finds it here
                return await self._fetch(wanted)
        finally:
            if not lock.locked():
                self._locks.pop(wanted.id, None)

    async def _fetch(self, wanted: BlobFetch) -> BlobStat:
        stat = self._store.stat(wanted.id)
        asked: list[Did] = []
        for more in (self._given, self._named_by_dht):
            if not stat.complete:
                providers = [did for did in await more(wanted) if did != self._keeper.did and did not in asked]
                asked += providers
                await self._gather(wanted, providers)
                stat = self._store.stat(wanted.id)
        if not stat.complete:
            raise BlobMissing(blob=wanted.id, providers=len(asked))
        return stat

    async def _given(self, wanted: BlobFetch) -> list[Did]:
        return list(dict.fromkeys(wanted.providers))[:PROVIDERS_MAX]

    async def _named_by_dht(self, wanted: BlobFetch) -> list[Did]:
        """Nodes that say they keep the blob; whether they do shows when they are asked."""
        if self.find is None:
            return []
        return list(dict.fromkeys(body.did for body in await self.find(BLOB_NS.name, wanted.id)))[:PROVIDERS_MAX]

    async def _gather(self, wanted: BlobFetch, providers: list[Did]) -> None:
        """As long as a round of the holders that did not fail brings something."""
        holders = await self._manifests(wanted, providers)
        while holders and (missing := self._store.missing(wanted.id)):
            gathering = Gathering(self._store, self._peers, self._log, wanted.id, holders)
            if await gathering.run() or len(self._store.missing(wanted.id)) == len(missing):
                return
            holders = {did: have for did, have in holders.items() if did not in gathering.failed}

    async def _manifests(self, wanted: BlobFetch, providers: list[Did]) -> dict[Did, bytes]:
        """Which chunks each provider has; the blob is begun with the first good manifest."""
        async with asyncio.TaskGroup() as group:
            asked = {did: group.create_task(self._manifest_of(did, wanted)) for did in providers}
        holders: dict[Did, bytes] = {}
        for did, task in asked.items():
            answer = task.result()
            if answer is not None and self._begin(did, answer, wanted):
                holders[did] = answer.have
        return holders

    async def _manifest_of(self, did: Did, wanted: BlobFetch) -> ManifestAnswer | None:
        try:
            return await self._peers.call(did, BLOB_MANIFEST, AskManifest(blob=bytes.fromhex(wanted.id)))
        except DuxError as error:
            self._log.info("provider has no manifest", did=did, blob=wanted.id, reason=error.message)
            return None

    def _begin(self, did: Did, answer: ManifestAnswer, wanted: BlobFetch) -> bool:
        """Whether the manifest is this blob's.

        Raises:
            BlobTooLarge, BlobsFull: it is, and there is no room for it.
        """
        try:
            self._store.begin(wanted.id, answer.manifest, wanted.max_bytes)
        except BadParams as error:
            self._peers.blame(did, BLAME_BAD_CHUNK, f"the manifest of blob {wanted.id} is another's: {error.message}")
            return False
        return True

    async def announce(self, blob: str, size_bytes: int) -> None:
        """Say in the DHT that this node keeps a blob, so that who has no hint finds it."""
        if self.publish is not None:
            await self.publish(BLOB_NS.name, blob, canonical(BlobOffer(size_bytes=size_bytes)), BLOB_OFFER_S)

    async def run_offers(self) -> None:
        """Announce again what is still kept, for ever."""
        while True:
            await asyncio.sleep(BLOB_OFFER_S / 2)
            for blob, size_bytes in self._store.kept(OFFERS_MAX):
                try:
                    await self.announce(blob, size_bytes)
                except DuxError as error:
                    self._log.info("blob not announced", blob=blob, reason=error.message)

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
        try:
            return await self._kept_for(params, peer)
        except (BlobTooLarge, BlobsFull, BadParams):
            self._peers.abuse.add(Abuse.BLOB_REFUSED)
            raise

    async def _kept_for(self, params: HoldBlob, peer: Peer) -> HoldAnswer:
        if params.size_bytes > self._settings.hold_bytes_max:
            raise BlobTooLarge(size_bytes=params.size_bytes, limit_bytes=self._settings.hold_bytes_max)
        if not 1 <= params.keep_s <= self._settings.hold_s_max:
            raise BadParams(detail=f"a blob is kept for 1 to {self._settings.hold_s_max} s, not {params.keep_s}")
        blob = params.blob.hex()
        await self.fetch(BlobFetch(id=blob, providers=[peer.did], max_bytes=params.size_bytes))
        self._store.keep(blob, params.keep_s)
        self._tasks.spawn(self.announce(blob, params.size_bytes), "announce a blob")
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
        self._tasks.spawn(self.announce(wanted.id, stat.size_bytes), "announce a blob")
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
