"""What can go wrong between two nodes: the part of p2pd's errors that the wire layer raises. Codes 8100-8119.

They are declared in common/contracts/p2p_errors.py, because other daemons' calls end with them too.
"""

from __future__ import annotations

from common.contracts.p2p_errors import (
    AnswerTooLong,
    CertificateRefused,
    FramingBroken,
    HandshakeFailed,
    HelloRefused,
    MessageTooLong,
    PeerAnswered,
    PeerBusy,
    PeerUnreachable,
    SessionClosed,
    StreamBroken,
)

__all__ = [
    "AnswerTooLong",
    "CertificateRefused",
    "FramingBroken",
    "HandshakeFailed",
    "HelloRefused",
    "MessageTooLong",
    "PeerAnswered",
    "PeerBusy",
    "PeerUnreachable",
    "SessionClosed",
    "StreamBroken",
]
