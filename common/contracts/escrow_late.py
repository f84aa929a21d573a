"""A coin that came too late: the buyer asks whether it may be the lot's after all (LATE_OK).

Source: escrow_protocol.md §6.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.contracts.escrow_base import ContractId, ContractRef, NotYours
from common.errors import CallerMistake, NotNow
from common.rpc.method import PEOPLE, Method

_ID = "ab" * 32


class NoLateCoin(NotNow):
    """No late coin of contract {contract_id} lies deep enough, unspent; nothing was asked; see `duxnet escrow show`."""

    code = 3018
    key = "no-late-coin"


class LateInSeries(CallerMistake):
    """Contract {contract_id} is a lot of a series: paid late, none of its lots counts; each goes back by its cancel.

    A series is funded by one payment, its stages wait for each other, and those that came to nothing are ended by both
    sides at once. Agree on it anew: `duxnet call --stages N --together`.
    """

    code = 3020
    key = "late-in-series"


class LateOk(Wire, frozen=True):
    """Buyer: let the late coin count, if the seller agrees; what was agreed stays, only the time to work is shorter."""

    request_id: Annotated[str, Meta(min_length=1, max_length=128)]
    contract_id: ContractId


LATE_OK: Method[LateOk, ContractRef] = Method(
    name="escrow.late_ok",
    params=LateOk,
    result=ContractRef,
    summary="Buyer: ask that a coin which came too late is the lot's; the seller agrees by rule while all windows fit.",
    callers=("taskd", *PEOPLE),
    example=(LateOk(request_id="l-1", contract_id=_ID), ContractRef(contract_id=_ID)),
    raises=(NotYours, NoLateCoin, LateInSeries),
    once=True,
)
