"""The coin network's peer protocol as bytes: frames and what is in them. No sockets, no rules.

Promises: every length and count is checked against a limit before anything of that size is read; trailing bytes are
refused where the protocol has none. Both a wallet and the embedded chain speak with this.

Source: the Bitcoin family's protocol as Flopcoin 2.0 speaks it (version 70016, BIP31, 35, 37, 61, 111, 130), facts §1.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from enum import IntEnum

import msgspec

from common.chain.wire import HEADER_BYTES, DecodeError, Reader, compact, sha256d

FRAME = struct.Struct("<4s12sI4s")
FRAME_BYTES = FRAME.size
PAYLOAD_BYTES_MAX = 4_000_000  # the protocol's own limit; 2,000 merged-mined headers take 1.7 MB
HEADERS_MAX = 2_000  # in one message
INV_MAX = 1_000  # things in one `inv` or `getdata` that we read; the protocol allows 50,000
ADDRESSES_MAX = 1_000
LOCATOR_MAX = 101
USER_AGENT_BYTES_MAX = 256
REASON_BYTES_MAX = 111
AUXPOW_BIT = 0x100
VERSION_TOP_BITS = 0xE0000000  # versions of BIP9 have no merged mining
BRANCH_HASHES_MAX = 64
HASH_BYTES = 32

NODE_NETWORK = 1
NODE_BLOOM = 4

PAYLOAD_LIMITS = {  # bytes that may come under this name; others may have OTHER_BYTES_MAX and are skipped
    "version": 1_000,
    "verack": 0,
    "ping": 8,
    "pong": 8,
    "sendheaders": 0,
    "getaddr": 0,
    "mempool": 0,
    "filterclear": 0,
    "filteradd": 521,
    "filterload": 36_100,
    "reject": 200,
    "addr": 9 + 30 * ADDRESSES_MAX,
    "inv": 9 + 36 * 50_000,
    "getdata": 9 + 36 * 50_000,
    "notfound": 9 + 36 * 50_000,
    "getheaders": 4 + 9 + 32 * (LOCATOR_MAX + 1),
    "headers": PAYLOAD_BYTES_MAX,
    "merkleblock": 600_000,
    "block": 1_100_000,
    "tx": 1_000_000,
}
OTHER_BYTES_MAX = 100_000


class Inv(IntEnum):
    """What an inventory entry names."""

    TX = 1
    BLOCK = 2
    FILTERED_BLOCK = 3


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A peer's first word."""

    protocol: int
    services: int
    time_s: int
    nonce: int
    user_agent: str
    height: int
    relay: bool


class Reject(msgspec.Struct, frozen=True, kw_only=True):
    """A peer refuses what it was sent (BIP61)."""

    message: str
    code: int
    reason: str
    about: bytes  # hash of the transaction or block; empty for other messages


class Place(msgspec.Struct, frozen=True):
    """Where another node is, as a peer tells it."""

    host: str
    port: int
    services: int
    time_s: int


class RawHeader(msgspec.Struct, frozen=True):
    """A header and the bytes of its merged-mining proof (empty where its version has none)."""

    raw: bytes
    proof: bytes


def frame(magic: bytes, command: str, payload: bytes) -> bytes:
    """One message."""
    return FRAME.pack(magic, command.encode(), len(payload), sha256d(payload)[:4]) + payload


def read_frame_head(head: bytes, magic: bytes) -> tuple[str, int, bytes]:
    """Command, length and check sum of the message that follows.

    Raises:
        DecodeError: another network, or more than may be sent under this name.
    """
    found, name, length, check = FRAME.unpack(head)
    if found != magic:
        raise DecodeError(f"magic {found.hex()}, this network has {magic.hex()}")
    command = name.rstrip(b"\0").decode("ascii", errors="replace")
    if length > PAYLOAD_LIMITS.get(command, OTHER_BYTES_MAX):
        raise DecodeError(f"a {command!r} of {length} bytes")
    return command, length, check


