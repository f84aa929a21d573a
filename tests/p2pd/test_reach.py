"""What a node tells of where it is reached follows what others found; dialling back serves nobody's scan."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ifaddr
import msgspec
import pytest
import structlog
from zeroconf._utils import net

from common.clock import ManualClock
from common.contracts.p2p import P2P_REACHABILITY
from common.contracts.p2p_errors import RelayRefused
from common.contracts.peer_p2p import Contact
from common.contracts.peer_reach import NODE_ANNOUNCE, PEERS_EXCHANGE, REACH_CHECK, Newcomer, NodesAsk, ReachAsk
from common.errors import DuxError
from common.identity.log import encode_log
from common.network import Bootstrap
from common.randomness import SeededRandomness
from common.rpc.method import Empty
from common.units import Did
from dux_p2pd import local_address, reach
from dux_p2pd.circuits import relay_address
from dux_p2pd.endpoints import HOLDS_S, SEEN_MAX, Endpoints
from dux_p2pd.exchange import TOLD_EVERY_S, Exchange
from dux_p2pd.lan_beacon import HEARD_BURST, LanBeacon, beacon, heard_at, read_beacon
from dux_p2pd.lan_mdns import known_to_zeroconf
from dux_p2pd.local_address import LinkAddress, link_addresses, links, towards
from dux_p2pd.reach import DialBack
from tests.attacks.registry import attack
from tests.p2pd.overlay_kit import Node, network, profile, wait_until

pytestmark = pytest.mark.patient

X, Y, Z = Did("did:dux:x"), Did("did:dux:y"), Did("did:dux:z")
OWN, SEEN = "10.0.0.5:99", "203.0.113.7:99"


def told_by(needed: int = 1, fixed: tuple[str, ...] = ()) -> tuple[Endpoints, list[tuple[str, ...]]]:
    told: list[tuple[str, ...]] = []
    return Endpoints(told.append, needed=needed, fixed=fixed), told


def test_what_others_reached_is_told_and_what_they_did_not_is_told_no_longer() -> None:
    """Unknown is told; unreachable is not; a later success brings it back; an hour without a word makes it unknown."""
    ends, told = told_by()
    ends.own((OWN,))
    assert (told[-1], ends.how()) == ((OWN,), "unknown")
    ends.judged(OWN, X, "10.1.0.1", 0.0, reached=False)
    assert (told[-1], ends.how()) == ((), "unreachable")
    ends.judged(OWN, X, "10.1.0.1", 1.0, reached=True)
    assert (told[-1], ends.how(), ends.verified_by(OWN)) == ((OWN,), "direct", [X])
    ends.judged(OWN, Y, "10.2.0.1", 2.0, reached=False)
    assert ends.how() == "direct"  # one network sees us
    ends.judged("10.9.9.9:1", Z, "10.3.0.1", 3.0 + HOLDS_S, reached=True)
    assert ends.verdict(OWN) == "unknown"


@attack(
    "reachability",
    tries="one peer lies about where this node is reached",
    meets="two networks must agree before anything is told",
)
def test_one_liar_moves_nothing_on_main() -> None:
    """Two networks must agree before an address is given up or one is told that only peers have seen."""
    ends, told = told_by(needed=2)
    ends.own((OWN,))
    ends.judged(OWN, X, "10.1.0.1", 0.0, reached=False)
    ends.judged(OWN, Y, "10.1.0.2", 0.0, reached=False)  # the same /24
    ends.judged(SEEN, X, "10.1.0.1", 0.0, reached=True)
    assert told[-1] == (OWN,)
    ends.judged(SEEN, Z, "10.3.0.1", 0.0, reached=True)
    assert told[-1] == (SEEN, OWN)
    ends.judged(OWN, Z, "10.3.0.1", 0.0, reached=False)
    assert told[-1] == (SEEN,)


def test_a_node_behind_nat_stops_telling_its_private_address() -> None:
    """Seen at an address that is none of its own, and not reached there: of that family nothing is told."""
    ends, told = told_by()
    ends.own((OWN, "[fd00::5]:99"))
    ends.judged(SEEN, X, "198.51.100.1", 0.0, reached=False)
    assert told[-1] == ("[fd00::5]:99",)
    assert ends.how() == "unreachable"
    ends.judged(OWN, Y, "10.0.0.6", 0.0, reached=True)  # one of its own LAN
    assert told[-1] == (OWN, "[fd00::5]:99")


def test_the_operators_word_is_told_whatever_others_find() -> None:
    """And shown with their verdict."""
    ends, told = told_by(fixed=("name.example:99",))
    ends.own((OWN,))
    ends.judged(OWN, X, "10.1.0.1", 0.0, reached=False)
    assert set(told) == {("name.example:99",)}


@attack("reachability", tries="sees us at another address each time", meets="bounded; nothing fills")
def test_addresses_that_peers_invent_are_bounded() -> None:
    """A peer that sees us somewhere else each time fills nothing."""
    ends, _ = told_by(needed=2)
    for number in range(200):
        ends.judged(f"203.0.113.{number}:99", X, f"10.{number}.0.1", 0.0, reached=True)
    assert len(ends._findings) <= 2 * SEEN_MAX + 1


async def test_real_nodes_verify_each_other_and_a_closed_door_is_found() -> None:
    """Over sockets: both verified by the other; after one stops listening it is unreachable and tells nothing."""
    async with network(2) as (first, second):
        await wait_until(lambda: first.daemon.endpoints.how() == "direct", "verified")
        view = await first.as_caller("cli").call(P2P_REACHABILITY, Empty())
        assert [(e.verdict, e.verified_by, e.told) for e in view.endpoints] == [("verified", [second.did], True)]
        assert view.duty.on_duty
        answer = await second.daemon.net.peers.call(first.did, REACH_CHECK, ReachAsk(port=9999))
        assert (answer.host, answer.reached) == (second.settings.listen_host, False)
        place = first.settings.listen_host, first.settings.listen_port
        probe = second.daemon.net.transport.probe
        assert await probe(place, (first.daemon.net.keeper.transport.public,))
        assert not await probe(place, (second.daemon.net.keeper.transport.public,))  # somebody else's key answers


class Prober:
    def __init__(self) -> None:
        self.dialled: list[tuple[str, int]] = []

    async def probe(self, address: tuple[str, int], keys: tuple[bytes, ...]) -> bool:
        self.dialled.append(address)
        return keys == (b"key",)


def asker(host: str, did: Did = X, port: int = 5000) -> Any:
    return SimpleNamespace(did=did, address=(host, port), transport_key=b"key")


@attack(
    "reachability",
    tries="asks for dial-backs to others, or without end",
    meets="only the asker's own address, a few times a minute",
)
async def test_dialling_back_is_no_weapon() -> None:
    """Only the asker's own address, a few times a minute per network and in all; nobody behind a relay."""
    prober, clock = Prober(), ManualClock()
    directory: Any = SimpleNamespace(get=lambda _did: None)
    back = DialBack(prober, directory, clock=clock)  # type: ignore[arg-type]
    for _ in range(reach.PER_NET_BURST):
        assert (await back.on_check(ReachAsk(port=4000), asker("10.0.0.1"))).reached
    assert set(prober.dialled) == {("10.0.0.1", 4000)}
    with pytest.raises(RelayRefused):
        await back.on_check(ReachAsk(port=4000), asker("10.0.0.2", Y))
    with pytest.raises(RelayRefused):
        await back.on_check(ReachAsk(port=4000), asker(*relay_address(X)[:1], port=0))
    for number in range(reach.ALL_BURST - reach.PER_NET_BURST):
        await back.on_check(ReachAsk(port=4000), asker(f"10.1.{number}.1"))
    with pytest.raises(RelayRefused):
        await back.on_check(ReachAsk(port=4000), asker("10.2.0.1"))
    clock.advance(60)
    assert (await back.on_check(ReachAsk(port=4000), asker("10.0.0.1"))).host == "10.0.0.1"
    assert len(prober.dialled) == reach.ALL_BURST + 1
    assert back.refused == 3


