"""What registryd promises about services rendered: counted by the signed word of those who were served."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from common.codec import Wire
from common.errors import NotNow
from common.rpc.method import Done, Method, callers_of
from common.units import Did

ServiceName = Literal["relay", "dht", "vote", "audit", "witness"]
ServedName = Literal["relay", "dht", "vote"]
"""Those that count by the word of who was served."""
_DID = Did("did:dux:" + "a" * 52)


class ServiceHad(Wire, frozen=True):
    """A node has served this one: so many bytes relayed, records kept, votes cast in its cases."""

    request_id: str
    service: ServedName
    server: str
    amount: Annotated[int, Meta(ge=1, lt=2**53)]


class ServiceNotTaken(NotNow):
    """The word about a service is not kept: {reason}."""

    code = 5023
    key = "service-not-taken"


class ServicesAsked(Wire, frozen=True):
    """Whose services."""

    node_id: str


class ServiceLine(Wire, frozen=True):
    """One service: how often, and what the next tier asks; `told` says where the count comes from."""

    service: str
    count: int
    told: str


class Services(Wire, frozen=True):
    """What a node did for the network in the last sixty days."""

    node_id: Did
    services: tuple[ServiceLine, ...]


SERVICE_HAD = Method(
    name="service.had",
    params=ServiceHad,
    result=Done,
    summary="Sign that another node has served this one; once per node, service and day of blocks.",
    callers=("taskd", "cli", "module"),
    example=(ServiceHad(request_id="had-1", service="relay", server=_DID, amount=1_048_576), Done()),
    once=True,
)
SERVICE_LIST = Method(
    name="service.list",
    params=ServicesAsked,
    result=Services,
    summary="What a node did for the network, as those signed whom it served.",
    callers=callers_of("registryd"),
    example=(
        ServicesAsked(node_id=_DID),
        Services(node_id=_DID, services=(ServiceLine(service="audit", count=2, told="its own verdicts"),)),
    ),
)
