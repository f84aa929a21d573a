"""The one place that draws random numbers.

`SystemRandomness` is for keys and nonces on real nodes; `SeededRandomness` gives a test or a simulated history the same
draws for the same seed. Nothing else in the project imports `random`, `secrets` or reads `os.urandom`.
"""

from __future__ import annotations

import random  # noqa: TID251 - this is the one module that may
import secrets  # noqa: TID251
from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Randomness(Protocol):
    """A source of random draws."""

    def bytes(self, count: int) -> bytes:
        """`count` random bytes."""
        ...

    def below(self, limit: int) -> int:
        """An integer in [0, limit)."""
        ...

    def uniform(self) -> float:
        """A float in [0, 1)."""
        ...

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items (all of them, when there are fewer), in random order."""
        ...


class SystemRandomness:
    """The operating system's generator, fit for keys."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def bytes(self, count: int) -> bytes:
        """`count` random bytes."""
        return secrets.token_bytes(count)

    def below(self, limit: int) -> int:
        """An integer in [0, limit)."""
        return secrets.randbelow(limit)

    def uniform(self) -> float:
        """A float in [0, 1)."""
        return self._random.random()

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items, in random order."""
        return self._random.sample(list(items), min(count, len(items)))


class SeededRandomness:
    """The same draws for the same seed: never for keys of a real node."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose

    def bytes(self, count: int) -> bytes:
        """`count` bytes of the seeded stream."""
        return self._random.randbytes(count)

    def below(self, limit: int) -> int:
        """An integer in [0, limit)."""
        return self._random.randrange(limit)

    def uniform(self) -> float:
        """A float in [0, 1)."""
        return self._random.random()

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items, in the stream's order."""
        return self._random.sample(list(items), min(count, len(items)))


def new_id(randomness: Randomness, prefix: str) -> str:
    """A new name such as `task-3f9a…` (96 random bits): for request ids, task ids, call ids."""
    return f"{prefix}-{randomness.bytes(12).hex()}"
