"""Reads and checks a TPM 2.0 quote: that a restricted key inside some TPM signed this nonce and these boot registers.

What it shows: the key never leaves its TPM (as far as that TPM tells the truth), the nonce is fresh, the PCRs are
those. What it does not show: that the TPM is a chip and not a program. For that its maker's certificate for the
endorsement key would have to be checked, which this version does not do.

Source: TCG TPM 2.0 Library part 2: TPMS_ATTEST (10.12.12), TPMT_PUBLIC (12.2.4), TPMT_SIGNATURE (11.3.4); part 1 §16
(names). Only ECDSA over P-256 with SHA-256 is read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from common.errors import PeerMisbehaved

QUOTE_BYTES_MAX = 1_024
MAGIC, QUOTE = 0xFF544347, 0x8018  # TPM_GENERATED_VALUE, TPM_ST_ATTEST_QUOTE
ECC, SHA256_ID, ECDSA, NULL, P256 = 0x0023, 0x000B, 0x0018, 0x0010, 0x0003
FIXED_TPM, FIXED_PARENT, MADE_INSIDE, RESTRICTED, SIGN = 1 << 1, 1 << 4, 1 << 5, 1 << 16, 1 << 18
NEEDED = FIXED_TPM | FIXED_PARENT | MADE_INSIDE | RESTRICTED | SIGN
PCRS_NEEDED = 0xFF  # 0 to 7: firmware, its settings, boot loader, secure boot
SELECTIONS_MAX = 16


class BadQuote(PeerMisbehaved):
    """The TPM quote proves nothing: {detail}."""

    code = 1421
    key = "bad-quote"


@dataclass(frozen=True, slots=True)
class Quote:
    """What a checked quote says."""

    key_name: bytes  # of the attestation key: the same as long as the TPM's owner seed is
    pcr_digest: bytes
    firmware: int
    resets: int


class _Reader:
    """Big-endian fields in order; ends where it must."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def sized(self) -> bytes:
        return self.take(self.number(2))

    def take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) != size:
            raise BadQuote(detail="it is cut off")
        self._at += size
        return found

    def end(self) -> None:
        if self._at != len(self._data):
            raise BadQuote(detail="something follows its end")


def check_quote(public: bytes, attest: bytes, signature: bytes, *, nonce: bytes) -> Quote:
    """The quote, when its key is a restricted signing key of a TPM and signed this nonce over PCRs 0 to 7.

    Raises:
        BadQuote: what is wrong with it.
    """
    if max(len(public), len(attest), len(signature)) > QUOTE_BYTES_MAX:
        raise BadQuote(detail="it is too long")
    key, name = _public(public)
    _verify(key, attest, signature)
    reader = _Reader(attest)
    if (reader.number(4), reader.number(2)) != (MAGIC, QUOTE):
        raise BadQuote(detail="the TPM did not make it, or it is no quote")
    reader.sized()  # the signer's qualified name, which depends on the key's parents
    if reader.sized() != nonce:
        raise BadQuote(detail="it answers another question")
    reader.number(8)  # the TPM's clock
    resets = reader.number(4)
    reader.take(5)  # restarts, and whether the clock is safe
    firmware = reader.number(8)
    _selection(reader)
    digest = reader.sized()
    reader.end()
    if len(digest) != SHA256.digest_size:
        raise BadQuote(detail="its digest is not SHA-256")
    return Quote(key_name=name, pcr_digest=digest, firmware=firmware, resets=resets)


def _public(data: bytes) -> tuple[ec.EllipticCurvePublicKey, bytes]:
    """The key in a TPMT_PUBLIC, and its TPM name."""
    reader = _Reader(data)
    if (reader.number(2), reader.number(2)) != (ECC, SHA256_ID):
        raise BadQuote(detail="its key is not an ECC key named by SHA-256")
    attributes = reader.number(4)
    if attributes & NEEDED != NEEDED:
        raise BadQuote(detail="its key may sign what the TPM did not make, or leave it")
    reader.sized()  # policy
    scheme = tuple(reader.number(2) for _ in range(5))
    if scheme != (NULL, ECDSA, SHA256_ID, P256, NULL):
        raise BadQuote(detail="its key does not sign by ECDSA over P-256 with SHA-256")
    x, y = reader.sized(), reader.sized()
    reader.end()
    try:
        key = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1()).public_key()
    except ValueError as error:
        raise BadQuote(detail="its key is not a point of the curve") from error
    return key, SHA256_ID.to_bytes(2) + hashlib.sha256(data).digest()


def _verify(key: ec.EllipticCurvePublicKey, attest: bytes, signature: bytes) -> None:
    reader = _Reader(signature)
    if (reader.number(2), reader.number(2)) != (ECDSA, SHA256_ID):
        raise BadQuote(detail="its signature is not ECDSA with SHA-256")
    r, s = int.from_bytes(reader.sized()), int.from_bytes(reader.sized())
    reader.end()
    try:
        key.verify(utils.encode_dss_signature(r, s), attest, ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise BadQuote(detail="its signature does not verify") from error


def _selection(reader: _Reader) -> None:
    """The SHA-256 bank with PCRs 0 to 7 must be among what was quoted."""
    count = reader.number(4)
    if count > SELECTIONS_MAX:
        raise BadQuote(detail="it quotes too many banks")
    banks = {reader.number(2): int.from_bytes(reader.take(reader.number(1)), "little") for _ in range(count)}
    if banks.get(SHA256_ID, 0) & PCRS_NEEDED != PCRS_NEEDED:
        raise BadQuote(detail="it does not quote PCRs 0 to 7 of the SHA-256 bank")
