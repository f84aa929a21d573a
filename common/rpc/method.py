"""A method, declared once.

The value `Method(...)` in a contract file is all that server, client, fakes, documents and the command line know of it.
Source: style.md 2.3, settled.md 4 and 25.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from common.codec import Canon, Wire
from common.errors import DuxError

P = TypeVar("P", bound=Wire)
R = TypeVar("R", bound=Wire)
CP = TypeVar("CP", bound=Canon)
CR = TypeVar("CR", bound=Canon)

DAEMONS = ("p2pd", "flopd", "escrowd", "airdropd", "registryd", "stored", "taskd")
PEOPLE = ("cli", "module")  # a person's command line; other programs on this machine
ANYONE = (*DAEMONS, *PEOPLE)  # only for what every daemon answers of itself

CALL_GRAPH: dict[str, tuple[str, ...]] = {  # caller -> callees; no cycle. Source: architecture.md §2, settled.md 5
    "p2pd": (),  # but for the relay of peer calls and gossip inward
    "flopd": ("p2pd",),
    "registryd": ("p2pd", "flopd"),
    "stored": ("p2pd", "flopd", "registryd"),
    "escrowd": ("p2pd", "flopd", "registryd"),
    "airdropd": ("p2pd", "flopd", "registryd", "escrowd"),
    "taskd": ("p2pd", "flopd", "registryd", "stored", "escrowd"),
}


def callers_of(callee: str) -> tuple[str, ...]:
    """Everybody who may call this daemon at all: those above it in the call graph, and people."""
    return (*(caller for caller in DAEMONS if callee in CALL_GRAPH[caller]), *PEOPLE)


class Empty(Wire, frozen=True):
    """No parameters."""


class Done(Wire, frozen=True):
    """It is done (and was done before, if this request_id came before)."""

    done: bool = True


@dataclass(frozen=True, kw_only=True)
class Method(Generic[P, R]):
    """One JSON-RPC method: `name` is `<domain>.<verb>`."""

    name: str
    params: type[P]
    result: type[R]
    summary: str
    callers: tuple[str, ...]
    example: tuple[P, R]
    raises: tuple[type[DuxError], ...] = ()
    once: bool = False  # moves money or state: params have `request_id`, and a repetition gets the first answer
    deadline_max_s: float = 30.0  # longest a caller may wait, seconds

    def __post_init__(self) -> None:
        """A method that must happen once needs the id that says so."""
        if self.once != ("request_id" in self.params.__struct_fields__):
            raise TypeError(f"{self.name}: `once` and a field `request_id` go together")


@dataclass(frozen=True, kw_only=True)
class PeerMethod(Generic[CP, CR]):
    """One call between nodes: canonical structs both ways, relayed by both p2pds to `owner`. Never a local method."""

    name: str
    owner: str
    params: type[CP]
    result: type[CR]
    summary: str
    callers: tuple[str, ...]  # local daemons that may make this call
    cost: int = 1  # units taken from the caller's token bucket
    strangers: bool = True  # may nodes without any standing call it?
    deadline_max_s: float = 30.0
    params_bytes_max: int = 65_536


@dataclass(frozen=True, kw_only=True)
class Topic(Generic[CP]):
    """One gossip topic: who owns (validates) it, what it carries."""

    name: str
    owner: str
    payload: type[CP]
    summary: str
    payload_bytes_max: int = 8192  # TI §3.3


@dataclass(frozen=True, kw_only=True)
class Namespace:
    """One kind of DHT record: which daemon may put it, and whose name it may stand under."""

    name: str
    owner: str
    summary: str
    own_name: bool = False  # the record's name must be its signer's DID
    payload_bytes_max: int = 3072  # TI §3.2


def methods_in(module: object) -> list[Method[Wire, Wire]]:
    """Every method a contract module declares, by name."""
    found = [value for value in vars(module).values() if isinstance(value, Method)]
    return sorted(found, key=lambda method: method.name)


def unique(names: Sequence[str]) -> bool:
    """True when no name stands twice."""
    return len(set(names)) == len(names)