def check_payload(payload: bytes, check: bytes) -> None:
    """The bytes arrived as they were sent.

    Raises:
        DecodeError: they did not.
    """
    if sha256d(payload)[:4] != check:
        raise DecodeError("the check sum does not match")


def encode_version(version: Version) -> bytes:
    """The payload of `version`; addresses are left at zero, they tell nothing that a wallet should say."""
    agent = version.user_agent.encode()
    return b"".join(
        [
            struct.pack("<iQq", version.protocol, version.services, version.time_s),
            bytes(52),
            struct.pack("<Q", version.nonce),
            compact(len(agent)),
            agent,
            struct.pack("<i?", version.height, version.relay),
        ]
    )


def decode_version(payload: bytes) -> Version:
    """What a peer says of itself.

    Raises:
        DecodeError: cut short.
    """
    reader = Reader(payload)
    protocol, services, time_s = reader.number("i"), reader.number("Q"), reader.number("q")
    reader.take(52)
    nonce = reader.number("Q")
    length = reader.compact()
    if length > USER_AGENT_BYTES_MAX:
        raise DecodeError(f"a user agent of {length} bytes")
    agent = reader.take(length).decode("utf-8", errors="replace")
    height = reader.number("i")
    relay = bool(reader.number("B")) if reader.left else True
    return Version(
        protocol=protocol,
        services=services,
        time_s=time_s,
        nonce=nonce,
        user_agent=agent,
        height=height,
        relay=relay,
    )


def encode_invs(kind: Inv, hashes: Sequence[bytes]) -> bytes:
    """The payload of `inv`, `getdata` or `notfound`."""
    return compact(len(hashes)) + b"".join(struct.pack("<I", kind) + item for item in hashes)


def decode_invs(payload: bytes) -> list[tuple[int, bytes]]:
    """Kinds and hashes, the first `INV_MAX` of them.

    Raises:
        DecodeError: cut short.
    """
    reader = Reader(payload)
    count = reader.count(36)
    return [(reader.number("I"), reader.take(32)) for _ in range(min(count, INV_MAX))]


def encode_getheaders(protocol: int, locator: Sequence[bytes], stop: bytes = bytes(32)) -> bytes:
    """Ask for what follows the newest of these blocks that the peer has."""
    return struct.pack("<I", protocol) + compact(len(locator)) + b"".join(locator) + stop


def decode_getheaders(payload: bytes) -> tuple[list[bytes], bytes]:
    """Locator and stop.

    Raises:
        DecodeError: cut short, or too long a locator.
    """
    reader = Reader(payload)
    reader.number("I")
    count = reader.count(32)
    if count > LOCATOR_MAX:
        raise DecodeError(f"a locator of {count} hashes")
    return [reader.take(32) for _ in range(count)], reader.take(32)


def encode_headers(headers: Sequence[bytes]) -> bytes:
    """The payload of `headers`: each with its proof, and a transaction count of nought."""
    return compact(len(headers)) + b"".join(item + b"\0" for item in headers)


def decode_headers(payload: bytes) -> list[RawHeader]:
    """Headers with their proofs, which are not judged here.

    Raises:
        DecodeError: cut short, or more than one message may hold.
    """
    reader = Reader(payload)
    count = reader.compact()
    if count > HEADERS_MAX:
        raise DecodeError(f"{count} headers in one message")
    at = len(payload) - reader.left
    found = []
    for _ in range(count):
        raw = payload[at : at + HEADER_BYTES]
        at += HEADER_BYTES
        end = _after_proof(payload, at) if has_proof(raw) else at
        found.append(RawHeader(raw, payload[at:end]))
        at = end + 1
    if at != len(payload) or (found and len(found[-1].raw) != HEADER_BYTES):
        raise DecodeError("the headers are cut short or longer than said")
    return found


def has_proof(raw: bytes) -> bool:
    """Whether these 80 bytes are followed by a merged-mining proof."""
    version = int.from_bytes(raw[:4], "little")
    return bool(version & AUXPOW_BIT) and not version & VERSION_TOP_BITS


