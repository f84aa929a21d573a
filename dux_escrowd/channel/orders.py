"""What a channel's table wants done, in the imperative: performed after the decision is on disk, in this order.

Every order may be performed again; what comes of it returns as a fact. Source: channel_protocol.md §5, §6.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Order(msgspec.Struct, frozen=True, kw_only=True, tag_field="order", tag=True):
    """Base of all orders."""


class Reason(StrEnum):
    """Why a voucher's call was not admitted."""

    NEED_FUNDS = "need_funds"
    OFFER_EXPIRED = "offer_expired"
    RESYNC = "resync"
    CLOSING = "closing"
    DEPTH = "depth"
    BUSY = "busy"
    CONFLICT = "conflict"
    RUNNING = "running"
    GONE = "gone"


# --- the payer's ------------------------------------------------------------------------------------------------------


class Fund(Order, frozen=True, kw_only=True):
    """Have the wallet pay the cap to the script."""


class Withdraw(Order, frozen=True, kw_only=True):
    """Find out whether the funding was paid; if not, it never is."""


class SendHello(Order, frozen=True, kw_only=True):
    """Ask for a session, showing the best voucher, signed for the present coin."""

    nonce: bytes
    cum_florins: int


class SendVoucher(Order, frozen=True, kw_only=True):
    """Sign and send a call's voucher; the stored request goes with it, byte for byte."""

    j: int
    session: bytes
    cum_florins: int
    price_max_florins: int


class SendFinal(Order, frozen=True, kw_only=True):
    """Sign the last state and ask the payee to close with it."""

    cum_florins: int
    next_script: bytes


class Refund(Order, frozen=True, kw_only=True):
    """Take everything back, with this step of the fee."""

    step: int


class HandOver(Order, frozen=True, kw_only=True):
    """Give the caller what became of its call."""

    j: int


# --- the payee's ------------------------------------------------------------------------------------------------------


class SendOpenOk(Order, frozen=True, kw_only=True):
    """Sign the terms."""


class SendHelloBack(Order, frozen=True, kw_only=True):
    """Begin the session and show what is held, calls from `low` on."""

    nonce: bytes
    session: bytes
    low: int


class AskHello(Order, frozen=True, kw_only=True):
    """Tell the payer that a hello is needed."""


class Mirror(Order, frozen=True, kw_only=True):
    """Place a copy of the best voucher before the next order is done; a call that waits for it fails without."""

    cum_florins: int


class Execute(Order, frozen=True, kw_only=True):
    """Run the stored request once."""

    j: int


class AddFuel(Order, frozen=True, kw_only=True):
    """Tell the running call that it may go on to this price."""

    j: int
    price_max_florins: int


class SendAnswer(Order, frozen=True, kw_only=True):
    """Answer with what is stored of the call."""

    j: int


class SendChunk(Order, frozen=True, kw_only=True):
    """The next chunk may leave."""

    j: int


class Refuse(Order, frozen=True, kw_only=True):
    """Say why the call was not admitted; nothing is charged."""

    j: int
    reason: Reason
    held_florins: int
    owed_florins: int
    missing_florins: int


class KeepProof(Order, frozen=True, kw_only=True):
    """Keep both vouchers: one number or one oid for two requests is the payer's fault."""

    j: int


class Close(Order, frozen=True, kw_only=True):
    """Sign state(cum) whole and hand it to the chain; `step`: so many times more fee is added."""

    cum_florins: int
    final: bool
    next_script: bytes
    step: int


class News(StrEnum):
    """What this node's readers are told."""

    OPENED = "ChannelOpened"
    SUSPENDED = "ChannelSuspended"
    CLOSING = "ChannelClosing"
    CLOSED = "ChannelClosed"
    LOST = "ChannelLost"


class Tell(Order, frozen=True, kw_only=True):
    """Tell the readers of this node's events."""

    news: News
