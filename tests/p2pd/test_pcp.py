"""PCP against a small fake gateway on loopback: grants, renewals, refusals, forged answers, news of restarts."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
import structlog

from common.clock import ManualClock
from common.randomness import SeededRandomness
from dux_p2pd import gateways, local_address
from dux_p2pd.endpoints import Endpoints
from dux_p2pd.gateway_news import GatewayNews, has_restarted, read_news
from dux_p2pd.gateway_udp import Gateway
from dux_p2pd.gateways import mappers, mappers_v6
from dux_p2pd.local_address import gateway_v6
from dux_p2pd.mapping import Mapped, Mapper, MappingFailed, PortMapping
from dux_p2pd.natpmp import NatPmp
from dux_p2pd.pcp import REFUSALS, Pcp, packed, question
from tests.attacks.registry import attack
from tests.ports import free_ports

PORT = 32570
NONCE = bytes(range(12))
OTHER = bytes(12)
OUTSIDE = "203.0.113.7"


class PcpGateway(asyncio.DatagramProtocol):
    """RFC 6887, the part of a router: MAP and nothing else."""

    def __init__(self) -> None:
        self.maps: dict[int, tuple[str, bytes, int]] = {}  # inside port -> inside address, nonce, lease
        self.asked: list[bytes] = []
        self.deaf = 0  # questions that get lost
        self.result = 0
        self.only_pmp = False
        self.noise: list[bytes] = []
        self.outside = OUTSIDE

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.asked.append(data)
        if len(self.asked) <= self.deaf:
            return
        for noise in self.noise:
            self.transport.sendto(noise, addr)
        if self.only_pmp:
            self.answer_pmp(data, addr)
            return
        version, operation, lease, own, nonce, protocol, inner, _, _ = struct.unpack("!BBxxI16s12sB3xHH16s", data)
        assert (version, operation, protocol) == (2, 1, 6)
        inside, result = str(IPv6Address(own).ipv4_mapped or IPv6Address(own)), self.result
        if inside != addr[0]:
            result = 12  # ADDRESS_MISMATCH
        elif inner in self.maps and self.maps[inner][1] != nonce:
            result = 2  # NOT_AUTHORIZED
        elif not result and lease:
            self.maps[inner] = inside, nonce, lease
        elif not result:
            self.maps.pop(inner, None)
        head = struct.pack("!BBBBII12x", 2, 0x81, 0, result, min(lease, 1800), 9)
        self.transport.sendto(head + nonce + struct.pack("!B3xHH", 6, inner, inner + 1000) + packed(self.outside), addr)

    def answer_pmp(self, data: bytes, addr: Any) -> None:
        """As RFC 6886 §3.5 says for other versions; its own questions it answers."""
        if data[0]:
            self.transport.sendto(struct.pack("!BBHI", 0, 128 + data[1], 1, 9), addr)
        elif len(data) == 2:
            self.transport.sendto(struct.pack("!BBHI4s", 0, 128, 0, 9, bytes([203, 0, 113, 7])), addr)
        else:
            _, _, _, inner, _, life = struct.unpack("!BBHHHI", data)
            self.transport.sendto(struct.pack("!BBHIHHI", 0, 130, 0, 9, inner, inner + 2000, life), addr)


@asynccontextmanager
async def pcp_gateway(host: str = "127.0.0.1") -> AsyncIterator[tuple[PcpGateway, Gateway]]:
    loop = asyncio.get_running_loop()
    transport, made = await loop.create_datagram_endpoint(PcpGateway, local_addr=(host, 0))
    try:
        yield made, Gateway(host, port=transport.get_extra_info("sockname")[1])
    finally:
        transport.close()


async def test_pcp_maps_renews_and_gives_back() -> None:
    """The port and life that are granted count; lost questions are asked again; the nonce stays the same."""
    async with pcp_gateway() as (there, place):
        there.deaf = 2
        pcp = Pcp(place, NONCE)
        for _ in range(2):
            assert await pcp.map(PORT, 3600) == Mapped(OUTSIDE, PORT + 1000, 1800)
        assert there.maps == {PORT: ("127.0.0.1", NONCE, 3600)}
        await pcp.unmap(PORT)
        assert there.maps == {}
        assert len(there.asked[0]) == 60


async def test_pcp_lets_in_at_an_address_of_ipv6() -> None:
    """Asked from the address that is to be reached; what is mapped is that address itself."""
    async with pcp_gateway("::1") as (there, place):
        there.outside = "::1"
        assert await Pcp(place, NONCE, own="::1").map(PORT, 600) == Mapped("::1", PORT + 1000, 600)
        assert there.maps == {PORT: ("::1", NONCE, 600)}
        assert there.asked[0][44:] == IPv6Address("::").packed
    with pytest.raises(MappingFailed, match="Cannot assign"):
        await Pcp(place, NONCE, own="2001:db8::7").map(PORT, 600)


@pytest.mark.parametrize("result", [*REFUSALS, 99])
async def test_every_refusal_is_told_in_words(result: int) -> None:
    """All of RFC 6887's, and a number that nobody knows yet."""
    async with pcp_gateway() as (there, place):
        there.result = result
        with pytest.raises(MappingFailed) as told:
            await Pcp(place, NONCE).map(PORT, 3600)
        assert REFUSALS.get(result, "result 99") in str(told.value)
        assert there.maps == {}


