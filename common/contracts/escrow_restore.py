"""escrow.restore: open contracts come back to a node that has nothing but its phrase.

Source: escrow_protocol.md §10.
"""

from __future__ import annotations

from common.codec import Wire
from common.rpc.method import PEOPLE, Empty, Method


class Restored(Wire, frozen=True):
    """Contracts that came back, those that were here already, and copies that could not be taken, with the reason."""

    restored: tuple[str, ...]
    known: tuple[str, ...]
    problems: tuple[str, ...]


RESTORE: Method[Empty, Restored] = Method(
    name="escrow.restore",
    params=Empty,
    result=Restored,
    summary="After a restore from the phrase: find the encrypted copies of open contracts and take them back.",
    callers=("taskd", *PEOPLE),
    example=(Empty(), Restored(restored=("3f" * 32,), known=(), problems=())),
)
