"""p2pd's methods for the node's own daemons: each checks what only it can know, then hands on.

Source: common/contracts/p2p.py, settled.md 4 and 25.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from common.chain.address import pay_to_key, script_to_address
from common.chain.params import ChainFamily
from common.clock import Clock
from common.codec import Canon
from common.contracts import p2p
from common.contracts.p2p_errors import NotStored, NotYourPurpose, NotYourTopic, RecordRefused
from common.contracts.p2p_reach import P2P_REACH, Reach, Reached
from common.errors import BadParams, DuxError
from common.identity.document import document
from common.identity.keys import is_signed
from common.identity.log import Log, decode_log, encode_log, recovers, split_of, was_valid_when_seen
from common.identity.node_record import open_coin_link
from common.identity.purposes import OWNER, Purpose
from common.nets import may_listen_at
from common.rpc.method import Done, Empty, Topic
from common.rpc.table import Ctx, MethodTable
from common.units import UnixMs
from dux_p2pd.blob_store import BlobStore
from dux_p2pd.blob_swap import BlobSwap
from dux_p2pd.dht import Dht
from dux_p2pd.directory import Known
from dux_p2pd.egress import Egress
from dux_p2pd.gossip import GossipNet
from dux_p2pd.keeper import Keeper
from dux_p2pd.key_source import load_keys
from dux_p2pd.look_key import LookKey
from dux_p2pd.peers import PeerBook
from dux_p2pd.reaching import reach
from dux_p2pd.records import GOSSIP_PAYLOAD_BYTES_MAX
from dux_p2pd.renewal import Renewal
from dux_p2pd.resolver import Resolver
from dux_p2pd.router import Router
from dux_p2pd.session import Session
from dux_p2pd.upkeep import Upkeep

PEER_CALL_BYTES_MAX = 1 << 20


class NetworkMethods:
    """p2p.*, gossip.* and dht.*."""

    def __init__(
        self,
        *,
        network: str,
        keeper: Keeper,
        peers: PeerBook,
        router: Router,
        gossip: GossipNet,
        dht: Dht,
        upkeep: Upkeep,
        blobs: BlobStore,
        egress: Egress,
        topics: Mapping[str, Topic[Canon]],
    ) -> None:
        self._network = network
        self._keeper = keeper
        self._peers = peers
        self._router = router
        self._gossip = gossip
        self._dht = dht
        self._upkeep = upkeep
        self._blobs = blobs
        self._egress = egress
        self._topics = topics

    def serve(self, table: MethodTable) -> None:
        """Answer them in this table."""
        table.serve(p2p.P2P_INFO, self.info)
        table.serve(p2p.P2P_PEERS, self.list_peers)
        table.serve(p2p.P2P_CONNECT, self.connect)
        table.serve(p2p.PEER_CALL, self.peer_call)
        table.serve(P2P_REACH, self.reach)
        table.serve(p2p.GOSSIP_PUBLISH, self.publish)
        table.serve(p2p.DHT_PUT, self.dht_put)
        table.serve(p2p.DHT_GET, self.dht_get)

    async def info(self, _params: Empty, _ctx: Ctx) -> p2p.Info:
        """p2p.info."""
        blobs, blob_bytes = self._blobs.totals()
        return p2p.Info(
            did=self._keeper.did,
            key_seq=self._keeper.key_seq,
            network=self._network,
            endpoints=list(self._keeper.endpoints),
            sessions=len(self._peers.sessions()),
            contacts=len(self._dht.table.contacts()),
            records=self._dht.shelf.table.count(),
            blobs=blobs,
            blob_bytes=blob_bytes,
            egress=self._egress.address,
        )

    async def list_peers(self, _params: Empty, _ctx: Ctx) -> p2p.Peers:
        """p2p.peers."""
        return p2p.Peers(peers=self._peers.views())

    async def connect(self, params: p2p.Connect, _ctx: Ctx) -> p2p.Connected:
        """p2p.connect."""
        address = may_listen_at(params.address)
        if address is None:
            raise BadParams(detail=f"address: write host:port, not {params.address[:80]!r}")
        session = await self._peers.dial(address, params.did)
        self._peers.choose(session.peer.did)
        return p2p.Connected(did=session.peer.did)

    async def peer_call(self, params: p2p.PeerCall, ctx: Ctx) -> p2p.PeerAnswer:
        """p2p.peer_call. A call of our own DID goes to our own daemon, through the same table."""
        longest_s = self._router.check_caller(params.method, ctx.caller)
        if len(params.params) > PEER_CALL_BYTES_MAX:
            raise BadParams(detail=f"params: at most {PEER_CALL_BYTES_MAX} bytes; move bulk data as blobs")
        deadline_s = min(max(params.deadline_ms, 1) / 1000, longest_s, ctx.seconds_left())
        if params.did == self._keeper.did:
            return p2p.PeerAnswer(result=await self._router.relay(params.method, params.params, params.did, deadline_s))
        self._peers.choose(params.did)

        async def ask(session: Session) -> bytes:
            left_s = min(deadline_s, ctx.seconds_left())
            return await session.request(params.method, params.params, deadline_s=left_s)

        return p2p.PeerAnswer(result=await self._peers.over_session(params.did, ask))

    async def reach(self, params: Reach, ctx: Ctx) -> Reached:
        """p2p.reach. This node itself is always there."""
        own, limit_s = self._keeper.did, min(params.limit_ms / 1000, ctx.seconds_left())
        here, others = [did for did in params.dids if did == own][:1], [did for did in params.dids if did != own]
        wanted = params.wanted - len(here)
        found = await reach(self._peers, others, wanted=wanted, limit_s=limit_s) if wanted else []
        return Reached(dids=[*here, *found])

    async def publish(self, params: p2p.Publish, ctx: Ctx) -> p2p.Published:
        """gossip.publish."""
        topic = self._topics.get(params.topic)
        if topic is None or topic.owner != ctx.caller:
            owner = topic.owner if topic else "nobody"
            raise NotYourTopic(name=params.topic[:80], owner=owner, caller=ctx.caller)
        limit = min(topic.payload_bytes_max, GOSSIP_PAYLOAD_BYTES_MAX)
        if len(params.payload) > limit:
            raise BadParams(detail=f"payload: at most {limit} bytes on {topic.name}")
        identity, sent_to = await self._gossip.publish(topic, params.payload)
        return p2p.Published(message_id=identity.hex(), sent_to=sent_to)

    async def dht_put(self, params: p2p.DhtPut, ctx: Ctx) -> p2p.DhtStored:
        """dht.put."""
        namespace = self._dht.shelf.namespace(params.ns)
        if namespace is None or namespace.owner != ctx.caller:
            owner = namespace.owner if namespace else "nobody"
            raise NotYourTopic(name=params.ns[:80], owner=owner, caller=ctx.caller)
        fault = namespace.fault(self._keeper.did, params.name, params.payload, params.ttl_s)
        if fault is not None:
            raise RecordRefused(detail=fault)
        stored_at, seq_ms = await self._upkeep.put(params.ns, params.name, params.payload, params.ttl_s)
        if stored_at == 0 and self._peers.sessions():
            raise NotStored(asked=len(self._peers.sessions()))
        return p2p.DhtStored(stored_at=stored_at, seq_ms=seq_ms)

    async def dht_get(self, params: p2p.DhtGet, _ctx: Ctx) -> p2p.Records:
        """dht.get."""
        if self._dht.shelf.namespace(params.ns) is None:
            raise RecordRefused(detail=f"there is no namespace {params.ns[:80]!r}")
        bodies = await self._dht.get(params.ns, params.name, max_age_s=params.max_age_s, holders=params.holders)
        return p2p.Records(
            records=[
                p2p.RecordView(
                    did=body.did,
                    key_seq=body.key_seq,
                    seq_ms=UnixMs(body.seq_ms),
                    expires_ms=body.expires_ms,
                    payload=body.payload,
                )
                for body in bodies
            ]
        )


class IdentityMethods:
    """did.* and identity.*."""

    def __init__(
        self,
        keeper: Keeper,
        resolver: Resolver,
        renewal: Renewal,
        folder: Path,
        family: ChainFamily,
        *,
        clock: Clock,
    ) -> None:
        """`folder` is where key making leaves the node's keys."""
        self._keeper = keeper
        self._resolver = resolver
        self._renewal = renewal
        self._folder = folder
        self._family = family
        self._clock = clock

    def serve(self, table: MethodTable) -> None:
        """Answer them in this table."""
        table.serve(p2p.DID_RESOLVE, self.resolve)
        table.serve(p2p.IDENTITY_SIGN, self.sign)
        table.serve(p2p.IDENTITY_VERIFY, self.verify)
        table.serve(p2p.IDENTITY_LINK_COIN, self.link_coin)
        table.serve(p2p.IDENTITY_OWN, self.own)
        table.serve(p2p.IDENTITY_ROTATE, self.rotate)
        table.serve(p2p.IDENTITY_TAKE_LOG, self.take_log)

    async def resolve(self, params: p2p.Resolve, _ctx: Ctx) -> p2p.Resolved:
        """did.resolve."""
        max_age_s = max(params.max_age_s, 0)
        known = await self._resolver.resolve(params.did, max_age_s, params.min_sources)
        log = known.log
        return p2p.Resolved(
            did=log.did,
            key_seq=log.tip.seq,
            key=log.tip.key,
            disputed=log.disputed,
            frozen=log.frozen,
            ended=log.ended,
            age_s=self._resolver.age_s(known),
            sources=self._resolver.sources(params.did, max_age_s),
            log=encode_log(log),
            node_record=known.record_bytes or None,
            proof=known.proof or None,
            document=msgspec.json.encode(document(log, known.record, self._coin_address(known))).decode(),
        )

    def _coin_address(self, known: Known) -> str | None:
        """The address of the coin key in the node record, when both hands have signed the link."""
        if known.record is None or known.record.coin_link is None:
            return None
        try:
            link = open_coin_link(known.record.coin_link, known.log, known.record.key_seq)
        except DuxError:
            return None
        return script_to_address(pay_to_key(link.coin_pubkey), self._family)

    async def sign(self, params: p2p.Sign, ctx: Ctx) -> p2p.Signature:
        """identity.sign: only for the daemon that owns the purpose."""
        purpose = _owned(params.purpose, ctx)
        if len(params.body) > p2p.SIGN_BYTES_MAX:
            raise BadParams(detail=f"body: at most {p2p.SIGN_BYTES_MAX} bytes; sign the hash of larger things")
        return p2p.Signature(
            did=self._keeper.did, key_seq=self._keeper.key_seq, signature=self._keeper.sign(purpose, params.body)
        )

    async def verify(self, params: p2p.Verify, _ctx: Ctx) -> p2p.Verdict:
        """identity.verify."""
        purpose = _purpose(params.purpose)
        known = await self._resolver.resolve(params.did, max_age_s=86_400)
        if known.log.key_of(params.key_seq) is None:
            known = await self._resolver.resolve(params.did, max_age_s=0)
        return self._verdict(params, purpose, known.log)

    def _verdict(self, params: p2p.Verify, purpose: Purpose, current: Log) -> p2p.Verdict:
        now_ms = self._clock.unix_ms()
        at_ms = now_ms if params.at_ms is None else params.at_ms
        seen_ms = at_ms if params.seen_ms is None else min(params.seen_ms, now_ms)
        kept = decode_log(params.kept, now_ms=now_ms, inception_bits=0, known=current) if params.kept else current
        split = split_of(current, kept)
        log = current if params.key_seq < split else kept
        key = log.key_of(params.key_seq)
        if key is None:
            return p2p.Verdict(valid=False, reason=f"the event log has no key {params.key_seq}")
        if params.ever:
            at_ms = seen_ms = log.events[params.key_seq].at_ms
        if not was_valid_when_seen(current, kept, params.key_seq, at_ms=at_ms, seen_ms=seen_ms):
            return p2p.Verdict(valid=False, reason="the time does not fall into that key's time")
        if not is_signed(key, purpose, params.body, params.signature):
            return p2p.Verdict(valid=False, reason="the signature does not verify")
        stopped = recovers(current, min(params.key_seq + 1, split))
        return p2p.Verdict(valid=True, reason="", sound=current.sound, stopped=stopped)

    async def own(self, _params: Empty, _ctx: Ctx) -> p2p.OwnIdentity:
        """identity.own."""
        keeper = self._keeper
        since_ms = UnixMs(keeper.key_since_ms)
        return p2p.OwnIdentity(did=keeper.did, key_seq=keeper.key_seq, key_since_ms=since_ms, standing=keeper.standing)

    async def rotate(self, params: p2p.Rotate, ctx: Ctx) -> p2p.OwnIdentity:
        """identity.rotate."""
        await self._renewal.rotate(transport=params.transport)
        return await self.own(Empty(), ctx)

    async def take_log(self, params: p2p.TakeLog, ctx: Ctx) -> p2p.OwnIdentity:
        """identity.take_log."""
        await self._renewal.take_log(params.log, load_keys(self._folder))
        return await self.own(Empty(), ctx)

    async def link_coin(self, params: p2p.LinkCoin, _ctx: Ctx) -> Done:
        """identity.link_coin."""
        self._keeper.link(params)
        return Done()


