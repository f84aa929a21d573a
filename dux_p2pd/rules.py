"""p2pd's decisions, without time, sockets or files: what comes in is judged here, elsewhere it is only done.

Source: transport_identity.md §3.1-3.3; network.md §4.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

import msgspec

from common.codec import Canon, canonical
from common.identity.log import Log, recovers, split_of
from common.identity.node_record import NodeRecord
from common.identity.purposes import Purpose
from common.identity.stamp import stamped_part
from common.nets import may_listen_at
from common.rpc.method import Namespace
from dux_p2pd.records import GossipBody, RecordBody

FUTURE_MS = 600_000  # a record from further ahead is refused
GOSSIP_AGE_MS = 120_000  # a message older or younger than this is not passed on
FLOOR_TTLS = 2  # a name's newest number is remembered for so many TTLs after it expired
RECORDS_PER_DID_MAX = 64
CONTACTS_KEPT = 4096  # endpoints read, in memory: the same ones are named again and again
DIDS_PER_KEY_MAX = 64
RECORD_ROOM_BYTES = 4096  # counted for one kept record, whatever its size

PAUSE_FIRST_S = 0.5
PAUSE_MAX_S = 60.0


SESSION_LIFE_MS = 86_400_000  # a connection is made anew after a day at the latest
INBOUND_NET_PART, INBOUND_NET_MIN = 8, 8  # of the sessions: an eighth for those that one net has dialled, at least 8
OLD_KEY_GRACE_MS = 3_600_000  # a transport key that the record names no more is borne so much longer


def papers_fault(log: Log, held: Log | None, record: NodeRecord | None, key: bytes, now_ms: int) -> str | None:
    """Why a connection has lost its ground, now that `log` and `record` are known of its other end, or None.

    `held` is the log known before, `key` the transport key of the connection. Source: transport_identity.md §1.4.
    """
    if log.ended or log.frozen:
        return "its name was closed" if log.ended else "its name is frozen"
    if log.disputed and not (held is not None and held.disputed):
        return "its name is disputed"
    listed = record is not None and key in record.transport_keys
    if held is not None and recovers(log, split_of(log, held)) and not listed:
        return "its owner has recovered it with other keys"
    if record is not None and not listed and now_ms > record.issued_ms + OLD_KEY_GRACE_MS:
        return "its node record names this connection's key no more"
    return None


class Shelf(msgspec.Struct, frozen=True):
    """What the store holds that matters for one record offered to it."""

    newest: tuple[int, int] | None  # (key_seq, seq_ms) of the same (did, ns, name), also when expired
    of_did: int  # other names held of this signer
    of_did_in_ns: int  # of these, in the record's namespace
    dids_at_key: int  # signers at this place
    bytes_held: int
    bytes_max: int
    nearer_nodes: int  # nodes we know that are nearer to the place than we are
    signer_known: bool  # no stranger: may take a stranger's place
    strangers_at_key: bool  # whether there is such a place under the same key,
    strangers_held: bool  # and in the whole store
    has_stamp: bool  # the work that a stranger's record needs was done, or none is asked


NOT_NEWER, NOT_NEAR = "it is not newer than what is known", "others are nearer to it"
HONEST_REFUSALS = (NOT_NEWER, NOT_NEAR)  # what whoever hands records on may be told, too


def record_fault(body: RecordBody, ns: Namespace[Canon] | None, now_ms: int) -> str | None:
    """Why a record is not to be believed by anybody, or None. The signature is checked elsewhere."""
    if ns is None:
        return f"no namespace {body.ns!r}"
    if body.seq_ms > now_ms + FUTURE_MS:
        return "it is dated in the future"
    if body.expires_ms <= now_ms:
        return "it has expired"
    return ns.fault(body.did, body.name, body.payload, body.ttl_s)


def keep_fault(body: RecordBody, ns: Namespace[Canon], shelf: Shelf, near_max: int) -> str | None:
    """Why a believable record is not kept here, or None. A known signer may push out a stranger's record."""
    if shelf.newest is not None and (body.key_seq, body.seq_ms) <= shelf.newest:
        return NOT_NEWER
    if shelf.nearer_nodes >= near_max:
        return NOT_NEAR
    if not shelf.signer_known and not shelf.has_stamp:
        return "a stranger's record needs a stamp"
    return _room_fault(ns, shelf) if shelf.newest is None else None


def _room_fault(ns: Namespace[Canon], shelf: Shelf) -> str | None:
    if shelf.of_did >= RECORDS_PER_DID_MAX:
        return f"its signer has {RECORDS_PER_DID_MAX} records here already"
    if shelf.of_did_in_ns >= ns.per_signer_max:
        return f"its signer has {ns.per_signer_max} records of {ns.name!r} here already"
    if place_is_full(ns, shelf) and not (shelf.signer_known and shelf.strangers_at_key):
        return f"its place holds {min(DIDS_PER_KEY_MAX, ns.per_name_max)} signers already"
    if store_is_full(shelf) and not (shelf.signer_known and shelf.strangers_held):
        return "the store is full"
    return None


def place_is_full(ns: Namespace[Canon], shelf: Shelf) -> bool:
    """Whether one more signer at this place needs another to go."""
    return shelf.dids_at_key >= min(DIDS_PER_KEY_MAX, ns.per_name_max)


def store_is_full(shelf: Shelf) -> bool:
    """Whether one more record needs another to go."""
    return shelf.bytes_held + RECORD_ROOM_BYTES > shelf.bytes_max


def gossip_fault(body: GossipBody, now_ms: int) -> str | None:
    """Why a message of a known topic is too old or too young to be looked at, or None."""
    if abs(now_ms - body.seq_ms) > min(GOSSIP_AGE_MS, body.ttl_s * 1000):
        return "its time is not now"
    return None


def stamped_gossip(body: GossipBody) -> bytes:
    """What a message's stamp is made over: the body with the stamp taken out."""
    return stamped_part(body.did, Purpose.GOSSIP, canonical(msgspec.structs.replace(body, stamp=0)))


def pause_s(failures: int, spread: float) -> float:
    """How long to leave an address alone after so many failures: doubling to a minute, spread by 0-1 of half of it."""
    base = min(PAUSE_MAX_S, PAUSE_FIRST_S * 2.0 ** min(failures, 16))
    return base * (0.5 + 0.5 * spread)


def inbound_of_net_max(sessions_max: int) -> int:
    """How many sessions that nodes of one /24 or /48 have dialled are kept, of so many in all."""
    return max(INBOUND_NET_MIN, sessions_max // INBOUND_NET_PART)


def told_host(address: str, *, private_too: bool) -> str | None:
    """The address of our end of a connection as an endpoint's host, or None where it would lead nobody to us."""
    ip = ip_address(address.split("%", 1)[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback or ip.is_link_local or ip.is_unspecified or not (ip.is_global or private_too):
        return None
    return f"[{ip}]" if isinstance(ip, IPv6Address) else str(ip)


def endpoint_of(address: tuple[str, int]) -> str:
    """An address as an endpoint's text: an IPv6 one stands in brackets."""
    host, port = address[0].split("%", 1)[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(CONTACTS_KEPT)
def contact_at(endpoint: str) -> tuple[str, int] | None:
    """Host and port where the host is an IP address, or None: no name that others chose is ever looked up for them."""
    address = may_listen_at(endpoint)
    if address is None:
        return None
    try:
        return str(ip_address(address[0])), address[1]
    except ValueError:
        return None
