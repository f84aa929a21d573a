"""PCP: asks the gateway for a port of IPv4, or to let callers in at one of IPv6, in sixty bytes.

No maintained library carries it. An answer counts when it comes from the gateway and repeats the nonce that only this
node and the gateway have seen: nobody else of the LAN can answer for it, or give the port back.

Source: RFC 6887 §7 (form), §8 (exchange), §11 (MAP).
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, ip_address

from dux_p2pd.gateway_udp import Gateway, ask
from dux_p2pd.mapping import Mapped, MappingFailed

VERSION, MAP, ANNOUNCE, ANSWER = 2, 1, 0, 0x80
NONCE_BYTES = 12
HEADER_BYTES, MAP_BYTES = 24, 60
TCP = 6
UNSUPPORTED_VERSION = 1
REFUSALS = {  # RFC 6887 §7.4, and what whoever reads the log can do
    1: "it speaks another version, as with NAT-PMP alone",
    2: "it is not allowed: switch port requests on in the router",
    3: "it does not understand the question",
    4: "it maps no ports",
    5: "it lacks an option",
    6: "it does not understand an option",
    7: "its own connection to the internet is down",
    8: "it has no room for another port now",
    9: "it maps no ports of TCP",
    10: "this machine has as many ports as it may have",
    11: "it cannot give that outside address or port",
    12: "another router stands between it and this machine",
    13: "too many peers are named",
}


class Pcp:
    """One gateway, one address of ours."""

    name = "PCP"

    def __init__(self, gateway: Gateway, nonce: bytes, *, own: str = "") -> None:
        """`nonce` is this node's, the same after a restart, else the old mapping could not be renewed.

        `own`: the address to be reached at; empty is the one that leads to the gateway.
        """
        self._gateway, self._nonce, self._own = gateway, nonce, own

    async def map(self, port: int, lease_s: int) -> Mapped:
        """The outside address of our port, for so long.

        Raises:
            MappingFailed: no answer, or a refusal.
        """
        return read_mapping(await self._ask(port, lease_s), lease_s)

    async def unmap(self, port: int) -> None:
        """Give it back.

        Raises:
            MappingFailed: as `map`.
        """
        granted(await self._ask(port, 0))

    async def _ask(self, port: int, lease_s: int) -> bytes:
        return await ask(
            self._gateway,
            lambda own: question(own, self._nonce, port, lease_s),
            lambda data: is_answer(data, self._nonce, port),
            own=self._own,
            name=self.name,
        )


def question(own: str, nonce: bytes, port: int, lease_s: int) -> bytes:
    """MAP of our TCP port; nothing is wished for outside but the same number. A lease of 0 gives it back."""
    anywhere = "::" if ":" in own else "0.0.0.0"  # noqa: S104 - RFC 6887 §11.1: no wish, in the family of our address
    head = struct.pack("!BBHI", VERSION, MAP, 0, lease_s) + packed(own)
    return head + nonce + struct.pack("!B3xHH", TCP, port, port if lease_s else 0) + packed(anywhere)


def packed(host: str) -> bytes:
    """An address in sixteen bytes, those of IPv4 in their IPv6 form."""
    ip = ip_address(host)
    return ip.packed if isinstance(ip, IPv6Address) else bytes(10) + b"\xff\xff" + ip.packed


def is_answer(data: bytes, nonce: bytes, port: int) -> bool:
    """Whether a datagram answers this question, or says that the gateway has no PCP at all.

    A gateway of NAT-PMP alone answers in its own version, which has no nonce.
    """
    if speaks_otherwise(data):
        return True
    if len(data) < MAP_BYTES or data[0] != VERSION or data[1] != ANSWER + MAP:
        return False
    same = struct.pack("!12sB3xH", nonce, TCP, port)
    return data[HEADER_BYTES : HEADER_BYTES + 13] + bytes(3) + data[40:42] == same


def speaks_otherwise(data: bytes) -> bool:
    """Whether this is «unsupported version», of NAT-PMP (RFC 6886 §3.5, result in two bytes) or of PCP."""
    nat_pmp = len(data) >= 4 and data[0] == 0 and data[1] >= ANSWER and data[2:4] == b"\0\1"  # noqa: PLR2004
    return nat_pmp or (
        len(data) >= HEADER_BYTES and data[0] != 0 and data[1] == ANSWER + MAP and data[3] == UNSUPPORTED_VERSION
    )


def granted(answer: bytes) -> bytes:
    """The answer, when it is no refusal.

    Raises:
        MappingFailed: with what the gateway says.
    """
    result = UNSUPPORTED_VERSION if speaks_otherwise(answer) else answer[3]
    if result:
        raise MappingFailed(f"{Pcp.name}: the gateway refuses: {REFUSALS.get(result, f'result {result}')}")
    return answer


def read_mapping(answer: bytes, lease_s: int) -> Mapped:
    """The outside address and its life: no longer than asked for, whatever the gateway promises.

    Raises:
        MappingFailed: a refusal.
    """
    granted(answer)
    (life_s,) = struct.unpack("!I", answer[4:8])
    outer, host = struct.unpack("!H16s", answer[42:MAP_BYTES])
    ip = IPv6Address(host)
    return Mapped(str(ip.ipv4_mapped or ip), outer, min(life_s, lease_s))
