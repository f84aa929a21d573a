"""The work that an inception costs: friction against names made by the million, nothing more.

Argon2id with 1 MiB and one pass, so that common hardware is not far behind special hardware. Checked once per DID.
Source: transport_identity.md §3.1, settled.md 13.
"""

from __future__ import annotations

import msgspec
from nacl import bindings

from common.codec import canonical
from common.identity.events import Event
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.units import Hash32

ARGON2_MEMORY_BYTES = 1 << 20
ARGON2_PASSES = 1
SALT_BYTES = 16
TRIES_MAX_FACTOR = 64  # e^-64 is the chance that a solvable event is given up


def _work_bits(body_id: Hash32) -> int:
    """Leading zero bits of Argon2id over the work's hash of an event."""
    digest: bytes = bindings.crypto_pwhash_alg(
        32, body_id, body_id[:SALT_BYTES], ARGON2_PASSES, ARGON2_MEMORY_BYTES, bindings.crypto_pwhash_ALG_ARGON2ID13
    )
    return 256 - int.from_bytes(digest, "big").bit_length()


def has_work(body: bytes, bits: int) -> bool:
    """Whether an inception's bytes carry the work that the network asks (0 bits: always)."""
    return bits == 0 or _work_bits(tagged_hash(Purpose.INCEPTION_WORK, body)) >= bits


def solve(event: Event, bits: int) -> Event:
    """The same inception with the first nonce that has the work; takes about 2^bits tries of 0.5 ms.

    Raises:
        RuntimeError: no nonce within 64 times the expected number of tries.
    """
    for nonce in range(TRIES_MAX_FACTOR << bits):
        candidate = msgspec.structs.replace(event, nonce=nonce)
        if has_work(canonical(candidate), bits):
            return candidate
    raise RuntimeError(f"no nonce with {bits} zero bits found")
