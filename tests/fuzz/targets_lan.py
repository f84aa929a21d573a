"""Parsers of what the local network sends: gateways that map ports, routers that describe themselves, mDNS.

As in `targets`: a target returns, or raises for a finding.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from async_upnp_client.ssdp import decode_ssdp_packet, is_valid_ssdp_packet
from yarl import URL
from zeroconf import DNSCache, RecordUpdate, ServiceInfo, const
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf._protocol.outgoing import DNSOutgoing

from dux_p2pd import gateway_news, natpmp, pcp, upnp
from dux_p2pd.lan_mdns import ADDRESSES_MAX, KIND, endpoints_in, network_tag
from dux_p2pd.mapping import MappingFailed
from dux_p2pd.rules import contact_at, endpoint_of
from dux_p2pd.upnp_http import RouterRequester
from tests.p2pd.upnp_pages import SCPD, SCPD_V6, description, soap

LOOP = asyncio.new_event_loop()
PORT, LEASE_S = 32570, 3600
ROUTER = "192.168.1.1"
PLACE = f"http://{ROUTER}/d.xml"
TAG = network_tag("net")
WORDS = {
    upnp.ADDRESS: {},
    upnp.DELETE: {"NewRemoteHost": "", "NewExternalPort": PORT, "NewProtocol": "TCP"},
    upnp.LET_IN: {
        "RemoteHost": "",
        "RemotePort": 0,
        "InternalClient": "2001:db8::7",
        "InternalPort": PORT,
        "Protocol": upnp.TCP,
        "LeaseTime": LEASE_S,
    },
}
NONCE = bytes(range(pcp.NONCE_BYTES))


def nat_pmp(data: bytes) -> None:
    """Datagrams of a gateway: a mapping of our port for no longer than asked, an address, or a refusal."""
    half = len(data) // 2
    for piece in (data, data[:half], data[half:]):
        with suppress(MappingFailed):
            if natpmp.is_answer(piece, natpmp.MAP_TCP, natpmp.MAP_BYTES):
                outer, life_s = natpmp.read_mapping(natpmp.granted(piece), PORT, LEASE_S)
                assert 0 <= outer <= 0xFFFF
                assert 0 <= life_s <= LEASE_S
            if natpmp.is_answer(piece, natpmp.ADDRESS, natpmp.ADDRESS_BYTES):
                contact_at(endpoint_of((natpmp.read_address(natpmp.granted(piece)), PORT)))


def pcp_answer(data: bytes) -> None:
    """Datagrams of a gateway: our port mapped for no longer than asked, or a refusal; nobody's without the nonce."""
    half = len(data) // 2
    for piece in (data, data[:half], data[half:]):
        if not pcp.is_answer(piece, NONCE, PORT):
            continue
        assert NONCE in piece or pcp.speaks_otherwise(piece)
        with suppress(MappingFailed):
            mapped = pcp.read_mapping(piece, LEASE_S)
            assert 0 <= mapped.port <= 0xFFFF
            assert 0 <= mapped.life_s <= LEASE_S
            contact_at(endpoint_of((mapped.host, mapped.port)))


def gateway_said(data: bytes) -> None:
    """News that anybody of the LAN may send: a count of seconds, or nothing; two of them compared."""
    half = len(data) // 2
    news = [one for piece in (data, data[:half], data[half:]) if (one := gateway_news.read_news(piece)) is not None]
    for count, outside in news:
        assert len(outside) in (0, 4)
        assert gateway_news.has_restarted(0.0, count, count) is False
        gateway_news.has_restarted(60.0, news[0][0], count)


class FakeAnswer:
    """One answer of a router."""

    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - nobody writes it

    def __init__(self, body: bytes) -> None:
        self.body, self.content = body, self

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self.body


class FakeHttp:
    """The router's pages in the order in which they are asked for; nobody else may be asked for one."""

    def __init__(self, pages: list[bytes]) -> None:
        self.pages = pages

    @asynccontextmanager
    async def request(self, _method: str, url: str, **how: Any) -> AsyncIterator[FakeAnswer]:
        assert URL(url).host == ROUTER, "as the HTTP library reads it"
        assert not how["allow_redirects"]
        yield FakeAnswer(self.pages.pop(0) if self.pages else b"")


