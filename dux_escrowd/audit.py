"""What this node signs about its log: how long it is and its last hash, so that no line can be changed later unseen."""

from __future__ import annotations

from common.codec import Canon
from common.units import Did


class AuditHead(Canon, frozen=True):
    """The end of a node's log."""

    did: Did
    number: int
    hash: bytes
