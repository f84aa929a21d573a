"""The name of a node: the hash of its inception event, in a form that people can copy.

Source: transport_identity.md §2.2 and §3.1.
"""

from __future__ import annotations

import base64
import binascii
import re

from common.identity.errors import NotADid
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.units import Did, Hash32

PREFIX = "did:dux:"
_FORM = re.compile(r"did:dux:[a-z2-7]{52}")


def did_of(inception_id: bytes) -> Did:
    """The DID whose inception event has this id: base32 of all 32 bytes, lower case, no padding."""
    return Did(PREFIX + base64.b32encode(inception_id).decode("ascii").lower().rstrip("="))


def did_bytes(did: str) -> Hash32:
    """The 32 bytes behind a DID; only the one spelling that `did_of` gives is accepted.

    Raises:
        NotADid: another form, also a last letter with stray bits.
    """
    if not _FORM.fullmatch(did):
        raise NotADid(did=did)
    try:
        raw = base64.b32decode(did.removeprefix(PREFIX).upper() + "====")
    except binascii.Error as error:
        raise NotADid(did=did) from error
    if did_of(raw) != did:
        raise NotADid(did=did)
    return Hash32(raw)


def node_id_of(did: str) -> Hash32:
    """The node's place in the DHT: derived, never chosen, and stable when keys change."""
    return tagged_hash(Purpose.NODE_ID, did_bytes(did))
