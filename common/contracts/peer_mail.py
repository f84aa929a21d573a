"""What p2pds say to each other about letters: kept near the recipient's place until it has acknowledged them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Canon
from common.contracts.peer_p2p import DidText, Hash
from common.identity.mail import ACK_BYTES_MAX, KEY_ID_BYTES, SEALED_BYTES_MAX
from common.rpc.method import PeerMethod

PARCELS_MAX = 64  # in one answer, and kept for one recipient
PARCELS_BYTES_MAX = 786_432  # in one answer: a message has a megabyte


class Parcel(Canon, frozen=True):
    """[recipient, key_id, sealed, stamp]: a sealed letter; the stamp is a stranger's work over all but itself."""

    recipient: DidText
    key_id: Annotated[bytes, Meta(min_length=KEY_ID_BYTES, max_length=KEY_ID_BYTES)]
    sealed: Annotated[bytes, Meta(max_length=SEALED_BYTES_MAX)]
    stamp: Annotated[int, Meta(ge=0, le=1 << 53)]


class Deposited(Canon, frozen=True):
    """Whether it is kept; the reason when not; and the recipient's acknowledgement, where it is known already."""

    kept: bool
    reason: Annotated[str, Meta(max_length=200)]
    ack: Annotated[bytes, Meta(max_length=ACK_BYTES_MAX + 160)]


class Collect(Canon, frozen=True):
    """What is kept for the caller and not among these parcels, which it has already."""

    have: Annotated[tuple[Hash, ...], Meta(max_length=256)]


class Parcels(Canon, frozen=True):
    """Some of them; `more` says that another call gives others."""

    parcels: Annotated[tuple[Parcel, ...], Meta(max_length=PARCELS_MAX)]
    more: bool


class Acked(Canon, frozen=True):
    """A signed acknowledgement (common.identity.mail.Ack): delete these parcels, tell their sender if it asks."""

    ack: Annotated[bytes, Meta(max_length=ACK_BYTES_MAX + 160)]


class AckTaken(Canon, frozen=True):
    """How many parcels or letters it was about here."""

    count: Annotated[int, Meta(ge=0, le=128)]


class MailNotice(Canon, frozen=True):
    """There are letters for you here: so many parcels."""

    count: Annotated[int, Meta(ge=1, le=PARCELS_MAX)]


class Noticed(Canon, frozen=True):
    """It will be fetched."""

    heard: bool


MAIL_STORE = PeerMethod(
    name="mail.store", owner="p2pd", params=Parcel, result=Deposited, callers=(), cost=16, params_bytes_max=33_280,
    summary="Keep a sealed letter for its recipient, at most a week; a repetition tells whether it was fetched.",
)  # fmt: skip
MAIL_COLLECT = PeerMethod(
    name="mail.collect", repeated="read",
    owner="p2pd", params=Collect, result=Parcels, callers=(), cost=16, params_bytes_max=9216,
    summary="The sealed letters kept for the caller, and for nobody else.",
)  # fmt: skip
MAIL_ACK = PeerMethod(
    name="mail.ack", owner="p2pd", params=Acked, result=AckTaken, callers=(), cost=4, params_bytes_max=3072,
    summary="A recipient's signed list of letters that it has.",
)  # fmt: skip
MAIL_NOTICE = PeerMethod(
    name="mail.notice", owner="p2pd", params=MailNotice, result=Noticed, callers=(), cost=4, params_bytes_max=16,
    summary="Letters are kept here for the one who is called.",
)  # fmt: skip
