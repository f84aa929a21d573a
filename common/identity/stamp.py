"""Proof of work that a stranger adds to what it asks of others: cheap to check, bound to who did it and for what.

A stamp is a nonce. It is made over a DID and the hash of what is sent, so it serves nobody else and nothing else.
It slows floods down and proves nothing about anybody. Pure.

Source: transport_identity.md §3.2 (a stranger's store) and §3.3 (gossip).
"""

from __future__ import annotations

import hashlib

from common.identity.did import did_bytes
from common.identity.purposes import Purpose
from common.identity.tagged import tagged, tagged_hash
from common.units import Did

STAMP_BITS = 20  # on main: about a second to make, a microsecond to check; 0 on test networks
NONCE_BYTES = 8


def stamped_part(did: Did, purpose: Purpose, body: bytes) -> bytes:
    """What the work is done over: the signer, and the hash of the body (without its stamp) under its purpose."""
    return did_bytes(did) + tagged_hash(purpose, body)


def stamp_bits(part: bytes, nonce: int) -> int:
    """The zero bits that a nonce gives; 0 for what is no nonce."""
    if not 0 <= nonce < 1 << (8 * NONCE_BYTES):
        return 0
    digest = tagged_hash(Purpose.STAMP, part + nonce.to_bytes(NONCE_BYTES, "big"))
    return 256 - int.from_bytes(digest, "big").bit_length()


def has_stamp(part: bytes, nonce: int, bits: int) -> bool:
    """Whether so much work was done; asked for none, everything has it."""
    return bits <= 0 or stamp_bits(part, nonce) >= bits


def make_stamp(part: bytes, bits: int) -> int:
    """The first nonce with so many zero bits; run it in a thread."""
    begun, limit, nonce = hashlib.sha256(tagged(Purpose.STAMP, part)), 1 << (256 - bits), 1
    while True:
        tried = begun.copy()
        tried.update(nonce.to_bytes(NONCE_BYTES, "big"))
        if int.from_bytes(tried.digest(), "big") < limit:
            return nonce
        nonce += 1