async def test_a_mapping_of_another_nonce_is_not_taken_over() -> None:
    """So the nonce is kept across restarts: with a new one this node would be refused its own port for an hour."""
    async with pcp_gateway() as (there, place):
        await Pcp(place, OTHER).map(PORT, 3600)
        with pytest.raises(MappingFailed, match="not allowed"):
            await Pcp(place, NONCE).map(PORT, 3600)
        assert there.maps[PORT][1] == OTHER


@attack(
    "reachability",
    tries="answers without our nonce, about other ports, cut off, of other versions, or promising a port for years",
    meets="not heard; what the gateway itself says counts, for no longer than was asked",
)
async def test_forged_answers_are_not_heard() -> None:
    """Planted bug noticed: without the look at the nonce, the forger's address is told."""
    forged = struct.pack("!BBBBII12x", 2, 0x81, 0, 0, 2**32 - 1, 9)
    tail = struct.pack("!B3xHH", 6, PORT, 1) + packed("198.51.100.66")
    async with pcp_gateway() as (there, place):
        whole = forged + NONCE + tail
        about_another_port = forged + NONCE + tail.replace(tail[4:6], b"\0\1")
        there.noise = [b"", b"\x02\x81", forged + OTHER + tail, about_another_port, whole[:59]]
        there.noise += [b"\x03" + whole[1:], b"\x02\x01" + whole[2:]]
        assert await Pcp(place, NONCE).map(PORT, 3600) == Mapped(OUTSIDE, PORT + 1000, 1800)
        there.noise = [whole]  # the gateway itself, as far as anybody can tell
        assert (await Pcp(place, NONCE).map(PORT, 3600)).life_s == 3600


async def test_a_router_of_nat_pmp_alone_is_asked_in_its_own_words_at_once() -> None:
    """«Unsupported version» is not waited out; then PCP, NAT-PMP and whatever follows take their turns."""
    async with pcp_gateway() as (there, place):
        there.only_pmp = True
        ways: list[Mapper] = [Pcp(place, NONCE), NatPmp(place)]
        more: Any = {"clock": ManualClock(), "random": SeededRandomness(1), "log": structlog.get_logger()}
        mapping = PortMapping(lambda: ways, Endpoints(lambda _: None, needed=1), port=PORT, **more)
        async with asyncio.timeout(0.2):
            assert await mapping.turn() == Mapped(OUTSIDE, PORT + 2000, 3600)
        assert mapping.show().startswith(f"NAT-PMP: {OUTSIDE}")
        assert [len(data) for data in there.asked] == [60, 12, 2]


async def test_no_gateway_is_told_within_two_seconds() -> None:
    """A closed port, as most machines have it; and a family that this machine may not have."""
    with pytest.raises(MappingFailed, match="does not answer"):
        await asyncio.wait_for(Pcp(Gateway("127.0.0.1", port=9), NONCE).map(PORT, 60), 3)
    with pytest.raises(MappingFailed, match="PCP: "):
        await Pcp(Gateway("fe80::1", link=999_999), NONCE).map(PORT, 60)


def test_a_question_as_the_rfc_draws_it() -> None:
    """RFC 6887 figures 2 and 9, by hand."""
    assert question("192.168.1.9", NONCE, PORT, 3600) == (
        bytes.fromhex("02010000 00000e10 00000000 00000000 0000ffff c0a80109")
        + NONCE
        + bytes.fromhex("06000000 7f3a 7f3a 00000000 00000000 0000ffff 00000000")
    )


# news


PCP_NEWS = bytes((2, 0x80)) + bytes(6) + struct.pack("!I", 9) + bytes(12)
PMP_NEWS = struct.pack("!BBHI4B", 0, 128, 0, 9, 203, 0, 113, 7)


@pytest.mark.parametrize(
    ("data", "news"),
    [
        (PCP_NEWS, (9, b"")),
        (PMP_NEWS, (9, bytes([203, 0, 113, 7]))),
        (b"", None),
        (PCP_NEWS[:23], None),
        (b"\x01" + PCP_NEWS[1:], None),
        (b"\x02\x00" + PCP_NEWS[2:], None),
        (b"\x02\x80\0\x02" + PCP_NEWS[4:], None),
        (PMP_NEWS + b"\0", None),
        (b"\0\x80\0\x03" + PMP_NEWS[4:], None),
    ],
)
def test_only_announcements_are_news(data: bytes, news: tuple[int, bytes] | None) -> None:
    """Of both protocols; refusals and questions are none."""
    assert read_news(data) == news