def exchange_of(sessions: list[Any], *, public_only: bool = False) -> tuple[Exchange, ManualClock, list[str]]:
    hints: list[str] = []
    clock = ManualClock()
    peers: Any = SimpleNamespace(sessions=lambda: sessions, is_connected=lambda _did: False)
    upkeep: Any = SimpleNamespace(
        sources=SimpleNamespace(hint=lambda text, _did: hints.append(text) is None), look=lambda: None
    )
    made = Exchange(peers, None, upkeep, target=9, public_only=public_only, clock=clock,  # type: ignore[arg-type]
                    random=SeededRandomness(1), log=structlog.get_logger())  # fmt: skip
    return made, clock, hints


def up(did: str, host: str, *, dialled: bool = True, port: int = 99) -> Any:
    return SimpleNamespace(peer=SimpleNamespace(did=Did(did), address=(host, port), dialled=dialled))


async def test_only_nodes_that_were_dialled_are_told_and_seldom() -> None:
    """Not who dialled us, not who comes through a relay, not the asker; again only after a while; at most as asked."""
    sessions = [up(f"d{n}", f"10.0.{n}.1") for n in range(20)]
    sessions += [up("in", "10.1.0.1", dialled=False), up("relayed", *relay_address(X)[:1], port=0)]
    made, clock, _ = exchange_of(sessions)
    got = await made.on_exchange(NodesAsk(count=16), asker("10.9.0.1", Did("d1")))
    assert len(got.contacts) == 16
    assert {contact.did for contact in got.contacts} <= {f"d{n}" for n in range(20) if n != 1}
    assert (await made.on_exchange(NodesAsk(count=16), asker("10.9.0.1", Did("d1")))).contacts == ()
    clock.advance(TOLD_EVERY_S + 1)
    assert len((await made.on_exchange(NodesAsk(count=3), asker("10.9.0.1", Did("d1")))).contacts) == 3


