"""The loop that p2pd's process runs on: libuv's, which spends a third less on a small packet than asyncio's own.

Whoever brings a loop of its own (the simulator, a test) is not asked; nothing in this package needs this one.
"""

from __future__ import annotations

__all__ = ["new_event_loop"]

try:
    from uvloop import new_event_loop
except ImportError:  # it is not made for this system: slower, and otherwise the same
    from asyncio import new_event_loop
