"""Ed25519 by libsodium: signing, verifying, and the check of every key that enters.

libsodium refuses small-order keys, for which anybody can sign; the point check refuses keys outside the
prime-order group too. Source: transport_identity.md §2.1.
"""

from __future__ import annotations

from typing import Protocol

from nacl import bindings
from nacl.exceptions import CryptoError

from common.errors import BadParams
from common.identity.errors import BadKey, BadSignature
from common.identity.purposes import Purpose
from common.identity.tagged import tagged

KEY_BYTES = 32
SEED_BYTES = 32
SIGNATURE_BYTES = 64


class Signer(Protocol):
    """What signs for a purpose: a key in memory, or one in a token that never leaves it."""

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        ...

    def sign(self, purpose: Purpose, body: bytes) -> bytes:
        """The 64-byte signature over the tagged body."""
        ...


class SigningKey:
    """A private Ed25519 key that signs for a purpose; its text form never shows the secret."""

    __slots__ = ("_public", "_secret")

    def __init__(self, seed: bytes) -> None:
        """From the 32-byte seed of a derivation path or of the random generator."""
        if len(seed) != SEED_BYTES:
            raise BadParams(detail=f"an Ed25519 seed has {SEED_BYTES} bytes, got {len(seed)}")
        self._public: bytes
        self._public, self._secret = bindings.crypto_sign_seed_keypair(seed)

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._public

    def sign(self, purpose: Purpose, body: bytes) -> bytes:
        """The 64-byte signature over the tagged body."""
        signed: bytes = bindings.crypto_sign(tagged(purpose, body), self._secret)
        return signed[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"


def check_key(key: bytes) -> bytes:
    """The key itself, when it is a point of the prime-order group.

    Raises:
        BadKey: wrong length, not on the curve, or of small or mixed order.
    """
    if len(key) != KEY_BYTES:
        raise BadKey(detail=f"{len(key)} bytes instead of {KEY_BYTES}")
    if not bindings.crypto_core_ed25519_is_valid_point(key):
        raise BadKey(detail="no point of the prime-order group")
    return key


def is_signed(key: bytes, purpose: Purpose, body: bytes, signature: bytes) -> bool:
    """Whether the signature over the tagged body is this key's. Never raises on what a peer sent."""
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        bindings.crypto_sign_open(signature + tagged(purpose, body), key)
    except CryptoError:
        return False
    return True


def verify(key: bytes, purpose: Purpose, body: bytes, signature: bytes) -> None:
    """Nothing happens when the signature is this key's.

    Raises:
        BadSignature: it is not.
    """
    if not is_signed(key, purpose, body, signature):
        raise BadSignature(purpose=purpose.value)
