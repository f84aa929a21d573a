"""What is kept of others' letters, and what is believed of one's own: decisions only.

Source: transport_identity.md §3.4.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.identity.mail import Letter

KEPT_MS = 7 * 86_400_000  # a letter waits a week, for its recipient and for its acknowledgement
PER_RECIPIENT_MAX = 64
PER_SENDER_MAX = 4  # of one sender for one recipient
ROOM_BYTES_MAX = 64 << 20  # of all parcels kept for others
FUTURE_MS = 600_000
AGE_MS_MAX = KEPT_MS + 86_400_000  # a letter older than this is not taken in: its id may be forgotten
OUTBOX_MAX = 1024  # own letters that wait to be fetched
RETRY_FIRST_MS, RETRY_MAX_MS = 30_000, 3_600_000
COPIES_ENOUGH = 3  # below so many copies, storing is tried again soon


@dataclass(frozen=True, slots=True)
class Room:
    """What matters for one parcel that is offered."""

    of_recipient: int
    of_sender: int  # for this recipient
    bytes_held: int
    nearer_nodes: int  # nodes we know that are nearer to the recipient than we are
    near_max: int


NOT_NEAR = "others are nearer to its recipient"  # what an honest sender may be told, too


def deposit_fault(size_bytes: int, room: Room) -> str | None:
    """Why a parcel is not kept, or None."""
    if room.nearer_nodes >= room.near_max:
        return NOT_NEAR
    if room.of_sender >= PER_SENDER_MAX:
        return f"{PER_SENDER_MAX} letters of its sender wait here already"
    if room.of_recipient >= PER_RECIPIENT_MAX:
        return f"{PER_RECIPIENT_MAX} letters wait here already"
    if room.bytes_held + size_bytes > ROOM_BYTES_MAX:
        return "there is no room"
    return None


def letter_fault(letter: Letter, now_ms: int) -> str | None:
    """Why a letter that is genuine is not taken in, or None."""
    if letter.at_ms > now_ms + FUTURE_MS:
        return "it is dated in the future"
    if letter.at_ms < now_ms - AGE_MS_MAX:
        return "it is too old"
    return None


def retry_ms(tries: int, copies: int) -> int:
    """How long until a letter is offered to its keepers again: soon while it has too few, else once an hour."""
    if copies >= COPIES_ENOUGH:
        return RETRY_MAX_MS
    return min(RETRY_MAX_MS, RETRY_FIRST_MS << min(tries, 16))
