"""Addresses and output scripts: base58 with check sum, pay to key hash, pay to script hash.

Knows the prefixes of a coin family and nothing about keys or chains. Nothing else than these two script kinds is ever
paid by this wallet, so that a mistyped or foreign address is refused before a coin moves.
"""

from __future__ import annotations

import hashlib

from bitcoin import base58

from common.chain.params import ChainFamily
from common.errors import CallerMistake

CHECKSUM_BYTES = 4
HASH160_BYTES = 20
ADDRESS_CHARS_MAX = 64  # a P2SH address has 34
P2PKH_BYTES = 25
P2SH_BYTES = 23


class BadAddress(CallerMistake):
    """{address!r} is no address of {family}: {reason}; ask the receiver for one of {family}."""

    code = 2011
    key = "bad-address"


def sha256d(data: bytes) -> bytes:
    """SHA-256 twice: the hash of transactions, blocks and check sums."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def hash160(data: bytes) -> bytes:
    """RIPEMD-160 of SHA-256: the hash in addresses."""
    return hashlib.new("ripemd160", hashlib.sha256(data).digest()).digest()


def base58check(payload: bytes) -> str:
    """Base58 of the payload and the first four bytes of its double hash."""
    return str(base58.encode(payload + sha256d(payload)[:CHECKSUM_BYTES]))


def base58check_payload(text: str) -> bytes:
    """The payload in base58 text.

    Raises:
        ValueError: a foreign character or a wrong check sum.
    """
    try:
        data = bytes(base58.decode(text))
    except base58.InvalidBase58Error as error:
        raise ValueError("a character that base58 does not have") from error
    payload, check = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if len(check) != CHECKSUM_BYTES or sha256d(payload)[:CHECKSUM_BYTES] != check:
        raise ValueError("the check sum is wrong, so it was mistyped or cut")
    return payload


def p2pkh_script(key_hash: bytes) -> bytes:
    """DUP HASH160 <20 bytes> EQUALVERIFY CHECKSIG."""
    return b"\x76\xa9\x14" + key_hash + b"\x88\xac"


def p2sh_script(script_hash: bytes) -> bytes:
    """HASH160 <20 bytes> EQUAL."""
    return b"\xa9\x14" + script_hash + b"\x87"


def pay_to_key(pubkey: bytes) -> bytes:
    """The output script that pays the holder of this public key."""
    return p2pkh_script(hash160(pubkey))


def pay_to_script(redeem_script: bytes) -> bytes:
    """The output script that pays whoever fulfils this redeem script."""
    return p2sh_script(hash160(redeem_script))


def is_p2pkh(script: bytes) -> bool:
    """Whether the script pays a key hash."""
    return len(script) == P2PKH_BYTES and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac"


def is_p2sh(script: bytes) -> bool:
    """Whether the script pays a script hash."""
    return len(script) == P2SH_BYTES and script[:2] == b"\xa9\x14" and script[22:] == b"\x87"


def script_to_address(script: bytes, family: ChainFamily) -> str | None:
    """The address of an output script; None for a script of any other kind."""
    if is_p2pkh(script):
        return base58check(bytes([family.p2pkh_prefix]) + script[3:23])
    if is_p2sh(script):
        return base58check(bytes([family.p2sh_prefixes[0]]) + script[2:22])
    return None


def address_to_script(address: str, family: ChainFamily) -> bytes:
    """The output script of an address of this family.

    Raises:
        BadAddress: mistyped, of another network, or of a kind this coin does not have.
    """
    if len(address) > ADDRESS_CHARS_MAX:
        raise BadAddress(address=address[:ADDRESS_CHARS_MAX], family=family.name, reason="it is too long")
    if address.lower().startswith("0x"):
        raise BadAddress(address=address, family=family.name, reason="0x addresses belong to other coins")
    try:
        payload = base58check_payload(address)
    except ValueError as error:
        raise BadAddress(address=address, family=family.name, reason=str(error)) from error
    if len(payload) == 1 + HASH160_BYTES and payload[0] == family.p2pkh_prefix:
        return p2pkh_script(payload[1:])
    if len(payload) == 1 + HASH160_BYTES and payload[0] in family.p2sh_prefixes:
        return p2sh_script(payload[1:])
    raise BadAddress(address=address, family=family.name, reason="it belongs to another network")
