"""The transport interface: what the overlay sees of a connection, whichever way its bytes travel.

Promise: a `Session` is up only when both sides have proved their DIDs to each other; it carries many requests and
streams at once, each with flow control, a deadline and cancellation, within stated limits. It does not know what a
method means. `tls` (sockets) and `memory` (simulator) implement it. What is asked of identity: `papers`.

Source: network.md §2, transport_identity.md §1.3 and §1.5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from common.units import Did
from dux_p2pd.papers import Address, Headers, OwnPapers, Papers, Vouched
from dux_p2pd.wire_limits import MESSAGE_BYTES

__all__ = [
    "Address",
    "Handler",
    "Headers",
    "Incoming",
    "OnSession",
    "OwnPapers",
    "Papers",
    "Peer",
    "Prompt",
    "Session",
    "Stream",
    "Transport",
    "Vouched",
]


class Peer(msgspec.Struct, frozen=True):
    """The other end of a session, proved."""

    did: Did
    transport_key: bytes
    node_record: bytes
    features: frozenset[str]
    address: Address
    dialled: bool  # we dialled it; otherwise it dialled us
    version: int  # of the wire, the highest that both ends speak
    known: bool  # had the limits of a known peer when the session began
    clock_skew_ms: int  # its clock minus ours


class Stream(Protocol):
    """One two-way flow of bytes inside a session."""

    async def read(self, max_bytes: int) -> bytes:
        """The next bytes, at least one; b"" at the end. Reading is what gives the sender new credit.

        Raises:
            StreamBroken, SessionClosed, PeerAnswered, DeadlinePassed.
        """
        ...

    async def read_all(self, max_bytes: int = MESSAGE_BYTES) -> bytes:
        """Everything up to the end, at most so many bytes (and never more than one message, 1 MiB).

        Raises:
            AnswerTooLong and those of `read`.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Hand over bytes; waits for the peer's credit and for the socket.

        Raises:
            StreamBroken, SessionClosed, DeadlinePassed.
        """
        ...

    async def close(self) -> None:
        """End our half; the other half stays open until the peer ends it."""
        ...

    def reset(self) -> None:
        """Drop both halves at once."""
        ...


class Incoming(Protocol):
    """A stream that the peer opened, with what it wants."""

    @property
    def method(self) -> str:
        """The method's name."""
        ...

    @property
    def headers(self) -> Headers:
        """The caller's headers, at most 1 KiB with the method."""
        ...

    @property
    def deadline_s(self) -> float:
        """Seconds the handler has: the least of the caller's wish and our maximum."""
        ...

    @property
    def stream(self) -> Stream:
        """The stream itself, for handlers that move more than one message."""
        ...

    async def body(self, max_bytes: int = MESSAGE_BYTES) -> bytes:
        """The whole request; more than `max_bytes` are refused before they are held.

        Raises:
            AnswerTooLong and those of `Stream.read`.
        """
        ...


class Session(Protocol):
    """An authenticated connection to one DID."""

    @property
    def peer(self) -> Peer:
        """Who is there."""
        ...

    @property
    def closed(self) -> asyncio.Future[str]:
        """Done, with the reason, when the session has ended. Await it shielded."""
        ...

    async def request(self, method: str, body: bytes, *, deadline_s: float, headers: Headers = ()) -> bytes:
        """The peer's answer to one message.

        Raises:
            DeadlinePassed, PeerBusy, PeerAnswered, StreamBroken, SessionClosed, MessageTooLong, AnswerTooLong.
            SessionClosed with `begun=False`: the peer has not executed it, so it may be repeated whatever it does.
        """
        ...

    async def open_stream(self, method: str, headers: Headers = (), *, deadline_s: float) -> Stream:
        """A new stream to the peer's handler of this method.

        Raises:
            PeerBusy, SessionClosed, MessageTooLong (headers).
        """
        ...

    @property
    def had_no_room(self) -> bool:
        """Whether it ended, or is ending, because one of the two ends had no room for it: both live on."""
        ...

    @property
    def leaving(self) -> asyncio.Future[None]:
        """Done when nothing new may begin on it: long streams are to be ended or moved to another session."""
        ...

    async def close(self, reason: str) -> None:
        """Say GOAWAY, then close; requests under way fail with SessionClosed."""
        ...

    def retire(self, reason: str, *, no_room: bool = False) -> None:
        """Say GOAWAY, let what is under way at either end come to its end, then close."""
        ...


Handler = Callable[[Session, Incoming], Awaitable[bytes | None]]
"""Answers one incoming stream: bytes are the whole answer; None means that it has written to the stream itself.
A DuxError becomes the answer's error; the handler is cancelled when the peer resets the stream or time is up."""

Prompt = Callable[[Session, bytes], bytes]
"""Answers one whole call without waiting for anything; a DuxError becomes the answer's error."""

OnSession = Callable[[Session], None]
"""Told of every session that is up, dialled or accepted, once; `session.closed` tells of its end. Must not block."""


class Transport(Protocol):
    """A way to reach other nodes."""

    async def connect(
        self,
        address: Address,
        expected_did: Did | None = None,
        expected_transport_keys: tuple[bytes, ...] | None = None,
    ) -> Session:
        """A session with the node at this address.

        With the keys of its node record, nothing of ours is shown before its key has been compared; with the DID
        alone, our DID is shown only after it has introduced itself; with neither, whoever is there is accepted.

        Raises:
            PeerUnreachable, HandshakeFailed, CertificateRefused, HelloRefused.
        """
        ...

    async def serve(self, on_session: OnSession, handler: Handler) -> Address:
        """Accept connections, report sessions, answer their streams; the address listened on. Once, first of all."""
        ...

    def session_with(self, did: Did) -> Session | None:
        """The one session kept with this DID, if any."""
        ...

    def has_way_to(self, address: Address) -> bool:
        """Whether this machine could send anything there at all."""
        ...

    def ban(self, did: Did, duration_s: float) -> None:
        """End the session with the DID and refuse it, and its network, for so long."""
        ...
