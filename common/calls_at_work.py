"""Telling this node's escrowd which calls are at work in a program; what nobody speaks of for too long has failed.

Source: channel_protocol.md §5 (at most once).
"""

from __future__ import annotations

from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from common.contracts.channel import CALLS_SAID_MAX, STILL_AT_WORK, AtWork, CallRef
from common.errors import DuxError
from common.rpc.client import Client


async def say_at_work(escrowd: Client, calls: Sequence[CallRef], log: FilteringBoundLogger) -> None:
    """Say once that these are; to be said every `SAY_EVERY_S`. One message after another, as many as they take."""
    for first in range(0, len(calls), CALLS_SAID_MAX):
        try:
            await escrowd.call(STILL_AT_WORK, AtWork(calls=tuple(calls[first : first + CALLS_SAID_MAX])))
        except DuxError as error:  # it starts anew: said again before its patience is over
            log.info("escrowd is not told of calls at work", reason=error.message)
