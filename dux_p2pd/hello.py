"""The introduction inside the encrypted channel, before the first frame: each side names both DIDs.

Theory: TLS proves the key, the node record proves DID -> key, and HELLO inside the channel proves key -> DID; therefore
no signature over the connection is needed. A message is a u32 length and a canonical msgpack array. Two orders exist:

    the dialler holds the peer's record:      HELLO(to) ->                               <- HELLO(to)
    it does not (it has the DID, or nothing):     0     ->   <- HELLO(nil)   HELLO(to) ->   <- HELLO(to)

A length of 0 means "introduce yourself first", so that the dialler's DID is shown to nobody whom it has not recognised.
The exchange always ends with the acceptor's HELLO to the dialler: so the dialler is up only after the acceptor has
judged it, every dialler names the DID that it talks to, and a `to_did` of nil occurs only in answer to the 0.

Promise: `Introduced` is returned only when every check has passed, in the order written in `_judge`; nothing beyond
16 KiB is ever buffered. Knows no sockets and no TLS: the channel's proven key comes in.

Source: transport_identity.md §1.2 (8) and §1.3; docs/decisions/hello-order.md.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Annotated

import msgspec
from msgspec import Meta

from common.codec import Canon, canonical, from_canonical
from common.units import Did
from dux_p2pd.papers import Papers, Vouched
from dux_p2pd.wire_errors import HelloRefused
from dux_p2pd.wire_limits import (
    CLOCK_SKEW_WARN_MS,
    FRAME_BYTES,
    HELLO_BYTES,
    KIB,
    KNOWN,
    LOG_TAIL_BYTES,
    LONG_LOG_BYTES,
    NODE_RECORD_BYTES,
    STRANGER,
    PeerLimits,
)

HELLO_FORMAT = 1
WIRE_VERSIONS = (1,)
_LENGTH_BYTES = 4
_BEGIN = bytes(_LENGTH_BYTES)  # "introduce yourself first"

_DidText = Annotated[str, Meta(max_length=64)]


class ShownLimits(Canon, frozen=True):
    """What the sender of this HELLO accepts: bytes per DATA, streams at a time, credit beyond the initial windows."""

    frame: Annotated[int, Meta(ge=KIB, le=16 * 1024 * KIB)]
    streams: Annotated[int, Meta(ge=1, le=4096)]
    credit: Annotated[int, Meta(ge=0, le=2**32)]


class Hello(Canon, frozen=True):
    """The message."""

    format: Annotated[int, Meta(ge=HELLO_FORMAT, le=HELLO_FORMAT)]
    network: Annotated[str, Meta(max_length=128)]
    from_did: _DidText
    to_did: _DidText | None
    log_tail: Annotated[bytes, Meta(max_length=LOG_TAIL_BYTES)]
    node_record: Annotated[bytes, Meta(max_length=NODE_RECORD_BYTES)]
    versions: Annotated[tuple[int, ...], Meta(min_length=1, max_length=16)]
    features: Annotated[tuple[Annotated[str, Meta(max_length=32)], ...], Meta(max_length=32)]
    limits: ShownLimits
    now: int


class Myself(msgspec.Struct, frozen=True):
    """What this node brings to every introduction."""

    network: str  # hex of the coin chain's genesis hash
    papers: Papers
    features: tuple[str, ...]
    now_ms: Callable[[], int]
    is_banned: Callable[[Did], bool]


class Introduced(msgspec.Struct, frozen=True):
    """Both sides know each other."""

    vouched: Vouched
    version: int
    features: frozenset[str]
    shown: ShownLimits  # what the peer accepts from us
    limits: PeerLimits  # what we accept from the peer
    known: bool
    clock_skew_ms: int  # its clock minus ours

    @property
    def skew_is_odd(self) -> bool:
        """Whether a person should be told: more than ten minutes apart. Never a reason to refuse."""
        return abs(self.clock_skew_ms) > CLOCK_SKEW_WARN_MS


class HelloStep(msgspec.Struct, frozen=True):
    """What one step gave: bytes to send, and at the end the outcome with the bytes that belong to the next layer."""

    to_send: bytes
    introduced: Introduced | None = None
    leftover: bytes = b""


class _Wait(Enum):
    """What the next message must be."""

    HELLO = "a HELLO to us"
    NAMELESS_HELLO = "the HELLO that we asked for"
    HELLO_OR_WISH = "a HELLO to us, or the wish that we begin"


class HelloExchange:
    """One side of one introduction."""

    def __init__(
        self,
        me: Myself,
        *,
        dialler: bool,
        peer_key: bytes,
        expected_did: Did | None = None,
        record_known: bool = False,
        pay_long_log: Callable[[], bool] = lambda: True,
    ) -> None:
        """`peer_key` was proved by the channel; `record_known`: the dialler compared it with the peer's record.

        `pay_long_log` is asked before a stranger's long log is verified: it costs some times a usual one.
        """
        self._me = me
        self._dialler = dialler
        self._peer_key = peer_key
        self._expected_did = expected_did
        self._pay_long_log = pay_long_log
        self._begins = dialler and record_known and expected_did is not None
        self._wait = _Wait.HELLO_OR_WISH
        if dialler:
            self._wait = _Wait.HELLO if self._begins else _Wait.NAMELESS_HELLO
        self._buffer = bytearray()

    def start(self) -> bytes:
        """What to send before anything came: nothing for an acceptor."""
        if not self._dialler:
            return b""
        return self._hello(self._expected_did) if self._begins else _BEGIN

    def receive(self, data: bytes) -> HelloStep:
        """Take bytes of the channel.

        Raises:
            DuxError: any check failed (HelloRefused, or what `Papers.judge` raises); drop the connection.
        """
        self._buffer += data
        to_send = bytearray()
        while (message := self._next_message()) is not None:
            answer, introduced = self._on_message(message)
            to_send += answer
            if introduced is not None:
                leftover, self._buffer = bytes(self._buffer), bytearray()
                return HelloStep(bytes(to_send), introduced, leftover)
        return HelloStep(bytes(to_send))

    def _next_message(self) -> bytes | None:
        if len(self._buffer) < _LENGTH_BYTES:
            return None
        length = int.from_bytes(self._buffer[:_LENGTH_BYTES])
        if length > HELLO_BYTES:
            raise HelloRefused(reason=f"{length} bytes, {HELLO_BYTES} are allowed")
        end = _LENGTH_BYTES + length
        if len(self._buffer) < end:
            return None
        message = bytes(self._buffer[_LENGTH_BYTES:end])
        del self._buffer[:end]
        return message

    def _on_message(self, message: bytes) -> tuple[bytes, Introduced | None]:
        """The answer to one message, and the outcome when this side is satisfied."""
        if not message:
            return self._begin(), None
        introduced = self._judge(from_canonical(message, Hello, max_bytes=HELLO_BYTES))
        did = introduced.vouched.did
        if self._wait is _Wait.NAMELESS_HELLO:
            self._wait, self._expected_did = _Wait.HELLO, did
            return self._hello(did), None
        return b"" if self._dialler else self._hello(did), introduced

    def _begin(self) -> bytes:
        if self._wait is not _Wait.HELLO_OR_WISH:
            raise HelloRefused(reason=f"{self._wait.value} was due")
        self._wait = _Wait.HELLO
        return self._hello(None)

    def _hello(self, to_did: Did | None) -> bytes:
        me, papers = self._me, self._me.papers.own()
        limits = self._limits_for(to_did or me.papers.did_of_key(self._peer_key))
        message = Hello(
            format=HELLO_FORMAT,
            network=me.network,
            from_did=me.papers.did,
            to_did=to_did,
            log_tail=papers.log_tail,
            node_record=papers.node_record,
            versions=WIRE_VERSIONS,
            features=me.features,
            limits=ShownLimits(frame=FRAME_BYTES, streams=limits.streams, credit=limits.credit_bytes),
            now=me.now_ms(),
        )
        data = canonical(message)
        return len(data).to_bytes(_LENGTH_BYTES) + data

    def _limits_for(self, did: Did | None) -> PeerLimits:
        return KNOWN if did is not None and self._me.papers.is_known(did) else STRANGER

    def _judge(self, hello: Hello) -> Introduced:
        """Every check, in the order of the specification: cheap ones first, signatures last."""
        me = self._me
        if hello.network != me.network:
            raise HelloRefused(reason="the peer is of another network")
        due = None if self._wait is _Wait.NAMELESS_HELLO else me.papers.did
        if hello.to_did != due:
            raise HelloRefused(reason="it is addressed to somebody else")
        if hello.from_did == me.papers.did:
            raise HelloRefused(reason="it bears our own DID")
        did = Did(hello.from_did)
        if me.is_banned(did):
            raise HelloRefused(reason=f"{did} is banned")
        if len(hello.log_tail) > LONG_LOG_BYTES and not me.papers.is_known(did) and not self._pay_long_log():
            raise HelloRefused(reason="too many long logs from this network")
        vouched = me.papers.judge(did, hello.log_tail, hello.node_record)
        if vouched.did != did:
            raise HelloRefused(reason="the node record is of another DID")
        if self._peer_key not in vouched.transport_keys:
            raise HelloRefused(reason="the node record does not name this connection's key")
        if self._expected_did is not None and did != self._expected_did:
            raise HelloRefused(reason=f"{self._expected_did} was dialled, {did} is there")
        return self._outcome(hello, vouched)

    def _outcome(self, hello: Hello, vouched: Vouched) -> Introduced:
        common = set(WIRE_VERSIONS) & set(hello.versions)
        if not common:
            raise HelloRefused(reason=f"no common version: ours {WIRE_VERSIONS}, theirs {hello.versions}")
        return Introduced(
            vouched=vouched,
            version=max(common),
            features=frozenset(self._me.features) & frozenset(hello.features),
            shown=hello.limits,
            limits=self._limits_for(vouched.did),
            known=self._me.papers.is_known(vouched.did),
            clock_skew_ms=hello.now - self._me.now_ms(),
        )
