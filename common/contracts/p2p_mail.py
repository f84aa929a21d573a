"""mail.*: letters to nodes that may be off, kept sealed by others until they are fetched.

A letter belongs to the box of the caller that sent it: a daemon gets letters from the same daemon of other nodes,
people from people. What is inside is signed by the sender's node; the payload is the caller's own bytes.
"""

from __future__ import annotations

from common.codec import Wire
from common.contracts.base import events_method
from common.contracts.p2p_errors import NoMailbox, OutboxFull, PeerUnknown, RateLimited
from common.identity.errors import BadLetter, IdentityUnsure
from common.rpc.method import Done, Method, callers_of
from common.units import Did, UnixMs

LETTERS_MAX = 100  # in one answer

_DID = Did("did:dux:" + "a" * 52)
_ID = "cd" * 32
_NOW = UnixMs(1_790_000_000_000)


class SendMail(Wire, frozen=True):
    """A letter to a node; `payload` has at most 32,204 bytes."""

    request_id: str
    to: Did
    subject: str
    payload: bytes


class MailSent(Wire, frozen=True):
    """It is kept here and offered to the nodes near its recipient until that has acknowledged it, or a week is over."""

    id: str


class ListMail(Wire, frozen=True):
    """Letters of the caller's box: those that came after a number; or, with `sent`, those that it sent."""

    after: int = 0
    limit: int = LETTERS_MAX
    sent: bool = False


class LetterView(Wire, frozen=True):
    """One letter: who wrote it to whom, and when. `stored_at` and `delivered` tell of letters that were sent."""

    number: int
    id: str
    sender: Did
    recipient: Did
    at_ms: UnixMs
    subject: str
    payload: bytes
    stored_at: int
    delivered: bool


class Letters(Wire, frozen=True):
    """In the order in which they came."""

    letters: list[LetterView]


class DropMail(Wire, frozen=True):
    """Letters that the caller has dealt with; they do not come again."""

    request_id: str
    ids: list[str]


class MailArrived(Wire, frozen=True):
    """Event: a letter is here."""

    id: str
    sender: Did
    box: str
    subject: str


class MailDelivered(Wire, frozen=True):
    """Event: the recipient has acknowledged a letter of ours."""

    id: str
    recipient: Did
    box: str


_LETTER = LetterView(
    number=7,
    id=_ID,
    sender=_DID,
    recipient=_DID,
    at_ms=_NOW,
    subject="hello",
    payload=b"back on Monday",
    stored_at=0,
    delivered=True,
)

MAIL_SEND = Method(
    name="mail.send",
    params=SendMail,
    result=MailSent,
    summary="Send a sealed letter to a node, which may be off for a week.",
    callers=callers_of("p2pd"),
    example=(
        SendMail(request_id="mail-1", to=_DID, subject="hello", payload=b"back on Monday"),
        MailSent(id=_ID),
    ),
    raises=(NoMailbox, OutboxFull, PeerUnknown, RateLimited, BadLetter, IdentityUnsure),
    once=True,
    deadline_max_s=60.0,
)

MAIL_LIST = Method(
    name="mail.list",
    params=ListMail,
    result=Letters,
    summary="The letters of the caller's box, or those that it sent.",
    callers=callers_of("p2pd"),
    example=(ListMail(after=6), Letters(letters=[_LETTER])),
)

MAIL_DROP = Method(
    name="mail.drop",
    params=DropMail,
    result=Done,
    summary="Throw letters of the caller's box away.",
    callers=callers_of("p2pd"),
    example=(DropMail(request_id="drop-1", ids=[_ID]), Done()),
    once=True,
)

MAIL_EVENTS = events_method("mail", callers_of("p2pd"))
