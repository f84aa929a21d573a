"""Running a call that was admitted, whatever the server: its end is in the books, whoever still listens.

An answer that comes from elsewhere is delivered part by part: the next part is metered when the reader has the one
before it, so a caller that goes away leaves at most one part behind, and what makes the answer is held back meanwhile.
Source: channel_protocol.md §5, §6.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from common.channel_messages import Pricing
from common.clock import Clock
from common.units import Florins
from dux_pay.answers import Headers
from dux_pay.calls import NotCovered, Payment, Reply
from dux_pay.price import Rate
from dux_pay.seller import CHARGED_BELOW, Seller

OK = 200
READER_AWAY_S = 30.0  # so long a metered answer waits for its reader to come back
FUEL_WAIT_S = 20.0

Run = Callable[[], Awaitable[tuple[int, Headers, bytes]]]
"""The handler: status, headers and body, errors included."""


async def worked(seller: Seller, payment: Payment, run: Run) -> Reply:
    """Run the handler and put its answer into the books.

    What was sent in parts was covered and delivered: a handler that fails or is not fed any more ends the answer there.
    """
    try:
        status, headers, body = await run()
        sent = bytes(payment.parts.data)
        if sent and status >= CHARGED_BELOW:
            status, headers, body = OK, (("content-type", payment.parts.kind),), b""
        return await seller.leave(payment, status, headers, sent + body)
    finally:
        await payment.parts.end()


async def deliver(
    payment: Payment, source: AsyncIterator[bytes], *, rate: Rate | None, clock: Clock, is_read: bool
) -> bool:
    """Pass on what comes, each part once it is covered; whether it came to its end.

    `rate`: of a metered call; without one everything is covered. `is_read`: its caller reads while it comes, and is
    waited for. It ends early where the next part is not covered, cannot be kept, or has nobody to go to.
    """
    parts, began_s = 0, clock.monotonic()
    async for part in source:
        if not payment.parts.has_room(part):
            return False
        parts += 1
        if rate is not None:
            sent_bytes, elapsed_ms = len(payment.parts.data) + len(part), int(1_000 * (clock.monotonic() - began_s))
            cost = rate.cost(parts=parts, sent_bytes=sent_bytes, elapsed_ms=elapsed_ms)
            if not await _covered(payment, cost):
                return False
        await payment.parts.put(part)
        if is_read and not await payment.parts.taken(READER_AWAY_S):
            if rate is not None:
                return False
            is_read = False  # it is paid for: whoever comes back finds it whole
    return True


async def _covered(payment: Payment, cost: Florins) -> bool:
    try:
        await payment.meter_to(cost, wait_s=FUEL_WAIT_S)
    except NotCovered:
        return False
    return True


def is_metered(payment: Payment) -> bool:
    """Whether its price is a meter's."""
    return payment.price.pricing is Pricing.METERED
