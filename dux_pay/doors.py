"""Where a program of this package listens: a place that is taken is an error for a person, and no trace."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from common.errors import CallerMistake
from dux_pay.reaper import Reaper

BACKLOG = 256  # connections that wait to be taken


class PlaceTaken(CallerMistake):
    """{place} cannot be listened at: {reason}; name another with --listen, port 0 for any."""

    code = 3173
    key = "place-taken"


@asynccontextmanager
async def served(runner: web.AppRunner, host: str, port: int, reaper: Reaper) -> AsyncIterator[int]:
    """Serve there, and cut whom the reaper finds too slow; gives the port.

    Raises:
        PlaceTaken: somebody else does there, or the machine has no such address.
    """
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
    except OSError as error:
        await runner.cleanup()
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise PlaceTaken(place=f"{host}:{port}", reason=reason) from error
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(reaper.run(runner))
        try:
            yield int(runner.addresses[0][1])
        finally:
            watching.cancel()
            await runner.cleanup()
