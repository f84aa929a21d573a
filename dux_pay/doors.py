"""Where a program of this package listens: a place that is taken is an error for a person, and no trace."""

from __future__ import annotations

import os

from aiohttp import web

from common.errors import CallerMistake

BACKLOG = 256  # connections that wait to be taken


class PlaceTaken(CallerMistake):
    """{place} cannot be listened at: {reason}; name another with --listen, port 0 for any."""

    code = 3173
    key = "place-taken"


async def opened(runner: web.AppRunner, host: str, port: int) -> int:
    """The port at which it serves from now on.

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
    return int(runner.addresses[0][1])
