"""Known keys for histories on real chains: everything follows from a name. They hold test coins only."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import coincurve

from common.chain.tx import HASH_TYPE_ALL

KEYS_REMEMBERED = 8_192


@lru_cache(maxsize=KEYS_REMEMBERED)
def private_key(name: str) -> coincurve.PrivateKey:
    """The name's key."""
    return coincurve.PrivateKey(hashlib.sha256(b"escrow proof " + name.encode()).digest())


def public_key(name: str) -> bytes:
    """Its public key (33 bytes)."""
    return bytes(private_key(name).public_key.format())


def signed(name: str, digest: bytes) -> bytes:
    """The key's signature of a digest, with the hash type."""
    return bytes(private_key(name).sign(digest, hasher=None)) + HASH_TYPE_ALL


def preimage_of(name: str) -> bytes:
    """K of a history (32 bytes)."""
    return hashlib.sha256(b"K of " + name.encode()).digest()
