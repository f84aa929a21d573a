"""Encrypted copies of channels that nodes keep for each other, so that a phrase alone brings both sides back.

Whoever keeps one learns its owner, its size and the height until which it is wanted; it is found under a tag that only
the owner's phrase gives. The pointers to who keeps what stand in `COPY_NS`, as those of contracts do.
Source: channel_protocol.md §8; escrow_protocol.md §10.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Canon
from common.contracts.peer_channel import Kept
from common.rpc.method import PeerMethod

CHANNEL_COPY_BYTES_MAX = 32_768
TAGS_AT_ONCE = 64
COPIES_BYTES_MAX = 600_000  # of one answer, below a peer message
COPIES_AT_ONCE = 256

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]


class KeepCopy(Canon, frozen=True):
    """Keep this until a height; a later version takes the place of an earlier one, an empty one of all of them."""

    tag: Bytes32
    version: Annotated[int, Meta(ge=0, lt=2**53)]
    until: Annotated[int, Meta(ge=0, lt=2**31)]
    sealed: Annotated[bytes, Meta(max_length=CHANNEL_COPY_BYTES_MAX)]


class CopiesAsked(Canon, frozen=True):
    """Whatever is kept under these tags."""

    tags: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=TAGS_AT_ONCE)]


class KeptCopy(Canon, frozen=True):
    """One of them, opaque to whoever keeps it."""

    tag: Bytes32
    sealed: Annotated[bytes, Meta(max_length=CHANNEL_COPY_BYTES_MAX)]


class CopiesFound(Canon, frozen=True):
    """What is kept, the asker's own before others'; `more`: ask for the tags of which none has opened once more."""

    copies: Annotated[tuple[KeptCopy, ...], Meta(max_length=COPIES_AT_ONCE)]
    more: bool


COPY_KEEP = PeerMethod(
    name="channel.copy_keep", repeated="same",
    owner="escrowd", params=KeepCopy, result=Kept, callers=("escrowd",), cost=8, strangers=False,
    summary="Keep an encrypted copy of a channel.",
)  # fmt: skip
COPIES_GET = PeerMethod(
    name="channel.copies_get", repeated="read",
    owner="escrowd", params=CopiesAsked, result=CopiesFound, callers=("escrowd",), cost=8, params_bytes_max=4_096,
    summary="Encrypted copies of channels, to whoever knows their tags.",
)  # fmt: skip
