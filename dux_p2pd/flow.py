"""Credit of one stream, both ways, and the purse that all streams of a connection share.

Law: what the peer may still send plus what it sent and nobody read never exceeds the initial window plus what the
stream drew from the purse; and the draws never exceed the purse.

Source: transport_identity.md §1.5.
"""

from __future__ import annotations

from dux_p2pd.wire_errors import FramingBroken
from dux_p2pd.wire_limits import SEND_WINDOW_MAX_BYTES, WINDOW_BYTES, WINDOW_MAX_BYTES


class Purse:
    """Credit beyond the initial windows that one connection may have out at a time."""

    __slots__ = ("left",)

    def __init__(self, total_bytes: int) -> None:
        self.left = total_bytes

    def draw(self, wanted: int) -> int:
        """As much of it as there is."""
        drawn = min(wanted, self.left)
        self.left -= drawn
        return drawn


class Flow:
    """State of one stream."""

    __slots__ = (
        "_read_since_growth",
        "acknowledged",
        "drawn",
        "got_fin",
        "hello_flag",
        "own",
        "receive_window",
        "send_window",
        "sent_fin",
        "unread",
    )

    def __init__(self, *, own: bool, hello_flag: int) -> None:
        """A stream that we opened (`own`) or accepted; `hello_flag` is SYN or ACK, due with our first frame on it."""
        self.own = own
        self.hello_flag = hello_flag
        self.acknowledged = not own
        self.send_window = WINDOW_BYTES
        self.receive_window = WINDOW_BYTES
        self.unread = 0
        self.drawn = 0
        self.sent_fin = self.got_fin = False
        self._read_since_growth = 0

    def take_hello_flag(self) -> int:
        """SYN or ACK the first time, nothing later."""
        flag, self.hello_flag = self.hello_flag, 0
        return flag

    def acknowledge(self, stream: int) -> None:
        """The peer has accepted it.

        Raises:
            FramingBroken: it is not ours, or was acknowledged already.
        """
        if self.acknowledged:
            raise FramingBroken(reason=f"a needless acknowledgement of stream {stream}")
        self.acknowledged = True

    def received(self, count: int) -> None:
        """The peer spent credit.

        Raises:
            FramingBroken: more than it had, or after its FIN.
        """
        if self.got_fin:
            raise FramingBroken(reason="data after the end")
        if count > self.receive_window:
            raise FramingBroken(reason=f"{count} bytes with a credit of {self.receive_window}")
        self.receive_window -= count
        self.unread += count

    def ended_with(self, count: int) -> Flow:
        """Itself, of a stream whose peer began and ended its half with one frame of so many bytes within the window."""
        self.receive_window -= count
        self.unread = count
        self.got_fin = True
        return self

    def is_answered_by(self, count: int) -> bool:
        """Whether so many bytes with the acknowledgement and the end are all that was missing on a stream of ours."""
        whole = self.sent_fin and not self.acknowledged and not self.got_fin
        return whole and not self.unread and count <= self.receive_window

    def granted(self, count: int) -> None:
        """The peer gave us credit.

        Raises:
            FramingBroken: more than any honest peer gives.
        """
        self.send_window += count
        if self.send_window > SEND_WINDOW_MAX_BYTES:
            raise FramingBroken(reason="credit without bounds")

    def consumed(self, count: int, purse: Purse) -> int:
        """Bytes were read: the credit to grant now, 0 while it is not worth a frame."""
        if count > self.unread:
            raise ValueError(f"consumed {count} of {self.unread} unread bytes")
        self.unread -= count
        if self.got_fin:
            return 0
        self._grow(count, purse)
        whole = WINDOW_BYTES + self.drawn
        grant = whole - self.receive_window - self.unread
        if grant < whole // 2:
            return 0
        self.receive_window += grant
        return grant

    def give_back(self, purse: Purse) -> None:
        """The stream is gone: what it drew is free again."""
        purse.left += self.drawn
        self.drawn = 0

    def _grow(self, count: int, purse: Purse) -> None:
        """A stream that read a whole window doubles it, while the purse lasts."""
        self._read_since_growth += count
        whole = WINDOW_BYTES + self.drawn
        if self._read_since_growth >= whole and whole < WINDOW_MAX_BYTES:
            self.drawn += purse.draw(min(whole, WINDOW_MAX_BYTES - whole))
            self._read_since_growth = 0
