"""UPnP-IGD: finds the router by SSDP and asks it for a port, or a hole for IPv6, through async-upnp-client.

Promise: only an answer that points back to the machine that sent it, on a private address, is fetched, and whatever
that machine describes, nobody else is asked: nobody on the LAN makes this node call a third party, or hold more than a
description may have. The library is imported when it is first needed.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dux_p2pd.mapping import Mapped, MappingFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from async_upnp_client.client import UpnpAction, UpnpDevice, UpnpRequester

SEARCH_S = 2
CALL_S = 5
DEVICES = ("urn:schemas-upnp-org:device:InternetGatewayDevice:1", "urn:schemas-upnp-org:device:InternetGatewayDevice:2")
ROUTERS_MAX = 4
DESCRIPTION = "duxnet"
ADD, DELETE, ADDRESS = "AddPortMapping", "DeletePortMapping", "GetExternalIPAddress"
LET_IN, SHUT = "AddPinhole", "DeletePinhole"  # of WANIPv6FirewallControl:1, UPnP Forum 2010
TCP = 6


class Upnp:
    """Whatever router answers on the LAN."""

    name = "UPnP"

    def __init__(self, own_address: str, *, target: tuple[str, int] | None = None) -> None:
        """`own_address` is where the router is to lead; `target` in place of the multicast group, for tests."""
        self._own, self._target = own_address, target
        self._actions: Mapping[str, UpnpAction] = {}

    async def map(self, port: int, lease_s: int) -> Mapped:
        """The outside address of our port, for so long.

        Raises:
            MappingFailed: no router, or a refusal.
        """
        words = {
            "NewRemoteHost": "",
            "NewExternalPort": port,
            "NewProtocol": "TCP",
            "NewInternalPort": port,
            "NewInternalClient": self._own,
            "NewEnabled": True,
            "NewPortMappingDescription": DESCRIPTION,
            "NewLeaseDuration": lease_s,
        }
        await self._call(ADD, words)
        found = await self._call(ADDRESS, {})
        return Mapped(str(found.get("NewExternalIPAddress", "")), port, lease_s)

    async def unmap(self, port: int) -> None:
        """Give it back.

        Raises:
            MappingFailed: as `map`.
        """
        await self._call(DELETE, {"NewRemoteHost": "", "NewExternalPort": port, "NewProtocol": "TCP"})

    async def _call(self, name: str, words: dict[str, Any]) -> Mapping[str, Any]:
        from aiohttp import ClientError, ClientSession
        from async_upnp_client.exceptions import UpnpError

        from dux_p2pd.upnp_http import RouterRequester

        told = "no router on this LAN offers it"
        try:
            async with asyncio.timeout(SEARCH_S + 3 * CALL_S), ClientSession(auto_decompress=False) as http:
                for place in await self._places():
                    try:
                        return await ask_router(RouterRequester(http, place), place, name, words)
                    except MappingFailed as error:
                        told = str(error)
        except (UpnpError, ClientError, OSError, ValueError) as error:
            told = str(error)[:200] or type(error).__name__
        raise MappingFailed(f"{self.name}: {told}")

    async def _places(self) -> list[str]:
        """Where routers describe themselves."""
        from async_upnp_client.search import async_search

        found: dict[str, None] = {}

        async def heard(headers: Mapping[str, Any]) -> None:
            place, sender = str(headers.get("location", "")), headers.get("_remote_addr")
            if len(found) < ROUTERS_MAX and sender and is_of(place, str(sender[0])):
                found[place] = None

        await asyncio.gather(
            *(
                async_search(heard, timeout=SEARCH_S, search_target=kind, source=(self._own, 0), target=self._target)
                for kind in DEVICES
            )
        )
        return list(found)


class UpnpPinhole(Upnp):
    """Asks the same routers to let callers in at our own address of IPv6.

    Asked over IPv4, as routers describe themselves there: one that wants to see the address itself ask refuses.
    """

    name = "UPnP pinhole"

    def __init__(self, own_address: str, inside: str, *, target: tuple[str, int] | None = None) -> None:
        """`inside` is where callers come in."""
        super().__init__(own_address, target=target)
        self._inside = inside
        self._number: int | None = None

    async def map(self, port: int, lease_s: int) -> Mapped:
        """Let callers in at our port; the same question again makes it last longer (UPnP, AddPinhole, table 2-11).

        Raises:
            MappingFailed: no router, or a refusal.
        """
        words = {
            "RemoteHost": "",
            "RemotePort": 0,
            "InternalClient": self._inside,
            "InternalPort": port,
            "Protocol": TCP,
            "LeaseTime": lease_s,
        }
        found = await self._call(LET_IN, words)
        number = found.get("UniqueID")
        self._number = number if isinstance(number, int) else None
        return Mapped(self._inside, port, lease_s)

    async def unmap(self, port: int) -> None:  # noqa: ARG002 - the router knows it by number
        """Shut it.

        Raises:
            MappingFailed: as `map`.
        """
        if self._number is not None:
            await self._call(SHUT, {"UniqueID": self._number})


def is_of(place: str, sender: str) -> bool:
    """Whether a description is at the very machine that named it, and that machine is of the LAN."""
    try:
        parts = urlsplit(place)
        ip, port = ip_address(sender), parts.port
    except ValueError:
        return False
    return parts.scheme == "http" and parts.hostname == str(ip) and port != 0 and not ip.is_global


async def ask_router(requester: UpnpRequester, place: str, name: str, words: dict[str, Any]) -> Mapping[str, Any]:
    """What one router answers; its descriptions are whatever the LAN sends, so that every error in them is a no.

    Raises:
        MappingFailed: it does not offer this, refuses it, or describes itself wrongly.
    """
    from async_upnp_client.client_factory import UpnpFactory

    factory = UpnpFactory(requester, non_strict=True)
    try:
        actions = _actions_of(await factory.async_create_device(place))
        if name in actions:
            return await actions[name].async_call(**words)
    except MappingFailed:
        raise
    except Exception as error:
        raise MappingFailed(str(error)[:200] or type(error).__name__) from error
    raise MappingFailed("no router on this LAN offers it")


def _actions_of(device: UpnpDevice) -> dict[str, UpnpAction]:
    """The router's actions by name."""
    return {
        name: service.action(name)
        for service in device.all_services
        for name in (ADD, DELETE, ADDRESS, LET_IN, SHUT)
        if service.has_action(name)
    }
