"""A node that is moved to another address is found there, and finds the others again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import structlog

from common.clock import SystemClock
from common.contracts.p2p_errors import PeerUnknown, PeerUnreachable
from common.node_ports import outside_address
from common.randomness import SeededRandomness
from common.units import Did
from dux_p2pd import daemon, whereabouts
from dux_p2pd.peers import PeerBook
from dux_p2pd.rules import told_host
from dux_p2pd.scores import Scores
from dux_p2pd.sources import ALONE_PAUSE_S, BOOTSTRAP, Source, Sources
from dux_p2pd.tasks import Tasks
from dux_p2pd.whereabouts import HOSTS_TOLD_MAX, Whereabouts
from tests.p2pd.overlay_kit import network, wait_until

DID = "did:dux:" + "a" * 52


@pytest.mark.parametrize(
    ("address", "private_too", "host"),
    [
        ("8.8.8.8", False, "8.8.8.8"),
        ("10.83.2.2", True, "10.83.2.2"),
        ("10.83.2.2", False, None),
        ("::ffff:10.83.2.2", True, "10.83.2.2"),
        ("2001:4860::8", False, "[2001:4860::8]"),
        ("fd00::2", False, None),
        ("fe80::1%eth0", True, None),
        ("127.0.0.1", True, None),
        ("0.0.0.0", True, None),  # noqa: S104
    ],
)
def test_told_are_addresses_that_lead_others_here(address: str, host: str | None, *, private_too: bool) -> None:
    """On main what the internet routes; on a test network private addresses, too; never this machine's loopback."""
    assert told_host(address, private_too=private_too) == host


def test_the_new_address_is_told_with_the_first_connection_and_the_old_one_forgotten_when_unused() -> None:
    """In use, changed, several at once, none at all: what is told changes only when the addresses do."""
    told: list[tuple[str, ...]] = []
    where = Whereabouts(told.append, port=7, private_too=True)
    for _ in range(3):
        where.opened("10.0.0.1")
    where.opened("127.0.0.1")
    assert told == [("10.0.0.1:7",)]
    where.opened("10.0.0.2")
    assert told[-1] == ("10.0.0.2:7", "10.0.0.1:7")
    for _ in range(3):
        where.closed("10.0.0.1")
    where.closed("127.0.0.1")
    assert len(told) == 2
    where.opened("10.0.0.2")
    assert told[-1] == ("10.0.0.2:7",)
    for number in range(9):
        where.opened(f"10.0.1.{number}")
    assert len(told[-1]) == HOSTS_TOLD_MAX
    assert told[-1][0] == "10.0.1.8:7"


async def test_a_node_that_listens_everywhere_is_known_by_the_address_of_its_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its first HELLO carries the address; the other node keeps it as a contact that can be dialled."""
    monkeypatch.setattr(whereabouts, "told_host", lambda address, **_: address)  # loopback is all there is here
    monkeypatch.setattr(daemon, "towards", lambda _addresses: [])
    async with network(2) as (first, second):
        await second.stop()
        everywhere = {"listen_host": "0.0.0.0", "lan_mdns": False, "lan_beacon": False}  # noqa: S104
        second.settings = msgspec.structs.replace(second.settings, **everywhere)
        await second.start()
        net, port = first.daemon.net, second.settings.listen_port
        hosts = ("127.0.0.1", outside_address(2))  # whichever of the two dialled first

        def known() -> bool:
            found = net.directory.get(second.did)
            told = found.record.endpoints if found and found.record else ()
            return bool(told) and set(told) <= {f"{host}:{port}" for host in hosts}

        await wait_until(known, "the record to name the address in use")

        def is_contact() -> bool:
            nodes = {node.did: node.address for node in net.dht.table.contacts()}
            return nodes.get(second.did) in {(host, port) for host in hosts}

        await wait_until(is_contact, "the node to be a contact at that address")
        assert set((await second.info()).endpoints) <= {f"{host}:{port}" for host in hosts}


class Wire:
    """A transport on which one address answers."""

    def __init__(self, answers: tuple[str, int]) -> None:
        self.answers = answers
        self.tried: list[tuple[str, int]] = []

    def session_with(self, _did: str) -> None:
        return None

    async def connect(self, address: tuple[str, int], _did: str, _keys: Any) -> str:
        self.tried.append(address)
        if address != self.answers:
            raise PeerUnreachable(address=f"{address[0]}", detail="nobody there")
        return "session"


def record(*endpoints: str) -> Any:
    return SimpleNamespace(
        record=SimpleNamespace(endpoints=endpoints, transport_keys=(), expires_ms=1 << 62), log=SimpleNamespace(did=DID)
    )


async def book_on(wire: Wire, held: Any, tasks: Tasks) -> PeerBook:
    clock, log = SystemClock(), structlog.get_logger()
    directory: Any = SimpleNamespace(get=lambda _did: held, on_change=[])
    random = SeededRandomness(1)
    return PeerBook(
        wire, directory, Scores(clock), tasks, clock=clock, random=random, log=log, sessions_max=9  # type: ignore[arg-type]
    )  # fmt: skip


async def test_who_does_not_answer_where_it_was_is_looked_for_elsewhere_once() -> None:
    """A newer record in the DHT leads to the node; nothing newer, and the error is the one of the first attempt."""
    wire = Wire(("10.0.0.2", 7))
    async with Tasks(structlog.get_logger()) as tasks:
        book = await book_on(wire, record("10.0.0.1:7"), tasks)

        async def newer(_did: str) -> Any:
            return record("10.0.0.1:7", "10.0.0.2:7")

        book.locate = newer
        assert await book.session_to(DID) == "session"
        assert wire.tried == [("10.0.0.1", 7), ("10.0.0.2", 7)]

        async def nothing(_did: str) -> Any:
            raise PeerUnknown(did=DID)

        lost = await book_on(Wire(("10.0.0.3", 7)), record("10.0.0.1:7"), tasks)
        lost.locate = nothing
        with pytest.raises(PeerUnreachable, match="nobody there"):
            await lost.session_to(DID)
        with pytest.raises(PeerUnreachable, match="a moment ago"):
            await lost.session_to(DID)


def test_who_is_alone_does_not_wait_for_long_pauses() -> None:
    """After a cut the list is tried again within seconds, whatever the failures before; with company it rests."""
    source = Source(("other", 7), None, failures=9, due_s=100.0, tried_s=50.0)
    assert not source.is_due(50.0 + ALONE_PAUSE_S - 0.1, alone=True)
    assert source.is_due(50.0 + ALONE_PAUSE_S, alone=True)
    assert not source.is_due(99.0, alone=False)
    assert source.is_due(100.0, alone=False)


def test_a_bootstrap_node_does_not_dial_itself() -> None:
    """The list of the network names it; its own DID is enough to know that."""
    sources = Sources("", Did(DID))
    sources.add("me:7", Did(DID), kind=BOOTSTRAP)
    sources.add("other:7", None, kind=BOOTSTRAP)
    assert [source.address for source in sources] == [("other", 7)]
