"""Operational keys that lie in a PKCS#11 token and never leave it: the token signs, this file only asks it to.

`token.json` in p2pd's data directory names the module, the token and the file with its PIN; the keys lie in the token
under `dux-<number of the event>`, not extractable, a few years ahead. Transport keys stay in software: TLS cannot use a
token's. What a token does with a PIN that a thief of the machine has read is not this file's promise.

Source: transport_identity.md §2.3 (traps: the curve is named by its OID, points come as DER).
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.types import SignMixin

from common.codec import Wire, from_canonical, from_json
from common.errors import BadParams, BadSettings, NotFound
from common.identity.keys import KEY_BYTES, Signer
from common.identity.log import LOG_BYTES_MAX, LogBytes
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.identity.tagged import tagged
from common.token_session import TokenSession
from dux_p2pd.key_source import TOKEN_FILE

ED25519_OID = bytes.fromhex("06032b6570")  # 1.3.101.112; SoftHSM refuses the curve's name
_POINT_HEAD = b"\x04\x20"  # DER: an octet string of 32 bytes


class TokenSettings(Wire, frozen=True):
    """The file; `log` is hex of the event log that the keys were put there for."""

    module: str
    token: str
    pin_file: str
    log: str


class TokenKey:
    """One key in the token; implements `Signer`."""

    def __init__(self, token: Token, public: bytes, seq: int) -> None:
        self._token = token
        self._public = public
        self._seq = seq

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._public

    def sign(self, purpose: Purpose, body: bytes) -> bytes:
        """The token's signature over the tagged body.

        Raises:
            TokenAway: it does not answer.
        """
        return self._token.sign(self._seq, tagged(purpose, body))


class Token:
    """A session with the token."""

    def __init__(self, settings: TokenSettings) -> None:
        """Open it.

        Raises:
            TokenAway: there is no such token, or the PIN is wrong.
        """
        self._open = TokenSession(settings.module, settings.token, settings.pin_file)
        self._session, self._asked = self._open.session, self._open.asked

    def close(self) -> None:
        """End the session."""
        self._open.close()

    def public_of(self, seq: int) -> bytes:
        """The public half of the key for event `seq`.

        Raises:
            NotFound: there is none. TokenAway.
        """
        with self._asked():
            try:
                found = self._session.get_key(object_class=ObjectClass.PUBLIC_KEY, label=_label(seq))
            except pkcs11.NoSuchKey as error:
                raise NotFound(what="key in the token", name=_label(seq)) from error
            return bytes(found[Attribute.EC_POINT])[-KEY_BYTES:]

    def sign(self, seq: int, data: bytes) -> bytes:
        """The token's Ed25519 signature.

        Raises:
            TokenAway: it does not answer.
        """
        with self._asked():
            key = cast("SignMixin", self._session.get_key(object_class=ObjectClass.PRIVATE_KEY, label=_label(seq)))
            return bytes(key.sign(data, mechanism=Mechanism.EDDSA))

    def put(self, seq: int, seed: bytes, public: bytes) -> None:
        """Move a key into the token, from which it cannot be read again; one that is there stays.

        Raises:
            TokenAway: the token does not take it.
        """
        shared = {
            Attribute.KEY_TYPE: KeyType.EC_EDWARDS,
            Attribute.TOKEN: True,
            Attribute.LABEL: _label(seq),
            Attribute.ID: seq.to_bytes(2, "big"),
            Attribute.EC_PARAMS: ED25519_OID,
        }
        self._open.put_pair(shared, seed, _POINT_HEAD + public)


class TokenKeys:
    """The keys of a node that are in a token; implements `KeySource`."""

    def __init__(self, settings: TokenSettings) -> None:
        self._settings = settings
        self._token = Token(settings)

    def signer(self, seq: int) -> Signer:
        """The key of event `seq`.

        Raises:
            NotFound: the token holds no key so far ahead; `duxnet identity token` puts more there.
        """
        return TokenKey(self._token, self._token.public_of(seq), seq)

    def first_events(self, inception_bits: int) -> tuple[Signed, ...]:  # noqa: ARG002 - the work was checked before
        """The log that the keys were put there for."""
        return from_canonical(bytes.fromhex(self._settings.log), LogBytes, max_bytes=LOG_BYTES_MAX).events


def load_token(folder: Path) -> TokenKeys:
    """The keys that `token.json` leads to.

    Raises:
        BadSettings: it has another form. TokenAway: the token does not answer.
    """
    try:
        return TokenKeys(from_json((folder / TOKEN_FILE).read_bytes(), TokenSettings))
    except BadParams as error:
        raise BadSettings(path=str(folder / TOKEN_FILE), detail=str(error.fields["detail"])) from error


def _label(seq: int) -> str:
    return f"dux-{seq}"
