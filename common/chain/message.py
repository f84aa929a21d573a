"""Messages signed with a coin key, in the form that the coin's own nodes read (`verifymessage`).

A signature names the key by itself (recoverable), so that an address is enough to check it. Pure.
"""

from __future__ import annotations

import base64
import binascii

import coincurve

from common.chain.address import pay_to_key, sha256d
from common.chain.params import ChainFamily

MESSAGE_BYTES_MAX = 4_096
SIGNATURE_BYTES = 65
COMPRESSED_HEADS = range(31, 35)  # 27 + 4 (the key is compressed) + which of four keys
_ONE_BYTE, _TWO_BYTES = 0xFD, b"\xfd"


def message_digest(message: str, family: ChainFamily) -> bytes:
    """What is signed: the coin's own title and the message, each behind its length, hashed twice."""
    return sha256d(b"".join(_with_length(part.encode()) for part in (family.message_title, message)))


def encode_signature(recoverable: bytes) -> str:
    """The text form of r, s and the key's number, as `coincurve` gives them."""
    return base64.b64encode(bytes([COMPRESSED_HEADS.start + recoverable[64]]) + recoverable[:64]).decode()


def signer_script(message: str, signature: str, family: ChainFamily) -> bytes | None:
    """The output script of the key that signed this message; None when the signature is none."""
    try:
        data = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(data) != SIGNATURE_BYTES or data[0] not in COMPRESSED_HEADS:
        return None
    recoverable = data[1:] + bytes([data[0] - COMPRESSED_HEADS.start])
    try:
        key = coincurve.PublicKey.from_signature_and_message(recoverable, message_digest(message, family), hasher=None)
    except Exception:  # noqa: BLE001 - the library raises its base class for every r and s that is no signature
        return None
    return pay_to_key(key.format())


def _with_length(data: bytes) -> bytes:
    size = len(data)
    return (bytes([size]) if size < _ONE_BYTE else _TWO_BYTES + size.to_bytes(2, "little")) + data
