"""What all of escrowd's contracts share: how a contract is named, and who may do what in it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.errors import CallerMistake

ContractId = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class NotYours(CallerMistake):
    """This node is the {role} of contract {contract_id}; only the {wanted} may do this."""

    code = 3003
    key = "not-your-part"


class ContractRef(Wire, frozen=True):
    """A contract by its name on every node, known from the offer on."""

    contract_id: ContractId
