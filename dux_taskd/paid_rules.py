"""What a call over a channel is: its hash, what may be sold that way, and how it is paid. Pure.

The request's hash binds service, arguments, input and the caller's own id; the response's binds output and outcome, so
that a voucher pays for exactly one request and an answer is for exactly one response. Source: channel_protocol.md §4.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from common.chain.fees import GROSS_MIN_FLORINS
from common.channel_messages import Outcome, request_hash, response_hash
from common.codec import Canon, canonical
from common.contracts.peer_channel import INPUT_BYTES_MAX
from common.contracts.store import ServiceView
from common.work import JobKind

METHOD = "CALL"
STATUS = {Outcome.OK: 200, Outcome.FAILED: 500, Outcome.REFUSED: 400}
LEASE_OVER = "lease-over"  # in an answer: what was covered is charged, the work was ended
LEASE_OVER_STATUS = 402
FUEL = "fuel"  # the work runs on credit: pay on, or it is ended
OVER_CHANNEL = (JobKind.WASM.value, JobKind.NATIVE.value)


class CallBody(Canon, frozen=True):
    """What a call brings."""

    args: tuple[str, ...]
    data_hash: bytes


class PayBy(StrEnum):
    """How a call is paid."""

    CHANNEL = "channel"
    ESCROW = "escrow"


def what_of(service_id: str) -> str:
    """The name of a service in offers."""
    return f"service/{service_id}"


def fuelled(now_florins: int, step_florins: int, limit_florins: int) -> int | None:
    """What a metered call may cost after one more step; None: the buyer's limit is reached."""
    return None if now_florins >= limit_florins else min(now_florins + step_florins, limit_florins)


def call_hash(service_id: str, args: tuple[str, ...], data: bytes, oid: str) -> bytes:
    """The hash of a request."""
    body = canonical(CallBody(args=args, data_hash=hashlib.sha256(data).digest()))
    return request_hash(method=METHOD, path=what_of(service_id), body_hash=hashlib.sha256(body).digest(), oid=oid)


def lease_over_hash() -> bytes:
    """The hash of the response of a lease that ended for want of fuel: by it a repeat knows what the answer means."""
    return response_hash(status=LEASE_OVER_STATUS, body_hash=hashlib.sha256(b"").digest())


def output_hash(outcome: Outcome, data: bytes) -> bytes:
    """The hash of a response."""
    return response_hash(status=STATUS[outcome], body_hash=hashlib.sha256(data).digest())


def not_for_channel(service: ServiceView, own_did: str, input_bytes: int) -> str:
    """Why a call of this service cannot be paid over a channel, or an empty string."""
    laws = (
        (not service.withdrawn, "it was withdrawn"),
        (service.kind in OVER_CHANNEL, f"it is of kind {service.kind}, which is not called directly"),
        (service.provider != own_did, "it is this node's own; try it with task.run"),
        (input_bytes <= INPUT_BYTES_MAX, f"inputs over {INPUT_BYTES_MAX} bytes go by escrow"),
    )
    return next((why for holds, why in laws if not holds), "")


def pay_by(
    wish: str, price_florins: int, *, checked: bool, fits: bool, open_channel: bool, young_channel: bool = False
) -> tuple[PayBy, str]:
    """Channel or escrow, and why, in words for people.

    A second worker, a private or a large input need escrow; a price under 0.2 FLOP can only be paid over a channel;
    what is left goes over a channel that is open already, and otherwise by escrow, which needs no second call to pay.
    `young_channel`: there is one that would carry the price if its coin lay deeper.
    """
    if wish != "auto":
        return PayBy(wish), "as asked"
    if checked:
        return PayBy.ESCROW, "a second worker checks the result, which takes a contract"
    if not fits:
        return PayBy.ESCROW, "the call does not fit into one message"
    if price_florins < GROSS_MIN_FLORINS:
        return PayBy.CHANNEL, "its price is too small for a transaction of its own"
    if open_channel:
        return PayBy.CHANNEL, "a channel to this seller is open"
    young = "the channel to this seller is too young for so much; --pay channel waits for its blocks"
    return PayBy.ESCROW, young if young_channel else "no channel to this seller is open; --pay channel opens one"
