"""A swarm's process with a planted leak: every lookup leaves tasks that never end and a socket that is never closed."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

from bench.swarm_host import Job, SwarmHost, main

KEPT: list[object] = []
TASKS = 4


class LeakyHost(SwarmHost):
    """Forgets to clean up."""

    async def on_get(self, job: Job) -> Any:
        """The lookup, and what it leaves behind."""
        KEPT.append(socket.socket())
        KEPT.extend(asyncio.ensure_future(asyncio.Event().wait()) for _ in range(TASKS))
        return await super().on_get(job)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], LeakyHost)
