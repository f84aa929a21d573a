"""Other nodes, seen from a daemon: typed calls, gossip, signatures, records and blobs, all through p2pd.

A thin face over `common/contracts/p2p.py`: it encodes and decodes, and adds nothing of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from common.codec import Canon, canonical, from_canonical
from common.contracts import p2p
from common.contracts.p2p_reach import P2P_REACH, Reach
from common.identity.events import AT_MS_MAX
from common.identity.log import Log, decode_log
from common.identity.purposes import Purpose
from common.rpc.client import Client
from common.rpc.method import CP, CR, Empty, Namespace, PeerMethod, Topic
from common.units import Did, UnixMs

T = TypeVar("T", bound=Canon)

MONEY_MAX_AGE_S = 600  # what is known of a party to new business is at most so old, TI §2.4
MONEY_SOURCES = 2  # independent nodes that must have said so
SEEN_NOW = UnixMs(1 << 52)  # p2pd takes any time to come for its own now
RESULT_BYTES_MAX = 1024 * 1024  # one peer message, TI §1.5


def log_in(told: p2p.Resolved) -> Log:
    """A log as p2pd has checked it, with what is known against it."""
    log = decode_log(told.log, now_ms=AT_MS_MAX, inception_bits=0)
    return replace(log, disputed=told.disputed, frozen=told.frozen)


class Peers:
    """Everything a daemon does with other nodes."""

    def __init__(self, p2pd: Client) -> None:
        self._p2pd = p2pd

    async def call(self, did: Did, method: PeerMethod[CP, CR], params: CP, *, deadline_s: float = 15.0) -> CR:
        """The other node's answer.

        Raises:
            Unavailable, NotNow: repeat later. PeerAnswered: it answered with an error. BadParams: it answered nonsense.
        """
        deadline_s = min(deadline_s, method.deadline_max_s)
        call = p2p.PeerCall(did=did, method=method.name, params=canonical(params), deadline_ms=int(deadline_s * 1000))
        answer = await self._p2pd.call(p2p.PEER_CALL, call, deadline_s=deadline_s + 2)
        return from_canonical(answer.result, method.result, max_bytes=RESULT_BYTES_MAX)

    async def reach(self, dids: list[Did], *, wanted: int, limit_s: float = 5.0) -> list[Did]:
        """Those of these nodes that are there now, in the order in which they answered; so many are enough."""
        asked = Reach(dids=dids, wanted=wanted, limit_ms=int(limit_s * 1000))
        return (await self._p2pd.call(P2P_REACH, asked, deadline_s=limit_s + 2)).dids

    async def publish(self, topic: Topic[CP], payload: CP) -> int:
        """Spread a message; returns to how many nodes it went at once."""
        answer = await self._p2pd.call(p2p.GOSSIP_PUBLISH, p2p.Publish(topic=topic.name, payload=canonical(payload)))
        return answer.sent_to

    async def info(self) -> p2p.Info:
        """This node's DID and network."""
        return await self._p2pd.call(p2p.P2P_INFO, Empty())

    async def sign(self, purpose: Purpose, value: Canon) -> p2p.Signature:
        """This node's signature over the value's canonical bytes."""
        return await self._p2pd.call(p2p.IDENTITY_SIGN, p2p.Sign(purpose=purpose.value, body=canonical(value)))

    async def verdict_on(
        self,
        purpose: Purpose,
        body: bytes,
        by: p2p.Signature,
        at_ms: UnixMs | None = None,
        seen_ms: UnixMs | None = None,
    ) -> p2p.Verdict:
        """What p2pd says of a signature by this DID under these bytes, made at a time (default: now).

        Raises:
            PeerUnknown: its event log cannot be had now.
        """
        asked = p2p.Verify(
            did=by.did, key_seq=by.key_seq, purpose=purpose.value, body=body, signature=by.signature, at_ms=at_ms,
            seen_ms=seen_ms,
        )  # fmt: skip
        return await self._p2pd.call(p2p.IDENTITY_VERIFY, asked)

    async def is_signed(self, purpose: Purpose, body: bytes, by: p2p.Signature, at_ms: UnixMs | None = None) -> bool:
        """Did this DID sign these bytes for this purpose, with the key of that time (default: now)?

        Raises:
            PeerUnknown: its event log cannot be had now.
        """
        return (await self.verdict_on(purpose, body, by, at_ms)).valid

    async def was_signed(self, purpose: Purpose, body: bytes, by: p2p.Signature) -> bool:
        """Did this DID sign these bytes with any key of its own, unless it has recovered or closed its name since?

        For words of a contract: they bind their signer long after a rotation. A thief of a key that was rotated away
        gains nothing by it, for keys and their successors come from one branch; after a recovery only a key of now
        counts. Source: docs/decisions/old-keys-in-contracts.md.

        Raises:
            PeerUnknown: its event log cannot be had now.
        """
        asked = p2p.Verify(
            did=by.did, key_seq=by.key_seq, purpose=purpose.value, body=body, signature=by.signature, ever=True
        )
        verdict = await self._p2pd.call(p2p.IDENTITY_VERIFY, asked)
        return verdict.valid and (not verdict.stopped or await self.is_signed(purpose, body, by))

    async def is_signed_soundly(self, purpose: Purpose, body: bytes, by: p2p.Signature, at_ms: UnixMs) -> bool:
        """What new business asks: the key counts now as well as then, and nothing is held against the signer's name.

        Raises:
            PeerUnknown: its event log cannot be had now.
        """
        verdict = await self.verdict_on(purpose, body, by, at_ms, SEEN_NOW)
        return verdict.valid and verdict.sound

    async def confirm(self, did: Did) -> p2p.Resolved:
        """What the network says of a DID now, for money and standing: its newest log, not what is remembered of it.

        What p2pd verifies right after this is judged by that log. Source: transport_identity.md §2.4.

        Raises:
            PeerUnknown, TooFewSources: it cannot be told now.
        """
        wish = p2p.Resolve(did=did, max_age_s=MONEY_MAX_AGE_S, min_sources=MONEY_SOURCES)
        return await self._p2pd.call(p2p.DID_RESOLVE, wish)

    async def fault_of(self, did: Did) -> str:
        """What stands in the way of new business with a DID, or an empty string: asked of the network, not of memory.

        Raises:
            PeerUnknown, TooFewSources: it cannot be told now.
        """
        found = await self.confirm(did)
        states = {"closed": found.ended, "frozen": found.frozen, "disputed": found.disputed}
        return next((f"the identity of {did} is {state}" for state, holds in states.items() if holds), "")

    async def resolve(self, did: Did, *, max_age_s: int = 86_400) -> p2p.Resolved:
        """Whose key and endpoints a DID stands for."""
        return await self._p2pd.call(p2p.DID_RESOLVE, p2p.Resolve(did=did, max_age_s=max_age_s))

    async def put_record(self, namespace: Namespace[CP], name: str, payload: CP, *, ttl_s: int) -> int:
        """Store a signed record in the DHT; returns how many nodes keep it."""
        put = p2p.DhtPut(ns=namespace.name, name=name, payload=canonical(payload), ttl_s=ttl_s)
        return (await self._p2pd.call(p2p.DHT_PUT, put)).stored_at

    async def get_records(self, namespace: Namespace[CP], name: str, *, max_age_s: int = 0) -> list[p2p.RecordView]:
        """The verified records under a name; payloads have the namespace's form. An older answer may do."""
        wish = p2p.DhtGet(ns=namespace.name, name=name, max_age_s=max_age_s)
        return (await self._p2pd.call(p2p.DHT_GET, wish)).records

    async def fetch_blob(self, blob: str, providers: list[Did], *, max_bytes: int) -> bytes:
        """A blob's bytes, brought here first when needed.

        Raises:
            BlobMissing: nobody asked has it.
        """
        fetch = p2p.BlobFetch(id=blob, providers=providers, max_bytes=max_bytes)
        await self._p2pd.call(p2p.BLOB_FETCH, fetch, deadline_s=60)
        return await self.get_blob(blob)

    async def hold_blob(self, hold: p2p.BlobHold) -> p2p.Held:
        """Have other nodes keep a copy, each with a signed receipt."""
        return await self._p2pd.call(p2p.BLOB_HOLD, hold, deadline_s=60)

    async def put_blob(self, data: bytes) -> str:
        """Keep bytes as a blob here; returns its id."""
        return (await self._p2pd.transfer("PUT", "/blob", data)).decode()

    async def get_blob(self, blob: str) -> bytes:
        """The bytes of a blob that is here."""
        return await self._p2pd.transfer("GET", f"/blob/{blob}", None)
