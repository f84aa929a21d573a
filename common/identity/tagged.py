"""Bytes with their purpose in front: what is hashed and what is signed.

Promise: two different purposes never give the same bytes, whatever the bodies are. Source: transport_identity.md §2.1.
"""

from __future__ import annotations

import hashlib

from common.identity.purposes import Purpose
from common.units import Hash32


def tagged(purpose: Purpose, body: bytes) -> bytes:
    """`duxnet/<purpose>/v1`, a zero byte, the body: no purpose holds a zero byte, so the split is unique."""
    return b"duxnet/" + purpose.value.encode("ascii") + b"/v1\x00" + body


def tagged_hash(purpose: Purpose, body: bytes) -> Hash32:
    """SHA-256 over the tagged bytes (32 bytes)."""
    return Hash32(hashlib.sha256(tagged(purpose, body)).digest())
