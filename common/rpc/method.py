"""A method, declared once.

The value `Method(...)` in a contract file is all that server, client, fakes, documents and the command line know of it.
Source: style.md 2.3, settled.md 4 and 25.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from common.codec import Canon, Wire, from_canonical
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
    repeated: Literal["read", "same", "anew"] = "same"  # changes nothing; changes it once; does it again each time


@dataclass(frozen=True, kw_only=True)
class Topic(Generic[CP]):
    """One gossip topic: who owns (validates) it, what it carries, how much of it is borne."""

    name: str
    owner: str
    payload: type[CP]
    summary: str
    payload_bytes_max: int = 8192  # TI §3.3
    ttl_s: int = 120  # a message is not passed on when it is older
    neighbour_per_s: float = 200.0  # messages taken from one neighbour, whoever signed them; bursts of 10 s
    signer_per_s: float = 50.0  # messages of one signer, whoever brings them; bursts of 10 s


RECORD_NAME_CHARS_MAX = 64  # TI §3.2
RECORD_PAYLOAD_BYTES_MAX = 3072
RECORD_TTL_S_MAX = 172_800  # 48 hours; event logs seven days


@dataclass(frozen=True, kw_only=True)
class Names:
    """The rule that the names of a namespace follow: `says` is the pattern in words, for people."""

    pattern: str
    says: str
    example: str
    of_signer: bool = False  # the name is, or begins with, the signer's DID: nobody else can write there

    def fault(self, name: str, did: str) -> str | None:
        """Why this is no name for a record of this signer, or None."""
        if not 1 <= len(name) <= RECORD_NAME_CHARS_MAX:
            return f"a name has 1 to {RECORD_NAME_CHARS_MAX} characters"
        if not re.fullmatch(self.pattern, name):
            return f"the name must be {self.says}, like {self.example!r}"
        if self.of_signer and name.partition("/")[0] != did:
            return "the name must be the signer's own DID"
        return None


OWN_DID = Names(
    pattern=r"did:dux:[a-z2-7]{52}", says="the signer's DID", example="did:dux:" + "a" * 52, of_signer=True
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Namespace(Generic[CP]):
    """One kind of DHT record: who may put it, under which names, what it carries, how long and how many.

    p2pd refuses what breaks these rules on store and on read, here and at every other node; `belongs` is what the
    owner adds: (signer's DID, name, payload) -> why not, or None.
    """

    name: str
    owner: str  # the daemon that puts it
    payload: type[CP]
    names: Names
    summary: str
    payload_bytes_max: int = RECORD_PAYLOAD_BYTES_MAX
    ttl_s_max: int = RECORD_TTL_S_MAX
    per_signer_max: int = 64  # names of one signer in this namespace, at one storer, at however many of its keys
    per_name_max: int = 64  # signers under one name, at one storer
    salted: int = 0  # copies under so many other keys, so that who owns one place cannot hide it
    belongs: Callable[[str, str, CP], str | None] | None = None

    def fault(self, did: str, name: str, payload: bytes, ttl_s: int) -> str | None:
        """Why a record must not be, whoever looks at it, or None. An empty payload withdraws the name."""
        if len(payload) > self.payload_bytes_max:
            return f"its payload has {len(payload)} bytes, {self.payload_bytes_max} are allowed in {self.name!r}"
        if not 1 <= ttl_s <= self.ttl_s_max:
            return f"ttl_s is 1 to {self.ttl_s_max} in {self.name!r}"
        return self.names.fault(name, did) or (self._content_fault(did, name, payload) if payload else None)

    def _content_fault(self, did: str, name: str, payload: bytes) -> str | None:
        try:
            content = from_canonical(payload, self.payload, max_bytes=self.payload_bytes_max)
            return self.belongs(did, name, content) if self.belongs is not None else None
        except DuxError as error:
            return f"its payload is no {self.payload.__name__}: {error.message[:100]}"


def methods_in(module: object) -> list[Method[Wire, Wire]]:
    """Every method a contract module declares, by name."""
    found = [value for value in vars(module).values() if isinstance(value, Method)]
    return sorted(found, key=lambda method: method.name)


def unique(names: Sequence[str]) -> bool:
    """True when no name stands twice."""
    return len(set(names)) == len(names)
