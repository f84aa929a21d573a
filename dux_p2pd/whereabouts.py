"""Where this node is: the addresses of its own machine that its connections run over.

Promise: a node that listens on every address of its machine tells others those that are in use, and the new one with
the first connection after its machine has been given another. No peer is asked or believed: the kernel says which
address a connection has at our end, and before there is one, which it would have. Knows no sockets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dux_p2pd.rules import told_host

HOSTS_TOLD_MAX = 4  # a node record has room for eight endpoints


class Whereabouts:
    """Hears of connections and says what to announce when that has changed."""

    def __init__(self, announce: Callable[[tuple[str, ...]], None], *, port: int, private_too: bool) -> None:
        """`announce` is given `host:port` texts; `private_too`: also addresses that the internet does not route."""
        self._announce = announce
        self._port = port
        self._private_too = private_too
        self._open: Counter[str] = Counter()
        self._told: tuple[str, ...] = ()

    def opened(self, address: str) -> None:
        """A connection has this address at our end. Addresses that no connection uses any more are told no longer."""
        host = told_host(address, private_too=self._private_too)
        if host is None:
            return
        self._open[host] += 1
        used = tuple(one for one in self._told if self._open[one] or is_v6(one) != is_v6(host))
        told = used if host in used else (host, *used)[:HOSTS_TOLD_MAX]
        if told != self._told:
            self._told = told
            self._announce(tuple(f"{one}:{self._port}" for one in told))

    def guessed(self, addresses: list[str]) -> None:
        """Addresses that connections would have: told until a connection of the same family says better."""
        hosts = [told_host(address, private_too=self._private_too) for address in addresses]
        self._told = tuple(dict.fromkeys(host for host in hosts if host is not None))[:HOSTS_TOLD_MAX]
        self._announce(tuple(f"{one}:{self._port}" for one in self._told))

    def closed(self, address: str) -> None:
        """It has ended. What was told stays told until a better one is known."""
        host = told_host(address, private_too=self._private_too)
        if host is not None:
            self._open[host] -= 1


def is_v6(host: str) -> bool:
    """Whether a told host is of IPv6."""
    return host.startswith("[")
