"""channel.restore: open channels come back, on either side, to a node that has nothing but its phrase.

Source: channel_protocol.md §8.
"""

from __future__ import annotations

from common.codec import Wire
from common.rpc.method import PEOPLE, Empty, Method


class ChannelsRestored(Wire, frozen=True):
    """Channels that came back, those that were here already, and copies that could not be taken, with the reason."""

    restored: tuple[str, ...]
    known: tuple[str, ...]
    problems: tuple[str, ...]


CHANNEL_RESTORE: Method[Empty, ChannelsRestored] = Method(
    name="channel.restore",
    params=Empty,
    result=ChannelsRestored,
    summary="After a restore from the phrase: find the encrypted copies of open channels and take both sides back.",
    callers=("taskd", *PEOPLE),
    example=(Empty(), ChannelsRestored(restored=("c4" * 32,), known=(), problems=())),
    deadline_max_s=300.0,
)
