"""A log cut into records for the DHT: at most 12 events in each, and no more bytes than a record holds.

Promise: chunks follow from the events alone and in order, so a log that has grown changes its last chunk and adds
others, and leaves the rest as it was. Pure. Source: transport_identity.md §2.2 (DHT form).
"""

from __future__ import annotations

from collections.abc import Sequence

from common.codec import canonical
from common.contracts.peer_p2p import LOG_CHUNK_EVENTS, LOG_CHUNKS_MAX, LOG_NS, LogChunk
from common.identity.log import Log
from common.identity.signed import Signed


def chunks_of(log: Log) -> list[bytes]:
    """The payloads of a log's chunk records; a log of more chunks than there are names is cut at its end."""
    found: list[bytes] = []
    rest: Sequence[Signed] = log.envelopes
    while rest and len(found) < LOG_CHUNKS_MAX:
        count = _fitting(len(found), rest)
        found.append(canonical(LogChunk(number=len(found), events=tuple(rest[:count]))))
        rest = rest[count:]
    return found


def _fitting(number: int, rest: Sequence[Signed]) -> int:
    """How many of the events one record holds; always one at least."""
    count = min(LOG_CHUNK_EVENTS, len(rest))
    while count > 1 and len(canonical(LogChunk(number=number, events=tuple(rest[:count])))) > LOG_NS.payload_bytes_max:
        count -= 1
    return count