@pytest.mark.parametrize(
    ("passed_s", "before", "now", "lost"),
    [
        (60.0, 100, 160, False),
        (60.0, 100, 157, False),
        (60.0, 100, 163, False),
        (0.0, 100, 99, False),  # a packet may overtake another
        (60.0, 100, 2, True),
        (60.0, 100, 150, True),
        (60.0, 100, 900, True),
        (0.0, 100, 98, True),
    ],
)
def test_a_count_that_does_not_fit_our_clock_is_a_restart(
    passed_s: float, before: int, now: int, *, lost: bool
) -> None:
    """RFC 6887 §8.5, its slack of two seconds and a sixteenth included."""
    assert has_restarted(passed_s, before, now) is lost


@attack("reachability", tries="a machine of the LAN tells that the gateway has restarted", meets="not heard")
async def test_news_of_our_gateways_alone_is_heard() -> None:
    """The first, one that does not fit, and a new outside address each count; repetitions and strangers do not."""
    forgotten: list[str] = []
    port, clock = free_ports(), ManualClock()
    news = GatewayNews(
        lambda: ["127.0.0.1"], lambda: forgotten.append("x"), clock=clock, log=structlog.get_logger(), port=port
    )
    await news.open()
    try:
        steps: list[tuple[bytes, str, float, int]] = [
            (PCP_NEWS, "127.0.0.2", 0.0, 0),
            (PCP_NEWS, "127.0.0.1", 0.0, 1),
            (PCP_NEWS, "127.0.0.1", 0.0, 1),
            (PCP_NEWS[:8] + struct.pack("!I", 69) + bytes(12), "127.0.0.1", 60.0, 1),
            (PCP_NEWS, "127.0.0.1", 1.0, 2),
            (PMP_NEWS, "127.0.0.1", 0.0, 3),
            (b"nonsense", "127.0.0.1", 0.0, 3),
        ]
        for data, host, after_s, heard in steps:
            clock.advance(after_s)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind((host, 0))
                sender.sendto(data, ("127.0.0.1", port))
            await asyncio.sleep(0.03)
            assert len(forgotten) == heard, (data, host)
    finally:
        news.close()


async def test_where_nobody_may_listen_nothing_else_is_lost() -> None:
    """Somebody else has the port to himself: the daemon starts all the same."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as held:
        held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        held.bind(("::", 0))
        port = held.getsockname()[1]
        news = GatewayNews(list, list, clock=ManualClock(), log=structlog.get_logger(), port=port)  # type: ignore[arg-type]
        await news.open()
        assert news._doors == []
        news.close()


# whom to ask


ROUTE = "0" * 32 + " 00 " + "0" * 32 + " 00 fe80" + "0" * 27 + "1 00000400 00000002 00000000 00000003       lo\n"
OTHER_ROUTE = "fd" + "0" * 30 + " 40 " + "0" * 32 + " 00 " + "0" * 32 + " 00000100 1 0 00000001 lo\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (OTHER_ROUTE + ROUTE, ("fe80::1", 1)),
        (OTHER_ROUTE, None),
        ("", None),
        ("nonsense", None),
        (ROUTE.replace(" lo", " no-such-link"), None),
        (None, None),
    ],
)
def test_the_gateway_of_ipv6_is_read_from_the_kernel_s_table(
    text: str | None, found: tuple[str, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default route and the number of its interface; a machine without IPv6 has no such file."""
    if text is not None:
        (tmp_path / "routes").write_text(text)
    monkeypatch.setattr(local_address, "ROUTES_V6", tmp_path / "routes")
    assert gateway_v6() == found


BOTH = ["192.168.1.9", "2001:db8::7"]


@pytest.mark.parametrize(
    ("own", "fourth", "sixth", "ways", "ways_v6"),
    [
        (BOTH, "192.168.1.1", ("fe80::1", 2), ["PCP", "NAT-PMP", "UPnP"], ["PCP", "UPnP pinhole"]),
        (["2001:db8::7"], "", ("fe80::1", 2), [], ["PCP"]),
        (["192.168.1.9"], "192.168.1.1", None, ["PCP", "NAT-PMP", "UPnP"], []),
        (["8.8.8.8"], "8.8.8.1", None, [], []),
        (["192.168.1.9", "fe80::7"], "", ("fe80::1", 2), [], []),
    ],
)  # fmt: skip
def test_the_gateways_are_asked_in_this_order(
    own: list[str], fourth: str, sixth: tuple[str, int] | None, ways: list[str], ways_v6: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """PCP, then what older routers speak; nobody where there is nothing to be mapped or nobody to ask."""
    monkeypatch.setattr(gateways, "towards", lambda _: own)
    monkeypatch.setattr(gateways, "gateway", lambda: fourth)
    monkeypatch.setattr(gateways, "gateway_v6", lambda: sixth)
    assert [way.name for way in mappers(NONCE)] == ways
    assert [way.name for way in mappers_v6(NONCE)] == ways_v6
    assert gateways.gateways() == [host for host in (fourth, sixth[0] if sixth else "") if host]
