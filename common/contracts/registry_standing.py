"""What registryd promises about sanctions and proven faults: who is kept from what, why, by whom, until when.

A ban set here is this operator's own and binds this node alone; what the rules say follows from signed evidence and is
the same everywhere. Source: mechanisms.md §1.1, §3.3.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from common.codec import Wire
from common.errors import CallerMistake
from common.rpc.method import Done, Method, callers_of
from common.units import Did

LISTED_MAX = 500
TEXT_CHARS_MAX = 500
DAYS_MAX = 3_650

_DID = Did("did:dux:" + "a" * 52)

Text = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]


class BadSanction(CallerMistake):
    """The sanction is refused: {detail}."""

    code = 5010
    key = "bad-sanction"


class NotSanctioned(CallerMistake):
    """This operator keeps nothing from {node_id}; what the rules keep from it ends by itself (`duxnet why node`)."""

    code = 5011
    key = "not-sanctioned"


class BadFaultProof(CallerMistake):
    """The two statements prove no fault: {detail}."""

    code = 5012
    key = "bad-fault-proof"


class Ban(Wire, frozen=True):
    """Keep a node from this node's door (`banned`) or only from its lists and draws (`suspended`), for some days."""

    request_id: str
    node_id: str
    reason: Annotated[str, Meta(min_length=1, max_length=TEXT_CHARS_MAX)]
    evidence: Text = ""
    state: Literal["banned", "suspended"] = "banned"
    days: Annotated[float, Meta(gt=0, le=DAYS_MAX)] | None = 30.0  # None: until it is lifted


class Unban(Wire, frozen=True):
    """Lift what this operator has set."""

    request_id: str
    node_id: str


class SanctionView(Wire, frozen=True):
    """One reason why something is kept from a node."""

    node_id: Did
    state: str  # `banned`, `suspended`, `relieved` of its duties, `frozen`
    reason: str
    evidence: str
    set_by: str  # `operator`: of this node, and binding here alone; `rules`: the same everywhere
    since: str  # ISO 8601, UTC; empty: as long as its reason has held
    until: str  # empty: until it is lifted, or as long as its reason lasts


class SanctionsAsked(Wire, frozen=True):
    """Of one node, or of all."""

    node_id: str = ""


class Sanctions(Wire, frozen=True):
    """What is kept from whom."""

    sanctions: tuple[SanctionView, ...]


class ReportFault(Wire, frozen=True):
    """Two signed statements of one node (`Attested` bytes) that contradict each other."""

    request_id: str
    claim: str  # `node`, `heartbeat`, `receipt`, `verdict`, `benchmark`
    one: bytes
    other: bytes


class FaultView(Wire, frozen=True):
    """A proven fault with its proof."""

    node_id: Did
    claim: str
    place: str  # where the two statements stand
    at: str
    one: bytes
    other: bytes


class FaultsAsked(Wire, frozen=True):
    """Of one node, or of all."""

    node_id: str = ""


class Faults(Wire, frozen=True):
    """Proven faults, the newest first."""

    faults: tuple[FaultView, ...]


_SANCTION = SanctionView(
    node_id=_DID,
    state="banned",
    reason="sends junk",
    evidence="log of 2026-11-20",
    set_by="operator",
    since="2026-11-20T12:30:00Z",
    until="2026-12-20T12:30:00Z",
)
_FAULT = FaultView(
    node_id=_DID, claim="heartbeat", place="1790000000000", at="2026-11-20T12:30:00Z", one=b"\x94", other=b"\x94"
)

NODE_BAN = Method(
    name="node.ban",
    params=Ban,
    result=SanctionView,
    summary="Keep a node from this node: its sessions and calls, or only lists and draws; it ends by itself.",
    callers=("cli", "module"),
    example=(
        Ban(request_id="ban-1", node_id=_DID, reason="sends junk", evidence="log of 2026-11-20"),
        _SANCTION,
    ),
    raises=(BadSanction,),
    once=True,
)
NODE_UNBAN = Method(
    name="node.unban",
    params=Unban,
    result=Done,
    summary="Lift this operator's ban or suspension of a node.",
    callers=("cli", "module"),
    example=(Unban(request_id="unban-1", node_id=_DID), Done()),
    raises=(NotSanctioned,),
    once=True,
)
NODE_SANCTIONS = Method(
    name="node.sanctions",
    params=SanctionsAsked,
    result=Sanctions,
    summary="What is kept from whom, why, by whom and until when.",
    callers=callers_of("registryd"),
    example=(SanctionsAsked(), Sanctions(sanctions=(_SANCTION,))),
)
FAULT_REPORT = Method(
    name="fault.report",
    params=ReportFault,
    result=FaultView,
    summary="Hand in two contradicting statements of one node: they are verified, kept, and told to the network.",
    callers=callers_of("registryd"),
    example=(ReportFault(request_id="fault-1", claim="heartbeat", one=b"\x94", other=b"\x94"), _FAULT),
    raises=(BadFaultProof,),
    once=True,
)
FAULTS = Method(
    name="fault.list",
    params=FaultsAsked,
    result=Faults,
    summary="Proven faults with their proofs.",
    callers=callers_of("registryd"),
    example=(FaultsAsked(), Faults(faults=(_FAULT,))),
)