class LookMethods:
    """identity.prove."""

    def __init__(self, key: LookKey) -> None:
        self._key = key

    def serve(self, table: MethodTable) -> None:
        """Answer it in this table."""
        table.serve(p2p.IDENTITY_PROVE, self.prove)

    async def prove(self, params: p2p.Prove, ctx: Ctx) -> p2p.Proofs:
        """identity.prove: only for the daemon that owns the purpose."""
        purpose = _owned(params.purpose, ctx)
        return p2p.Proofs(key=self._key.public, proofs=tuple(self._key.prove(purpose, one) for one in params.bodies))


def _owned(text: str, ctx: Ctx) -> Purpose:
    """A purpose that belongs to the caller."""
    purpose = _purpose(text)
    owner = OWNER.get(purpose, "nobody")
    if owner != ctx.caller:
        raise NotYourPurpose(purpose=purpose.value, owner=owner, caller=ctx.caller)
    return purpose


def _purpose(text: str) -> Purpose:
    try:
        return Purpose(text)
    except ValueError as error:
        raise BadParams(detail=f"purpose: there is no {text[:60]!r}; common/identity/purposes.py lists them") from error


class BlobMethods:
    """blob.*."""

    def __init__(self, store: BlobStore, swap: BlobSwap) -> None:
        self._store = store
        self._swap = swap

    def serve(self, table: MethodTable) -> None:
        """Answer them in this table."""
        table.serve(p2p.BLOB_STAT, self.stat)
        table.serve(p2p.BLOB_FETCH, self.fetch)
        table.serve(p2p.BLOB_HOLD, self.hold)

    async def stat(self, params: p2p.BlobRef, _ctx: Ctx) -> p2p.BlobStat:
        """blob.stat."""
        return self._store.stat(params.id)

    async def fetch(self, params: p2p.BlobFetch, _ctx: Ctx) -> p2p.BlobStat:
        """blob.fetch."""
        return await self._swap.fetch(params)

    async def hold(self, params: p2p.BlobHold, _ctx: Ctx) -> p2p.Held:
        """blob.hold."""
        return await self._swap.hold(params)
