"""Encrypted copies of the wallet's books, on a timer and by hand, and the way back.

    MAGIC, 16 bytes of salt, 12 bytes of nonce, then AES-256-GCM of the compressed store

Promises: a copy opens with the wallet's keys or its phrase and with nothing else, and a changed byte is noticed; it
holds no key. Two generations stay beside each other, each whole. Coins come back from the phrase alone; this brings
back what only the books knew: labels, history, contracts and payments under way.

Source: money.md §3.
"""

from __future__ import annotations

import asyncio
import sqlite3
import zlib
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.contracts.wallet import WALLET_BACKUP
from common.contracts.wallet_tools import BackupMade
from common.errors import CallerMistake, Unavailable
from common.keyfile import write_private
from common.randomness import Randomness
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.store import Store
from common.units import UnixMs
from dux_flopd.keyring import Keyring
from dux_flopd.recovery import look_beyond

ENDINGS = ("-wal", "-shm", "")  # of a store's files
MAGIC = b"duxnet wallet backup 1\n"
SALT_BYTES, NONCE_BYTES, KEY_BYTES = 16, 12, 32
BACKUP_BYTES_MAX = 1 << 30
NEWEST, OLDER = "wallet.dux", "wallet.1.dux"
LOOK_S = 86_400.0  # where no copies are wanted, the loop sleeps


class BadBackup(CallerMistake):
    """{path} does not open: {reason}; is it a backup of this very phrase?"""

    code = 2147
    key = "bad-backup"


class NotBackedUp(Unavailable):
    """The books could not be copied to {path}: {reason}; make room there, or set `wallet_backup_dir` in flopd.yaml."""

    code = 2148
    key = "not-backed-up"


def seal_books(books: bytes, secret: bytes, randomness: Randomness) -> bytes:
    """The file's bytes."""
    salt, nonce = randomness.bytes(SALT_BYTES), randomness.bytes(NONCE_BYTES)
    head = MAGIC + salt + nonce
    return head + AESGCM(_key(secret, salt)).encrypt(nonce, zlib.compress(books), head)


def open_books(data: bytes, secret: bytes, path: str) -> bytes:
    """The store in a backup.

    Raises:
        BadBackup: it is none, it was changed, or it is another wallet's.
    """
    head = data[: len(MAGIC) + SALT_BYTES + NONCE_BYTES]
    salt, nonce = head[len(MAGIC) : -NONCE_BYTES], head[-NONCE_BYTES:]
    if not data.startswith(MAGIC) or len(salt) != SALT_BYTES:
        raise BadBackup(path=path, reason="it is no wallet backup")
    try:
        packed = AESGCM(_key(secret, salt)).decrypt(nonce, data[len(head) :], head)
    except InvalidTag:
        raise BadBackup(path=path, reason="it was changed, or is another wallet's") from None
    books = zlib.decompressobj().decompress(packed, BACKUP_BYTES_MAX)
    if not books.startswith(b"SQLite format 3\x00"):
        raise BadBackup(path=path, reason="there is no store in it")
    return books


def restore_books(backup: Path, secret: bytes, store: Path, clock: Clock) -> None:
    """Put the store of a backup in its place; one that is there stays beside it, as `.before`.

    What is younger than the backup is looked for at the wallet's next start. The books are made ready beside their
    place, so that a crash leaves the old ones, or these with all that they need; whoever repeats it goes on.

    Raises:
        BadBackup: the backup does not open; nothing is changed.
        NewerSchema, CorruptStore: a newer flopd wrote it, or it is damaged; nothing is changed.
    """
    books = open_books(backup.read_bytes(), secret, str(backup))
    ready = store.with_name(f"{store.name}.restored")
    for ending in ENDINGS:
        ready.with_name(ready.name + ending).unlink(missing_ok=True)
    write_private(ready, books)
    look_beyond(ready, clock)
    for ending in ENDINGS:  # what belongs to the old one first: it must never be read as the new one's
        old = store.with_name(store.name + ending)
        if old.exists():
            old.replace(store.with_name(f"{store.name}.before{ending}"))
    ready.replace(store)


def _key(secret: bytes, salt: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt, b"duxnet/wallet-backup/v1").derive(secret)


class WalletBackup:
    """The timer, and the copy by hand."""

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        folder: Path,
        interval_s: int,
        *,
        randomness: Randomness,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._folder = folder
        self._interval_s = interval_s
        self._randomness = randomness
        self._clock = clock
        self._log = log
        self.problem = ""  # why the last copy failed

    def serve(self, table: MethodTable) -> None:
        """Answer it on this table."""
        table.serve(WALLET_BACKUP, self.backup)

    async def run(self) -> None:
        """A copy after each interval while the wallet is open, until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s or LOOK_S)
            if self._interval_s and self._keyring.is_open:
                try:
                    await self._copy()
                except NotBackedUp as error:
                    self._log.error("wallet not backed up", reason=error.message)

    async def backup(self, _params: Empty, _ctx: Ctx) -> BackupMade:
        """A copy now."""
        size = await self._copy()
        path = str(self._folder / NEWEST)
        return BackupMade(path=path, bytes=size, at_ms=UnixMs(self._clock.unix_ms()))

    async def _copy(self) -> int:
        secret, newest = self._keyring.backup_key(), self._folder / NEWEST
        try:
            books = self._books()
            sealed = await asyncio.to_thread(seal_books, books, secret, self._randomness)
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if newest.exists():
                newest.replace(self._folder / OLDER)
            write_private(newest, sealed)
        except (OSError, sqlite3.Error) as error:
            self.problem = f"the wallet could not be backed up to {self._folder}: {error}"
            raise NotBackedUp(path=str(self._folder), reason=str(error)) from error
        self.problem = ""
        self._log.info("wallet backed up", path=str(newest), bytes=len(sealed))
        return len(sealed)

    def _books(self) -> bytes:
        """A consistent copy of the store, through a file of its own."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = self._folder / "books.part"
        try:
            self._store.backup(unfinished)
            return unfinished.read_bytes()
        finally:
            unfinished.unlink(missing_ok=True)
