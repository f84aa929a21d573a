"""What can go wrong between two nodes, each with what the caller does next. Codes 8100-8119.

`NotNow` and `Unavailable` may be repeated (with the same request_id); `PeerMisbehaved` ends the connection and counts
against the peer; `CallerMistake` was noticed before anything was sent.
"""

from __future__ import annotations

from common.errors import CallerMistake, DuxError, NotNow, PeerMisbehaved, Unavailable


class PeerUnreachable(Unavailable):
    """{address} cannot be reached: {detail}."""

    code = 8101
    key = "peer-unreachable"


class SessionClosed(Unavailable):
    """The connection to {did} is closed ({reason}); connect again and repeat the call."""

    code = 8102
    key = "session-closed"


class PeerBusy(NotNow):
    """{did} has no room for {method} now ({detail}); repeat in a moment."""

    code = 8103
    key = "peer-busy"
    http_status = 429


class StreamBroken(Unavailable):
    """{did} dropped {method} in the middle; whether it ran is unknown, repeat it with the same request_id."""

    code = 8104
    key = "stream-broken"


class MessageTooLong(CallerMistake):
    """A message to a peer has at most {limit_bytes} bytes, this has {found_bytes}; move bulk data as blobs."""

    code = 8105
    key = "message-too-long"
    http_status = 413


class PeerAnswered(DuxError):
    """{did} answered {method} with error {peer_code} ({peer_key}): {detail}."""

    code = 8106
    key = "peer-answered"
    http_status = 502


class FramingBroken(PeerMisbehaved):
    """The other node broke the framing: {reason}."""

    code = 8107
    key = "framing-broken"


class HelloRefused(PeerMisbehaved):
    """The introduction was refused: {reason}."""

    code = 8108
    key = "hello-refused"


class CertificateRefused(PeerMisbehaved):
    """The certificate was refused: {reason}."""

    code = 8109
    key = "certificate-refused"


class HandshakeFailed(PeerMisbehaved):
    """The TLS handshake failed: {reason}."""

    code = 8110
    key = "handshake-failed"


class AnswerTooLong(PeerMisbehaved):
    """{did} sent more than {limit_bytes} bytes in one message; larger things travel as blobs."""

    code = 8111
    key = "answer-too-long"
