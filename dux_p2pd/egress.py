"""The only way out of the node for its other daemons: SOCKS5 on localhost with an allow-list for each of them.

Promise: a connection leaves the node only when its daemon has shown its token for p2pd and the exact `host:port`
stands on that daemon's list; names are matched as written, before they are resolved. `*:port` on a list stands for
every public address at that port and for no name. The way out is straight or through an upstream (`outward.py`), never
one for want of the other. Connections, waits and idle time are limited.

Source: network.md §7, settled.md 17.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from dux_p2pd.outward import BUFFER_BYTES, Outward, Straight
from dux_p2pd.socks import (
    AUTH_FAILED,
    AUTH_OK,
    METHOD_CHOSEN,
    Reply,
    SocksFault,
    Target,
    read_greeting,
    read_login,
    read_request,
    reply,
)

ANY_PUBLIC = "*"  # as a list's host: coin nodes that other coin nodes told of
HANDSHAKE_S = 10.0
COPY_BYTES = 65_536
PART_OF_ALL = 2  # one daemon may use this part of all connections: half


def may_reach(listed: frozenset[Target], target: Target) -> bool:
    """Whether a list lets out to this target; nothing of a house's own network is public."""
    if target in listed:
        return True
    try:
        return Target(ANY_PUBLIC, target.port) in listed and ipaddress.ip_address(target.host).is_global
    except ValueError:
        return False


class Egress:
    """Lets daemons out, each to where it may go."""

    def __init__(
        self,
        allow: Mapping[str, frozenset[Target]],
        tokens: Path,
        *,
        connections_max: int,
        idle_s: float,
        log: FilteringBoundLogger,
        outward: Outward | None = None,
    ) -> None:
        """`tokens` is the folder with the callers' token files of this p2pd; `outward` is straight by default."""
        self._outward: Outward = outward or Straight()
        self._allow = allow
        self._tokens = tokens
        self._max = connections_max
        self._idle_s = idle_s
        self._log = log
        self._open: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self.address = ""
        self.refused = 0

    async def start(self, host: str, port: int) -> None:
        """Listen on localhost."""
        self._server = await asyncio.start_server(self._client, host, port, limit=BUFFER_BYTES)
        bound = self._server.sockets[0].getsockname()
        self.address = f"{bound[0]}:{bound[1]}"

    def take(self, outward: Outward) -> None:
        """From now on connections leave this way; those that are open stay."""
        self._outward = outward

    def allow(self, allow: Mapping[str, frozenset[Target]]) -> None:
        """From now on these lists hold; connections that are open stay."""
        self._allow = allow

    async def stop(self) -> None:
        """Listen no more; what is open ends with the daemon."""
        if self._server is not None:
            self._server.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        daemon = ""
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                daemon, target = await self._handshake(reader, writer)
            self._open[daemon] += 1
            try:
                await self._through(daemon, target, reader, writer)
            finally:
                self._open[daemon] -= 1
        except SocksFault as fault:
            self.refused += 1
            self._log.info("egress refused", daemon=daemon, reason=str(fault))
            writer.write(fault.answer)
        except (OSError, EOFError, TimeoutError) as error:
            self._log.debug("egress ended", daemon=daemon, reason=str(error))
        finally:
            await _hang_up(writer)

    async def _handshake(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, Target]:
        await read_greeting(reader.readexactly)
        writer.write(METHOD_CHOSEN)
        daemon, password = await read_login(reader.readexactly)
        if not self._is_token(daemon, password):
            raise SocksFault(AUTH_FAILED, "wrong user name or token")
        writer.write(AUTH_OK)
        target = await read_request(reader.readexactly)
        if not may_reach(self._allow.get(daemon, frozenset()), target):
            raise SocksFault(reply(Reply.NOT_ALLOWED), f"{daemon} may not reach {target}")
        if self._open.total() >= self._max or self._open[daemon] >= max(1, self._max // PART_OF_ALL):
            raise SocksFault(reply(Reply.FAILED), f"{self._open.total()} connections are open")
        return daemon, target

    def _is_token(self, daemon: str, password: str) -> bool:
        """Whether this is the daemon's token; only names that have a list can have one here."""
        if daemon not in self._allow:
            return False
        try:
            token = (self._tokens / f"{daemon}.token").read_text().strip()
        except OSError:
            return False
        return bool(token) and hmac.compare_digest(token.encode(), password.encode())

    async def _through(
        self, daemon: str, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        out_reader, out_writer = await self._outward.connect(daemon, target)
        self._log.info("egress open", daemon=daemon, target=str(target))
        try:
            writer.write(reply(Reply.DONE))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, out_writer))
                group.create_task(self._copy(out_reader, writer))
        except* (OSError, EOFError, TimeoutError):
            self._log.debug("egress closed", daemon=daemon, target=str(target))
        finally:
            await _hang_up(out_writer)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(self._idle_s):
                data = await reader.read(COPY_BYTES)
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            await writer.drain()
        writer.close()
        async with asyncio.timeout(1.0):
            await writer.wait_closed()
