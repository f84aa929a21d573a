"""What nodes say to each other about channels: opening, hellos, paid calls, the last state, and a watcher's copy.

The session names the sender; what must hold later (terms, vouchers, answers) is signed with the channel's own keys.
Opening, hellos and the last state are escrowd's; a paid call is taskd's, which runs it between `channel.admit` and
`channel.finish` of its own escrowd. Source: channel_protocol.md §3, §4, §6; settled.md 25.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.channel_messages import (
    ANSWER_BYTES_MAX,
    FINAL_BYTES_MAX,
    HELLO_BACK_BYTES_MAX,
    HELLO_BYTES_MAX,
    OFFER_BYTES_MAX,
    VOUCHER_BYTES_MAX,
)
from common.codec import Canon
from common.rpc.method import PeerMethod
from common.units import Florins

ENVELOPE_BYTES = 320
TERMS_BYTES_MAX = 2_048
INPUT_BYTES_MAX = 262_144  # larger inputs go by escrow, as blobs
OUTPUT_BYTES_MAX = 524_288
CLOSE_BYTES_MAX = 2_048

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Key = Annotated[bytes, Meta(min_length=33, max_length=33)]


class OpenReq(Canon, frozen=True):
    """OPEN_REQ: a payer's wish, with the network's figures as its own node knows them, and the work done for it."""

    nonce: Bytes32
    network: str
    payer_key: Key
    change_script: Annotated[bytes, Meta(max_length=25)]
    fund_script: Annotated[bytes, Meta(max_length=25)]
    tax_bps: int
    developer_script: Annotated[bytes, Meta(max_length=25)]
    royalty_bps: int
    fee_rate_florins_per_kb: int
    cap_florins: Florins
    exp: int
    profile: Annotated[str, Meta(max_length=32)]


class StampedOpen(Canon, frozen=True):
    """The wish in canonical bytes and its stamp, so that nothing is kept for a stranger who did no work."""

    wish: Annotated[bytes, Meta(max_length=1_024)]
    stamp: int


class OpenOk(Canon, frozen=True):
    """OPEN_OK: the terms under the payee's channel key."""

    terms: Annotated[bytes, Meta(max_length=TERMS_BYTES_MAX + ENVELOPE_BYTES)]


class HelloCall(Canon, frozen=True):
    """A signed hello."""

    hello: Annotated[bytes, Meta(max_length=HELLO_BYTES_MAX + ENVELOPE_BYTES)]


class HelloBackCall(Canon, frozen=True):
    """The payee's signed answer to it."""

    hello_back: Annotated[bytes, Meta(max_length=HELLO_BACK_BYTES_MAX + ENVELOPE_BYTES)]


class HelloWanted(Canon, frozen=True):
    """The payee started, or its coin moved: say hello."""

    chid: Bytes32


class FinalCall(Canon, frozen=True):
    """The payer's signed last state; the terms of the channel that it opens, or empty."""

    final: Annotated[bytes, Meta(max_length=FINAL_BYTES_MAX + ENVELOPE_BYTES)]


class Closing(Canon, frozen=True):
    """Whether the payee closes with it, and where the channel stands."""

    taken: bool
    state: Annotated[str, Meta(max_length=32)]


class ChannelOf(Canon, frozen=True):
    """Which terms belong to this payer key? For a payer that has its phrase alone; answered to that payer only."""

    payer_key: Key


class TermsFound(Canon, frozen=True):
    """The terms under the payee's channel key."""

    terms: Annotated[bytes, Meta(max_length=TERMS_BYTES_MAX + ENVELOPE_BYTES)]


class KeepClose(Canon, frozen=True):
    """A fully signed close: publish it at this height, before EXP in any case. It cannot be changed."""

    chid: Bytes32
    raw: Annotated[bytes, Meta(max_length=CLOSE_BYTES_MAX)]
    publish_at: int


class Kept(Canon, frozen=True):
    """Whether it is kept."""

    kept: bool


class AskQuote(Canon, frozen=True):
    """What does one call of this service cost over a channel?"""

    service_id: Annotated[str, Meta(max_length=128)]


class QuoteSaid(Canon, frozen=True):
    """A signed offer (`Attested` bytes of `common.channel_messages.Offer`)."""

    offer: Annotated[bytes, Meta(max_length=OFFER_BYTES_MAX + ENVELOPE_BYTES)]


class PaidCall(Canon, frozen=True):
    """A call with its voucher; the voucher's `req` is the hash of what stands here."""

    voucher: Annotated[bytes, Meta(max_length=VOUCHER_BYTES_MAX + ENVELOPE_BYTES)]
    service_id: Annotated[str, Meta(max_length=128)]
    args: Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(max_length=16)]
    data: Annotated[bytes, Meta(max_length=INPUT_BYTES_MAX)]


class PaidAnswer(Canon, frozen=True):
    """`answer` empty: not admitted, for this reason; else the signed answer and the output (or why it failed)."""

    answer: Annotated[bytes, Meta(max_length=ANSWER_BYTES_MAX + ENVELOPE_BYTES)]
    data: Annotated[bytes, Meta(max_length=OUTPUT_BYTES_MAX)]
    detail: Annotated[str, Meta(max_length=500)]
    reason: Annotated[str, Meta(max_length=32)]
    missing_florins: Florins


OPEN = PeerMethod(
    name="channel.open", repeated="same",
    owner="escrowd", params=StampedOpen, result=OpenOk, callers=("escrowd",), cost=8,
    params_bytes_max=2_048, summary="A wish for a channel; the payee answers with terms that it signed.",
)  # fmt: skip
HELLO = PeerMethod(
    name="channel.hello", repeated="same",
    owner="escrowd", params=HelloCall, result=HelloBackCall, callers=("escrowd",), cost=8,
    params_bytes_max=4_096, summary="Begin a session: both sides show the best they hold.",
)  # fmt: skip
FINAL = PeerMethod(
    name="channel.final", repeated="same",
    owner="escrowd", params=FinalCall, result=Closing, callers=("escrowd",), cost=4,
    params_bytes_max=2_048, summary="The last state, signed by the payer: close with it.",
)  # fmt: skip
ASK_HELLO = PeerMethod(
    name="channel.ask_hello", repeated="same",
    owner="escrowd", params=HelloWanted, result=Kept, callers=("escrowd",), cost=2,
    params_bytes_max=128, summary="The payee asks the payer of a channel for a hello.",
)  # fmt: skip
GET = PeerMethod(
    name="channel.get", repeated="read",
    owner="escrowd", params=ChannelOf, result=TermsFound, callers=("escrowd",), cost=4,
    params_bytes_max=128, summary="The terms of a channel, for its payer that lost them.",
)  # fmt: skip
KEEP = PeerMethod(
    name="channel.keep", repeated="same",
    owner="escrowd", params=KeepClose, result=Kept, callers=("escrowd",), cost=4, strangers=False,
    params_bytes_max=4_096, summary="Keep a fully signed close and publish it in time.",
)  # fmt: skip
QUOTE = PeerMethod(
    name="channel.quote", repeated="read",
    owner="taskd", params=AskQuote, result=QuoteSaid, callers=("taskd",), cost=4,
    params_bytes_max=256, summary="What one call of a service costs over a channel, signed.",
)  # fmt: skip
CALL = PeerMethod(
    name="channel.call", repeated="same",
    owner="taskd", params=PaidCall, result=PaidAnswer, callers=("taskd",), cost=2,
    params_bytes_max=INPUT_BYTES_MAX + 16_384, summary="One call of a service with its voucher.",
)  # fmt: skip
