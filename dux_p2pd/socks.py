"""SOCKS 5 as bytes: what a client may say, and what it is answered. No sockets here.

Only CONNECT, only with user name and password. Source: RFC 1928, RFC 1929.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum

VERSION = 5
AUTH_VERSION = 1
USER_PASSWORD = 2
NO_METHOD = b"\x05\xff"
METHOD_CHOSEN = b"\x05\x02"
AUTH_OK = b"\x01\x00"
AUTH_FAILED = b"\x01\x01"
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4

Read = Callable[[int], Awaitable[bytes]]
"""Exactly so many bytes; raises at the end of the stream."""


class Reply(IntEnum):
    """What became of a request."""

    DONE = 0
    FAILED = 1
    NOT_ALLOWED = 2
    UNREACHABLE = 4
    REFUSED = 5
    NO_COMMAND = 7
    NO_ADDRESS = 8


class SocksFault(Exception):
    """The client broke the protocol or asked for what is not offered: `answer` is said before hanging up."""

    def __init__(self, answer: bytes, reason: str) -> None:
        super().__init__(reason)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client wants to go: an address literal or a name, lower case."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def read_greeting(read: Read) -> None:
    """The client's first words; it must offer a user name and password.

    Raises:
        SocksFault: another version, or it does not offer that.
    """
    version, count = await read(2)
    if version != VERSION:
        raise SocksFault(b"", f"version {version}")
    if USER_PASSWORD not in await read(count):
        raise SocksFault(NO_METHOD, "no user name and password offered")


async def read_login(read: Read) -> tuple[str, str]:
    """User name and password.

    Raises:
        SocksFault: malformed.
    """
    version, user_length = await read(2)
    if version != AUTH_VERSION:
        raise SocksFault(AUTH_FAILED, f"login version {version}")
    user = await read(user_length)
    (password_length,) = await read(1)
    password = await read(password_length)
    try:
        return user.decode("ascii"), password.decode("ascii")
    except UnicodeDecodeError as error:
        raise SocksFault(AUTH_FAILED, "login not in ASCII") from error


async def read_request(read: Read) -> Target:
    """Where the client wants to go.

    Raises:
        SocksFault: not CONNECT, or an address of an unknown form.
    """
    version, command, _, kind = await read(4)
    if version != VERSION or command != _CONNECT:
        raise SocksFault(reply(Reply.NO_COMMAND), f"command {command}")
    host = await _read_host(read, kind)
    return Target(host=host.lower(), port=int.from_bytes(await read(2), "big"))


async def _read_host(read: Read, kind: int) -> str:
    if kind == _IPV4:
        return str(ipaddress.IPv4Address(await read(4)))
    if kind == _IPV6:
        return str(ipaddress.IPv6Address(await read(16)))
    if kind != _NAME:
        raise SocksFault(reply(Reply.NO_ADDRESS), f"address type {kind}")
    (length,) = await read(1)
    name = await read(length)
    if not name or not name.isascii():
        raise SocksFault(reply(Reply.NO_ADDRESS), "a name that is none")
    return name.decode("ascii")


def reply(code: Reply) -> bytes:
    """The answer to a request; the bound address is told as 0.0.0.0:0, which clients of CONNECT ignore."""
    return bytes((VERSION, code, 0, _IPV4, 0, 0, 0, 0, 0, 0))


def parse_target(text: str) -> Target:
    """An allow-list entry `host:port` or `[ipv6]:port`.

    Raises:
        ValueError: another form.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 1 <= int(port) <= 65_535:  # noqa: PLR2004 - ports
        raise ValueError(f"write host:port, not {text!r}")
    return Target(host=host.strip("[]").lower(), port=int(port))
