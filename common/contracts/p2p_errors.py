"""What p2pd answers when a call, a record, a message or a blob does not go through. Codes 8000-8119.

`NotNow` and `Unavailable` may be repeated (with the same request_id); `PeerMisbehaved` ends the connection and counts
against the peer; `CallerMistake` was noticed before anything was sent. 8100-8119 come from the wire between two nodes.
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

    @property
    def for_later(self) -> bool:
        """Whether the other node says "not now", or tells of a fault of its own: the same call may go well later."""
        return bool(self.fields.get("retry"))


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


class RelayRefused(NotNow):
    """The relay does not carry this: {reason}; another relay of that node may."""

    code = 8112
    key = "relay-refused"
    http_status = 429


class PeerUnknown(Unavailable):
    """Nobody reached knows where {did} is: its node record is not in the DHT. It may be off; repeat later."""

    code = 8001
    key = "peer-unknown"


class NoPeerMethod(CallerMistake):
    """No daemon owns the peer method {method!r}; see common/contracts/peer.py and `relay` in p2pd.yaml."""

    code = 8002
    key = "no-peer-method"
    http_status = 404


class NotYourPurpose(CallerMistake):
    """Signatures for {purpose} are made for {owner} only, not for {caller}."""

    code = 8003
    key = "not-your-purpose"
    http_status = 403


class NotYourTopic(CallerMistake):
    """The topic or namespace {name!r} belongs to {owner}, not to {caller}."""

    code = 8004
    key = "not-your-topic"
    http_status = 403


class RateLimited(NotNow):
    """{who} has used up its share of {what}; it refills in {wait_s} s."""

    code = 8005
    key = "rate-limited"
    http_status = 429


class RecordRefused(CallerMistake):
    """The record is refused: {detail}."""

    code = 8006
    key = "record-refused"


class NotStored(Unavailable):
    """No node took the record ({asked} were asked); it is kept here and offered again. Does p2p.peers show any?"""

    code = 8007
    key = "not-stored"


class BlobMissing(Unavailable):
    """Blob {blob} is not here and none of {providers} providers gave it; ask others or repeat later."""

    code = 8008
    key = "blob-missing"
    http_status = 404


class BlobTooLarge(CallerMistake):
    """The blob has {size_bytes} bytes, {limit_bytes} are allowed."""

    code = 8009
    key = "blob-too-large"
    http_status = 413


class BlobsFull(NotNow):
    """The blob store's {quota_bytes} bytes are in use by blobs that must be kept; raise the quota or wait."""

    code = 8010
    key = "blobs-full"


class OwnerAway(Unavailable):
    """{owner}, which answers {method}, does not answer on this node; repeat later."""

    code = 8012
    key = "owner-away"


class NotForStrangers(NotNow):
    """{method} is answered to nodes of some standing only; register and do business first."""

    code = 8013
    key = "not-for-strangers"
    http_status = 403


class RotationTooSoon(NotNow):
    """The last change of keys is less than an hour old; rotate in {wait_s} s."""

    code = 8030
    key = "rotation-too-soon"


class LogFull(CallerMistake):
    """The event log has {events} events, no introduction holds more; `duxnet identity recover --since 0` cuts it."""

    code = 8031
    key = "log-full"


class TooFewSources(Unavailable):
    """Only {found} of {wanted} independent nodes confirmed {did} just now; repeat when more are connected."""

    code = 8032
    key = "too-few-sources"


class NoMailbox(Unavailable):
    """{did} names no mailbox key in its node record: it has none, or its record is not to be had now; repeat later."""

    code = 8040
    key = "no-mailbox"


class OutboxFull(NotNow):
    """{waiting} letters wait to be fetched by their recipients, at most {limit} may; wait for acknowledgements."""

    code = 8041
    key = "outbox-full"