@attack(
    "reachability",
    tries="tells a far node of private addresses, to make it dial its own LAN",
    meets="neither told on nor believed",
)
async def test_on_main_private_addresses_are_neither_told_nor_believed() -> None:
    """A peer far away cannot make us dial our own LAN."""
    made, _, hints = exchange_of([up("a", "10.0.0.1"), up("b", "9.9.9.9")], public_only=True)
    got = await made.on_exchange(NodesAsk(count=16), asker("8.8.8.8"))
    assert [contact.did for contact in got.contacts] == ["b"]

    async def call(*_arguments: Any) -> Any:
        told = [Contact(did=Did("c"), endpoints=("192.168.0.1:1",)), Contact(did=Did("d"), endpoints=("9.9.9.8:1",))]
        return SimpleNamespace(contacts=(*told, Contact(did=Did("e"), endpoints=("name:1",))))

    made._peers.call = call  # type: ignore[method-assign]
    assert await made.ask(Did("x")) == 1
    assert hints == ["9.9.9.8:1"]


def is_settled(node: Node) -> bool:
    """Nobody dials or is about to be let go: who dialled whom stays as it is."""
    transport = node.daemon.net.transport
    return not transport._dialling and len(transport._all) == len(transport._sessions)


async def test_exchange_brings_a_node_that_knows_one_to_the_others() -> None:
    """Real nodes: the last one is told of the others by the first and dials them."""
    async with network(3) as (first, second, third):
        await wait_until(lambda: all(is_settled(node) for node in (first, second, third)), "one connection per pair")
        answer = await third.daemon.net.peers.call(second.did, PEERS_EXCHANGE, NodesAsk(count=16))
        dialled = {s.peer.did for s in second.daemon.net.peers.sessions() if s.peer.dialled and s.peer.did != third.did}
        assert {contact.did for contact in answer.contacts} == dialled
        assert await third.daemon.net.peers.call(first.did, PEERS_EXCHANGE, NodesAsk(count=1))


@attack("reachability", tries="old and forged announcements of nodes", meets="they go nowhere; honest ones go one step")
async def test_news_of_a_node_goes_on_to_neighbours_of_who_is_on_duty_and_no_further() -> None:
    """Three nodes, the fourth's record told to one: all have it; old news and a forged record go nowhere."""
    async with network(4) as nodes:
        teller, duty, far = nodes[0], nodes[1], nodes[2]
        keeper = teller.daemon.net.keeper
        keeper.announce(("10.66.0.1:1",))
        record, log = keeper.record(), encode_log(keeper.log)
        news = Newcomer(did=teller.did, log=log, node_record=record, hops=1)

        def has(node: Any) -> bool:
            known = node.daemon.net.directory.get(teller.did)
            return known is not None and known.record.endpoints == ("10.66.0.1:1",)

        assert not has(far)
        assert (await teller.daemon.net.peers.call(duty.did, NODE_ANNOUNCE, news)).new
        await wait_until(lambda: has(far) and has(nodes[3]), "everybody knows")
        assert not (await teller.daemon.net.peers.call(duty.did, NODE_ANNOUNCE, news)).new
        forged = Newcomer(did=teller.did, log=log, node_record=record[:-1] + bytes([record[-1] ^ 1]), hops=2)
        before = duty.daemon.net.directory.get(teller.did)
        with pytest.raises(DuxError, match="bad-signature"):
            await teller.daemon.net.peers.call(duty.did, NODE_ANNOUNCE, forged)
        assert duty.daemon.net.directory.get(teller.did).record == before.record