def upnp_router(data: bytes) -> None:
    """Description, actions and answer of a router, parted by zeros: an answer or `MappingFailed`; it alone is asked."""
    pages = data[1:].split(b"\0")
    name = tuple(WORDS)[(data[0] if data else 0) * len(WORDS) >> 8]
    requester = RouterRequester(FakeHttp(pages), PLACE)  # type: ignore[arg-type]
    with suppress(MappingFailed):
        found = LOOP.run_until_complete(upnp.ask_router(requester, PLACE, name, WORDS[name]))
        contact_at(endpoint_of((str(found.get("NewExternalIPAddress", "")), PORT)))


def ssdp(data: bytes) -> None:
    """An answer to a search: its place is fetched only when it is at its very sender."""
    place = data.decode("latin-1")
    if is_valid_ssdp_packet(data):
        with suppress(Exception):  # the library's own: it is logged and dropped there
            place = str(decode_ssdp_packet(data, None, (ROUTER, 1900))[1].get("location", ""))
    with suppress(ValueError):  # the HTTP library refuses more
        assert not upnp.is_of(place, ROUTER) or URL(place).host == ROUTER, "as the HTTP library reads it"


class NoZeroconf:
    """What a `ServiceInfo` asks of the library."""

    def __init__(self) -> None:
        self.cache = DNSCache()


def mdns(data: bytes) -> None:
    """An mDNS answer: a few addresses of our network's nodes, each of a form that a contact may have, or nothing."""
    packet = DNSIncoming(data)
    if not packet.valid:
        return
    info = ServiceInfo(KIND, f"x.{KIND}")
    info.async_update_records(NoZeroconf(), 0.0, [RecordUpdate(record, None) for record in packet.answers()])
    found = endpoints_in(info, TAG)
    assert len(found) <= ADDRESSES_MAX
    for text in found:
        contact_at(text)


LAN_TARGETS = {one.__name__: one for one in (nat_pmp, pcp_answer, gateway_said, upnp_router, ssdp, mdns)}


def lan_seeds() -> dict[str, list[bytes]]:
    """Honest bytes."""
    mapped = struct.pack("!BBHIHHI", 0, 128 + natpmp.MAP_TCP, 0, 7, PORT, PORT + 1000, 1800)
    said = {
        upnp.ADDRESS: "<NewExternalIPAddress>203.0.113.7</NewExternalIPAddress>",
        upnp.DELETE: "",
        upnp.LET_IN: "<UniqueID>17</UniqueID>",
    }
    kind = "urn:schemas-upnp-org:service:WANIPConnection:1"
    pages = [
        "\0".join(
            (description(), SCPD, SCPD_V6, soap(f'<u:{name}Response xmlns:u="{kind}">{words}</u:{name}Response>'))
        ).encode()
        for name, words in said.items()
    ]
    heard = f"HTTP/1.1 200 OK\r\nLOCATION: {PLACE}\r\nST: {upnp.DEVICES[0]}\r\nUSN: uuid:x\r\n\r\n"
    return {
        "nat_pmp": [mapped, mapped + struct.pack("!BBHI4B", 0, 128, 0, 7, 203, 0, 113, 7)],
        "pcp_answer": [_granted("203.0.113.7"), _granted("2001:db8::7")],
        "gateway_said": [
            bytes((2, 0x80)) + bytes(6) + struct.pack("!I", 9) + bytes(12),
            struct.pack("!BBHI4B", 0, 128, 0, 7, 203, 0, 113, 7),
        ],
        "upnp_router": [bytes([at]) + page for at, page in zip((0x00, 0x7F, 0xFF), pages, strict=True)],
        "ssdp": [heard.encode(), PLACE.encode()],
        "mdns": [_told(1), _told(ADDRESSES_MAX + 2)],
    }


def _granted(host: str) -> bytes:
    head = struct.pack("!BBBBII12x", pcp.VERSION, pcp.ANSWER + pcp.MAP, 0, 0, 1800, 9)
    return head + NONCE + struct.pack("!B3xHH", pcp.TCP, PORT, PORT + 1000) + pcp.packed(host)


def _told(addresses: int) -> bytes:
    packed = [bytes((192, 168, 1, 7 + number)) for number in range(addresses)]
    info = ServiceInfo(KIND, f"x.{KIND}", port=PORT, addresses=packed, properties={"net": TAG})
    packet = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    for record in (info.dns_service(), info.dns_text(), *info.dns_addresses()):
        packet.add_answer_at_time(record, 0)
    return packet.packets()[0]
