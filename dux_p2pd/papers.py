"""What a connection asks of identity: the node's own papers, and a judgement on a peer's. No waiting, no I/O.

Source: transport_identity.md §1.3.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from common.units import Did, UnixMs

Headers = tuple[tuple[str, bytes], ...]
Address = tuple[str, int]


class OwnPapers(msgspec.Struct, frozen=True):
    """What a node shows of itself in HELLO: the tail of its event log and its signed node record."""

    log_tail: bytes
    node_record: bytes


class Vouched(msgspec.Struct, frozen=True):
    """What the papers of a peer prove: this DID, and the transport keys its current key has signed for."""

    did: Did
    transport_keys: tuple[bytes, ...]
    node_record: bytes
    expires_ms: UnixMs


class Papers(Protocol):
    """Identity, as far as a connection needs it."""

    @property
    def did(self) -> Did:
        """The node's own DID."""
        ...

    def own(self) -> OwnPapers:
        """The papers to show now: the record is unexpired and names the transport key in use."""
        ...

    def judge(self, did: Did, log_tail: bytes, node_record: bytes) -> Vouched:
        """What a peer's papers prove.

        They prove something when the log resolves `did` and is not ended, and the record is signed by its current
        key, names the same DID and has not expired.

        Raises:
            DuxError: of the family PeerMisbehaved or CallerMistake (undecodable) when any of it does not hold.
        """
        ...

    def is_known(self, did: Did) -> bool:
        """Whether the DID gets the limits of a known peer; everybody else is a stranger."""
        ...

    def did_of_key(self, transport_key: bytes) -> Did | None:
        """Whose transport key this is by the records held, for the limits shown before the peer's HELLO is read."""
        ...
