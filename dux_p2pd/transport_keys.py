"""The keys of this device's connections: random, on this disk alone, changed every week without anybody noticing.

A key is named in the node record a record's whole life before it comes into use, so that every record that is still
valid names the key that a dialler will meet; and for an hour after its use, so that connections made with it may
move over. At most two keys are named at any time.

Source: transport_identity.md §1.4; docs/decisions/identity-rules.md.
"""

from __future__ import annotations

from pathlib import Path

from common.codec import Wire, from_json, json_bytes
from common.errors import BadParams, BadSettings
from common.identity.keys import SEED_BYTES, SigningKey
from common.identity.node_record import REISSUE_MS
from common.keyfile import write_private
from common.randomness import Randomness

TRANSPORT_FILE = "transport.json"
RECORD_LIFE_MS = 2 * REISSUE_MS
OVERLAP_MS = 3_600_000  # a key that was replaced is named so much longer


class TransportState(Wire, frozen=True):
    """The file: seeds in hex, the key before as its public half; times in Unix ms."""

    seed: str
    since_ms: int
    next_seed: str = ""
    next_from_ms: int = 0
    before: str = ""

    def __repr__(self) -> str:
        return f"TransportState(since_ms={self.since_ms})"


def advanced(state: TransportState, now_ms: int, fresh: bytes, period_ms: int) -> TransportState:
    """The state as it must be now: the next key made ahead, then in use, then the one before forgotten."""
    if state.next_seed and now_ms >= state.next_from_ms:
        return _in_use(state, now_ms)
    if not state.next_seed and now_ms >= state.since_ms + period_ms - RECORD_LIFE_MS:
        state = TransportState(
            seed=state.seed,
            since_ms=state.since_ms,
            next_seed=fresh.hex(),
            next_from_ms=now_ms + RECORD_LIFE_MS,
        )
    if state.before and now_ms >= state.since_ms + OVERLAP_MS:
        return TransportState(seed=state.seed, since_ms=state.since_ms)
    return state


def _in_use(state: TransportState, now_ms: int) -> TransportState:
    before = SigningKey(bytes.fromhex(state.seed)).public
    return TransportState(seed=state.next_seed, since_ms=now_ms, before=before.hex())


class TransportKeys:
    """The keys, kept in a file of mode 0600."""

    def __init__(
        self, folder: Path | None, randomness: Randomness, *, now_ms: int, period_s: int, seed: bytes = b""
    ) -> None:
        """Make the first key when there is none, or begin with `seed`; without a folder they live in memory alone.

        Raises:
            BadSettings: the file is there and cannot be read.
        """
        self._path = folder / TRANSPORT_FILE if folder else None
        self._random = randomness
        self._period_ms = max(period_s * 1000, 2 * RECORD_LIFE_MS)
        first = TransportState(seed=(seed or randomness.bytes(SEED_BYTES)).hex(), since_ms=now_ms)
        self._state = self._read() or self._write(first)

    @property
    def seed(self) -> bytes:
        """The seed of the key in use."""
        return bytes.fromhex(self._state.seed)

    @property
    def since_ms(self) -> int:
        """When it came into use."""
        return self._state.since_ms

    @property
    def overlap_is_over(self) -> bool:
        """Whether the key before is named no more: connections made with it have lost their ground."""
        return not self._state.before

    @property
    def public(self) -> bytes:
        """The key in use."""
        return SigningKey(self.seed).public

    @property
    def named(self) -> tuple[bytes, ...]:
        """The keys that the node record names: the one in use first."""
        state = self._state
        other = [SigningKey(bytes.fromhex(state.next_seed)).public] if state.next_seed else []
        return (self.public, *(other or ([bytes.fromhex(state.before)] if state.before else [])))

    def turn(self, now_ms: int) -> bool:
        """Do what is due; whether the named keys have changed."""
        fresh = self._random.bytes(SEED_BYTES)
        return self._become(advanced(self._state, now_ms, fresh, self._period_ms))

    def replace(self, now_ms: int) -> None:
        """Another key at once: the one in use may be known to somebody."""
        fresh = TransportState(seed=self._state.seed, since_ms=0, next_seed=self._random.bytes(SEED_BYTES).hex())
        self._become(_in_use(fresh, now_ms))

    def _become(self, state: TransportState) -> bool:
        if state == self._state:
            return False
        self._state = self._write(state)
        return True

    def _read(self) -> TransportState | None:
        if self._path is None:
            return None
        try:
            return from_json(self._path.read_bytes(), TransportState)
        except FileNotFoundError:
            return None
        except (OSError, BadParams) as error:
            raise BadSettings(path=str(self._path), detail=f"{error}; remove it, and another key is made") from error

    def _write(self, state: TransportState) -> TransportState:
        if self._path is not None:
            write_private(self._path, json_bytes(state))
        return state
