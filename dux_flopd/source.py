"""What flopd needs of a chain, whatever stands behind it: a node, or what a simulator passes in.

Every method may raise `ChainUnavailable` when the source is away; `Refused` carries a source's own answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dux_flopd.blocks import Block


class Refused(Exception):
    """The source answered, with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message


@dataclass(frozen=True)
class ChainTip:
    """Where the best chain stands."""

    height: int
    hash: str


@dataclass(frozen=True)
class PeerView:
    """A coin node that is connected: for people."""

    address: str
    agent: str
    height: int
    filters: bool


@dataclass(frozen=True)
class SourceStatus:
    """How the source itself stands, and what about it looks wrong."""

    source: str
    endpoint: str
    header_height: int
    header_hash: str
    peers: tuple[PeerView, ...] = ()
    bans: tuple[tuple[str, str], ...] = ()  # address and reason
    warnings: tuple[str, ...] = ()
    peers_wanted: int = 0


class ChainSource(Protocol):
    """Blocks, waiting transactions, and a way to hand one over."""

    @property
    def name(self) -> str:
        """Which kind of source."""
        ...

    @property
    def endpoint(self) -> str:
        """Where it is, for people; no login in it."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...

    async def genesis(self) -> str:
        """The hash of block 0."""
        ...

    async def tip(self) -> ChainTip:
        """The best chain's tip."""
        ...

    async def wait_for_change(self, wait_ms: int) -> None:
        """Return when a block came, or after `wait_ms`."""
        ...

    async def block_hash(self, height: int) -> str | None:
        """The hash at a height of the best chain; None above the tip."""
        ...

    async def read(self, block_hash: str) -> Block:
        """A block with at least those of its transactions that touch what is followed."""
        ...

    async def block(self, block_hash: str) -> bytes:
        """A block's bytes, merged-mining proof included."""
        ...

    async def waiting(self) -> list[str]:
        """The ids of the transactions that wait for a block."""
        ...

    async def waiting_tx(self, txid: str) -> bytes | None:
        """The bytes of a waiting transaction; None when it is gone by now."""
        ...

    async def broadcast(self, raw: bytes) -> None:
        """Hand a transaction over; `Refused` when it is not taken."""
        ...

    def status(self) -> SourceStatus:
        """How it stands, for people."""
        ...
