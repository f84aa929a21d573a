"""mDNS: nodes of one LAN find each other as `_duxnet._tcp`, through zeroconf, over IPv4 and IPv6.

Promise: told are the port, the addresses of this machine and eight bytes that stand for the network; the name is random
and new at every start, and no DID is told. What is found is a hint for a dial. The library is imported when it is first
needed.

Source: network.md §3; RFC 6762, RFC 6763.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from structlog.typing import FilteringBoundLogger

from common.randomness import Randomness
from dux_p2pd.local_address import LinkAddress, link_addresses
from dux_p2pd.rules import endpoint_of

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

KIND = "_duxnet._tcp.local."
ASK_MS = 3000
LOOK_S = 5.0  # whether this machine's addresses are still those that are told
ASKED_AT_ONCE = 16
ADDRESSES_MAX = 4  # of one node
LINKS_MAX = 16  # of this machine that are spoken to; one with many containers has hundreds
LINKS_TOLD_MAX = 2  # addresses of one link alone lead others nowhere on another: few are told beside those with a route


def network_tag(network: str) -> str:
    """What stands for the network; it is no secret."""
    return hashlib.sha256(network.encode()).hexdigest()[:16]


def endpoints_in(info: ServiceInfo, tag: str) -> list[str]:
    """Where an answer says that a node of our network is; an address of one link keeps its interface."""
    if not info.port or info.properties.get(b"net") != tag.encode():
        return []
    hosts = info.parsed_scoped_addresses()[:ADDRESSES_MAX]
    return [f"[{host}]:{info.port}" if "%" in host else endpoint_of((host, info.port)) for host in hosts]


class LanMdns:
    """Tells and asks."""

    def __init__(
        self,
        found: Callable[[str], None],
        addresses: Callable[[], list[str]],
        *,
        network: str,
        port: int,
        random: Randomness,
        log: FilteringBoundLogger,
    ) -> None:
        """`found` is given `host:port` of a node that may be there; `addresses` are this machine's own."""
        self._found = found
        self._addresses = addresses
        self._tag, self._port = network_tag(network), port
        self._name = f"{random.bytes(6).hex()}.{KIND}"
        self._log = log
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._asked: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Tell and ask until cancelled; without a network, quietly again later; with other addresses, anew."""
        while True:
            try:
                own, near = self._addresses(), link_addresses()[:LINKS_MAX]
                if own or near:
                    await self._open(own, near)
                while (own, near) == (self._addresses(), link_addresses()[:LINKS_MAX]):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(LOOK_S)
            except OSError as error:
                self._log.info("no mDNS", reason=str(error))
                await asyncio.sleep(60.0)
            finally:
                await self.close()

    async def _open(self, own: list[str], near: list[LinkAddress]) -> None:
        from zeroconf import IPVersion
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

        v4 = [text for text in own if ":" not in text]
        family = IPVersion.All if v4 and near else IPVersion.V6Only if near else IPVersion.V4Only
        with known_to_zeroconf(near):
            self._zeroconf = AsyncZeroconf(interfaces=[*v4, *(link.number for link in near)], ip_version=family)
        self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, KIND, handlers=[self._noticed])
        await self._zeroconf.async_register_service(self._info([*own, *(link.host for link in near[:LINKS_TOLD_MAX])]))

    def _info(self, own: list[str]) -> AsyncServiceInfo:
        from zeroconf.asyncio import AsyncServiceInfo

        return AsyncServiceInfo(
            KIND,
            self._name,
            port=self._port,
            addresses=[ip_address(text).packed for text in own],
            properties={"net": self._tag},
            server=self._name.replace(f".{KIND}", ".local."),
        )

    def _noticed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        from zeroconf import ServiceStateChange

        news = state_change is not ServiceStateChange.Removed and service_type == KIND
        if news and name != self._name and name not in self._asked and len(self._asked) < ASKED_AT_ONCE:
            task = self._asked[name] = asyncio.ensure_future(self._ask(zeroconf, name))
            task.add_done_callback(lambda _: self._asked.pop(name, None))

    async def _ask(self, zeroconf: Zeroconf, name: str) -> None:
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(KIND, name)
        if await info.async_request(zeroconf, ASK_MS):
            for endpoint in endpoints_in(info, self._tag):
                self._found(endpoint)

    async def close(self) -> None:
        """Say goodbye and fall silent."""
        for task in list(self._asked.values()):
            task.cancel()
        if self._browser is not None:
            await self._browser.async_cancel()
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()
        self._browser = self._zeroconf = None


@contextmanager
def known_to_zeroconf(near: list[LinkAddress]) -> Iterator[None]:
    """While it opens, zeroconf has these interfaces of IPv6 in place of what `ifaddr` would find.

    There `ifaddr` calls getifaddrs, which asks by netlink: under p2pd's unit (RestrictAddressFamilies) that ends in
    EAFNOSUPPORT before the first socket, for every choice of interfaces but one of IPv4 addresses alone; and zeroconf
    0.154 drops interfaces that are given to it whole. Only zeroconf's own look at them is changed, and nothing else of
    this process runs meanwhile.
    """
    import ifaddr
    from zeroconf._utils import net

    opened: Any = net
    adapters = [
        ifaddr.Adapter(link.name, link.name, [ifaddr.IP((link.host, 0, link.number), 64, link.name)], index=link.number)
        for link in near
    ]
    theirs, opened.ifaddr = opened.ifaddr, SimpleNamespace(get_adapters=lambda: adapters)
    try:
        yield
    finally:
        opened.ifaddr = theirs