def proof_bytes(data: bytes, start: int) -> int:
    """How many bytes the merged-mining proof that starts here takes.

    Raises:
        DecodeError: it is cut short.
    """
    return _after_proof(data, start) - start


def _after_proof(data: bytes, start: int) -> int:
    """Where a merged-mining proof ends: it is walked over, not read, for most are judged by link alone."""
    try:
        at = _after_tx(data, start) + HASH_BYTES
        for _ in range(2):
            count, at = _compact_at(data, at)
            if count > BRANCH_HASHES_MAX:
                raise DecodeError(f"a merkle branch of {count} hashes")
            at += HASH_BYTES * count + 4
    except (IndexError, struct.error) as error:
        raise DecodeError("a merged-mining proof is cut short") from error
    if at + HEADER_BYTES > len(data):
        raise DecodeError("a merged-mining proof is cut short")
    return at + HEADER_BYTES


def _after_tx(data: bytes, at: int) -> int:
    inputs, at = _compact_at(data, at + 4)
    for _ in range(_possible(inputs, 41, data, at)):
        length, at = _compact_at(data, at + 36)
        at += length + 4
    outputs, at = _compact_at(data, at)
    for _ in range(_possible(outputs, 9, data, at)):
        length, at = _compact_at(data, at + 8)
        at += length
    return at + 4


def _possible(count: int, bytes_each: int, data: bytes, at: int) -> int:
    if count * bytes_each > len(data) - at:
        raise DecodeError(f"{count} items announced, {len(data) - at} bytes left")
    return count


def _compact_at(data: bytes, at: int) -> tuple[int, int]:
    first = data[at]
    if first < 0xFD:  # noqa: PLR2004 - the format's own constants
        return first, at + 1
    form, width = {0xFD: ("<H", 2), 0xFE: ("<I", 4), 0xFF: ("<Q", 8)}[first]
    return int(struct.unpack_from(form, data, at + 1)[0]), at + 1 + width


def encode_reject(reject: Reject) -> bytes:
    """The payload of `reject`."""
    name, reason = reject.message.encode(), reject.reason.encode()[:REASON_BYTES_MAX]
    return b"".join(
        [compact(len(name)), name, bytes([reject.code]), compact(len(reason)), reason, reject.about],
    )


def decode_reject(payload: bytes) -> Reject:
    """What a peer refused, and why.

    Raises:
        DecodeError: cut short.
    """
    reader = Reader(payload)
    message = reader.take(reader.count(1)).decode("ascii", errors="replace")
    code = reader.number("B")
    reason = reader.take(reader.count(1)).decode("utf-8", errors="replace")[:REASON_BYTES_MAX]
    return Reject(message=message, code=code, reason=reason, about=reader.take(min(32, reader.left)))


def decode_addresses(payload: bytes) -> list[Place]:
    """Nodes that a peer knows; those outside IPv4 and IPv6 do not exist in this protocol.

    Raises:
        DecodeError: cut short, or more than one message may hold.
    """
    reader = Reader(payload)
    count = reader.count(30)
    if count > ADDRESSES_MAX:
        raise DecodeError(f"{count} addresses in one message")
    return [_read_place(reader) for _ in range(count)]


def _read_place(reader: Reader) -> Place:
    time_s, services, packed = reader.number("I"), reader.number("Q"), reader.take(16)
    (port,) = struct.unpack(">H", reader.take(2))
    address = ipaddress.IPv6Address(packed)
    return Place(str(address.ipv4_mapped or address), port, services, time_s)


def encode_addresses(places: Sequence[Place]) -> bytes:
    """The payload of `addr`."""
    parts = [compact(len(places))]
    for place in places:
        address = ipaddress.ip_address(place.host)
        packed = b"\0" * 10 + b"\xff\xff" + address.packed if address.version == 4 else address.packed  # noqa: PLR2004
        parts += [struct.pack("<IQ", place.time_s, place.services), packed, struct.pack(">H", place.port)]
    return b"".join(parts)
