"""What stored asks of its neighbours: signatures, nodes and the DHT of p2pd, settled receipts and scores of registryd.

The only file that calls other daemons. Effects of the outbox are told here too; telling twice is the same as once.
"""

from __future__ import annotations

import hashlib

import msgspec

from common.attestor import Attestor
from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts import p2p, registry
from common.contracts.p2p_errors import NotStored
from common.contracts.peer_store import SERVICE_NS, TAG_NS, TOPIC_RATING, TOPIC_SERVICE, TagPointer
from common.contracts.registry import ListNodes, NodeName, NodeStatus, ReceiptsSince, ReceiptView, SubmitReceipt
from common.errors import BadParams, NotFound, NotNow, Unavailable
from common.receipts import ATTESTED_BYTES_MAX, Attested, RatingNotice, attested
from common.rpc.client import Client
from common.store import Effect
from common.units import Did, Hash32

RECORD_TTL_S = 86_400
STATUS_FRESH_MS = 5_000  # how long the registry's word on who is online serves
NOTICE_BYTES_MAX = 2 * ATTESTED_BYTES_MAX

TELL_SERVICE, TELL_RATING, PUT_SERVICE, PUT_TAG = "tell-service", "tell-rating", "put-service", "put-tag"


class NobodyThere(NotNow):
    """This node is connected to no other yet; it is told again until somebody is there."""

    code = 6007
    key = "nobody-there"


class Told(msgspec.Struct, frozen=True):
    """The body of an effect: signed bytes to tell or put, or the services that stand under a name."""

    signed: bytes = b""
    name: str = ""
    service_ids: tuple[str, ...] = ()


class Outside(Attestor):
    """The neighbours, as stored needs them."""

    def __init__(self, p2pd: Client, registryd: Client, clock: Clock) -> None:
        super().__init__(p2pd)
        self._registryd = registryd
        self._clock = clock
        self._statuses: dict[Did, NodeStatus] = {}
        self._statuses_ms: int | None = None

    # the DHT

    async def services_under(self, name: str) -> set[str]:
        """The ids of services that somebody has put under a tag or word."""
        records = await self.peers.get_records(TAG_NS, name)
        return {one for record in records for one in _pointed_at(record.payload)}

    async def looked_up(self, service_id: str) -> list[Attested]:
        """Signed records under a service's id; anybody may have put one there, the intake tells which is right."""
        records = await self.peers.get_records(SERVICE_NS, service_id)
        found = (_envelope(record.payload) for record in records)
        return [envelope for envelope in found if envelope is not None]

    async def holds_blob(self, blob: str) -> bool:
        """Whether this node has all of a blob."""
        return (await self.p2pd.call(p2p.BLOB_STAT, p2p.BlobRef(id=blob))).complete

    # the registry

    async def receipt(self, cid: bytes) -> ReceiptView | None:
        """What the registry knows of a contract's end."""
        try:
            return await self._registryd.call(registry.RECEIPT_SHOW, registry.ContractName(cid=Hash32(cid)))
        except NotFound:
            return None

    async def hand_in(self, receipt: bytes, request_id: str = "") -> registry.ReceiptVerdict:
        """Have the registry check a receipt; without a request_id the first verdict on these bytes is answered.

        Raises:
            BadReceipt: it is wrong whoever looks at it.
            NotNow, Unavailable: not now.
        """
        name = request_id or f"receipt/{hashlib.sha256(receipt).hexdigest()}"
        wish = SubmitReceipt(request_id=name, receipt=receipt)
        return await self._registryd.call(registry.REPUTATION_SUBMIT, wish)

    async def receipts_since(self, cursor: int) -> registry.ReceiptList:
        """Receipts whose state has changed since."""
        wish = ReceiptsSince(after_cursor=cursor, settled_only=False)
        return await self._registryd.call(registry.RECEIPTS_SINCE, wish)

    async def score_ppm(self, did: str) -> int:
        """A node's Q in millionths."""
        return (await self._registryd.call(registry.REPUTATION_GET, NodeName(node_id=did))).score_ppm

    async def statuses(self) -> dict[Did, NodeStatus]:
        """Who is online, as the registry says; what it said last when it does not answer."""
        now_ms = self._clock.unix_ms()
        if self._statuses_ms is None or not 0 <= now_ms - self._statuses_ms < STATUS_FRESH_MS:
            try:
                found = await self._registryd.call(registry.NODE_LIST, ListNodes(limit=registry.LIST_MAX))
            except Unavailable:
                return self._statuses
            self._statuses = {node.node_id: node.status for node in found.nodes}
            self._statuses_ms = now_ms
        return self._statuses

    # effects of the outbox

    async def perform(self, effect: Effect) -> None:
        """Tell or put what a decision wanted; raises `Unavailable` or `NotNow` to be tried again."""
        told = msgspec.json.decode(effect.body, type=Told)
        if effect.kind in (TELL_SERVICE, TELL_RATING):
            if not await self._tell(effect.kind, told):
                raise NobodyThere
            return
        try:
            await self._put(effect.kind, told)
        except NotStored:
            return  # p2pd keeps it and offers it again as soon as somebody is near enough

    async def _tell(self, kind: str, told: Told) -> int:
        if kind == TELL_SERVICE:
            return await self.publish(TOPIC_SERVICE, attested(told.signed))
        return await self.publish(TOPIC_RATING, from_canonical(told.signed, RatingNotice, max_bytes=NOTICE_BYTES_MAX))

    async def _put(self, kind: str, told: Told) -> None:
        if kind == PUT_SERVICE:
            await self.peers.put_record(SERVICE_NS, told.name, attested(told.signed), ttl_s=RECORD_TTL_S)
            return
        payload = canonical(TagPointer(service_ids=told.service_ids)) if told.service_ids else b""
        put = p2p.DhtPut(ns=TAG_NS.name, name=told.name, payload=payload, ttl_s=RECORD_TTL_S)
        await self.p2pd.call(p2p.DHT_PUT, put)


def _pointed_at(payload: bytes) -> tuple[str, ...]:
    """The services in one node's pointer; none in what is no pointer, so that nonsense hides nobody else's."""
    try:
        return from_canonical(payload, TagPointer, max_bytes=TAG_NS.payload_bytes_max).service_ids
    except BadParams:
        return ()


def _envelope(payload: bytes) -> Attested | None:
    """The envelope in one node's record; None for what is none, so that nonsense hides nobody else's."""
    try:
        return attested(payload)
    except BadParams:
        return None
