"""Where channel messages come and go over HTTP: one path beside what is sold, named by `openUrl` and `helloUrl`.

Promises: a buyer's program carries its node's messages nowhere but to the origin that it asked itself, follows no
redirect and reads no more than its limit; a seller's program reads a bounded body and hands it to its node, which
believes signatures alone. Source: channel_protocol.md §7.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Literal

import aiohttp
import structlog
from structlog.typing import FilteringBoundLogger
from yarl import URL

from common.contracts.channel_carried import (
    ANSWER_BYTES_MAX,
    BROUGHT,
    CARRIED,
    ERRANDS,
    MESSAGE_BYTES_MAX,
    PROBLEM_CHARS_MAX,
    AskErrands,
    Brought,
    Carried,
    Errand,
    Errands,
)
from common.errors import CallerMistake, DuxError, PeerMisbehaved
from common.rpc.client import Client
from dux_pay.calls import BodyTooLarge, Reply

PATH = "/.well-known/dux-channel"
CONTENT_TYPE = "application/octet-stream"
BODY_S_MAX = 10.0
AT_ONCE_MAX = 8  # messages of strangers that the node is asked about at once
CARRY_S = 12.0  # less than the node waits
ASK_S, ASK_DEADLINE_S, PAUSE_S = 20.0, 30.0, 2.0
OK, BAD_REQUEST, TOO_SLOW, TOO_LARGE, UNAVAILABLE = 200, 400, 408, 413, 503
OUTCOMES: dict[int, Literal["refused", "not_now"]] = {BAD_REQUEST: "refused", UNAVAILABLE: "not_now"}
PROBLEM_BYTES_MAX = 4_096
NO_STORE = ("cache-control", "no-store")


class Door:
    """The seller's end."""

    def __init__(self, escrowd: Client) -> None:
        self._escrowd = escrowd
        self._at_once = 0
        self._log: FilteringBoundLogger = structlog.get_logger("seller")

    async def take(self, read_body: Callable[[int], Awaitable[bytes]]) -> Reply:
        """One message's answer; errors as text for people, their status for programs."""
        if self._at_once >= AT_ONCE_MAX:
            return _said(UNAVAILABLE, "too many messages at once")
        self._at_once += 1
        try:
            async with asyncio.timeout(BODY_S_MAX):
                message = await read_body(MESSAGE_BYTES_MAX)
            back = await self._escrowd.call(CARRIED, Carried(message=message))
        except TimeoutError:
            return _said(TOO_SLOW, "the message came too slowly")
        except BodyTooLarge as error:
            return _said(TOO_LARGE, error.message)
        except (CallerMistake, PeerMisbehaved) as error:
            return _said(BAD_REQUEST, error.message)
        except DuxError as error:  # what ails this node is nobody's business
            self._log.info("a channel message was not answered", key=error.key, reason=error.message)
            return _said(UNAVAILABLE, "not now")
        finally:
            self._at_once -= 1
        return Reply(OK, (("content-type", CONTENT_TYPE), NO_STORE), back.answer)


def _said(status: int, text: str) -> Reply:
    later = (("retry-after", "1"),) if status == UNAVAILABLE else ()
    return Reply(status, (("content-type", "text/plain; charset=utf-8"), NO_STORE, *later), text.encode())


def place_of(open_url: str, hello_url: str, asked_url: str) -> str:
    """The address for messages, on the origin that was asked; empty: the seller takes none there."""
    if open_url != hello_url or not open_url.startswith("/") or open_url.startswith("//"):
        return ""
    try:
        asked = URL(asked_url)
        return str(asked.origin().join(URL(open_url, encoded=True))) if asked.scheme in ("http", "https") else ""
    except ValueError:
        return ""


class Courier:
    """The buyer's end: carries what the node has for sellers, for as long as it runs."""

    def __init__(self, escrowd: Client) -> None:
        self._escrowd = escrowd
        self._log: FilteringBoundLogger = structlog.get_logger("courier")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Carry beside what is done meanwhile; the node has heard of its carrier before anything is done."""
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=CARRY_S, sock_connect=5),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
        ) as session:
            with suppress(DuxError):
                await self._carry_all(session, await self._escrowd.call(ERRANDS, AskErrands(wait_s=0.0)))
            task = asyncio.ensure_future(self._run(session))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait((task,))
                if not task.cancelled():
                    task.result()

    async def _run(self, session: aiohttp.ClientSession) -> None:
        """Ask, carry, ask again: the node hands out no more than its limit at once."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    found = await self._escrowd.call(ERRANDS, AskErrands(wait_s=ASK_S), deadline_s=ASK_DEADLINE_S)
                except DuxError as error:  # a node that starts anew is asked again
                    self._log.info("no errands", reason=error.message)
                    await asyncio.sleep(PAUSE_S)
                    continue
                group.create_task(self._carry_all(session, found))

    async def _carry_all(self, session: aiohttp.ClientSession, found: Errands) -> None:
        await asyncio.gather(*(self._carry(session, errand) for errand in found.errands))

    async def _carry(self, session: aiohttp.ClientSession, errand: Errand) -> None:
        brought = await _brought(session, errand)
        try:
            await self._escrowd.call(BROUGHT, brought)
        except DuxError as error:  # the node asks anew when it wants it still
            self._log.info("nobody took what was brought", reason=error.message)


async def _brought(session: aiohttp.ClientSession, errand: Errand) -> Brought:
    """What the seller answered; what stands between, or is away, has lost the message."""
    headers = {"Content-Type": CONTENT_TYPE, "Accept-Encoding": "identity"}
    try:
        async with session.post(
            URL(errand.url, encoded=True), data=errand.message, headers=headers, allow_redirects=False
        ) as answer:
            fits = answer.status == OK and answer.content_type == CONTENT_TYPE
            data = await _bounded(answer, ANSWER_BYTES_MAX if fits else PROBLEM_BYTES_MAX)
            if fits:
                return Brought(name=errand.name, outcome="answered", answer=data)
            problem = f"{answer.status}: {data.decode(errors='replace')}"[:PROBLEM_CHARS_MAX]
            return Brought(name=errand.name, outcome=OUTCOMES.get(answer.status, "lost"), problem=problem)
    except (TimeoutError, aiohttp.ClientError, ValueError) as error:
        problem = str(error)[:PROBLEM_CHARS_MAX] or type(error).__name__
        return Brought(name=errand.name, outcome="lost", problem=problem)


async def _bounded(answer: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    data = bytearray()
    async for part in answer.content.iter_chunked(64 * 1024):
        data += part
        if len(data) > limit_bytes:
            raise ValueError("the answer is too large")
    return bytes(data)
