"""A verifiable random function: a number that only one key's holder can draw from an input, and that anybody can check.

ECVRF-EDWARDS25519-SHA512-TAI of RFC 9381 (suite 0x03). The arithmetic on the curve is libsodium's, with one law more
than the RFC asks: keys and proofs that are no points of the prime-order group are refused. Proving takes a time that
depends on the input, never on the key; inputs are public here.

Source: RFC 9381 §5, §5.4.1.1, §5.5; mechanisms.md §2.4.
"""

from __future__ import annotations

import hashlib

from nacl import bindings

PROOF_BYTES = 80
SEED_BYTES = KEY_BYTES = POINT_BYTES = 32
CHALLENGE_BYTES = 16
SUITE = b"\x03"
_ENCODE, _CHALLENGE, _HASH, _BACK = b"\x01", b"\x02", b"\x03", b"\x00"
_ORDER = 2**252 + 27742317777372353535851937790883648493
_FIELD = 2**255 - 19
_TRIES = 256  # of hashing to a point: each fails in one case of two
_DOUBLINGS = 3  # times the cofactor, 8


def public_of(seed: bytes) -> bytes:
    """The key that checks what this seed proves, 32 bytes."""
    public: bytes = bindings.crypto_sign_seed_keypair(seed)[0]
    return public


def prove(seed: bytes, alpha: bytes) -> bytes:
    """The 80 bytes that show what the seed's key draws from an input."""
    expanded, public = hashlib.sha512(seed).digest(), public_of(seed)
    secret = bytes([expanded[0] & 248, *expanded[1:31], expanded[31] & 63 | 64])
    point = _to_curve(public, alpha)
    nonce = _reduced(hashlib.sha512(expanded[32:] + point).digest())
    gamma = bindings.crypto_scalarmult_ed25519_noclamp(secret, point)
    shown = bindings.crypto_scalarmult_ed25519_base_noclamp(nonce)
    too = bindings.crypto_scalarmult_ed25519_noclamp(nonce, point)
    challenge = _challenge(public, point, gamma, shown, too)
    wide, scalar = challenge + bytes(POINT_BYTES - CHALLENGE_BYTES), _reduced(secret + bytes(POINT_BYTES))
    answer = bindings.crypto_core_ed25519_scalar_add(nonce, bindings.crypto_core_ed25519_scalar_mul(wide, scalar))
    proof: bytes = gamma + challenge + answer
    return proof


def verified(public: bytes, alpha: bytes, proof: bytes) -> bytes | None:
    """The 64 bytes that this key draws from the input, if the proof shows them; None if it shows nothing."""
    if len(public) != KEY_BYTES or len(proof) != PROOF_BYTES:
        return None
    gamma, challenge = proof[:POINT_BYTES], proof[POINT_BYTES : POINT_BYTES + CHALLENGE_BYTES]
    answer = proof[POINT_BYTES + CHALLENGE_BYTES :]
    if int.from_bytes(answer, "little") >= _ORDER or not (_is_point(public) and _is_point(gamma)):
        return None
    point = _to_curve(public, alpha)
    wide = challenge + bytes(POINT_BYTES - CHALLENGE_BYTES)
    try:
        first = bindings.crypto_core_ed25519_sub(
            bindings.crypto_scalarmult_ed25519_base_noclamp(answer),
            bindings.crypto_scalarmult_ed25519_noclamp(wide, public),
        )
        second = bindings.crypto_core_ed25519_sub(
            bindings.crypto_scalarmult_ed25519_noclamp(answer, point),
            bindings.crypto_scalarmult_ed25519_noclamp(wide, gamma),
        )
    except RuntimeError:  # a product of nothing: no honest proof has one
        return None
    if _challenge(public, point, gamma, first, second) != challenge:
        return None
    return drawn_by(proof)


def drawn_by(proof: bytes) -> bytes:
    """The 64 bytes that a proof shows, for one's own: that it is right is not looked at."""
    return hashlib.sha512(SUITE + _HASH + _cleared(proof[:POINT_BYTES]) + _BACK).digest()


def _to_curve(public: bytes, alpha: bytes) -> bytes:
    """A point that everybody finds for a key and an input, by trying one hash after another."""
    for counter in range(_TRIES):
        found = hashlib.sha512(SUITE + _ENCODE + public + alpha + bytes([counter]) + _BACK).digest()[:POINT_BYTES]
        if int.from_bytes(found, "little") & (1 << 255) - 1 >= _FIELD:
            continue
        try:
            return _cleared(found)
        except RuntimeError:
            continue  # not on the curve
    raise AssertionError("256 hashes in a row were no points")


def _cleared(point: bytes) -> bytes:
    """Eight times a point: of the prime-order group."""
    for _ in range(_DOUBLINGS):
        point = bindings.crypto_core_ed25519_add(point, point)
    return point


def _challenge(*points: bytes) -> bytes:
    return hashlib.sha512(SUITE + _CHALLENGE + b"".join(points) + _BACK).digest()[:CHALLENGE_BYTES]


def _reduced(wide: bytes) -> bytes:
    """64 bytes, little-endian, as a scalar."""
    scalar: bytes = bindings.crypto_core_ed25519_scalar_reduce(wide)
    return scalar


def _is_point(data: bytes) -> bool:
    return bool(bindings.crypto_core_ed25519_is_valid_point(data))
