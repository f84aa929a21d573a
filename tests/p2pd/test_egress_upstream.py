"""The egress through a SOCKS5 upstream, a process of its own: names, families, isolation, and no way around."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from python_socks import ProxyError

from common.errors import BadSettings
from common.randomness import SystemRandomness
from dux_p2pd.daemon import outward_of
from dux_p2pd.egress import Egress
from dux_p2pd.outward import Passwords, Straight, Through, way_out
from dux_p2pd.socks import parse_target
from tests.attacks.registry import attack
from tests.p2pd.overlay_kit import network
from tests.p2pd.test_egress import GREETING, LOGIN, TOKEN, echo, raw, refusals_of, through
from tests.ports import free_ports

SERVER = Path(__file__).with_name("socks_server.py")


@dataclass
class Upstream:
    """A proxy process, and what it was asked for."""

    port: int
    process: asyncio.subprocess.Process
    asked: list[dict[str, Any]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def upstream(**names: int) -> AsyncIterator[Upstream]:
    words = [f"{name.replace('__', '.')}={port}" for name, port in names.items()]
    process = await asyncio.create_subprocess_exec(sys.executable, str(SERVER), *words, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    made = Upstream(int(await process.stdout.readline()), process)

    async def note() -> None:
        while process.stdout is not None and (line := await process.stdout.readline()):
            made.asked.append(json.loads(line))

    noting = asyncio.ensure_future(note())
    try:
        yield made
    finally:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        await noting


@asynccontextmanager
async def egress_through(
    folder: Path, address: str, allow: dict[str, tuple[str, ...]], straight: tuple[str, ...] = ()
) -> AsyncIterator[Egress]:
    lists = {daemon: frozenset(parse_target(text) for text in texts) for daemon, texts in allow.items()}
    for daemon in allow:
        (folder / f"{daemon}.token").write_text(TOKEN + "\n")
    way = way_out(address, straight, Passwords(SystemRandomness()))
    made = Egress(lists, folder, connections_max=8, idle_s=5.0, log=structlog.get_logger(), outward=way)
    await made.start("127.0.0.1", 0)
    try:
        yield made
    finally:
        await made.stop()


@attack(
    "egress",
    tries="reads from this machine's resolver whom a daemon visits through Tor",
    meets="it is never asked: names travel to the upstream",
)
async def test_names_travel_to_the_upstream_and_are_looked_up_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also `.onion`; this machine's resolver is never asked."""
    asked: list[str] = []
    plain = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **named: asked.append(host) or plain(host, *more, **named)
    )
    async with echo() as port, upstream(hidden__onion=port, coin__example=port) as proxy:
        allow = {"flopd": ("hidden.onion:8333", "coin.example:32551")}
        async with egress_through(tmp_path, proxy.address, allow) as made:
            assert await through(made, "hidden.onion", 8333) == b"HELLO"
            assert await through(made, "coin.example", 32551) == b"HELLO"
            await asyncio.sleep(0.1)
        assert [(one["kind"], one["host"], one["port"]) for one in proxy.asked] == [
            (3, "hidden.onion", 8333),
            (3, "coin.example", 32551),
        ]
    assert not {"hidden.onion", "coin.example"} & set(asked)


async def test_addresses_of_both_families_go_through(tmp_path: Path) -> None:
    """IPv4 and IPv6 literals reach the upstream as such."""
    async with echo() as port, upstream() as proxy:
        targets = (f"127.0.0.1:{port}", "[2001:db8::1]:80")
        async with egress_through(tmp_path, proxy.address, {"flopd": targets}) as made:
            assert await through(made, "127.0.0.1", port) == b"HELLO"
            with pytest.raises(ProxyError):
                await through(made, "2001:db8::1", 80)
            await asyncio.sleep(0.1)
        assert [(one["kind"], one["host"]) for one in proxy.asked] == [(1, "127.0.0.1"), (4, "2001:db8::1")]


async def test_daemons_are_kept_apart_by_user_and_password(tmp_path: Path) -> None:
    """Each has its own pair, the same at every connection of this start, and never its token."""
    async with echo() as port, upstream() as proxy:
        target = f"127.0.0.1:{port}"
        async with egress_through(tmp_path, proxy.address, {"flopd": (target,), "taskd": (target,)}) as made:
            for user in ("flopd", "taskd", "flopd"):
                assert await through(made, "127.0.0.1", port, user=user) == b"HELLO"
            await asyncio.sleep(0.1)
        pairs = [(one["user"], one["password"]) for one in proxy.asked]
        assert [user for user, _ in pairs] == ["duxnet-flopd", "duxnet-taskd", "duxnet-flopd"]
        assert pairs[0] == pairs[2] != pairs[1]
        assert pairs[0][1] != pairs[1][1]
        assert TOKEN not in str(pairs)


@attack("egress", tries="the upstream proxy is taken away", meets="not one connection goes around it")
async def test_when_the_upstream_is_gone_nothing_goes_straight(tmp_path: Path) -> None:
    """The listed target is up and reachable, and still not one connection reaches it.

    Planted bug noticed: with a fall-back to Straight, the target is reached.
    """
    async with (
        echo() as port,
        upstream() as proxy,
        egress_through(tmp_path, proxy.address, {"flopd": (f"127.0.0.1:{port}",)}) as made,
    ):
        assert await through(made, "127.0.0.1", port) == b"HELLO"
        os.kill(proxy.process.pid, signal.SIGKILL)
        await proxy.process.wait()
        with pytest.raises(ProxyError):
            await through(made, "127.0.0.1", port)
        assert made.refused == 1


