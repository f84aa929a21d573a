"""The LAN beacon: sixteen bytes by broadcast, "a node of this network listens at this port".

Promise: it says nothing but network and port; who is there is proved by the dial and nothing else. What is heard is a
hint for a dial at the address that the datagram came from; a flood of them is cut at ten a second and at the bounds of
hints. It is never answered, so it reflects nothing. A network that comes up later is told, and heard, from then on.

Source: network.md §3.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from dux_p2pd.local_address import links
from dux_p2pd.meters import TokenBucket
from dux_p2pd.one_link import host_of

PORT = 32577
GROUP = "ff02::6475:7831"  # IPv6 has no broadcast: a link-local group of our own
MAGIC = b"DuxB\x01\x00"
EVERY_S = 30.0
FIRST_S = (0.5, 2.0, 5.0)  # a node that has just come is quicker
HEARD_BURST, HEARD_PER_S = 20, 10.0
INTERFACES_MAX = 32  # of one machine that are spoken to; one with many containers has hundreds


def beacon(network: str, port: int) -> bytes:
    """The datagram: magic, 8 bytes that stand for the network, port."""
    return MAGIC + hashlib.sha256(network.encode()).digest()[:8] + port.to_bytes(2)


def read_beacon(data: bytes, network: str) -> int | None:
    """The port of a node of our network, or None for everything else."""
    whole = len(MAGIC) + 10
    if len(data) != whole or data[:-2] != beacon(network, 0)[:-2]:
        return None
    return int.from_bytes(data[-2:]) or None


class LanBeacon(asyncio.DatagramProtocol):
    """Sends and hears."""

    def __init__(
        self,
        found: Callable[[str], None],
        *,
        network: str,
        port: int,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        """`found` is given `host:port` of a node that may be there."""
        self._found = found
        self._network, self._port = network, port
        self._log = log
        self._clock = clock
        self._bucket = TokenBucket(HEARD_BURST, HEARD_PER_S, clock.monotonic())
        self._sockets: list[asyncio.DatagramTransport] = []

    async def open(self) -> None:
        """Listen on both families; one that this machine does not have is left out."""
        loop = asyncio.get_running_loop()
        for make in (_socket4, _socket6):
            try:
                transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=make())
            except OSError as error:
                self._log.info("no LAN beacon on one family", reason=str(error))
            else:
                self._sockets.append(transport)

    def close(self) -> None:
        """Fall silent and deaf."""
        for transport in self._sockets:
            transport.close()

    async def run(self) -> None:
        """Tell, for ever."""
        pauses = list(FIRST_S)
        while True:
            self.tell()
            await asyncio.sleep(pauses.pop(0) if pauses else EVERY_S)

    def tell(self) -> None:
        """One datagram by IPv4, and one by IPv6 into each network; one that is down is tried again next time."""
        data = beacon(self._network, self._port)
        for transport in self._sockets:
            sock: socket.socket = transport.get_extra_info("socket")
            if sock.family == socket.AF_INET6:
                for interface in _joined(sock):
                    transport.sendto(data, (GROUP, PORT, 0, interface))
            else:
                transport.sendto(data, ("255.255.255.255", PORT))

    # -- asyncio.DatagramProtocol

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        """Somebody tells."""
        port = read_beacon(data, self._network)
        if port is not None and self._bucket.take(1, self._clock.monotonic()):
            self._found(f"{heard_at(addr)}:{port}")

    def error_received(self, exc: Exception) -> None:
        """The network is down: the next datagram may go."""


def heard_at(sender: tuple[str | int, ...]) -> str:
    """The sender's host as in an endpoint; an IPv6 one of this link alone keeps its interface, to be dialled by it."""
    host = host_of(sender)
    return f"[{host}]" if ":" in host else host


def _socket4() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    return _bound(made, "")


def _socket6() -> socket.socket:
    made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)  # our own is no news
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return _bound(made, "::")


def _joined(sock: socket.socket) -> list[int]:
    """The interfaces that there are now, by number, their group joined where it was not yet.

    A link that is not up yet cannot be joined, and one that went and came is a new one: hence at every telling.
    """
    interfaces = links()[:INTERFACES_MAX]
    for number in interfaces:
        membership = socket.inet_pton(socket.AF_INET6, GROUP) + number.to_bytes(4, sys.byteorder)
        with suppress(OSError):  # joined already, or not up
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
    return interfaces


def _bound(made: socket.socket, host: str) -> socket.socket:
    made.setblocking(False)
    try:
        made.bind((host, PORT))
    except OSError:
        made.close()
        raise
    return made
