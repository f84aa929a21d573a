"""The DID document: a W3C-shaped view on an event log and a node record, made again whenever it is asked for.

Unsigned: nothing verifies it, because the log is the truth. Source: transport_identity.md §2.4.
"""

from __future__ import annotations

from bitcoin import base58

from common.identity.log import Log
from common.identity.node_record import NodeRecord

JsonValue = str | int | list["JsonValue"] | dict[str, "JsonValue"]

_ED25519_MULTICODEC = b"\xed\x01"
_X25519_MULTICODEC = b"\xec\x01"


def _multikey(did: str, fragment: str, prefix: bytes, key: bytes) -> JsonValue:
    """A Multikey in base58btc, the only form that the W3C data model has for it."""
    text = str(base58.encode(prefix + key))
    return {"id": f"{did}#{fragment}", "type": "Multikey", "controller": did, "publicKeyMultibase": "z" + text}


def document(log: Log, record: NodeRecord | None, coin_address: str | None = None) -> dict[str, JsonValue]:
    """The document of a DID; without a record it names keys only. A pure function of its arguments."""
    did, current = log.did, f"{log.did}#k{log.tip.seq}"
    found: dict[str, JsonValue] = {
        "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
        "id": did,
        "versionId": str(log.tip.seq),
        "verificationMethod": [
            _multikey(did, f"k{event.seq}", _ED25519_MULTICODEC, event.key)
            for event in log.events
            if event.kind != "end"
        ],
        "authentication": [] if log.ended else [current],
        "assertionMethod": [] if log.ended else [current],
    }
    if record is not None:
        found["keyAgreement"] = [
            _multikey(did, f"m{i}", _X25519_MULTICODEC, key) for i, key in enumerate(record.mailbox_keys)
        ]
        found["service"] = [
            {"id": f"{did}#e{i}", "type": "DuxTransport", "serviceEndpoint": at}
            for i, at in enumerate(record.endpoints)
        ]
    if coin_address is not None:
        found["alsoKnownAs"] = [f"flopcoin:{coin_address}"]
    return found
