"""Which of this machine's addresses a connection would have. The kernel looks at its routes; no packet is sent."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from dux_p2pd.session import Address

ROUTES = Path("/proc/self/net/route")
GATEWAY_FLAG = 2
ROUTES_V6 = Path("/proc/self/net/ipv6_route")
ADDRESSES_V6 = Path("/proc/self/net/if_inet6")
LINK_LOCAL = "20"
TENTATIVE = 0x40  # somebody else of the link may have it: it cannot be bound yet
DISCARD_PORT = 9
IPV6 = 6
ANYWHERE = (("192.0.2.1", DISCARD_PORT), ("2001:db8::1", DISCARD_PORT))  # for documentation: routed like any other


def has_way_to(address: Address) -> bool:
    """Whether this machine has a route there; a name may have addresses of both families, so it may."""
    host, port = address
    try:
        ip = ip_address(host.split("%", 1)[0])
    except ValueError:
        return True
    try:
        with socket.socket(socket.AF_INET6 if ip.version == IPV6 else socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.connect((host, port))
    except OSError:
        return False
    return True


def towards(addresses: list[Address]) -> list[str]:
    """Our address for each of these, and for the internet at large; what has no route is left out."""
    found: dict[str, None] = {}
    for host, port in [*ANYWHERE, *addresses]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as udp:
                udp.connect((host, port))
                found[str(udp.getsockname()[0])] = None
        except OSError:
            continue
    return list(found)


def gateway() -> str:
    """The default gateway of IPv4, or an empty string. Linux only."""
    try:
        rows = [line.split() for line in ROUTES.read_text().splitlines()[1:]]
    except OSError:
        return ""
    for row in rows:
        if row[1] == "00000000" and int(row[3], 16) & GATEWAY_FLAG:
            return str(IPv4Address(bytes.fromhex(row[2])[::-1]))
    return ""


def gateway_v6() -> tuple[str, int] | None:
    """The default gateway of IPv6 and the number of the interface that leads there. Linux only."""
    try:
        rows = [line.split() for line in ROUTES_V6.read_text().splitlines()]
        for target, bits, _source, _source_bits, hop, _metric, _users, _used, flags, name in rows:
            if int(target, 16) == int(bits, 16) == 0 and int(flags, 16) & GATEWAY_FLAG:
                return str(IPv6Address(bytes.fromhex(hop))), socket.if_nametoindex(name)
    except (OSError, ValueError):
        return None  # a machine without IPv6, or one whose interface has just gone
    return None


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An IPv6 address of one link alone, and the interface that has it."""

    host: str
    number: int
    name: str


def link_addresses() -> list[LinkAddress]:
    """One of each interface that has any, as far as it may be used already. Linux only.

    Read from the kernel's table and not asked by netlink, which p2pd's unit does not let it speak.
    """
    try:
        rows = [line.split() for line in ADDRESSES_V6.read_text().splitlines()]
    except OSError:
        return []  # a machine without IPv6
    found = {
        int(number, 16): LinkAddress(str(IPv6Address(bytes.fromhex(address))), int(number, 16), name)
        for address, number, _bits, scope, flags, name in rows
        if scope == LINK_LOCAL and not int(flags, 16) & TENTATIVE
    }
    return [found[number] for number in sorted(found)]


def links() -> list[int]:
    """The interfaces, by number, that have an IPv6 address of their own link."""
    return [address.number for address in link_addresses()]


def is_private(address: str) -> bool:
    """Whether an address is of a home's network, behind whose router a port would have to be mapped."""
    ip = IPv4Address(address) if ":" not in address else None
    return ip is not None and ip.is_private and not ip.is_loopback and not ip.is_link_local


def is_own_v6(address: str) -> bool:
    """Whether an address is one of IPv6 that others than this link may call, were its router to let them in."""
    ip = IPv6Address(address) if ":" in address else None
    return ip is not None and not (ip.is_loopback or ip.is_link_local)
