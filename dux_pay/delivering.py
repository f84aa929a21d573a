"""Running a call that was admitted, whatever the server: its end is in the books, whoever still listens.

Source: channel_protocol.md §5, §6.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dux_pay.answers import Headers
from dux_pay.calls import Payment, Reply
from dux_pay.seller import CHARGED_BELOW, Seller

OK = 200

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
            status, headers, body = OK, (), b""
        return await seller.leave(payment, status, headers, sent + body)
    finally:
        await payment.parts.end()
