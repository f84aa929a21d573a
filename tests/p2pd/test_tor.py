"""The egress through real Tor: a private network of Debian's tor on loopback, a real p2pd before it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout, web
from aiohttp_socks import ProxyConnector, ProxyError, ProxyType
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dux_flopd.node_rpc import Proxy
from dux_flopd.spv_parts import dial_by
from tests.attacks.registry import attack, met
from tests.p2pd.overlay_kit import Node, network
from tests.p2pd.test_egress import refusals_of
from tests.p2pd.tor_network import NAME, TorNetwork, tor_network

pytestmark = [pytest.mark.tor, pytest.mark.timeout(150)]
CALL_S = 30.0


@pytest.fixture(scope="module")
def tor() -> Iterator[TorNetwork]:
    with tor_network() as made:
        yield made


@dataclass
class Target:
    """A server outside, and the far ends of the connections that it was given."""

    port: int
    came: list[tuple[str, int]] = field(default_factory=list)


@asynccontextmanager
async def target(port: int) -> AsyncIterator[Target]:
    made = Target(port)

    async def page(request: web.Request) -> web.Response:
        assert request.transport is not None
        made.came.append(request.transport.get_extra_info("peername"))
        return web.Response(text="a page")

    app = web.Application()
    app.add_routes([web.get("/", page)])
    runner = web.AppRunner(app, keepalive_timeout=60)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def node(tor: TorNetwork, *listed: str) -> AsyncIterator[Node]:
    """A p2pd whose flopd and taskd may reach what is listed, through Tor."""
    allow = {"flopd": listed, "taskd": listed}
    upstream = f"127.0.0.1:{tor.socks}"
    async with network(1, egress_upstream=upstream, egress_allow=allow) as (one,):
        yield one


def token_of(one: Node, daemon: str) -> Path:
    return one.folder / "run" / "p2pd" / f"{daemon}.token"


@asynccontextmanager
async def page_of(one: Node, url: str, daemon: str = "flopd") -> AsyncIterator[str]:
    """A page, fetched as flopd asks its coin node; the connection stays open until the end."""
    host, port = one.daemon.egress.address.split(":")
    connector = ProxyConnector(
        proxy_type=ProxyType.SOCKS5, host=host, port=int(port), username=daemon,
        password=token_of(one, daemon).read_text().strip(), rdns=True,
    )  # fmt: skip
    async with ClientSession(connector=connector, timeout=ClientTimeout(total=CALL_S)) as http, http.get(url) as answer:
        yield await answer.text()


async def test_what_daemons_fetch_comes_out_of_the_exit(tor: TorNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """By address, by a name that the exit alone can look up, and to a hidden service that has no address.

    The kernel says whose the connection's other end is; this machine's resolver is never asked for the name.
    """
    asked: list[str] = []
    plain = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **named: asked.append(host) or plain(host, *more, **named)
    )
    places = (f"127.0.0.1:{tor.target}", f"{NAME}:{tor.target}", f"{tor.onion}:80")
    async with target(tor.target) as there, node(tor, *places) as one:
        for place in places[:2]:
            async with page_of(one, f"http://{place}/") as text:
                assert text == "a page"
                assert tor.ends_at_exit(there.came[-1]), tor.told()
        assert NAME in tor.resolver.asked
        async with page_of(one, f"http://{tor.onion}/") as text:
            assert text == "a page"
            assert not tor.ends_at_exit(there.came[-1]), "the service's own tor leads there"
        assert len(there.came) == len(places)
    assert not {NAME, tor.onion} & set(asked)


async def test_the_light_wallet_s_peers_are_dialled_through_the_exit(tor: TorNetwork) -> None:
    """Its own dial function, as in flopd's assembly."""
    came = asyncio.Queue[tuple[str, int]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.put_nowait(writer.get_extra_info("peername"))
        writer.write((await reader.read(100)).upper())

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, node(tor, f"127.0.0.1:{port}") as one:
        host, at = one.daemon.egress.address.split(":")
        dial = dial_by(Proxy(host, int(at), "flopd", token_of(one, "flopd")))
        reader, writer = await dial("127.0.0.1", port)
        writer.write(b"version")
        assert await reader.read(100) == b"VERSION"
        assert tor.ends_at_exit(await came.get())
        writer.close()


@attack(
    "egress",
    tries="one exit sees what two daemons of a node do, and puts them together",
    meets="each daemon's connections have circuits of their own, which Tor shares with nobody",
)
async def test_each_daemon_has_circuits_of_its_own(tor: TorNetwork) -> None:
    """Tor's control port says which circuits belong to which name; a daemon's second connection uses its first one's.

    Planted bug noticed: with one user name and password for all daemons, the names are not there.
    """
    places = (f"127.0.0.1:{tor.target}", f"{NAME}:{tor.target}")
    async with target(tor.target), node(tor, *places) as one:
        async with page_of(one, f"http://{places[0]}/"), page_of(one, f"http://{places[1]}/"):
            first = tor.circuits("duxnet-flopd")
            async with page_of(one, f"http://{places[0]}/", "taskd"):
                of_flopd, of_taskd = tor.circuits("duxnet-flopd"), tor.circuits("duxnet-taskd")
        assert first
        assert first <= of_flopd
        assert of_taskd
        assert not of_flopd & of_taskd
        met(f"{len(of_flopd)} circuits of flopd, {len(of_taskd)} of taskd, none shared")


async def test_what_tor_cannot_reach_is_told_in_words(tor: TorNetwork) -> None:
    """No such name, a mistyped hidden service, one that nobody announces: Tor's own codes become what to do."""
    nobody = onion_of(Ed25519PrivateKey.generate())
    wrong = "a" * 56 + ".onion"
    places = {"nowhere.example:80": "Host unreachable", f"{wrong}:80": "typing error", f"{nobody}:80": "not announced"}
    async with node(tor, *places) as one:
        refusals = refusals_of(one.daemon.egress)
        for place, words in places.items():
            with pytest.raises(ProxyError):
                async with page_of(one, f"http://{place}/"):
                    pass
            assert words in refusals()[-1]
        assert len(refusals()) == len(places)


def onion_of(key: Ed25519PrivateKey) -> str:
    """A hidden service's name of version 3 (Tor's rend-spec-v3, «encoding onion addresses»)."""
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    check = hashlib.sha3_256(b".onion checksum" + public + b"\3").digest()[:2]
    return base64.b32encode(public + check + b"\3").decode().lower() + ".onion"


@attack("egress", tries="Tor itself is killed", meets="not one connection goes around it")
async def test_when_tor_is_dead_nothing_leaves(tor: TorNetwork) -> None:
    """The target is up and this machine could reach it, by address and by name; nothing does, until Tor is back.

    Planted bug noticed: with a fall-back to Straight, the target is reached.
    """
    places = (f"127.0.0.1:{tor.target}", f"localhost:{tor.target}", f"{tor.onion}:80")
    async with target(tor.target) as there, node(tor, *places) as one:
        async with page_of(one, f"http://{places[0]}/"):
            pass
        assert len(there.came) == 1
        tor.kill("client")
        refusals = refusals_of(one.daemon.egress)
        for place in places:
            with pytest.raises(ProxyError):
                async with page_of(one, f"http://{place}/"):
                    pass
        assert ["does not answer" in reason for reason in refusals()] == [True, True, True]
        assert len(there.came) == 1
        met("3 of 3 refused, the target heard nothing")
        tor.start_client()
        async with page_of(one, f"http://{places[0]}/"):
            assert tor.ends_at_exit(there.came[-1])
