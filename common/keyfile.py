"""Sealed files: a secret on disk that opens only with its passphrase.

Argon2id turns the passphrase into a key, AES-256-GCM seals with it; the header is authenticated too, so a changed cost
or salt is noticed. Costs come from the network profile and are bounded when read, so that a hostile file cannot eat the
memory.

Source: money.md §3, settled.md 13.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from common.codec import Wire, from_json, json_bytes
from common.contracts.wallet_errors import DoesNotOpen
from common.errors import BadParams, CallerMistake, NotFound
from common.network import KeyFileCosts
from common.randomness import Randomness
from common.whole_file import write_whole

FILE_BYTES_MAX = 16_384
MEMORY_KIB_MAX = 1_048_576  # 1 GiB
ITERATIONS_MAX = 100
LANES_MAX = 16
SALT_BYTES = 16
NONCE_BYTES = 12
KEY_BYTES = 32
PRIVATE_MODE = 0o600


class BadKeyFile(CallerMistake):
    """{path} is no sealed file: {reason}; restore it from a backup or from the recovery phrase."""

    code = 2032
    key = "bad-key-file"


class Sealed(Wire, frozen=True):
    """The file's content."""

    version: int
    what: str  # such as `wallet`; part of what is authenticated
    memory_kib: int
    iterations: int
    lanes: int
    salt: bytes
    nonce: bytes
    ciphertext: bytes


def seal(secret: bytes, passphrase: bytes, what: str, costs: KeyFileCosts, randomness: Randomness) -> bytes:
    """The sealed form of a secret; two calls never give the same bytes."""
    salt, nonce = randomness.bytes(SALT_BYTES), randomness.bytes(NONCE_BYTES)
    blank = Sealed(
        version=1,
        what=what,
        memory_kib=costs.memory_kib,
        iterations=costs.iterations,
        lanes=costs.lanes,
        salt=salt,
        nonce=nonce,
        ciphertext=b"",
    )
    sealed = AESGCM(_key(blank, passphrase)).encrypt(nonce, secret, json_bytes(blank))
    return json_bytes(_with(blank, sealed))


def unseal(data: bytes, passphrase: bytes, what: str, path: str = "the file") -> bytes:
    """The secret in sealed bytes. `path` is for the error.

    Raises:
        BadKeyFile: not such a file, made for something else, or with costs beyond all reason.
        DoesNotOpen: a wrong passphrase or changed bytes.
    """
    found = _decoded(data, path)
    problem = _problem(found, what)
    if problem:
        raise BadKeyFile(path=path, reason=problem)
    try:
        return AESGCM(_key(found, passphrase)).decrypt(found.nonce, found.ciphertext, json_bytes(_with(found, b"")))
    except InvalidTag:
        raise DoesNotOpen(path=path) from None


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads; it appears whole or not at all. The folder is made private too."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(path, data, mode=PRIVATE_MODE)


def read_limited(path: Path) -> bytes:
    """The content of a small file.

    Raises:
        NotFound: there is none.
        BadKeyFile: it is too long to be one of ours.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(what="key file", name=str(path)) from error
    if len(data) > FILE_BYTES_MAX:
        raise BadKeyFile(path=str(path), reason=f"{len(data)} bytes")
    return data


def _decoded(data: bytes, path: str) -> Sealed:
    try:
        return from_json(data, Sealed)
    except BadParams as error:
        raise BadKeyFile(path=path, reason="it does not have the fields of one") from error


def _problem(found: Sealed, what: str) -> str:
    if found.version != 1:
        return f"version {found.version}, this program knows 1"
    if found.what != what:
        return f"it holds {found.what[:40]!r}, not {what!r}"
    sound = (
        8 * found.lanes <= found.memory_kib <= MEMORY_KIB_MAX
        and 1 <= found.iterations <= ITERATIONS_MAX
        and 1 <= found.lanes <= LANES_MAX
        and len(found.salt) == SALT_BYTES
        and len(found.nonce) == NONCE_BYTES
    )
    return "" if sound else "its costs or its salt are outside the bounds"


def _key(sealed: Sealed, passphrase: bytes) -> bytes:
    derive = Argon2id(
        salt=sealed.salt,
        length=KEY_BYTES,
        iterations=sealed.iterations,
        lanes=sealed.lanes,
        memory_cost=sealed.memory_kib,
    )
    return derive.derive(passphrase)


def _with(sealed: Sealed, ciphertext: bytes) -> Sealed:
    return msgspec.structs.replace(sealed, ciphertext=ciphertext)
