"""Real p2pds on several hosts: delay, loss, a partition that heals, NAT, both families of addresses, no bootstrap."""

from __future__ import annotations

import asyncio
import signal
import statistics
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from common.codec import canonical
from common.contracts import p2p
from common.contracts.p2p_errors import PeerAnswered
from common.contracts.peer_store import SERVICES_SYNC, ServicesAsk
from common.errors import DuxError, RemoteFailure, RemoteNotNow
from common.identity.branch import did_of_branch, make_branch
from common.network import Bootstrap
from common.rpc.method import Empty
from tests.p2pd.hosts import PORT, Host, Lab, lab, network_of, why_not
from tests.p2pd.overlay_kit import MADE_MS, wait_until

WHY_NOT = why_not()
pytestmark = [
    pytest.mark.hosts,
    pytest.mark.patient,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-"),
]


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def taken(what: str, until: Callable[[], Awaitable[bool]], within_s: float) -> float:
    begun = now_s()
    await wait_until(until, what, within_s)
    print(f"{what}: {now_s() - begun:.1f} s")  # noqa: T201
    return now_s() - begun


async def see(hosts: list[Host], sessions: int) -> bool:
    return all([(await host.info()).sessions >= sessions for host in hosts])


async def ask(caller: Host, target: Host, deadline_ms: int = 15_000) -> float:
    """A call that reaches the other p2pd and is answered by it: its owner is not running, and it says so."""
    params = canonical(ServicesAsk(after=0, limit=1))
    call = p2p.PeerCall(did=target.did, method=SERVICES_SYNC.name, params=params, deadline_ms=deadline_ms)
    begun = now_s()
    with pytest.raises((PeerAnswered, RemoteFailure, RemoteNotNow), match="owner-away"):
        await caller.call(p2p.PEER_CALL, call, "stored")
    return now_s() - begun


async def keeps_asking(caller: Host, target: Host, within_s: float) -> float:
    """Until the first call that is answered, from its caller's first try on."""
    begun = now_s()

    async def once() -> bool:
        try:
            await ask(caller, target)
        except (DuxError, AssertionError) as error:
            print(f"not answered after {now_s() - begun:.1f} s: {str(error)[:200]}")  # noqa: T201
            return False
        return True

    await wait_until(once, "an answer", within_s)
    return now_s() - begun


def public(where: Lab, count: int) -> None:
    """Hosts that everybody can dial, each in a /24 and a /48 of its own; the last one has IPv6 only."""
    for number in range(1, count + 1):
        where.space(f"h{number}")
        both = (f"10.77.{number}.1/16", f"fd77:0:{number}::1/32")
        where.plug(f"h{number}", *(both if number < count else both[1:]))


def list_of_one() -> tuple[Bootstrap, ...]:
    did = did_of_branch(make_branch(bytes([1]) * 64, net=1, account=0, made_ms=MADE_MS, inception_bits=0), 0)
    return Bootstrap(address=f"10.77.1.1:{PORT}", did=did), Bootstrap(address=f"[fd77:0:1::1]:{PORT}", did=did)


async def test_six_hosts_with_delay_loss_nat_and_a_partition(tmp_path: Path) -> None:
    """Formed, called directly and through a relay, parted and healed, and back with the only bootstrap node gone."""
    with lab(tmp_path) as where:
        public(where, 4)
        where.behind_nat("n1", "a", "10.77.50.1/16")
        where.behind_nat("n2", "b", "10.77.60.1/16")
        where.start_switch(delay_ms=50, loss=0.05)
        network = network_of(*list_of_one())
        hosts = [where.host(f"h{number}", number, network) for number in range(1, 5)]
        homes = [where.host("a", 11, network), where.host("b", 12, network)]
        await asyncio.gather(*(host.start() for host in (*hosts, *homes)))
        await taken("six hosts formed a network (50 ms each way, 5 % loss)", lambda: see([*hosts, *homes], 3), 120)
        await both_families(hosts)
        await direct_calls(hosts)
        await through_a_relay(where, homes)
        await parted_and_healed(where, hosts)
        await without_bootstrap(where, hosts)


async def both_families(hosts: list[Host]) -> None:
    only6 = hosts[3]
    assert all(peer.address.startswith("[fd77:") for peer in await only6.peers())
    with_v4 = [peer.address for peer in await hosts[1].peers()]
    assert any(address.startswith("10.77.") for address in with_v4)
    assert any(address.startswith("[fd77:") for address in with_v4)
    await wait_until(lambda: names(only6, "[fd77:0:4::1]"), "the IPv6 host tells its address", 20)


async def names(host: Host, start: str) -> bool:
    return any(text.startswith(start) for text in (await host.info()).endpoints)


