"""Channel messages that another carrier than p2pd brings: opening, hellos and last states over HTTP.

Seller's side: a program of the operator's own takes them where its 402 says (`openUrl`, `helloUrl`) and hands them in
with `channel.carried`. Buyer's side: escrowd opens no socket, so a program that buys over HTTP asks for what is to be
carried (`channel.errands`) and brings what came (`channel.brought`). Nothing here is trusted: a hello and a last state
bear the payer's channel key, a wish for a channel the DID of the payer's node, each answer the payee's key.

Source: channel_protocol.md §3, §4, §7; settled.md 24.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from common.channel_messages import HELLO_BACK_BYTES_MAX
from common.codec import Canon, Wire
from common.contracts.channel import ENVELOPE_BYTES
from common.receipts import DidText
from common.rpc.method import PEOPLE, Done, Method

WISH_BYTES_MAX = 1_024
MESSAGE_BYTES_MAX = 4_096  # a hello with its head is the longest
ANSWER_BYTES_MAX = HELLO_BACK_BYTES_MAX + ENVELOPE_BYTES
ERRANDS_MAX = 16  # on their way at once
URL_CHARS_MAX = 2_048
PROBLEM_CHARS_MAX = 300

Place = Annotated[str, Meta(max_length=URL_CHARS_MAX)]
MessageBytes = Annotated[bytes, Meta(max_length=MESSAGE_BYTES_MAX)]
AnswerBytes = Annotated[bytes, Meta(max_length=ANSWER_BYTES_MAX)]


class CarriedOpen(Canon, frozen=True):
    """OPEN_REQ for one payee and no other, with its work stamp; signed by the payer's node under `channel-ask`."""

    payee: DidText
    wish: Annotated[bytes, Meta(max_length=WISH_BYTES_MAX)]
    stamp: int


class CarriedMessage(Canon, frozen=True):
    """What stands in an HTTP body: `open` is an attested `CarriedOpen`, the others are signed envelopes."""

    kind: Literal["open", "hello", "final"]
    body: Annotated[bytes, Meta(max_length=MESSAGE_BYTES_MAX)]


class Carried(Wire, frozen=True):
    """A message in canonical bytes, as it came."""

    message: MessageBytes


class CarriedBack(Wire, frozen=True):
    """What goes back: the signed terms, the signed HelloBack, or `Closing` in canonical bytes."""

    answer: AnswerBytes


class AskErrands(Wire, frozen=True):
    """What is to be carried? Waits so long for something."""

    wait_s: Annotated[float, Meta(ge=0, le=25)] = 20.0


class Errand(Wire, frozen=True, kw_only=True):
    """POST this message there."""

    name: Annotated[str, Meta(max_length=64)]
    url: Place
    message: MessageBytes


class Errands(Wire, frozen=True):
    """Each is handed out once."""

    errands: Annotated[tuple[Errand, ...], Meta(max_length=ERRANDS_MAX)]


class Brought(Wire, frozen=True, kw_only=True):
    """What came of an errand. The seller refused it, or said not now; or the message was lost: nobody answered."""

    name: Annotated[str, Meta(max_length=64)]
    outcome: Literal["answered", "refused", "not_now", "lost"]
    answer: AnswerBytes = b""
    problem: Annotated[str, Meta(max_length=PROBLEM_CHARS_MAX)] = ""


CARRIED: Method[Carried, CarriedBack] = Method(
    name="channel.carried",
    params=Carried,
    result=CarriedBack,
    summary="Seller: a channel message that came over HTTP; what to answer.",
    callers=PEOPLE,
    example=(Carried(message=b"\x92"), CarriedBack(answer=b"\x92")),
)
ERRANDS: Method[AskErrands, Errands] = Method(
    name="channel.errands",
    params=AskErrands,
    result=Errands,
    summary="Buyer: channel messages for sellers that take them over HTTP; a program of the owner's carries them.",
    callers=PEOPLE,
    example=(
        AskErrands(wait_s=5.0),
        Errands(errands=(Errand(name="e1", url="https://api.example/.well-known/dux-channel", message=b"\x92"),)),
    ),
)
BROUGHT: Method[Brought, Done] = Method(
    name="channel.brought",
    params=Brought,
    result=Done,
    summary="Buyer: what came of an errand.",
    callers=PEOPLE,
    example=(Brought(name="e1", outcome="answered", answer=b"\x92"), Done()),
)
