"""Calls a daemon's methods: over HTTP on localhost, or directly when both live in one process.

`client.call(METHOD, params)` returns the contract's result or raises the error class the other side raised. The client
does not repeat calls by itself: whoever holds the `request_id` decides that.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import msgspec
from jsonrpcclient import request

from common.codec import from_json, json_bytes, to_plain
from common.errors import (
    CODE_MAX,
    KEY_CHARS_MAX,
    DeadlinePassed,
    FieldValue,
    NeighbourDown,
    NoToken,
    RemoteFailure,
    RemoteNotNow,
    TooLarge,
    all_errors,
)
from common.rpc.method import Method, P, R

if TYPE_CHECKING:
    from common.rpc.table import MethodTable

DEADLINE_DEFAULT_S = 15.0
ANSWER_BYTES_MAX = 16 * 1024 * 1024
TRANSFER_BYTES_MAX = 64 * 1024 * 1024  # what a daemon holds in memory at once
TRANSFER_DEADLINE_S = 60.0
HTTP_REFUSED = 400
DEADLINE_HEADER = "Dux-Deadline-Ms"


class Client(Protocol):
    """Something that can call one daemon's methods."""

    async def call(self, method: Method[P, R], params: P, *, deadline_s: float = DEADLINE_DEFAULT_S) -> R:
        """The method's result.

        Raises:
            DuxError: as the other side raised it, or NeighbourDown, DeadlinePassed.
        """
        ...

    async def transfer(self, verb: str, path: str, body: bytes | None) -> bytes:
        """Bulk bytes beside the calls: p2pd's `PUT /blob` and `GET /blob/<id>`.

        Raises:
            DuxError: as the daemon answered, or NeighbourDown, DeadlinePassed, TooLarge.
        """
        ...


def raise_error(error: dict[str, Any]) -> None:
    """Raise the class that the answer names; an unknown one with its text, number and whether repeating it may help."""
    data = error.get("data") or {}
    for kind in all_errors():
        if (kind.code, kind.key) == (data.get("code"), data.get("key")):
            raise kind(**(data.get("fields") or {}))
    code = data.get("code")
    told: dict[str, FieldValue] = {
        "text": str(error.get("message", "no message")),
        "remote_code": code if isinstance(code, int) and 0 < code <= CODE_MAX else RemoteFailure.code,
        "remote_key": str(data.get("key", RemoteFailure.key))[:KEY_CHARS_MAX],
    }
    raise RemoteNotNow(**told) if data.get("retry") else RemoteFailure(**told)


class Answered(msgspec.Struct):
    """A JSON-RPC answer; the result is read as what the method promises and nothing before."""

    result: msgspec.Raw = msgspec.Raw()
    error: dict[str, Any] | None = None


def decode_answer(body: bytes, method: Method[P, R]) -> R:
    """The result in a JSON-RPC answer, or its error raised."""
    answer = msgspec.json.decode(body, type=Answered)
    if answer.error is not None:
        raise_error(answer.error)
    return from_json(bytes(answer.result), method.result)


def request_body(method: Method[P, R], params: P) -> bytes:
    """The bytes of one call. One exchange carries one call, so the id tells nothing and is always 1.

    (The library's own ids come from a generator that two threads may not use at once.)
    """
    return json_bytes(request(method.name, to_plain(params), id=1))


def _why(error: aiohttp.ClientError) -> str:
    """Why a call did not get through, for a person: a door that nobody has opened is the usual one."""
    refused = isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError)
    return "nothing listens there" if refused else str(error)