async def direct_calls(hosts: list[Host]) -> None:
    times = [await ask(hosts[1], hosts[3 - index % 2]) for index in range(20)]
    print(f"call over a session: p50 {statistics.median(times) * 1000:.0f} ms, worst {max(times) * 1000:.0f} ms")  # noqa: T201
    assert statistics.median(times) < 0.5


async def through_a_relay(where: Lab, homes: list[Host]) -> None:
    """Neither home can be dialled; each says so in its record; one calls the other."""
    one, other = homes

    async def relayed() -> bool:
        return all([(await home.call(p2p.P2P_REACHABILITY, Empty())).how == "relayed" for home in homes])

    await taken("both homes behind NAT reached through relays", relayed, 60)
    for home in homes:
        found = await home.call(p2p.P2P_REACHABILITY, Empty())
        assert found.relays
        assert (await home.info()).endpoints == []
    first = await keeps_asking(one, other, 30)
    times = [await ask(one, other) for _ in range(10)]
    view = next(peer for peer in await one.peers() if peer.did == other.did)
    assert view.address.startswith("through "), view.address
    print(f"NAT to NAT: first call {first:.1f} s, then p50 {statistics.median(times) * 1000:.0f} ms")  # noqa: T201
    del where


async def parted_and_healed(where: Lab, hosts: list[Host]) -> None:
    """h1 and h2 see neither h3 nor h4, nobody closes a socket; after the cut everybody answers everybody again."""
    one, three = hosts[0], hosts[2]
    some, others = ["h1", "h2"], ["h3", "h4"]
    await keeps_asking(one, three, 20)
    where.part(some, others)

    async def noticed() -> bool:
        return three.did not in {peer.did for peer in await one.peers()}

    taken_s = await taken("half-open connection noticed", noticed, 25)
    assert taken_s <= 20
    assert await ask(hosts[0], hosts[1]) < 10
    where.part(some, others, "heal")
    back_s = await keeps_asking(one, three, 30)
    print(f"after the partition healed, answered again: {back_s:.1f} s")  # noqa: T201
    await wait_until(lambda: see(hosts, 3), "all connected again", 40)


async def without_bootstrap(where: Lab, hosts: list[Host]) -> None:
    """The bootstrap node's host vanishes without a word; another one restarts and has nobody else to ask."""
    hosts[0].kill()
    where.part(["h1"], [port.removeprefix("p") for port in where.ports if port != "ph1"])
    hosts[2].kill()
    begun = now_s()
    await hosts[2].start()

    async def back() -> bool:
        return (await hosts[2].info()).sessions > 0

    await wait_until(back, "back", 10)
    taken_s = now_s() - begun
    print(f"back in the network with every bootstrap node dead, process start included: {taken_s:.1f} s")  # noqa: T201
    assert taken_s <= 10


async def test_two_homes_behind_nat_get_a_direct_path(tmp_path: Path) -> None:
    """They meet through a relay, dial each other's outside address at once, and the relay carries no more of it."""
    pytest.importorskip("iroh", reason="the extra `punch` is not installed")
    with lab(tmp_path) as where:
        public(where, 2)
        where.behind_nat("n1", "a", "10.77.50.1/16")
        where.behind_nat("n2", "b", "10.77.60.1/16")
        where.start_switch(delay_ms=20)
        network = network_of(*list_of_one())
        hosts = [where.host("h1", 1, network), where.host("h2", 2, network)]
        homes = [where.host("a", 11, network, hole_punching=True), where.host("b", 12, network, hole_punching=True)]
        await asyncio.gather(*(host.start() for host in (*hosts, *homes)))
        one, other = homes

        async def relayed() -> bool:
            return all([(await home.call(p2p.P2P_REACHABILITY, Empty())).how == "relayed" for home in homes])

        await taken("both homes reached through relays", relayed, 60)
        await keeps_asking(one, other, 30)

        async def direct() -> bool:
            views = [peer.address for peer in await one.peers() if peer.did == other.did]
            return any(view.startswith("direct path to 10.77.60.1") for view in views)

        await taken("direct path past both NATs", direct, 20)
        times = [await ask(one, other) for _ in range(10)]
        print(f"NAT to NAT, directly: p50 {statistics.median(times) * 1000:.0f} ms")  # noqa: T201
        assert statistics.median(times) < 0.079  # through a relay the way alone is 80 ms


