"""Assembly of what asks this machine's gateways to let callers in: which of them, in which ways, in which order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from common.parts import Parts
from common.randomness import Randomness
from dux_p2pd.endpoints import Endpoints
from dux_p2pd.gateway_news import GatewayNews
from dux_p2pd.gateway_udp import Gateway
from dux_p2pd.local_address import gateway, gateway_v6, is_own_v6, is_private, towards
from dux_p2pd.mapping import Mapper, PortMapping
from dux_p2pd.natpmp import NatPmp
from dux_p2pd.pcp import NONCE_BYTES, Pcp
from dux_p2pd.settings import P2pdSettings, is_everywhere, outside_port
from dux_p2pd.store import OwnTable
from dux_p2pd.upnp import Upnp, UpnpPinhole

_PCP_NONCE = "pcp nonce"


async def map_ports(parts: Parts[P2pdSettings], endpoints: Endpoints, own: OwnTable) -> Callable[[], str]:
    """Keep a port of the gateways of both families; what shows them."""
    settings = parts.settings
    wanted = parts.network.is_main and is_everywhere(settings) and not settings.endpoints
    if not (wanted if settings.port_mapping is None else settings.port_mapping):
        return lambda: ""
    nonce = _nonce(own, parts.random)
    mappings = [
        PortMapping(
            partial(ways, nonce), endpoints, port=outside_port(settings), clock=parts.clock, random=parts.random,
            log=parts.log, of=family,
        )
        for family, ways in (("IPv4", mappers), ("IPv6", mappers_v6))
    ]  # fmt: skip
    for mapping in mappings:
        parts.background("port mapping", mapping.run)
        parts.stack.push_async_callback(mapping.close)

    def forgotten() -> None:
        for mapping in mappings:
            mapping.forgotten()

    news = GatewayNews(gateways, forgotten, clock=parts.clock, log=parts.log)
    await news.open()
    parts.stack.callback(news.close)
    return lambda: "; ".join(shown for mapping in mappings if (shown := mapping.show()))


def _nonce(own: OwnTable, random: Randomness) -> bytes:
    """What this node's mappings by PCP are known by, also after a restart."""
    kept = own.get(_PCP_NONCE)
    if kept is None:
        kept = random.bytes(NONCE_BYTES)
        own.set(_PCP_NONCE, kept)
    return kept


def gateways() -> list[str]:
    """The default gateways of both families, as far as there are."""
    sixth = gateway_v6()
    return [host for host in (gateway(), sixth[0] if sixth else "") if host]


def mappers(nonce: bytes) -> list[Mapper]:
    """Whom to ask for a port now: nobody when this machine has an address of its own, or no gateway."""
    private = [address for address in towards([]) if is_private(address)]
    router = gateway()
    if not private or not router:
        return []
    return [Pcp(Gateway(router), nonce), NatPmp(Gateway(router)), Upnp(private[0])]


def mappers_v6(nonce: bytes) -> list[Mapper]:
    """Whom to ask to let callers in at our address of IPv6: nobody when we have none, or no gateway."""
    addresses, router = towards([]), gateway_v6()
    inside = [address for address in addresses if is_own_v6(address)]
    if not inside or router is None:
        return []
    seen = [address for address in addresses if is_private(address)]
    return [Pcp(Gateway(*router), nonce, own=inside[0]), *(UpnpPinhole(one, inside[0]) for one in seen[:1])]
