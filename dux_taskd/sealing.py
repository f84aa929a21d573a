"""Encrypts results and private inputs: AES-256-GCM, fresh nonce in front, the contract or purpose as associated data.

A result's key is one contract's content key (HKDF(K ‖ r), escrowd); under it lie the salt of the commitment and the
output, so that opening the one opens the other. Pure: nonces and salts are handed in.

Source: settled.md 2 and 20.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.work import SALT_BYTES

NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES + SALT_BYTES
_INPUT = b"duxnet/private-input/v1"


class SealBroken(Exception):
    """The bytes are not what was sealed under this key."""


def seal_result(key: bytes, contract_id: str, *, salt: bytes, payload: bytes, nonce: bytes) -> bytes:
    """The bytes of the delivered blob."""
    return nonce + AESGCM(key).encrypt(nonce, salt + payload, contract_id.encode())


def open_result(key: bytes, contract_id: str, blob: bytes) -> tuple[bytes, bytes]:
    """(salt, payload).

    Raises:
        SealBroken: another key, another contract, or changed bytes.
    """
    clear = _open(key, contract_id.encode(), blob)
    if len(clear) < SALT_BYTES:
        raise SealBroken("shorter than its salt")
    return clear[:SALT_BYTES], clear[SALT_BYTES:]


def seal_input(key: bytes, data: bytes, *, nonce: bytes) -> bytes:
    """The bytes of a private input's blob."""
    return nonce + AESGCM(key).encrypt(nonce, data, _INPUT)


def open_input(key: bytes, blob: bytes) -> bytes:
    """A private input in the clear.

    Raises:
        SealBroken: another key, or changed bytes.
    """
    return _open(key, _INPUT, blob)


def _open(key: bytes, label: bytes, blob: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(blob[:NONCE_BYTES], blob[NONCE_BYTES:], label)
    except (InvalidTag, ValueError) as error:
        raise SealBroken("it does not decrypt") from error
