"""What a payee's word on a voucher becomes in HTTP: the table of statuses, as data.

Pure. 200 is no row here: what was done is answered with the handler's own status. Source: channel_protocol.md §7.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from common.units import Florins

RETRY_AFTER_S = 1


class Reason(StrEnum):
    """Why a call was not run now."""

    NO_VOUCHER = "no_voucher"
    NEED_FUNDS = "need_funds"
    OFFER_EXPIRED = "offer_expired"
    RESYNC = "resync"
    CLOSING = "closing"
    DEPTH = "depth"
    BUSY = "busy"
    CONFLICT = "conflict"
    RUNNING = "running"
    GONE = "gone"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    NODE_DOWN = "node_down"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Where the channel stands, as a refusal tells it."""

    held_florins: Florins = Florins(0)
    owed_florins: Florins = Florins(0)
    missing_florins: Florins = Florins(0)


class Status(msgspec.Struct, frozen=True):
    """A row: `asks`: the answer says what is wanted; `later`: the answer says when to come again."""

    code: int
    text: str
    asks: bool = False
    later: bool = False


TABLE: dict[Reason, Status] = {
    Reason.NO_VOUCHER: Status(402, "this costs something: pay as PAYMENT-REQUIRED says", asks=True),
    Reason.NEED_FUNDS: Status(402, "the voucher does not cover the price: send one for what is missing", asks=True),
    Reason.OFFER_EXPIRED: Status(402, "the offer is over: take the new one; what was paid stays as credit", asks=True),
    Reason.RESYNC: Status(402, "say hello to the payee's node, then send a voucher of the new session", asks=True),
    Reason.CLOSING: Status(402, "the channel is closing: open another", asks=True),
    Reason.DEPTH: Status(402, "the channel's coin is not deep enough for so much: wait for blocks", asks=True),
    Reason.BUSY: Status(503, "as many calls are running as are allowed; nothing was charged", later=True),
    Reason.RUNNING: Status(503, "the call is still running: ask again with the same header", later=True),
    Reason.NODE_DOWN: Status(503, "the payee's node does not answer; nothing was charged", later=True),
    Reason.CONFLICT: Status(409, "this id or number was used for another request; both vouchers are kept"),
    Reason.GONE: Status(410, "the answer was acknowledged and dropped; the receipt stands in PAYMENT-RESPONSE"),
    Reason.MALFORMED: Status(400, "the payment header cannot be read"),
    Reason.TOO_LARGE: Status(413, "the body is larger than the offer allows; nothing was charged"),
    Reason.TOO_SLOW: Status(408, "the body came too slowly; nothing was charged"),
}


def status_of(reason: Reason) -> Status:
    """The row of a reason."""
    return TABLE[reason]


def body_of(reason: Reason, facts: Facts, detail: str = "") -> dict[str, object]:
    """What stands in the body, for programs and people."""
    told: dict[str, object] = {"error": detail or status_of(reason).text, "errorReason": reason.value}
    if reason in (Reason.NEED_FUNDS, Reason.DEPTH, Reason.RESYNC):
        amounts = ("held_florins", "owed_florins", "missing_florins")
        told |= {name: str(int(getattr(facts, name))) for name in amounts}
    return told
