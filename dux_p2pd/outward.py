"""How a connection leaves the node: straight, or through a SOCKS5 upstream such as Tor.

Promise: with an upstream, nothing goes straight but the targets that the settings name one by one; when the upstream
fails, the connection fails. Names travel to the upstream as they are and are never looked up here; `.onion` goes
through an upstream or nowhere. Each daemon shows the upstream a user name and a password of its own, new at every
start, so that Tor keeps their circuits apart.

Source: network.md §7; RFC 1928, RFC 1929; Tor's IsolateSOCKSAuth and ExtendedErrors (its socks-extensions).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError, ProxyType
from python_socks.async_.asyncio import Proxy

from common.randomness import Randomness
from dux_p2pd.socks import Reply, SocksFault, Target, parse_target, reply

CONNECT_S = 15.0
UPSTREAM_S = 60.0  # a circuit through Tor may take so long
BUFFER_BYTES = 65_536
HIDDEN = ".onion"

GAVE_UP = {3: Reply.UNREACHABLE, 6: Reply.UNREACHABLE}  # no network there; too long on the way
OF_TOR = {  # what the upstream says beyond RFC 1928, what the daemon hears, and what whoever reads the log can do
    0xF0: (Reply.UNREACHABLE, "the hidden service is not announced: it is down, or its name is out of date"),
    0xF1: (Reply.UNREACHABLE, "the hidden service announces itself in a form that Tor cannot read: update Tor"),
    0xF2: (Reply.UNREACHABLE, "the hidden service takes no callers just now: try again later"),
    0xF3: (Reply.UNREACHABLE, "the hidden service did not come to the meeting point: try again later"),
    0xF4: (Reply.NOT_ALLOWED, "the hidden service wants a key that Tor has not been given (ClientOnionAuthDir)"),
    0xF5: (Reply.NOT_ALLOWED, "the hidden service refuses the key that Tor was given for it (ClientOnionAuthDir)"),
    0xF6: (Reply.NO_ADDRESS, "this is no address of a hidden service: look for a typing error"),
    0xF7: (Reply.UNREACHABLE, "the hidden service's doors did not answer in time: try again later"),
}

Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Outward(Protocol):
    """Makes a connection for a daemon."""

    @property
    def within_s(self) -> float:
        """How long it may take."""
        ...

    async def connect(self, daemon: str, target: Target) -> Pipe:
        """A connection to the target.

        Raises:
            SocksFault: with what to tell the daemon.
        """
        ...


class Straight:
    """From this machine."""

    within_s = CONNECT_S

    async def connect(self, daemon: str, target: Target) -> Pipe:
        """A connection to the target; hidden services have no address that this machine could know."""
        if target.host.endswith(HIDDEN):
            raise SocksFault(reply(Reply.NOT_ALLOWED), f"{daemon} reaches {target} only through an upstream")
        try:
            async with asyncio.timeout(CONNECT_S):
                return await asyncio.open_connection(target.host, target.port, limit=BUFFER_BYTES)
        except ConnectionRefusedError as error:
            raise SocksFault(reply(Reply.REFUSED), f"{target} refused the connection") from error
        except (OSError, TimeoutError) as error:
            raise SocksFault(reply(Reply.UNREACHABLE), f"{target} cannot be reached") from error


@dataclass(frozen=True, slots=True)
class Through:
    """Through an upstream, but for the targets that go straight."""

    upstream: Target
    straight: frozenset[Target]
    password: Callable[[str], str]  # of a daemon
    within_s: float = UPSTREAM_S

    async def connect(self, daemon: str, target: Target) -> Pipe:
        """A connection through the upstream; its failure is the connection's failure."""
        if target in self.straight:
            return await Straight().connect(daemon, target)
        proxy = Proxy(
            proxy_type=ProxyType.SOCKS5,
            host=self.upstream.host,
            port=self.upstream.port,
            username=f"duxnet-{daemon}",
            password=self.password(daemon),
            rdns=True,
        )
        try:
            sock = await proxy.connect(dest_host=target.host, dest_port=target.port, timeout=UPSTREAM_S)
        except ProxyError as error:
            code, why = meaning_of(error)
            raise SocksFault(reply(code), f"the upstream does not reach {target}: {why}") from error
        except UnicodeError as error:
            raise SocksFault(reply(Reply.NO_ADDRESS), f"{target} is no name that could be looked up") from error
        except (ProxyConnectionError, ProxyTimeoutError, OSError) as error:
            raise SocksFault(reply(Reply.FAILED), f"the upstream {self.upstream} does not answer") from error
        return await asyncio.open_connection(sock=sock, limit=BUFFER_BYTES)


def meaning_of(error: ProxyError) -> tuple[Reply, str]:
    """What the daemon is told of an upstream's refusal, and what the log says.

    The library knows the codes of RFC 1928 alone and tells others by text.
    """
    code = error.error_code
    if code is None and (said := re.fullmatch(r"Invalid reply code: 0X([0-9A-F]{1,2})", str(error))):
        code = int(said[1], 16)
    if code in OF_TOR:
        return OF_TOR[code]
    known = set(Reply) - {Reply.DONE}
    return Reply(code) if code in known else GAVE_UP.get(code or 0, Reply.FAILED), str(error)


class Passwords:
    """What each daemon shows the upstream: random, the same until this process ends."""

    def __init__(self, random: Randomness) -> None:
        self._random = random
        self._of: dict[str, str] = {}

    def __call__(self, daemon: str) -> str:
        """The daemon's password."""
        if daemon not in self._of:
            self._of[daemon] = self._random.bytes(16).hex()
        return self._of[daemon]


def way_out(upstream: str, straight: tuple[str, ...], password: Callable[[str], str]) -> Outward:
    """The way that settings name: an upstream or none, and what is reached without it.

    Raises:
        ValueError: an entry is not host:port, or a hidden service stands where it cannot be reached.
    """
    targets = frozenset(parse_target(text) for text in straight)
    if any(target.host.endswith(HIDDEN) for target in targets):
        raise ValueError(f"{HIDDEN} is reached through an upstream only, so it cannot stand in egress_straight")
    return Through(parse_target(upstream), targets, password) if upstream else Straight()
