"""Keys as people pass them on: a private key as WIF, an account's public key as xpub (on Flopcoin: dgub…).

Promises: only this family's prefixes are read, so that a key of another coin is told and not misread. A private key
stands in no text form of anything here.

Source: BIP32 (serialization), facts §1 (prefixes).
"""

from __future__ import annotations

import coincurve

from common.chain.address import base58check, base58check_payload
from common.chain.params import ChainFamily
from common.errors import CallerMistake
from common.keys import HARDENED, CoinPublicNode

SECRET_BYTES = 32
COMPRESSED_MARK = b"\x01"
EXTENDED_BYTES = 78
ACCOUNT_DEPTH = 3  # m/44'/coin'/account'
KEY_CHARS_MAX = 120


class BadKeyText(CallerMistake):
    """This is no {what} of {family}: {reason}; copy it anew from the wallet that it comes from."""

    code = 2026
    key = "bad-key-text"


class ForeignKey:
    """A private key that was typed in: it signs once and is forgotten."""

    __slots__ = ("_secret", "is_compressed")

    def __init__(self, secret: bytes, *, is_compressed: bool) -> None:
        self._secret = coincurve.PrivateKey(secret)
        self.is_compressed = is_compressed

    def __repr__(self) -> str:
        return "ForeignKey()"

    @property
    def public(self) -> bytes:
        """33 bytes, or 65 where the key says so."""
        return self._secret.public_key.format(compressed=self.is_compressed)

    def sign(self, digest: bytes) -> bytes:
        """DER, low S, without a hash type."""
        return self._secret.sign(digest, hasher=None)


def read_wif(text: str, family: ChainFamily) -> ForeignKey:
    """The key in a WIF text. The text is not repeated in an error.

    Raises:
        BadKeyText: mistyped, of another coin, or no key.
    """
    payload = _payload(text, "private key (WIF)", family)
    secret, rest = payload[1 : 1 + SECRET_BYTES], payload[1 + SECRET_BYTES :]
    if payload[:1] != bytes([family.wif_prefix]) or rest not in (b"", COMPRESSED_MARK):
        raise BadKeyText(what="private key (WIF)", family=family.name, reason="it belongs to another coin")
    try:
        return ForeignKey(secret, is_compressed=rest == COMPRESSED_MARK)
    except ValueError as error:
        raise BadKeyText(what="private key (WIF)", family=family.name, reason="it is no key") from error


def account_text(node: CoinPublicNode, account: int, family: ChainFamily) -> str:
    """The public key of account m/44'/coin'/account'. The parent is left out (zeros), as it says nothing here."""
    head = family.bip32_public + bytes([ACCOUNT_DEPTH]) + bytes(4) + (HARDENED + account).to_bytes(4, "big")
    return base58check(head + node.chain_code + node.public)


def read_account(text: str, family: ChainFamily) -> CoinPublicNode:
    """The public node in an account's text, whatever its depth.

    Raises:
        BadKeyText: mistyped, private, or of another coin.
    """
    what = "account key"
    payload = _payload(text, what, family)
    if payload[:4] == family.bip32_private:
        raise BadKeyText(what=what, family=family.name, reason="it is the private one; give the public one")
    if payload[:4] != family.bip32_public or len(payload) != EXTENDED_BYTES:
        raise BadKeyText(what=what, family=family.name, reason="it belongs to another coin")
    try:
        return CoinPublicNode(payload[45:], payload[13:45])
    except ValueError as error:
        raise BadKeyText(what=what, family=family.name, reason="it is no key") from error


def _payload(text: str, what: str, family: ChainFamily) -> bytes:
    if len(text) > KEY_CHARS_MAX:
        raise BadKeyText(what=what, family=family.name, reason="it is too long")
    try:
        return base58check_payload(text)
    except ValueError as error:
        raise BadKeyText(what=what, family=family.name, reason=str(error)) from error
