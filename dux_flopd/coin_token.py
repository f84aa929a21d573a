"""Coin keys that lie in a PKCS#11 token and never leave it: account 9 of the phrase, whose secrets flopd never has.

`token.json` in flopd's folder names the module, the token, the file with its PIN, and the account's public key; keys
lie in the token as `coin-<branch>-<number>`, not extractable, as many as its owner put there. The token signs digests
(ECDSA on secp256k1); its signatures are brought to low S, which nodes ask for. The phrase brings every key back.

Source: money.md §3, BIP62 (low S), PKCS#11 (CKM_ECDSA: r and s, 32 bytes each; points come as DER).
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.types import SignMixin

from common.chain.tx import HASH_TYPE_ALL
from common.codec import Wire, from_json, json_bytes
from common.errors import BadParams, BadSettings, CallerMistake
from common.keyfile import write_private
from common.keys import CoinNode, CoinPublicNode, uncompressed
from common.token_session import TokenSession
from dux_flopd.keyring import TOKEN_FILE

SECP256K1_OID = bytes.fromhex("06052b8104000a")  # 1.3.132.0.10
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
WORD_BYTES = 32
_POINT_HEAD = b"\x04\x41"  # DER: an octet string of 65 bytes


class NotInToken(CallerMistake):
    """The token holds no key {label}: put more there with `duxnet wallet token --keys N`; the phrase has it."""

    code = 2150
    key = "not-in-token"


class CoinTokenSettings(Wire, frozen=True):
    """The file."""

    module: str
    token: str
    pin_file: str
    public_key: bytes
    chain_code: bytes


class CoinToken:
    """The token, and the public half of its account."""

    def __init__(self, settings: CoinTokenSettings) -> None:
        """Open it.

        Raises:
            TokenAway: it does not answer.
        """
        self._open = TokenSession(settings.module, settings.token, settings.pin_file)
        self.account = CoinPublicNode(settings.public_key, settings.chain_code)

    def close(self) -> None:
        """End the session."""
        self._open.close()

    def sign(self, branch: int, index: int, digest: bytes) -> bytes:
        """The token's signature of a 32-byte digest: DER, low S, SIGHASH_ALL behind it.

        Raises:
            NotInToken: it holds no such key. TokenAway: it does not answer.
        """
        label = _label(branch, index)
        with self._open.asked():
            try:
                key = self._open.session.get_key(object_class=ObjectClass.PRIVATE_KEY, label=label)
            except pkcs11.NoSuchKey as error:
                raise NotInToken(label=label) from error
            signature = bytes(cast("SignMixin", key).sign(digest, mechanism=Mechanism.ECDSA))
        return der_low_s(signature) + HASH_TYPE_ALL

    def put(self, branch: int, index: int, node: CoinNode) -> bool:
        """Move a key into the token, from which it cannot be read again; False when it is there already.

        Raises:
            TokenAway: the token does not take it.
        """
        shared = {
            Attribute.KEY_TYPE: KeyType.EC,
            Attribute.TOKEN: True,
            Attribute.LABEL: _label(branch, index),
            Attribute.EC_PARAMS: SECP256K1_OID,
        }
        return self._open.put_pair(shared, node.export()[0], _POINT_HEAD + uncompressed(node.public))


def put_keys(
    folder: Path, settings: CoinTokenSettings, account: CoinNode, branches: tuple[int, ...], count: int
) -> int:
    """Put the first keys of these branches into the token and write `token.json`; returns how many were new.

    Raises:
        TokenAway: the token does not answer; what it took stays there, and a repetition goes on.
    """
    token = CoinToken(settings)
    try:
        places = [(branch, index) for branch in branches for index in range(count)]
        fresh = sum(token.put(branch, index, account.path(branch, index)) for branch, index in places)
    finally:
        token.close()
    write_private(folder / TOKEN_FILE, json_bytes(settings))
    return fresh


def load_token(folder: Path) -> CoinToken:
    """The token that `token.json` leads to.

    Raises:
        BadSettings: it has another form. TokenAway: the token does not answer.
    """
    try:
        return CoinToken(from_json((folder / TOKEN_FILE).read_bytes(), CoinTokenSettings))
    except BadParams as error:
        raise BadSettings(path=str(folder / TOKEN_FILE), detail=str(error.fields["detail"])) from error


def der_low_s(signature: bytes) -> bytes:
    """R and s as DER, s in the lower half: the other one is as right, and nodes do not relay it."""
    r, s = (int.from_bytes(part, "big") for part in (signature[:WORD_BYTES], signature[WORD_BYTES:]))
    body = b"".join(_der_number(number) for number in (r, min(s, ORDER - s)))
    return bytes([0x30, len(body)]) + body


def _der_number(number: int) -> bytes:
    data = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return bytes([0x02, len(data)]) + data


def _label(branch: int, index: int) -> str:
    return f"coin-{branch}-{index}"
