"""One HTTP request that pays by itself when it meets 402: the exchange of the document's §7 from the buyer's side.

Promises: the second request is the first one byte for byte, with one header more; a repeat after 503 or a broken line
sends the same header, so it is charged once; what came is checked against the payee's signature before it is handed on.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from common.errors import Unavailable
from common.units import Florins
from dux_pay.answers import BODY_BYTES_MAX, Headers
from dux_pay.buying import Came, Ended, Header, Wanted
from dux_pay.headers import REQUIRED, RESPONSE, SIGNATURE
from dux_pay.proxy import ONE_HOP
from dux_pay.purse import Purse
from dux_pay.reading import Reading, Sink

TRIES = 8
PAUSE_S, PAUSE_MAX_S = 0.5, 8.0
ANSWER_S = 120.0
PAYMENT_REQUIRED, UNAVAILABLE = 402, 503


class SellerUnreachable(Unavailable):
    """{url} does not answer ({reason}); repeat with the same id {oid}: it is charged once."""

    code = 3168
    key = "seller-unreachable"


class NobodyThere(Unavailable):
    """{url} does not answer ({reason}); nothing was paid: is the address right, and does its server run?"""

    code = 3172
    key = "nobody-there"


@dataclass(frozen=True, kw_only=True)
class Fetching:
    """A request to be made. `oid`: of an earlier try; `most_florins`: its own limit."""

    method: str
    url: str
    headers: Headers = ()
    body: bytes = b""
    oid: str | None = None
    most_florins: Florins | None = None


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What came. `ended` None: nothing was paid."""

    status: int
    headers: Headers
    body: bytes
    oid: str = ""
    ended: Ended | None = None
    said: tuple[str, ...] = ()


@dataclass
class Fetcher:
    """Makes requests; enter it first."""

    purse: Purse
    answer_s: float = ANSWER_S
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=self.answer_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept-Encoding", "User-Agent"),
            )
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._stack.aclose()

    async def fetch(self, asked: Fetching) -> Fetched:
        """The answer, paid for when it had to be.

        Raises:
            DuxError: as `Purse.pay` and `Purse.settled`, or SellerUnreachable, NobodyThere.
        """
        got = await self._ask(asked, None)
        said: tuple[str, ...] = ()
        header: Header | None = None
        pause_s = PAUSE_S
        for _ in range(TRIES):
            if got.status == PAYMENT_REQUIRED and _header(got, REQUIRED):
                header = await self.purse.pay(_wanted(asked, got, header))
                said += header.said
            elif got.status != UNAVAILABLE or header is None:
                break
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
            got = await self._ask(asked, header)
        return await self._checked(got, header, said)

    async def stream(self, asked: Fetching, sink: Sink, *, ahead_florins: Florins | None = None) -> Fetched:
        """The answer in parts, paid as they come; `ahead_florins`: promised beyond what came, by default one step.

        Raises:
            DuxError: as `fetch`.
        """
        got = await self._ask(asked, None)
        if got.status != PAYMENT_REQUIRED or not _header(got, REQUIRED):
            sink(got.body)
            return got

        def wanted(required: str, oid: str) -> Wanted:
            return msgspec.structs.replace(_wanted(asked, got, None), required=required, oid=oid)

        header = await self.purse.pay(_wanted(asked, got, None))
        step = header.most_florins
        reading = Reading(
            purse=self.purse,
            ask=lambda headers: self._request(asked, headers),
            wanted=wanted,
            header=header,
            sink=sink,
            ahead_florins=ahead_florins or step,
            step_florins=step,
        )
        try:
            came, status, headers = await reading.run()
        except (TimeoutError, aiohttp.ClientError) as error:
            raise SellerUnreachable(url=asked.url, reason=_why(error), oid=header.oid) from error
        ended = await self.purse.settled(came) if came else None
        said = (*header.said, *(ended.said if ended else ()))
        return Fetched(status=status, headers=headers, body=b"", oid=header.oid, ended=ended, said=said)

    async def _checked(self, got: Fetched, header: Header | None, said: tuple[str, ...]) -> Fetched:
        response = _header(got, RESPONSE)
        if header is None or not response:
            return Fetched(
                status=got.status, headers=got.headers, body=got.body, oid=header.oid if header else "", said=said
            )
        came = Came(
            oid=header.oid,
            response=response,
            status=got.status,
            headers=got.headers,
            body_sha256=hashlib.sha256(got.body).hexdigest(),
        )
        ended = await self.purse.settled(came)
        return Fetched(
            status=got.status,
            headers=got.headers,
            body=got.body,
            oid=header.oid,
            ended=ended,
            said=(*said, *ended.said),
        )

    async def _ask(self, asked: Fetching, header: Header | None) -> Fetched:
        paid = {} if header is None else {SIGNATURE: header.header}
        tries = 1 if header is None else 3  # a paid request may be repeated: it is charged once
        for left in reversed(range(tries)):
            try:
                async with asyncio.timeout(self.answer_s), self._request(asked, paid) as answer:
                    return await _read(answer)
            except (TimeoutError, aiohttp.ClientError) as error:
                if not left:
                    raise _silent(asked, header, _why(error)) from error
            await asyncio.sleep(PAUSE_S)
        raise _silent(asked, header, "no try was left")

    def _request(self, asked: Fetching, more: dict[str, str]) -> Any:
        """The request, byte for byte, with these headers more."""
        if self._session is None:
            raise RuntimeError("enter the fetcher first")
        headers = CIMultiDict((name, value) for name, value in asked.headers if name.lower() not in ONE_HOP)
        headers["Accept-Encoding"] = "identity"  # what is hashed is what was signed
        headers.update(more)
        url = URL(asked.url, encoded=True)
        return self._session.request(asked.method, url, headers=headers, data=asked.body or None, allow_redirects=False)


async def _read(answer: aiohttp.ClientResponse) -> Fetched:
    parts, size = [], 0
    async for part in answer.content.iter_chunked(64 * 1024):
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise aiohttp.ClientPayloadError(f"more than {BODY_BYTES_MAX} bytes")
        parts.append(part)
    headers = tuple((name, value) for name, value in answer.headers.items() if name.lower() not in ONE_HOP)
    return Fetched(status=answer.status, headers=headers, body=b"".join(parts))


def _silent(asked: Fetching, header: Header | None, reason: str) -> Unavailable:
    """What to do about a server that does not answer: repeat what may have been paid, look at the address otherwise."""
    oid = header.oid if header else asked.oid
    if oid:
        return SellerUnreachable(url=asked.url, reason=reason, oid=oid)
    return NobodyThere(url=asked.url, reason=reason)


def _why(error: Exception) -> str:
    """In words for a person; a deadline has none of its own."""
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return "nothing listens there"
    return str(error) or "it took too long"


def _header(got: Fetched, name: str) -> str:
    return next((value for key, value in got.headers if key.lower() == name.lower()), "")


def _wanted(asked: Fetching, got: Fetched, before: Header | None) -> Wanted:
    return Wanted(
        required=_header(got, REQUIRED),
        method=asked.method,
        url=asked.url,
        body_sha256=hashlib.sha256(asked.body).hexdigest(),
        oid=before.oid if before else asked.oid,
        most_florins=asked.most_florins,
    )
