"""The catalogue of what nodes say to each other: topics, DHT namespaces, calls, streams, and the structs they carry.

Made from the declarations in `common/contracts/peer_*.py`, which are also what p2pd enforces.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Any

import msgspec

from common.codec import Canon
from common.contracts import peer_p2p, peer_reach
from common.contracts.peer import namespaces, peer_methods, topics
from common.rpc.method import Namespace, PeerMethod, Topic
from dux_cli.docs.tables import doc_line, markdown_table

DAY_S = 86_400
INTRO = """
Made by `duxnet docs` from `common/contracts/peer_*.py`; do not edit. All of it travels through both nodes' p2pd, which
proves who speaks; a peer can never reach a local method. Structs are canonical msgpack arrays, their fields in the
order of the last section.
"""
GOSSIP = """
Who owns a topic judges every message before it is passed on, and alone may publish. *Neighbour* and *signer*: messages
a second that are taken from one neighbour, whoever signed them, and of one signer, whoever brings them, with bursts of
ten seconds. How messages travel: [gossip](../protocol/gossip.md).
"""
RECORDS = "Signed records, one per signer and name; the newest wins. An empty payload withdraws a name."
CALLS = """
*Cost*: units of the caller's bucket, of which a known node has 2,000 a second and a stranger a tenth. *Asked by*: the
daemon whose p2pd may send it; p2pd's own are asked by p2pd itself. *Strangers*: whether a node without any standing is
answered. *Again*: what a repetition does: `read`, nothing changes; `same`, it happens once; `anew`, the work is done
again.
"""
STREAMS: tuple[tuple[str, float, str], ...] = (
    (peer_p2p.BLOB_CHUNKS_STREAM, peer_p2p.BLOB_CHUNKS_COST, "Headers name a blob and up to 16 chunks, which follow."),
    (peer_p2p.GOSSIP_FLOW, peer_p2p.GOSSIP_FLOW_COST, "`GossipFrame`s, each with a u32 length in front, up to 5 min."),
    (
        peer_reach.RELAY_CIRCUIT,
        peer_reach.RELAY_CIRCUIT_COST,
        "To a relay: header `to`; what follows is carried there.",
    ),
    (peer_reach.RELAY_INCOMING, 1, "From a relay: somebody's end-to-end TLS."),
)


def network_page() -> str:
    """The whole page."""
    calls, gossip, records = peer_methods(), topics(), namespaces()
    parts = [
        "# Between nodes: the catalogue",
        INTRO,
        "## Gossip topics",
        GOSSIP,
        topics_table([gossip[name] for name in sorted(gossip)]),
        "## Records in the DHT",
        RECORDS,
        spaces_table([records[name] for name in sorted(records)]),
        "## Calls",
        CALLS,
        calls_table([calls[name] for name in sorted(calls)]),
        "## Streams",
        streams_table(),
        "## What they carry",
        structs_table([*calls.values()], [*gossip.values()], [*records.values()]),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def topics_table(found: Iterable[Topic[Any]]) -> str:
    """Every topic."""
    rows = [
        (
            f"`{topic.name}`",
            topic.owner,
            f"`{topic.payload.__name__}`",
            str(topic.payload_bytes_max),
            f"{topic.ttl_s} s",
            f"{topic.neighbour_per_s:g}",
            f"{topic.signer_per_s:g}",
            topic.summary,
        )
        for topic in found
    ]
    heads = ("topic", "owner", "payload", "bytes at most", "life", "neighbour", "signer", "what it carries")
    return markdown_table(heads, rows)


def spaces_table(found: Iterable[Namespace[Any]]) -> str:
    """Every namespace."""
    rows = [
        (
            f"`{space.name}`",
            space.owner,
            space.names.says,
            f"`{space.payload.__name__}`",
            str(space.payload_bytes_max),
            f"{space.ttl_s_max // DAY_S} d",
            _room(space),
            space.summary,
        )
        for space in found
    ]
    heads = ("namespace", "written by", "name", "payload", "bytes at most", "life", "kept", "what it holds")
    return markdown_table(heads, rows)


def _room(space: Namespace[Any]) -> str:
    """How many of them one storer keeps."""
    copies = f"; at {1 + space.salted} keys" if space.salted else ""
    return f"{space.per_name_max} per name, {space.per_signer_max} per signer{copies}"


def calls_table(found: Iterable[PeerMethod[Any, Any]]) -> str:
    """Every call."""
    rows = [
        (
            f"`{call.name}`",
            call.owner,
            ", ".join(call.callers) or "p2pd",
            "yes" if call.strangers else "no",
            str(call.cost),
            str(call.params_bytes_max),
            f"{call.deadline_max_s:g} s",
            call.repeated,
            f"`{call.params.__name__}` → `{call.result.__name__}`",
            call.summary,
        )
        for call in found
    ]
    heads = ("call", "answered by", "asked by", "strangers", "cost", "bytes at most", "time", "again", "carries")
    return markdown_table((*heads, "what it does"), rows)


def streams_table() -> str:
    """Every stream that carries more than one message."""
    rows = [(f"`{name}`", f"{cost:g}", text) for name, cost, text in STREAMS]
    return markdown_table(("stream", "cost", "what flows"), rows)


def structs_table(calls: list[PeerMethod[Any, Any]], gossip: list[Topic[Any]], records: list[Namespace[Any]]) -> str:
    """Every struct that is named above or inside one that is, with its fields in order."""
    kinds: dict[str, type[Canon]] = {}
    wanted: list[Any] = [kind for call in calls for kind in (call.params, call.result)]
    wanted += [topic.payload for topic in gossip] + [space.payload for space in records] + [peer_p2p.GossipFrame]
    while wanted:
        kind = wanted.pop()
        wanted += [
            argument for argument in typing.get_args(kind) if isinstance(argument, type) or typing.get_args(argument)
        ]
        if isinstance(kind, type) and issubclass(kind, Canon) and kind.__name__ not in kinds:
            kinds[kind.__name__] = kind
            wanted += [field.type for field in msgspec.structs.fields(kind)]
    rows = [
        (
            f"`{name}`",
            ", ".join(f"`{field}`" for field in kinds[name].__struct_fields__) or "nothing",
            doc_line(kinds[name]),
        )
        for name in sorted(kinds)
    ]
    return markdown_table(("struct", "fields", "what it is"), rows)
