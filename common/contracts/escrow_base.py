"""What all of escrowd's contracts share: how a contract is named, and who may do what in it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.errors import CallerMistake, NotNow

ContractId = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
IdStart = Annotated[str, Meta(pattern="^[0-9a-f]{0,64}$")]


class WrongPhase(NotNow):
    """{fact} does not fit contract {contract_id}, which is {state}; nothing changed; see `duxnet escrow show`."""

    code = 3001
    key = "wrong-phase"


class Refused(NotNow):
    """{fact} is not allowed in state {state}: {guards}; nothing changed."""

    code = 3002
    key = "escrow-refused"


class WrongChannelPhase(WrongPhase):
    """{fact} does not fit channel {chid}, which is {state}; nothing changed; see `duxnet channel show`."""

    code = 3017
    key = "wrong-channel-phase"


class NotYours(CallerMistake):
    """This node is the {role} of contract {contract_id}; only the {wanted} may do this."""

    code = 3003
    key = "not-your-part"


class ContractRef(Wire, frozen=True):
    """A contract by its name on every node, known from the offer on."""

    contract_id: ContractId
