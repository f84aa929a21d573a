"""The loop that p2pd's process runs on: libuv's, which spends a third less on a small packet than asyncio's own.

Whoever brings a loop of its own (the simulator, a test) does so; nothing in this package needs this one.
"""

from __future__ import annotations

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """libuv's; asyncio's, slower and otherwise the same, on a system that it is not made for."""
    try:
        import uvloop  # noqa: PLC0415 - only by who wants this loop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