@attack("reachability", tries="datagrams of another network, longer ones, nonsense on the LAN", meets="no beacon")
def test_a_beacon_is_sixteen_bytes_of_one_network() -> None:
    """Another network's, a longer one, nonsense: nothing."""
    data = beacon("net", 32570)
    assert len(data) == 16
    assert read_beacon(data, "net") == 32570
    assert read_beacon(data, "other") is None
    for wrong in (b"", data[:-1], data + b"x", bytes(16), beacon("net", 0)):
        assert read_beacon(wrong, "net") is None


@attack("reachability", tries="a flood of beacons on the LAN", meets="the rest of a second is ignored")
async def test_a_flood_of_beacons_is_cut() -> None:
    """The rest of a second is ignored."""
    found: list[str] = []
    ear = LanBeacon(found.append, network="n", port=1, clock=ManualClock(), log=structlog.get_logger())
    for number in range(500):
        ear.datagram_received(beacon("n", 1000 + number), ("10.0.0.1", 9))
    assert heard_at(("fe80::1%eth0", 9, 0, 2)) == "[fe80::1%2]"
    assert heard_at(("fd00::1", 9, 0, 0)) == "[fd00::1]"
    assert heard_at(("10.0.0.1", 9)) == "10.0.0.1"
    assert len(found) == HEARD_BURST
    assert found[0] == "10.0.0.1:1000"


def test_own_addresses_are_looked_up_without_a_packet() -> None:
    """Towards loopback it is loopback; towards nowhere, nothing is raised."""
    assert "127.0.0.1" in towards([("127.0.0.1", 9)])
    assert "::1" in towards([("::1", 9)])
    assert towards([("not an address", 9)]) is not None


async def test_ipv6_alone_is_enough() -> None:
    """Two nodes on ::1: connected, verified, contacts of each other with an address in brackets."""
    async with network(1) as (first,):
        await first.stop()
        first.settings = msgspec.structs.replace(first.settings, listen_host="::1")
        await first.start()
        address = f"[::1]:{first.settings.listen_port}"
        second = Node(2, first.folder.parent / "six", profile((Bootstrap(address=address, did=first.did),)))
        second.settings = msgspec.structs.replace(second.settings, listen_host="::1")
        await second.start()
        try:
            await wait_until(lambda: second.daemon.endpoints.how() == "direct", "verified over IPv6")
            assert (await second.info()).endpoints == [f"[::1]:{second.settings.listen_port}"]
            assert [node.address for node in second.daemon.net.dht.table.contacts()] == [
                ("::1", first.settings.listen_port)
            ]
        finally:
            await second.stop()


def test_the_links_are_read_from_the_kernels_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interfaces with an address of their own link, once each; a machine without IPv6 has none."""
    table = tmp_path / "if_inet6"
    monkeypatch.setattr(local_address, "ADDRESSES_V6", table)
    assert links() == []
    table.write_text(
        "fe8000000000000000fc00fffe000001 0b 40 20 80     wlan0\n"
        "fd000000000000000000000000000002 04 40 00 82     eth0\n"
        "fe8000000000000000fc00fffe000002 04 40 20 80     eth0\n"
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "fe8000000000000000fc00fffe000003 04 40 20 80     eth0\n"
        "fe8000000000000000fc00fffe000004 05 40 20 c0     eth1\n"  # tentative: not to be used yet
    )
    assert links() == [4, 11]
    assert link_addresses()[1] == LinkAddress("fe80::fc:ff:fe00:1", 11, "wlan0")


def test_zeroconf_sees_our_table_while_it_opens_and_no_longer() -> None:
    """Also when opening fails: nothing of the library stays changed."""

    def opened() -> None:
        with known_to_zeroconf([LinkAddress("fe80::1", 7, "eth7")]):
            assert net.normalize_interface_choice(["192.0.2.1", 7]) == ["192.0.2.1", (("fe80::1", 0, 7), 7)]
            raise OSError("busy")

    with pytest.raises(OSError, match="busy"):
        opened()
    assert net.ifaddr is ifaddr