def new_session() -> aiohttp.ClientSession:
    """An HTTP session for one program on this machine: it keeps no cookies and asks for no compression."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
    )


class HttpClient:
    """Calls one daemon over HTTP. The token file is read when first needed and again when it was refused."""

    def __init__(self, daemon: str, url: str, token_file: Path) -> None:
        self._daemon = daemon
        self._url = url
        self._token_file = token_file
        self._token: str | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """Where the daemon listens, for blobs and probes beside the calls."""
        return self._url

    def token(self) -> str:
        """The text of the token file.

        Raises:
            NeighbourDown: the daemon has not made it yet, or it is meant for others.
        """
        try:
            return self._token_file.read_text().strip()
        except OSError as error:
            whose = (
                ", which is for its owner and the members of its group" if isinstance(error, PermissionError) else ""
            )
            raise NeighbourDown(
                daemon=self._daemon, address=self._url, detail=f"cannot read {self._token_file}{whose}"
            ) from error

    def session(self) -> aiohttp.ClientSession:
        """The HTTP session to this daemon, made on first use."""
        if self._session is None or self._session.closed:
            self._session = new_session()
        return self._session

    async def call(self, method: Method[P, R], params: P, *, deadline_s: float = DEADLINE_DEFAULT_S) -> R:
        """The method's result.

        Raises:
            DuxError: as the daemon raised it, or NeighbourDown, DeadlinePassed.
        """
        body = request_body(method, params)
        deadline_s = min(deadline_s, method.deadline_max_s)
        status, answer = await self._post(method.name, body, deadline_s)
        if status == NoToken.http_status:  # the daemon may have made a new token since we read it
            self._token = None
            status, answer = await self._post(method.name, body, deadline_s)
        return decode_answer(answer, method)

    async def _post(self, name: str, body: bytes, deadline_s: float) -> tuple[int, bytes]:
        self._token = self._token or self.token()
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/json",
            DEADLINE_HEADER: str(int(deadline_s * 1000)),
        }
        try:
            async with (
                asyncio.timeout(deadline_s + 1),  # the daemon answers "deadline passed" itself, a second earlier
                self.session().post(self._url, data=body, headers=headers) as response,
            ):
                return response.status, await _read_at_most(response, ANSWER_BYTES_MAX)
        except TimeoutError as error:
            raise DeadlinePassed(method=name, deadline_s=deadline_s) from error
        except aiohttp.ClientError as error:
            raise NeighbourDown(daemon=self._daemon, address=self._url, detail=_why(error)) from error

    async def transfer(self, verb: str, path: str, body: bytes | None) -> bytes:
        """Bulk bytes over HTTP; at most TRANSFER_BYTES_MAX come back."""
        headers = {"Authorization": f"Bearer {self.token()}"}
        try:
            async with (
                asyncio.timeout(TRANSFER_DEADLINE_S),
                self.session().request(verb, self._url.rstrip("/") + path, data=body, headers=headers) as response,
            ):
                answer = await _read_at_most(response, TRANSFER_BYTES_MAX)
        except TimeoutError as error:
            raise DeadlinePassed(method=f"{verb} {path}", deadline_s=TRANSFER_DEADLINE_S) from error
        except aiohttp.ClientError as error:
            raise NeighbourDown(daemon=self._daemon, address=self._url, detail=_why(error)) from error
        if response.status >= HTTP_REFUSED:
            _raise_answer(answer, response.status)
        return answer

    async def close(self) -> None:
        """Close the HTTP session."""
        if self._session is not None:
            await self._session.close()


async def _read_at_most(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    if response.content_length is not None and response.content_length <= limit_bytes:
        return await response.read()  # HTTP ends the body there
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_chunked(256 * 1024):
        size += len(part)
        if size > limit_bytes:
            raise TooLarge(limit_bytes=limit_bytes)
        parts.append(part)
    return b"".join(parts)


def _raise_answer(body: bytes, status: int) -> None:
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        answer = {}
    raise_error(answer.get("error") or {"code": status, "message": body[:200].decode(errors="replace")})


class LocalClient:
    """Calls a table in this process, through the same bytes as over HTTP; bulk bytes still go over HTTP."""

    def __init__(self, table: MethodTable, caller: str, http: HttpClient | None = None) -> None:
        self._table = table
        self._caller = caller
        self._http = http

    async def call(self, method: Method[P, R], params: P, *, deadline_s: float = DEADLINE_DEFAULT_S) -> R:
        """The method's result, as over HTTP."""
        await asyncio.sleep(0)  # as over HTTP, a call lets others run: who asks again and again starves nobody
        body = request_body(method, params)
        answer = await self._table.dispatch(body, caller=self._caller, deadline_s=deadline_s)
        return decode_answer(answer, method)

    async def transfer(self, verb: str, path: str, body: bytes | None) -> bytes:
        """Bulk bytes over the daemon's own HTTP door."""
        if self._http is None:
            raise NeighbourDown(daemon=self._caller, address="in process", detail="no HTTP door was given")
        return await self._http.transfer(verb, path, body)
