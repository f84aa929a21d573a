"""The egress: a real SOCKS client, real sockets, and everything that must not get out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import structlog
from aiohttp_socks.utils import Proxy
from python_socks import ProxyError
from structlog.testing import LogCapture

from dux_p2pd.egress import Egress, may_reach
from dux_p2pd.socks import parse_target
from tests.attacks.registry import attack
from tests.p2pd.overlay_kit import network

TOKEN = "0123456789abcdef" * 4
GREETING = b"\x05\x01\x02"
LOGIN = b"\x01\x05flopd" + bytes([len(TOKEN)]) + TOKEN.encode()
CONNECT_LOCAL = b"\x05\x01\x00\x01\x7f\x00\x00\x01"


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server outside the node: says back what it hears, in capitals."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data.upper())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def egress(folder: Path, *targets: str, **limits: float) -> AsyncIterator[Egress]:
    (folder / "flopd.token").write_text(TOKEN + "\n")
    (folder / "stored.token").write_text(TOKEN[::-1] + "\n")
    allow = {"flopd": frozenset(parse_target(text) for text in targets)}
    settings = {"connections_max": 4, "idle_s": 5.0} | limits
    made = Egress(allow, folder, log=structlog.get_logger(), **settings)  # type: ignore[arg-type]
    await made.start("127.0.0.1", 0)
    try:
        yield made
    finally:
        await made.stop()


def refusals_of(made: Egress) -> Callable[[], list[str]]:
    """The reasons that it writes into its log from now on, whatever other tests have set up for logs."""
    capture, bound = LogCapture(), structlog.make_filtering_bound_logger(0)
    made._log = structlog.wrap_logger(None, [capture], wrapper_class=bound)
    return lambda: [entry["reason"] for entry in capture.entries if entry["event"] == "egress refused"]


async def through(made: Egress, host: str, port: int, *, user: str = "flopd", password: str = TOKEN) -> bytes:
    """What a SOCKS client hears back from `host:port`."""
    proxy = Proxy.from_url(f"socks5://{user}:{password}@{made.address}", rdns=True)
    stream = await proxy.connect(dest_host=host, dest_port=port, timeout=5)
    reader, writer = await asyncio.open_connection(sock=stream)
    writer.write(b"hello")
    heard = await reader.read(100)
    writer.close()
    return heard


async def test_a_daemon_gets_where_its_list_allows(tmp_path: Path) -> None:
    """A real SOCKS client with the daemon's name and token talks to the listed address."""
    async with echo() as port, egress(tmp_path, f"127.0.0.1:{port}") as made:
        assert await through(made, "127.0.0.1", port) == b"HELLO"


async def test_a_listed_name_is_looked_up(tmp_path: Path) -> None:
    """The list may name a machine; its name is looked up when it is dialled."""
    try:
        socket.getaddrinfo("localhost", None)
    except socket.gaierror:
        pytest.skip("this machine has no /etc/hosts, so not even localhost has an address")
    async with echo() as port, egress(tmp_path, f"localhost:{port}") as made:
        assert await through(made, "localhost", port) == b"HELLO"


@attack(
    "egress",
    tries="a daemon dials what is not on its list, uses another's token, or has no list",
    meets="refused; the target hears nothing",
)
@pytest.mark.parametrize(
    ("host", "user", "password"),
    [
        ("127.0.0.2", "flopd", TOKEN),
        ("localhost", "flopd", TOKEN),
        ("127.0.0.1", "flopd", "wrong"),
        ("127.0.0.1", "flopd", TOKEN[::-1]),
        ("127.0.0.1", "stored", TOKEN[::-1]),
        ("127.0.0.1", "../flopd", TOKEN),
    ],
    ids=["other address", "same place by name", "wrong token", "another's token", "no list", "path in the name"],
)
async def test_nothing_else_gets_out(tmp_path: Path, host: str, user: str, password: str) -> None:
    """Not on the list, not the daemon's token, no list at all: refused, and the target hears nothing."""
    async with echo() as port, egress(tmp_path, f"127.0.0.1:{port}") as made:
        with pytest.raises(ProxyError):
            await through(made, host, port, user=user.replace("/", "%2F"), password=password)
        assert made.refused == 1


@attack("egress", tries="another port of a listed host", meets="refused: the list names both")
async def test_another_port_of_a_listed_host_is_refused(tmp_path: Path) -> None:
    """The list names host and port together."""
    async with echo() as port, echo() as other, egress(tmp_path, f"127.0.0.1:{port}") as made:
        with pytest.raises(ProxyError):
            await through(made, "127.0.0.1", other)


async def raw(made: Egress, *messages: bytes) -> bytes:
    """Everything the egress says to these bytes before it hangs up."""
    host, _, port = made.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for message in messages:
        writer.write(message)
    heard = await asyncio.wait_for(reader.read(-1), 10)
    writer.close()
    return heard


