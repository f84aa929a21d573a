"""The node's mailbox keys: random, on this disk alone, a new one every 30 days, each kept a week longer.

The node record names the one in use; a letter sealed to an older one is still readable until that key is thrown away,
and unreadable for everybody afterwards. Source: transport_identity.md §3.4.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from common.codec import Wire, from_json, json_bytes
from common.errors import BadParams, BadSettings
from common.identity.mail import key_id_of
from common.identity.node_record import MAILBOX_KEYS_MAX
from common.keyfile import write_private
from common.randomness import Randomness

MAILBOX_FILE = "mailbox.json"
SEED_BYTES = 32
KEY_LIFE_MS = 30 * 86_400_000
KEY_KEPT_MS = 37 * 86_400_000


class MailboxKey(Wire, frozen=True):
    """One key: its seed in hex, and since when (Unix ms)."""

    seed: str
    since_ms: int

    def __repr__(self) -> str:
        return f"MailboxKey(since_ms={self.since_ms})"

    @property
    def public(self) -> bytes:
        """Its public half."""
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(self.seed)).public_key().public_bytes_raw()


class MailboxState(Wire, frozen=True):
    """The file: newest first."""

    keys: tuple[MailboxKey, ...]


def turned(keys: tuple[MailboxKey, ...], now_ms: int, fresh: bytes) -> tuple[MailboxKey, ...]:
    """The keys as they must be now: a new one when the newest is 30 days old, those of 37 days gone."""
    if not keys or now_ms >= keys[0].since_ms + KEY_LIFE_MS:
        keys = (MailboxKey(seed=fresh.hex(), since_ms=now_ms), *keys)
    return (keys[0], *(key for key in keys[1:] if now_ms < key.since_ms + KEY_KEPT_MS))


class MailboxKeys:
    """The keys, kept in a file of mode 0600."""

    def __init__(self, folder: Path | None, randomness: Randomness, *, now_ms: int) -> None:
        """Make the first key when there is none; without a folder they live in memory alone.

        Raises:
            BadSettings: the file is there and cannot be read.
        """
        self._path = folder / MAILBOX_FILE if folder else None
        self._random = randomness
        self._keys: tuple[MailboxKey, ...] = self._read()
        self._listed: tuple[bytes, ...] = ()
        self._become(turned(self._keys, now_ms, randomness.bytes(SEED_BYTES)))

    @property
    def listed(self) -> tuple[bytes, ...]:
        """The public keys for the node record, the one to seal to first."""
        return self._listed

    def turn(self, now_ms: int) -> bool:
        """Do what is due; whether the keys have changed."""
        keys = turned(self._keys, now_ms, self._random.bytes(SEED_BYTES))
        if keys == self._keys:
            return False
        self._become(keys)
        return True

    def seed_of(self, key_id: bytes) -> bytes | None:
        """The private half of a key that is still kept."""
        return next((bytes.fromhex(key.seed) for key in self._keys if key_id_of(key.public) == key_id), None)

    def _become(self, keys: tuple[MailboxKey, ...]) -> None:
        if self._path is not None and keys != self._keys:
            write_private(self._path, json_bytes(MailboxState(keys=keys)))
        self._keys = keys
        self._listed = tuple(key.public for key in keys)[:MAILBOX_KEYS_MAX]

    def _read(self) -> tuple[MailboxKey, ...]:
        if self._path is None:
            return ()
        try:
            return from_json(self._path.read_bytes(), MailboxState).keys
        except FileNotFoundError:
            return ()
        except (OSError, BadParams) as error:
            raise BadSettings(path=str(self._path), detail=f"{error}; remove it, and another key is made") from error
