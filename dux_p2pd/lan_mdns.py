"""mDNS: nodes of one LAN find each other as `_duxnet._tcp`, through zeroconf.

Promise: told are the port, the addresses of this machine and eight bytes that stand for the network; the name is random
and new at every start, and no DID is told. What is found is a hint for a dial. The library is imported when it is first
needed.

Source: network.md §3; RFC 6762, RFC 6763.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from common.randomness import Randomness
from dux_p2pd.rules import endpoint_of

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

KIND = "_duxnet._tcp.local."
ASK_MS = 3000
LOOK_S = 5.0  # whether this machine's addresses are still those that are told
ASKED_AT_ONCE = 16
ADDRESSES_MAX = 4  # of one node


def network_tag(network: str) -> str:
    """What stands for the network; it is no secret."""
    return hashlib.sha256(network.encode()).hexdigest()[:16]


def endpoints_in(info: ServiceInfo, tag: str) -> list[str]:
    """Where an answer says that a node of our network is."""
    if not info.port or info.properties.get(b"net") != tag.encode():
        return []
    return [endpoint_of((text, info.port)) for text in info.parsed_scoped_addresses()[:ADDRESSES_MAX]]


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
                own = self._addresses()
                if own:
                    await self._open(own)
                while self._addresses() == own:  # noqa: ASYNC110 - the kernel is looked at; nobody tells
                    await asyncio.sleep(LOOK_S)
            except OSError as error:
                self._log.info("no mDNS", reason=str(error))
                await asyncio.sleep(60.0)
            finally:
                await self.close()

    async def _open(self, own: list[str]) -> None:
        from zeroconf import InterfaceChoice, IPVersion
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

        v4 = [text for text in own if ":" not in text]
        self._zeroconf = AsyncZeroconf(interfaces=v4 or InterfaceChoice.Default, ip_version=IPVersion.V4Only)
        self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, KIND, handlers=[self._noticed])
        await self._zeroconf.async_register_service(self._info(own))

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
