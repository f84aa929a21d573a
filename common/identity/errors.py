"""What can be wrong with an identity that came from outside. Codes 1410-1419."""

from __future__ import annotations

from common.errors import NotNow, PeerMisbehaved


class BadKey(PeerMisbehaved):
    """{detail}: not a usable Ed25519 public key."""

    code = 1410
    key = "bad-key"


class BadSignature(PeerMisbehaved):
    """The signature on this {purpose} does not verify."""

    code = 1411
    key = "bad-signature"


class BadEvent(PeerMisbehaved):
    """Event {seq} of the log is refused: {detail}."""

    code = 1412
    key = "bad-event"


class BadRecord(PeerMisbehaved):
    """The node record of {did} is refused: {detail}."""

    code = 1413
    key = "bad-record"


class NotADid(PeerMisbehaved):
    """{did!r} is not a did:dux identifier: `did:dux:` and 52 letters or digits 2-7."""

    code = 1414
    key = "not-a-did"


class IdentityUnsure(NotNow):
    """{did} is {state}: running contracts finish, but no new business until its owner recovers it."""

    code = 1415
    key = "identity-unsure"


class BadLetter(PeerMisbehaved):
    """The letter is refused: {detail}."""

    code = 1419
    key = "bad-letter"
