"""escrow.restore, escrow.recover: open contracts come back to a node that has nothing but its phrase.

Source: escrow_protocol.md §10.
"""

from __future__ import annotations

from common.codec import Wire
from common.rpc.method import PEOPLE, Empty, Method
from common.units import Did


class Restored(Wire, frozen=True):
    """Contracts that came back, those that were here already, and copies that could not be taken, with the reason."""

    restored: tuple[str, ...]
    known: tuple[str, ...]
    problems: tuple[str, ...]


class RecoverContracts(Wire, frozen=True):
    """`holder`: who is asked for copies besides those that pointers and the registry name."""

    holder: Did


RECOVER: Method[RecoverContracts, Restored] = Method(
    name="escrow.recover",
    params=RecoverContracts,
    result=Restored,
    summary="As escrow.restore; the node named is asked, too: anybody with whom there was a contract.",
    callers=PEOPLE,
    example=(
        RecoverContracts(holder=Did("did:dux:" + "b" * 52)),
        Restored(restored=("3f" * 32,), known=(), problems=()),
    ),
)
RESTORE: Method[Empty, Restored] = Method(
    name="escrow.restore",
    params=Empty,
    result=Restored,
    summary="After a restore from the phrase: find the encrypted copies of open contracts and take them back.",
    callers=("taskd", *PEOPLE),
    example=(Empty(), Restored(restored=("3f" * 32,), known=(), problems=())),
)
