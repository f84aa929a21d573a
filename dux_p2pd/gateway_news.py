"""What gateways tell everybody by themselves: that they have started anew, and so forgotten every port.

Promise: only what comes from one of our own gateways is read; it is never answered, and all that it can cause is that
this node asks that gateway again, rarely (`PortMapping.forgotten`). Without it a port lost at a router's restart would
be back at half its life; so where this machine lets nobody listen here, nothing else is lost.

Source: RFC 6886 §3.2.1, §3.6; RFC 6887 §8.5, §14.1.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from dux_p2pd.natpmp import ADDRESS, ADDRESS_BYTES
from dux_p2pd.natpmp import ANSWER as PMP_ANSWER
from dux_p2pd.pcp import ANNOUNCE, ANSWER, HEADER_BYTES, VERSION

PORT = 5350  # of clients; 224.0.0.1 and ff02::1 reach every machine without being joined
SLACK_S, SLACK_PARTS = 2, 16  # RFC 6887 §8.5: clocks may differ by two seconds and a sixteenth


def read_news(data: bytes) -> tuple[int, bytes] | None:
    """Seconds since the gateway began, and its outside address (NAT-PMP tells it); None: this is no such news."""
    if len(data) == ADDRESS_BYTES and data[:4] == bytes((0, PMP_ANSWER + ADDRESS, 0, 0)):
        return int.from_bytes(data[4:8]), data[8:12]
    if len(data) >= HEADER_BYTES and data[0] == VERSION and data[1] == ANSWER + ANNOUNCE and data[3] == 0:
        return int.from_bytes(data[8:12]), b""
    return None


def has_restarted(passed_s: float, before: int, now: int) -> bool:
    """Whether a gateway's count says so, `passed_s` of our own seconds after it said `before`."""
    counted = now - before
    return (
        now < before - 1
        or passed_s + SLACK_S < counted - counted / SLACK_PARTS
        or counted + SLACK_S < passed_s - passed_s / SLACK_PARTS
    )


class GatewayNews(asyncio.DatagramProtocol):
    """Hears."""

    def __init__(
        self,
        gateways: Callable[[], list[str]],
        forgotten: Callable[[], None],
        *,
        clock: Clock,
        log: FilteringBoundLogger,
        port: int = PORT,
    ) -> None:
        """`gateways` are the addresses of ours, now; `forgotten` is called when one has lost what it knew."""
        self._gateways, self._forgotten = gateways, forgotten
        self._clock, self._log = clock, log
        self._port = port
        self._doors: list[asyncio.DatagramTransport] = []
        self._said: dict[str, tuple[int, bytes, float]] = {}

    async def open(self) -> None:
        """Listen on both families; one that this machine does not have, or does not share, is left out."""
        loop = asyncio.get_running_loop()
        for family, host in ((socket.AF_INET, ""), (socket.AF_INET6, "::")):
            try:
                transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=_door(family, host, self._port))
            except OSError as error:
                self._log.info("gateways' news not heard on one family", reason=str(error))
            else:
                self._doors.append(transport)

    def close(self) -> None:
        """Hear no more."""
        for transport in self._doors:
            transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        """Somebody tells."""
        host, news = str(addr[0]).split("%", 1)[0], read_news(data)
        if news is None or host not in self._gateways():
            return
        now, said = self._clock.monotonic(), self._said.get(host)
        others = {one: kept for one, kept in self._said.items() if one in self._gateways()}
        self._said = others | {host: (*news, now)}
        count, outside = news
        if said is None or outside != said[1] or has_restarted(now - said[2], said[0], count):
            self._log.info("a gateway tells that it has started anew", gateway=host)
            self._forgotten()


def _door(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made