@attack(
    "egress",
    tries="a list open to coin nodes, used towards the house's own network, names, other ports",
    meets="refused",
)
def test_a_star_lets_out_to_public_addresses_at_its_port_and_to_nothing_else() -> None:
    """Coin nodes that nobody could list beforehand; never a name, a house's own network, or another port."""
    listed = frozenset({parse_target("*:32552"), parse_target("coin.example:1")})
    there = ("8.8.8.8:32552", "[2001:4860:4860::8888]:32552", "coin.example:1")
    away = ("8.8.8.8:80", "127.0.0.1:32552", "192.168.1.7:32552", "[fe80::1]:32552", "coin.example:32552", "*:32552")
    assert [target for target in (*there, *away) if may_reach(listed, parse_target(target))] == [*there, "*:32552"]
    assert not may_reach(frozenset(), parse_target("8.8.8.8:32552"))


@attack("egress", tries="malformed and unoffered SOCKS requests", meets="the protocol's own refusal, then hung up")
@pytest.mark.parametrize(
    ("messages", "answer"),
    [
        ((b"\x04\x01\x00\x50",), b""),
        ((b"\x05\x01\x00",), b"\x05\xff"),
        ((GREETING, b"\x02\x00\x00"), b"\x05\x02\x01\x01"),
        ((GREETING, LOGIN, b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50"), b"\x05\x02\x01\x00\x05\x07"),
        ((GREETING, LOGIN, b"\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50"), b"\x05\x02\x01\x00\x05\x07"),
        ((GREETING, LOGIN, b"\x05\x01\x00\x09"), b"\x05\x02\x01\x00\x05\x08"),
        ((GREETING, LOGIN, CONNECT_LOCAL + b"\x00\x01"), b"\x05\x02\x01\x00\x05\x02"),
        ((b"GET / HTTP/1.1\r\n\r\n",), b""),
    ],
    ids=["socks 4", "no login offered", "odd login", "bind", "udp", "address type", "not listed", "http"],
)
async def test_every_other_word_is_answered_and_hung_up_on(
    tmp_path: Path, messages: tuple[bytes, ...], answer: bytes
) -> None:
    """Malformed or unoffered requests end in the protocol's own refusal."""
    async with egress(tmp_path, "127.0.0.1:9") as made:
        heard = await raw(made, *messages)
        assert heard[: len(answer)] == answer
        assert bool(heard) == bool(answer)


async def test_a_listed_target_that_is_down_says_so(tmp_path: Path) -> None:
    """Refused by the target is not refused by the list."""
    with socket.socket() as held:  # bound and deaf: a port that was let go might be given to the proxy itself
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        async with egress(tmp_path, f"127.0.0.1:{port}") as made:
            heard = await raw(made, GREETING, LOGIN, CONNECT_LOCAL + port.to_bytes(2, "big"))
            assert heard[4:6] == b"\x05\x05"


@attack(
    "egress",
    tries="one daemon takes connections without end, and says nothing on them",
    meets="half of them at most; idle ones are closed",
)
async def test_one_daemon_cannot_take_all_connections_and_idle_ones_end(tmp_path: Path) -> None:
    """Half of the connections at most; one without a byte for the idle time is closed and makes room again."""
    async with echo() as port, egress(tmp_path, f"127.0.0.1:{port}", connections_max=2, idle_s=0.3) as made:
        proxy = Proxy.from_url(f"socks5://flopd:{TOKEN}@{made.address}")
        stream = await proxy.connect(dest_host="127.0.0.1", dest_port=port, timeout=5)
        with pytest.raises(ProxyError):
            await through(made, "127.0.0.1", port)
        reader, writer = await asyncio.open_connection(sock=stream)
        assert await asyncio.wait_for(reader.read(1), 10) == b""
        writer.close()
        assert await through(made, "127.0.0.1", port) == b"HELLO"


async def test_a_reload_changes_the_lists_and_a_typing_error_in_them_changes_nothing() -> None:
    """SIGHUP takes the new allow-lists; unreadable ones leave the old ones in force."""
    async with echo() as port, network(1) as (node,):
        daemon = node.daemon
        (node.folder / "run" / "p2pd" / "flopd.token").write_text(TOKEN + "\n")
        made = daemon.egress
        for texts, reached in (((f"127.0.0.1:{port}",), True), (("nonsense",), True), ((), False)):
            settings = msgspec.structs.replace(node.settings, egress_allow={"flopd": texts})
            for hook in daemon.parts.on_reload:
                hook(settings)
            if reached:
                assert await through(made, "127.0.0.1", port) == b"HELLO"
            else:
                with pytest.raises(ProxyError):
                    await through(made, "127.0.0.1", port)


@pytest.mark.parametrize("text", ["nothing", "host:", ":80", "host:0", "host:70000", "host:eighty"])
def test_an_entry_of_another_form_is_refused(text: str) -> None:
    """A typing error in the list is an error, not an open door."""
    with pytest.raises(ValueError, match="host:port"):
        parse_target(text)
