"""Every limit of the wire, with its unit and its reason, in one place.

Source: transport_identity.md §1.2, §1.3 and §1.5; where a figure is ours, the comment says why.
"""

from __future__ import annotations

import msgspec

KIB = 1024
MIB = 1024 * KIB

# handshake
HANDSHAKE_S = 5.0  # accept to TLS complete; a dialler has the same
HAPPY_EYEBALLS_S = 0.25  # a name with several addresses: the next one is tried so much later (RFC 8305)
HELLO_S = 5.0  # TLS complete to the peer's HELLO judged
SERVER_HANDSHAKE_BYTES = 4096  # inbound; an honest client sends 1135, with ML-KEM 2053
CLIENT_HANDSHAKE_BYTES = 8192  # inbound; an honest server sends 1136, with ML-KEM 2072
STARVED_BYTES = 32 * KIB  # ciphertext without plaintext; a whole record is 16.3 KiB
STARVED_PAY = 64  # bytes of ciphertext that one of plaintext pays for; the shortest honest record (a PING) needs 3
HELLO_BYTES = 16 * KIB
LOG_TAIL_BYTES = 14 * KIB  # 64 events; leaves room for the record in HELLO
LONG_LOG_BYTES = 3 * KIB  # about 12 events; a stranger's longer log costs LONG_LOG_COST connects
LONG_LOG_COST = 3.0  # on top of the one already paid: fourfold
NODE_RECORD_BYTES = 1280  # 1 KiB and its envelope
CLOCK_SKEW_WARN_MS = 10 * 60 * 1000

# gate, before any TLS object
NET_BURST = 20  # connects per /24 or /48
NET_PER_S = 5.0
NET_HALF_OPEN = 8
ALL_HALF_OPEN = 64
NETS_REMEMBERED = 4096  # buckets kept; a full bucket may be forgotten without effect

# framing
FRAME_BYTES = 16 * KIB  # payload of one DATA
WINDOW_BYTES = 16 * KIB  # initial credit of every stream, both ways
WINDOW_MAX_BYTES = 512 * KIB  # a stream that is read fast grows to this, out of the connection's credit
SEND_WINDOW_MAX_BYTES = 16 * MIB  # more credit than this is nonsense
WRITE_HIGH_BYTES = 256 * KIB  # writers wait above
READ_BYTES = 256 * KIB  # of ciphertext, taken from a socket at a time
TAKE_BYTES = 64 * KIB  # and decrypted at a time: larger pieces of memory would be new pages every time
WRITE_SLICE_BYTES = 64 * KIB  # a writer hands over so much between two looks at the buffer
BUSY_STREAMS = 4  # from so many under way on a session, small frames wait for the end of the loop's turn
WRITE_STUCK_BYTES = 2 * MIB  # only control frames can get here: the peer asks and does not read
HEAD_BYTES = 1024  # [method, deadline_ms, headers] and the answer's head
MESSAGE_BYTES = 1 * MIB
OPEN_WAITERS = 256  # callers waiting for one of the peer's stream slots

# rates, each over the same span
SPAN_S = 10.0
RESETS_PER_SPAN = 100  # rapid reset
PINGS_PER_SPAN = 100  # one per 5 s is honest
PETTY_FRAMES_PER_SPAN = 10_000  # DATA < 256 B in mid-stream, credit < 4 KiB: each costs as much as a full frame
PETTY_DATA_BYTES = 256
PETTY_CREDIT_BYTES = 4 * KIB

# life
PING_AFTER_S = 5.0  # without a byte, by the end that dialled; the other
PING_SECOND_S = 7.0  # waits a little longer: it hears the first one's ping
DEAD_AFTER_S = 15.0
ANSWER_S = 3.0  # a ping unanswered for so long: a second connection of the same DID may replace this one
STUCK_S = 15.0  # a peer that takes less than STUCK_BYTES in this time, while our buffer is full, does not read
STUCK_BYTES = 16 * KIB
SESSION_LIFE_S = 24 * 3600.0
DRAIN_S = 30.0  # a retired session lets its streams end for so long
STOP_DRAIN_S = 3.0  # a node that stops lets its requests end for so long; systemd kills after 8
LINGER_S = 1.0  # a closing socket flushes its GOAWAY for so long
REQUEST_S_MAX = 30.0
STREAM_S_MAX = 300.0  # open_stream: blobs by stream; read and write still need progress


class PeerLimits(msgspec.Struct, frozen=True):
    """What one peer may hold of ours at a time."""

    streams: int  # that it opened
    executing: int  # handlers at work, also cancelled ones until they ended
    credit_bytes: int  # granted beyond the initial windows, over all streams


KNOWN = PeerLimits(streams=64, executing=64, credit_bytes=1 * MIB)
STRANGER = PeerLimits(streams=8, executing=8, credit_bytes=0)

# calls, in units by method cost (a small call is 1)
CALL_BURST_UNITS = 4000.0
CALL_UNITS_PER_S = 2000.0
BANS_REMEMBERED = 4096
HEAD_S = 5.0  # from a stream's SYN to its whole head
NET_BAN_S_MAX = 600.0  # of a banned DID's network: others may share the address
TCP_USER_TIMEOUT_MS = 15_000
