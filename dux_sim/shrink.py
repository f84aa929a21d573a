"""Makes the schedule of faults of a failing history as short as it gets, by leaving out and trying again.

Promises a schedule whose history still breaks one of the same laws, and from which no single fault can be left out.
Source: A. Zeller, R. Hildebrandt, "Simplifying and isolating failure-inducing input" (ddmin).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

TRIES_MAX = 200


def shrink(items: Sequence[T], fails: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """The shortest list found that still fails; the given one is known to."""
    left, parts, tries = tuple(items), 2, 0
    if left and fails(()):
        return ()
    while len(left) >= 2 and tries < TRIES_MAX:  # noqa: PLR2004 - one fault alone is as short as it gets
        size = max(1, len(left) // parts)
        for start in range(0, len(left), size):
            tries += 1
            candidate = left[:start] + left[start + size :]
            if candidate and fails(candidate):
                left, parts = candidate, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(parts * 2, len(left))
    return left
