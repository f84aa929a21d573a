"""A question to the gateway by UDP, asked again until it is answered; only the gateway's own answers are heard.

Knows no protocol: who asks says what an answer looks like. Source: RFC 6886 §3.1, RFC 6887 §8.1.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from dux_p2pd.mapping import MappingFailed

PORT = 5351
TRIES_S = (0.25, 0.5, 1.0)  # RFC 6886 §3.1 doubles from 250 ms; nine tries are for who has nothing else


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where to ask. `link`: the interface's number, for an address that is of one link alone."""

    host: str
    link: int = 0
    port: int = PORT

    def __str__(self) -> str:
        return self.host


async def ask(
    gateway: Gateway,
    question: Callable[[str], bytes],
    is_answer: Callable[[bytes], bool],
    *,
    own: str = "",
    name: str,
) -> bytes:
    """The first answer. `question` is given our address as the gateway sees it; `own`: ask from this address.

    Raises:
        MappingFailed: none came.
    """
    loop = asyncio.get_running_loop()
    door = _door(gateway, own, name)
    words = question(str(door.getsockname()[0]).split("%", 1)[0])
    transport, answers = await loop.create_datagram_endpoint(_Answers, sock=door)
    try:
        for wait_s in TRIES_S:
            transport.sendto(words)
            try:
                async with asyncio.timeout(wait_s):
                    return await answers.next(is_answer)
            except TimeoutError:
                continue
        raise MappingFailed(f"{name}: the gateway {gateway} does not answer")
    finally:
        transport.close()


def _door(gateway: Gateway, own: str, name: str) -> socket.socket:
    """A socket that hears that gateway alone."""
    is_v6 = ":" in gateway.host
    try:
        made = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as error:
        raise MappingFailed(f"{name}: {error}") from error
    try:
        made.setblocking(False)
        if own:
            made.bind((own, 0))
        made.connect((gateway.host, gateway.port, 0, gateway.link) if is_v6 else (gateway.host, gateway.port))
    except OSError as error:
        made.close()
        raise MappingFailed(f"{name}: {error}") from error
    return made


class _Answers(asyncio.DatagramProtocol):
    """The connected socket gives only what the gateway sends."""

    def __init__(self) -> None:
        self._came: asyncio.Queue[bytes] = asyncio.Queue(maxsize=8)

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - connected
        if not self._came.full():
            self._came.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        """A port that is closed is no answer; the tries go on."""

    async def next(self, is_answer: Callable[[bytes], bool]) -> bytes:
        """The next answer to this kind of question."""
        while True:
            data = await self._came.get()
            if is_answer(data):
                return data