async def test_an_upstream_that_says_no_is_believed(tmp_path: Path) -> None:
    """A name that it does not know: the daemon is told, and the list is still asked first."""
    async with upstream() as proxy:
        async with egress_through(tmp_path, proxy.address, {"flopd": ("nowhere.onion:1",)}) as made:
            with pytest.raises(ProxyError):
                await through(made, "nowhere.onion", 1)
            with pytest.raises(ProxyError):
                await through(made, "other.onion", 1)
            await asyncio.sleep(0.1)
        assert [one["host"] for one in proxy.asked] == ["nowhere.onion"]


@asynccontextmanager
async def refusing(code: int) -> AsyncIterator[str]:
    """A proxy that lets everybody in and answers every request with this code."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (b"\x05\x02", b"\x01\0", bytes((5, code)) + b"\0\x01" + bytes(6)):
            await reader.read(1000)
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("code", "heard", "words"),
    [
        (0x01, 1, "General SOCKS server failure"),
        (0x03, 4, "Network unreachable"),
        (0x05, 5, "refused"),
        (0x06, 4, "TTL expired"),
        (0xF0, 4, "not announced"),
        (0xF1, 4, "update Tor"),
        (0xF2, 4, "try again later"),
        (0xF3, 4, "meeting point"),
        (0xF4, 2, "ClientOnionAuthDir"),
        (0xF5, 2, "refuses the key"),
        (0xF6, 8, "typing error"),
        (0xF7, 4, "in time"),
        (0x5A, 1, "Invalid reply code"),
    ],
)
async def test_each_of_an_upstream_s_codes_is_told_in_words(tmp_path: Path, code: int, heard: int, words: str) -> None:
    """The daemon hears a code of RFC 1928, whatever the upstream says; the log says what to do about it."""
    async with refusing(code) as address, egress_through(tmp_path, address, {"flopd": ("far.example:80",)}) as made:
        refusals = refusals_of(made)
        with pytest.raises(ProxyError) as told:
            await through(made, "far.example", 80)
    assert told.value.error_code == heard
    assert words in refusals()[-1]


async def test_a_name_that_no_resolver_could_take_is_refused(tmp_path: Path) -> None:
    """A label of more than 63 characters: said, not a fault of the daemon."""
    name = "a" * 64 + ".example"
    async with upstream() as proxy, egress_through(tmp_path, proxy.address, {"flopd": (f"{name}:80",)}) as made:
        heard = await raw(made, GREETING, LOGIN, b"\x05\x01\0\x03" + bytes([len(name)]) + name.encode() + b"\0\x50")
        assert heard[4:6] == b"\x05\x08"
        assert proxy.asked == []


async def test_what_is_named_one_by_one_goes_straight(tmp_path: Path) -> None:
    """A coin node on this machine beside Tor for the rest; the upstream never hears of it."""
    async with echo() as port, upstream(far__example=port) as proxy:
        near = f"127.0.0.1:{port}"
        allow = {"flopd": (near, "far.example:80")}
        async with egress_through(tmp_path, proxy.address, allow, straight=(near,)) as made:
            assert await through(made, "127.0.0.1", port) == b"HELLO"
            assert await through(made, "far.example", 80) == b"HELLO"
            await asyncio.sleep(0.1)
        assert [one["host"] for one in proxy.asked] == ["far.example"]


async def test_a_hidden_service_has_no_straight_way(tmp_path: Path) -> None:
    """Without an upstream it is refused and not looked up; in the settings it may not stand as straight."""
    async with egress_through(tmp_path, "", {"flopd": ("hidden.onion:80",)}) as made:
        with pytest.raises(ProxyError, match="not allowed"):
            await through(made, "hidden.onion", 80)
    with pytest.raises(ValueError, match="onion"):
        way_out("127.0.0.1:9050", ("hidden.onion:80",), str)


@pytest.mark.skipif(shutil.which("microsocks") is None, reason="no microsocks (apt-get install microsocks)")
async def test_a_proxy_of_the_distribution_is_spoken_to(tmp_path: Path) -> None:
    """Microsocks from Debian, with a user and a password."""
    port = free_ports()
    words = ("-i", "127.0.0.1", "-p", str(port), "-u", "duxnet-flopd", "-P", "secret")
    process = await asyncio.create_subprocess_exec("microsocks", *words, stderr=asyncio.subprocess.DEVNULL)
    try:
        await asyncio.sleep(0.3)
        async with echo() as there, egress_through(tmp_path, "127.0.0.1:9", {"flopd": (f"127.0.0.1:{there}",)}) as made:
            made.take(Through(parse_target(f"127.0.0.1:{port}"), frozenset(), lambda _: "secret"))
            assert await through(made, "127.0.0.1", there) == b"HELLO"
            made.take(Through(parse_target(f"127.0.0.1:{port}"), frozenset(), lambda _: "wrong"))
            with pytest.raises(ProxyError):
                await through(made, "127.0.0.1", there)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()


async def test_the_settings_name_the_way_and_a_reload_changes_it() -> None:
    """Typing errors are told at the start and change nothing at a reload."""
    async with network(1) as (node,):
        egress, passwords = node.daemon.egress, Passwords(SystemRandomness())
        assert isinstance(egress._outward, Straight)
        for text, kind in (("127.0.0.1:9050", Through), ("nonsense", Through), ("", Straight)):
            settings = msgspec.structs.replace(node.settings, egress_upstream=text)
            for hook in node.daemon.parts.on_reload:
                hook(settings)
            assert isinstance(egress._outward, kind)
        with pytest.raises(BadSettings):
            outward_of(msgspec.structs.replace(node.settings, egress_upstream="nonsense"), passwords)
