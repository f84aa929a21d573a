"""TLS without sockets: bytes in, bytes out.

Promise: no byte of plaintext leaves or enters before every check of the profile has passed; a client that expects a key
compares it before its own certificate leaves the machine; whatever a peer sends, `receive` returns and never raises.
It knows no socket, no clock and no DID: timers are its owner's business.

Source: transport_identity.md §1.2 (3)-(7), §1.5 (starvation meter).
"""

from __future__ import annotations

import ssl
from enum import Enum

import msgspec

from dux_p2pd.certs import key_of_leaf
from dux_p2pd.tls_contexts import TlsContexts
from dux_p2pd.wire_errors import CertificateRefused, HandshakeFailed
from dux_p2pd.wire_limits import CLIENT_HANDSHAKE_BYTES, KIB, SERVER_HANDSHAKE_BYTES, STARVED_BYTES, STARVED_PAY

_SLICE_BYTES = 16 * KIB  # fed at a time, so that the starvation meter sees every stretch


class Phase(Enum):
    """Where a connection's TLS stands."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    ENDED = "ended"  # the peer closed in order
    FAILED = "failed"  # abort: nothing more may be sent


_HANDSHAKE, _OPEN = Phase.HANDSHAKE, Phase.OPEN


class Step(msgspec.Struct, frozen=True):
    """What one step gave: bytes for the socket, plaintext for the next layer, and where things stand."""

    to_send: bytes
    plaintext: bytes
    phase: Phase
    error: HandshakeFailed | CertificateRefused | None = None


class TlsEngine:
    """One end of one connection."""

    def __init__(
        self, contexts: TlsContexts, *, server_side: bool, expected_keys: tuple[bytes, ...] | None = None
    ) -> None:
        """A new end; `expected_keys` are those of the node record that the dialler holds, None if it holds none."""
        context = contexts.server if server_side else contexts.client
        self._contexts = contexts
        self._expected_keys = expected_keys
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._handshake_bytes_left = SERVER_HANDSHAKE_BYTES if server_side else CLIENT_HANDSHAKE_BYTES
        self._starved_bytes = 0
        self._peer_key = b""
        self.phase = Phase.HANDSHAKE

    @property
    def peer_key(self) -> bytes:
        """The peer's transport key, proved; empty before the handshake is complete."""
        return self._peer_key

    def start(self) -> Step:
        """The client's first flight; nothing for a server."""
        return self.receive(b"")

    def receive(self, data: bytes | memoryview) -> Step:
        """Take what the socket gave. A failed step carries its error and nothing to send."""
        try:
            if self.phase is _HANDSHAKE:
                data = self._shake(memoryview(data))
            plaintext = self._decrypt(data) if self.phase is _OPEN else b""
            to_send = self._outgoing.read() if self._outgoing.pending else b""
            return Step(to_send, plaintext, self.phase)
        except (CertificateRefused, HandshakeFailed) as error:
            return self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever TLS or parsing throws drops this connection only
            return self._fail(HandshakeFailed(reason=f"{type(error).__name__}: {error}"))

    def send(self, plaintext: bytes) -> bytes:
        """The ciphertext of these bytes, all of them. Only in phase OPEN."""
        sent = self._tls.write(plaintext) if plaintext else 0
        while sent < len(plaintext):  # a record at a time
            sent += self._tls.write(memoryview(plaintext)[sent:])
        return self._outgoing.read()

    def _shake(self, data: memoryview) -> memoryview:
        """Feed the handshake within its byte limit; what follows it is given back."""
        fed, rest = data[: self._handshake_bytes_left], data[self._handshake_bytes_left :]
        self._handshake_bytes_left -= len(fed)
        self._incoming.write(fed)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            if rest or self._handshake_bytes_left <= 0:
                raise HandshakeFailed(reason="too many handshake bytes") from None
            return rest
        self._check_peer()
        self.phase = Phase.OPEN
        return rest

    def _check_peer(self) -> None:
        """The checks between the handshake's last byte in and our first byte out."""
        if self._tls.version() != "TLSv1.3" or self._tls.session_reused:
            raise HandshakeFailed(reason="not a fresh TLS 1.3 session")
        if self._tls.selected_alpn_protocol() != self._contexts.alpn:
            raise HandshakeFailed(reason=f"the peer does not speak {self._contexts.alpn}")
        key = key_of_leaf(self._tls.getpeercert(binary_form=True))
        if key == self._contexts.key:
            raise CertificateRefused(reason="our own key")
        if self._expected_keys is not None and key not in self._expected_keys:
            raise CertificateRefused(reason="another key than the node record names")
        self._peer_key = key

    def _decrypt(self, data: bytes | memoryview) -> bytes:
        """Plaintext of all records that are whole; the meter counts ciphertext that yields none.

        Plaintext pays by its length: a byte now and then does not buy another 32 KiB of key updates.
        """
        chunks: list[bytes] = []
        if self._incoming.pending:  # came with the end of the handshake
            self._drain(chunks)
        for at in range(0, len(data), _SLICE_BYTES):
            if self.phase is not _OPEN:
                break
            part = data[at : at + _SLICE_BYTES]
            self._incoming.write(part)
            starved_bytes = self._starved_bytes + len(part) - STARVED_PAY * self._drain(chunks)
            self._starved_bytes = max(0, starved_bytes)
            if starved_bytes > STARVED_BYTES:
                raise HandshakeFailed(reason="ciphertext without plaintext")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _drain(self, chunks: list[bytes]) -> int:
        """Read what is there; the number of bytes that came. A read that would only say "want more" is left out.

        Plaintext is shorter than what it was encrypted to: a read that is not filled has left nothing of its record.
        """
        count, left = 0, self._incoming.pending
        try:
            while left:
                chunk = self._tls.read(left)
                if not chunk:
                    self.phase = Phase.ENDED
                    break
                chunks.append(chunk)
                count += len(chunk)
                rest = self._tls.pending() if len(chunk) == left else 0
                left = self._incoming.pending + rest
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.phase = Phase.ENDED
        return count

    def _fail(self, error: HandshakeFailed | CertificateRefused) -> Step:
        self.phase = Phase.FAILED
        self._outgoing.read()
        return Step(to_send=b"", plaintext=b"", phase=Phase.FAILED, error=error)
