"""A letter: signed by its sender, sealed so that only its recipient can read it, padded so that its length says little.

Seal: HPKE (RFC 9180) base mode, X25519, HKDF-SHA256, ChaCha20-Poly1305, by `cryptography`; `info` names what it is for,
the recipient and the key. Inside is the letter's canonical bytes with the sender's signature, and the recipient again,
so that nobody can pass a letter on as written to somebody else. Base
mode has no forward secrecy until the mailbox key is thrown away, 37 days after it was made. Pure, but for the sealing's
own fresh key.

Source: transport_identity.md §3.4.
"""

from __future__ import annotations

from typing import Annotated, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from msgspec import Meta

from common.codec import Canon, canonical, from_canonical
from common.errors import BadParams
from common.identity.did import did_bytes
from common.identity.errors import BadLetter
from common.identity.keys import Signer
from common.identity.purposes import Purpose
from common.identity.signed import Signed, decode_signed, sign
from common.identity.tagged import tagged, tagged_hash
from common.units import Did, Hash32, UnixMs

PADDED_BYTES_MIN = 256
PADDED_BYTES_MAX = 32_768
SEAL_BYTES = 48  # the sealing key and the tag
SEALED_BYTES_MAX = PADDED_BYTES_MAX + SEAL_BYTES
LETTER_BYTES_MAX = PADDED_BYTES_MAX - 4 - 160  # its length in front, its envelope around it
LETTER_PAYLOAD_BYTES_MAX = LETTER_BYTES_MAX - 400
BOX_CHARS_MAX = 16
SUBJECT_CHARS_MAX = 64
KEY_ID_BYTES = 8
_LENGTH_BYTES = 4
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)

DidText = Annotated[Did, Meta(max_length=64)]
Whole = Annotated[int, Meta(ge=0, le=1 << 53)]


class Letter(Canon, frozen=True):
    """[v, sender, key_seq, recipient, at, box, subject, payload]; `box` names the kind of program it is for."""

    v: Literal[1]
    sender: DidText
    key_seq: Whole
    recipient: DidText
    at_ms: Annotated[UnixMs, Meta(ge=0, le=1 << 53)]
    box: Annotated[str, Meta(min_length=1, max_length=BOX_CHARS_MAX)]
    subject: Annotated[str, Meta(max_length=SUBJECT_CHARS_MAX)]
    payload: Annotated[bytes, Meta(max_length=LETTER_PAYLOAD_BYTES_MAX)]


def key_id_of(public: bytes) -> bytes:
    """The short name of a mailbox key."""
    return tagged_hash(Purpose.MAIL_KEY, public)[:KEY_ID_BYTES]


def letter_id(letter: Letter) -> Hash32:
    """What a letter is known by, however it is sealed."""
    return tagged_hash(Purpose.MAIL_ID, canonical(letter))


def _info(recipient: Did, public: bytes) -> bytes:
    return tagged(Purpose.MAIL, did_bytes(recipient) + key_id_of(public))


def seal(letter: Letter, signer: Signer, public: bytes) -> bytes:
    """The letter signed, padded and sealed to a mailbox key.

    Raises:
        BadLetter: it is too long, or the key is none.
    """
    plain = canonical(sign(signer, Purpose.MAIL, letter))
    framed = len(plain).to_bytes(_LENGTH_BYTES, "big") + plain
    size = PADDED_BYTES_MIN
    while size < len(framed):
        size *= 2
    if size > PADDED_BYTES_MAX:
        raise BadLetter(detail=f"{len(framed)} bytes with what is around it, at most {PADDED_BYTES_MAX}")
    try:
        key = X25519PublicKey.from_public_bytes(public)
        return _SUITE.encrypt(framed.ljust(size, b"\0"), key, info=_info(letter.recipient, public))
    except ValueError as error:
        raise BadLetter(detail="the recipient's mailbox key is not usable") from error


def unseal(sealed: bytes, seed: bytes, recipient: Did) -> tuple[Signed, Letter]:
    """What is inside; the signature is not verified yet, because that needs the sender's event log.

    Raises:
        BadLetter: not sealed to this key and recipient, or not padded as it must be. BadParams: not canonical.
    """
    private = X25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes_raw()
    try:
        framed = _SUITE.decrypt(sealed, private, info=_info(recipient, public))
    except (InvalidTag, ValueError) as error:
        raise BadLetter(detail="it is not sealed to this key") from error
    signed = decode_signed(_unpadded(framed), max_bytes=LETTER_BYTES_MAX)
    letter = from_canonical(signed.body, Letter, max_bytes=LETTER_BYTES_MAX)
    if letter.recipient != recipient:
        raise BadLetter(detail="it was written to somebody else")
    return signed, letter


def _unpadded(framed: bytes) -> bytes:
    sizes = {PADDED_BYTES_MIN << power for power in range(8)}
    length = int.from_bytes(framed[:_LENGTH_BYTES], "big")
    plain, rest = framed[_LENGTH_BYTES : _LENGTH_BYTES + length], framed[_LENGTH_BYTES + length :]
    if len(framed) not in sizes or len(plain) != length or rest.strip(b"\0"):
        raise BadLetter(detail="its padding is wrong")
    return plain


class Ack(Canon, frozen=True):
    """[v, recipient, key_seq, at, ids]: the recipient has these letters; signed by it."""

    v: Literal[1]
    recipient: DidText
    key_seq: Whole
    at_ms: Annotated[UnixMs, Meta(ge=0, le=1 << 53)]
    ids: Annotated[tuple[Annotated[bytes, Meta(min_length=32, max_length=32)], ...], Meta(min_length=1, max_length=64)]


ACK_BYTES_MAX = 2400  # 64 ids, and what is around them


def open_ack(data: bytes) -> tuple[Signed, Ack]:
    """Envelope and body, the signature not yet verified.

    Raises:
        BadParams: too long or not canonical.
    """
    signed = decode_signed(data, max_bytes=ACK_BYTES_MAX)
    return signed, from_canonical(signed.body, Ack, max_bytes=ACK_BYTES_MAX)


def parcel_id(recipient: Did, sealed: bytes) -> Hash32:
    """What a sealed letter is known by to those who keep it."""
    return tagged_hash(Purpose.MAIL_PARCEL, did_bytes(recipient) + sealed)


def check_size(sealed: bytes) -> None:
    """Sealed letters have one of eight lengths.

    Raises:
        BadParams: this has another.
    """
    if len(sealed) - SEAL_BYTES not in {PADDED_BYTES_MIN << power for power in range(8)}:
        raise BadParams(detail=f"a sealed letter has 256·2ⁿ + {SEAL_BYTES} bytes, not {len(sealed)}")
