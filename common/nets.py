"""The neighbourhood of an address: what is bounded per network, drawn once per network, counted as one witness.

One rule for all daemons: two of them that drew its border elsewhere would count one owner's addresses differently.
Source: transport_identity.md §3.1, mechanisms.md §2.4.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

UNSEEN = ""  # the neighbourhood of what is no address that anybody could be seen at
PREFIX = {4: 24, 6: 48}


@lru_cache(8192)
def net_of(address: str) -> str:
    """The /24 of an IPv4 address, also of one inside IPv6, the /48 of another IPv6 one; empty for none."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return UNSEEN
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_unspecified or ip.is_multicast:
        return UNSEEN
    return str(ip_network((ip, PREFIX[ip.version]), strict=False))


def may_listen_at(endpoint: str) -> tuple[str, int] | None:
    """Host and port of an endpoint's text, or None when it has another form."""
    host, colon, port = endpoint.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or "[" in host:
        return None  # an IPv6 address stands in brackets
    if not colon or not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:  # noqa: PLR2004
        return None
    return host, int(port)