async def test_a_home_whose_router_maps_a_port_is_called_directly(tmp_path: Path) -> None:
    """NAT-PMP, as its router has no PCP, with a real DNAT rule: verified by a peer, given back at the end."""
    with lab(tmp_path) as where:
        public(where, 3)
        where.behind_nat("n1", "a", "10.77.50.1/16")
        where.start_switch()
        network = network_of(*list_of_one())
        where.serve("n1", Path(__file__).with_name("pmp_router.py"), "10.77.50.1", "192.168.50.2")
        hosts = [where.host("h1", 1, network), where.host("a", 11, network, port_mapping=True)]
        await asyncio.gather(*(host.start() for host in hosts))
        home = hosts[1]

        async def mapped() -> bool:
            return (await home.call(p2p.P2P_REACHABILITY, Empty())).how == "mapped"

        await taken("a home reached through a port of its router", mapped, 30)
        found = await home.call(p2p.P2P_REACHABILITY, Empty())
        assert found.gateway.startswith("NAT-PMP: 10.77.50.1:33570")

        async def settled() -> bool:
            return (await home.info()).endpoints == ["10.77.50.1:33570"]

        await wait_until(settled, "only what others reached is told", 15)
        late = where.host("h2", 2, network)
        await late.start()
        await keeps_asking(late, home, 20)
        assert "through" not in next(peer.address for peer in await late.peers() if peer.did == home.did)
        home.kill(signal.SIGTERM)
        assert "port given back" in home.log()
        assert "33570" not in where.run_in("n1", "iptables", "-t", "nat", "-S")


async def test_a_home_of_ipv6_whose_router_lets_callers_in_is_called_directly(tmp_path: Path) -> None:
    """PCP, a real firewall behind it: verified by a peer, back after the router has forgotten it, shut at the end."""
    with lab(tmp_path) as where:
        public(where, 3)
        where.behind_firewall("n1", "a", "fd77:0:50::1/32", ["h1", "h2", "h3"])
        where.start_switch()
        network = network_of(*list_of_one())
        router = where.serve("n1", Path(__file__).with_name("pcp_router.py"), "in")
        hosts = [where.host("h1", 1, network), where.host("a", 11, network, port_mapping=True)]
        await asyncio.gather(*(host.start() for host in hosts))
        home, place = hosts[1], f"[fd78:0:50::2]:{PORT}"

        async def let_in() -> bool:
            return (await home.call(p2p.P2P_REACHABILITY, Empty())).how == "mapped"

        await taken("a home of IPv6 reached past its router's firewall", let_in, 30)
        found = await home.call(p2p.P2P_REACHABILITY, Empty())
        assert found.gateway.startswith(f"PCP: {place}")
        assert (await home.info()).endpoints == [place]
        late = where.host("h2", 2, network)
        await late.start()
        await keeps_asking(late, home, 20)
        assert "through" not in next(peer.address for peer in await late.peers() if peer.did == home.did)
        router.send_signal(signal.SIGHUP)
        rules = ("ip6tables", "-S", "FORWARD")
        await wait_until(lambda: str(PORT) not in where.run_in("n1", *rules), "the router has forgotten", 5)

        async def is_open() -> bool:
            return str(PORT) in where.run_in("n1", *rules)

        await taken("let in again after the router started anew", is_open, 15)
        home.kill(signal.SIGTERM)
        assert "port given back" in home.log()
        assert str(PORT) not in where.run_in("n1", *rules)


@pytest.mark.parametrize(("way", "family"), [("lan_beacon", 4), ("lan_beacon", 6), ("lan_mdns", 4), ("lan_mdns", 6)])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_two_hosts_of_a_lan_find_each_other(tmp_path: Path, way: str, family: int, when: str) -> None:
    """No bootstrap list, nothing remembered: one broadcast or mDNS is enough, and the dial proves who is there.

    The cable is plugged in before the daemons start, or after: then both have already told and asked nobody. They may
    speak no netlink, as p2pd's unit has it. Planted bug noticed: with zeroconf's own look at the interfaces, no mDNS.
    """
    names = ("h1", "h2")
    with lab(tmp_path) as where:
        for name in names:
            where.space(name)
        hosts = [where.host(name, int(name[1]), network_of(), **{way: True}) for name in names]
        for host in hosts:
            host.program = [str(Path(__file__).with_name("no_netlink.py")), "dux_p2pd"]
        if when == "after":
            await asyncio.gather(*(host.start() for host in hosts))
        for name in names:
            where.plug(name, *([f"10.77.0.{name[1]}/24"] if family == 4 else []))  # IPv6: what the link gives itself
            if family == 4:
                where.run_in(name, "ip", "route", "add", "default", "via", "10.77.0.254")
        where.start_switch()
        if when == "before":
            await asyncio.gather(*(host.start() for host in hosts))
        await taken(f"two hosts of a LAN found each other ({way}, IPv{family})", lambda: see(hosts, 1), 20)
        assert hosts[1].did in {peer.did for peer in await hosts[0].peers()}
        assert "heard of on the LAN" in hosts[0].log() + hosts[1].log()

        async def dialled_back() -> bool:
            return all([(await host.call(p2p.P2P_REACHABILITY, Empty())).how == "direct" for host in hosts])

        await taken("each dialled back by the other", dialled_back, 30)
