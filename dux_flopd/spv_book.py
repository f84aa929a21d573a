"""The coin nodes that a light wallet knows, and whom it asks next.

Pure: time and chance are handed in. Promises: what the owner named comes first; a node that lied is left alone for a
day, one that does not answer for a growing while; where peers shall be apart, no two share an address block.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass

BAN_S = 24 * 3600.0
RETRY_FIRST_S, RETRY_MAX_S = 1.0, 600.0
LEARNED_MAX = 1_000  # addresses that peers told
BANS_SHOWN_MAX = 50
V4_PREFIX, V6_PREFIX = 16, 32


@dataclass
class Known:
    """One node."""

    address: str
    learned: bool
    failures: int = 0
    not_before_s: float = 0.0
    banned_for: str = ""


class AddressBook:
    """All of them."""

    def __init__(self, named: Sequence[str], *, apart: bool, draw: Callable[[int], int]) -> None:
        """`draw(n)`: a number below n, by chance."""
        self._known = {address: Known(address, learned=False) for address in named}
        self._apart = apart
        self._draw = draw

    def learn(self, addresses: Sequence[str]) -> None:
        """Peers told of these; a full book forgets one of the told."""
        for address in addresses:
            if address in self._known:
                continue
            told = [item.address for item in self._known.values() if item.learned and not item.banned_for]
            if len(told) >= LEARNED_MAX:
                del self._known[told[self._draw(len(told))]]
            self._known[address] = Known(address, learned=True)

    def next(self, connected: Sequence[str], now_s: float) -> str | None:
        """Whom to connect to; None when nobody is left for now."""
        nets = {owner_block_of(address) for address in connected}
        usable = [
            item
            for item in self._known.values()
            if item.address not in connected
            and item.not_before_s <= now_s
            and not (self._apart and owner_block_of(item.address) in nets)
        ]
        named = [item for item in usable if not item.learned]
        choice = named or usable
        return choice[self._draw(len(choice))].address if choice else None

    def succeeded(self, address: str) -> None:
        """It answered."""
        if address in self._known:
            self._known[address].failures = 0

    def failed(self, address: str, now_s: float, *, is_its_own: bool = True) -> None:
        """It did not answer, or went: each time twice as long until the next try, unless that was not its doing."""
        item = self._known.setdefault(address, Known(address, learned=True))
        item.not_before_s = now_s + min(RETRY_FIRST_S * 2 ** min(item.failures, 20), RETRY_MAX_S)
        item.failures += is_its_own

    def ban(self, address: str, reason: str, now_s: float) -> None:
        """It lied: a day without it. A test network's only node is worth another try sooner."""
        item = self._known.setdefault(address, Known(address, learned=True))
        item.banned_for, item.not_before_s = reason, now_s + (BAN_S if self._apart else RETRY_FIRST_S)

    def bans(self, now_s: float) -> list[tuple[str, str]]:
        """Who is banned now, and why."""
        found = [(i.address, i.banned_for) for i in self._known.values() if i.banned_for and i.not_before_s > now_s]
        return found[:BANS_SHOWN_MAX]


def owner_block_of(address: str) -> str:
    """The address block that probably belongs to one hand: /16, /32; a name stands for itself."""
    host = split_address(address, 0)[0]
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    prefix = V4_PREFIX if found.version == 4 else V6_PREFIX  # noqa: PLR2004
    return str(ipaddress.ip_network(f"{found}/{prefix}", strict=False))


def split_address(address: str, default_port: int) -> tuple[str, int]:
    """Host and port of `host`, `host:port` or `[v6]:port`.

    Raises:
        ValueError: the port is no number.
    """
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        return host, int(rest.removeprefix(":") or default_port)
    host, colon, port = address.partition(":")
    if ":" in port:
        return address, default_port  # a bare IPv6 address
    return host, int(port) if colon else default_port


def is_public(host: str) -> bool:
    """Whether a peer may tell of this address: nothing of a house's own network."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return False
