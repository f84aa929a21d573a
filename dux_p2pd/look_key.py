"""The node's look key: with it registryd's duty to look at others is drawn in secret and shown afterwards.

Random, on this disk alone, never the identity's key: a token cannot prove with its keys, and what is proved here must
never be a signature. Who steals it learns when this node looks at whom; in its name it can say nothing. Another key
counts with others only after they have known it for an hour, so it is never changed without need.

Source: mechanisms.md §2.4; docs/protocol/reputation.md §1a.
"""

from __future__ import annotations

from pathlib import Path

from common.codec import Wire, from_json, json_bytes
from common.errors import BadParams, BadSettings
from common.identity.ecvrf import SEED_BYTES, prove, public_of
from common.identity.purposes import Purpose
from common.identity.tagged import tagged
from common.keyfile import write_private
from common.randomness import Randomness

LOOK_FILE = "look.json"


class LookState(Wire, frozen=True):
    """The file: the seed in hex."""

    seed: str

    def __repr__(self) -> str:
        return "LookState()"


class LookKey:
    """The key, kept in a file of mode 0600."""

    def __init__(self, folder: Path | None, randomness: Randomness, *, seed: bytes = b"") -> None:
        """Make the key when there is none, or begin with `seed`; without a folder it lives in memory alone.

        Raises:
            BadSettings: the file is there and cannot be read.
        """
        held = _read(folder / LOOK_FILE) if folder else None
        self._seed = held or seed or randomness.bytes(SEED_BYTES)
        if folder and not held:
            write_private(folder / LOOK_FILE, json_bytes(LookState(seed=self._seed.hex())))

    @property
    def public(self) -> bytes:
        """The key that checks its proofs, 32 bytes."""
        return public_of(self._seed)

    def prove(self, purpose: Purpose, body: bytes) -> bytes:
        """The proof (80 bytes) of what it draws from the tagged body."""
        return prove(self._seed, tagged(purpose, body))


def _read(path: Path) -> bytes | None:
    try:
        seed = bytes.fromhex(from_json(path.read_bytes(), LookState).seed)
    except FileNotFoundError:
        return None
    except (OSError, BadParams, ValueError) as error:
        raise BadSettings(path=str(path), detail=f"{error}; remove it, and another key is made") from error
    if len(seed) != SEED_BYTES:
        detail = f"its seed has not {SEED_BYTES} bytes; remove it, and another key is made"
        raise BadSettings(path=str(path), detail=detail)
    return seed
