"""The envelope of everything signed: the exact body travels with its signatures and is never made again.

Promise: a body that opens was signed, byte for byte, by the key it was opened with. Source: transport_identity.md §2.1.
"""

from __future__ import annotations

from typing import TypeVar

from common.codec import Canon, canonical, from_canonical
from common.identity.errors import BadSignature
from common.identity.keys import Signer, verify
from common.identity.purposes import Purpose

T = TypeVar("T")

ENVELOPE_OVERHEAD_BYTES = 160  # array heads, and at most two signatures with a revealed key


class Signed(Canon, frozen=True):
    """[body, sigs]."""

    body: bytes
    sigs: tuple[bytes, ...]


def sign(key: Signer, purpose: Purpose, value: Canon) -> Signed:
    """The value's canonical bytes with one signature."""
    body = canonical(value)
    return Signed(body=body, sigs=(key.sign(purpose, body),))


def open_signed(signed: Signed, kind: type[T], *, key: bytes, purpose: Purpose, max_bytes: int) -> T:
    """The body as a struct, after its only signature has verified.

    Raises:
        BadSignature: not exactly one signature, or not this key's.
        BadParams: the body is too long or not canonical.
    """
    if len(signed.sigs) != 1:
        raise BadSignature(purpose=purpose.value)
    verify(key, purpose, signed.body, signed.sigs[0])
    return from_canonical(signed.body, kind, max_bytes=max_bytes)


def decode_signed(data: bytes, *, max_bytes: int) -> Signed:
    """An envelope from bytes, nothing verified yet.

    Raises:
        BadParams: longer than the body's limit and the envelope's overhead, or not canonical.
    """
    return from_canonical(data, Signed, max_bytes=max_bytes + ENVELOPE_OVERHEAD_BYTES)
