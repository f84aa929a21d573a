"""Known keys for histories on real chains: everything follows from a name. They hold test coins only."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import coincurve
from coincurve._libsecp256k1 import ffi  # type: ignore[import-not-found]  # a compiled module without stubs

from common.chain.tx import HASH_TYPE_ALL

KEYS_REMEMBERED = 8_192
OTHER_NONCE = hashlib.sha256(b"the same said again").digest()  # beside key and digest, RFC 6979 §3.6


@lru_cache(maxsize=KEYS_REMEMBERED)
def private_key(name: str) -> coincurve.PrivateKey:
    """The name's key."""
    return coincurve.PrivateKey(hashlib.sha256(b"escrow proof " + name.encode()).digest())


def public_key(name: str) -> bytes:
    """Its public key (33 bytes)."""
    return bytes(private_key(name).public_key.format())


def signed(name: str, digest: bytes, *, other: bool = False) -> bytes:
    """The key's signature of a digest, with the hash type; `other`: one with another number, as good as the first."""
    nonce = (ffi.NULL, ffi.new("unsigned char[32]", OTHER_NONCE) if other else ffi.NULL)
    return bytes(private_key(name).sign(digest, hasher=None, custom_nonce=nonce)) + HASH_TYPE_ALL


def preimage_of(name: str) -> bytes:
    """K of a history (32 bytes)."""
    return hashlib.sha256(b"K of " + name.encode()).digest()
