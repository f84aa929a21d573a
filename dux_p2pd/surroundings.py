"""Assembly of what finds nodes and makes this one reachable: relays, dial-back, exchange, announcements, LAN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.contracts.p2p import (
    P2P_REACHABILITY,
    P2P_TAKE_DUTIES,
    CarriedFor,
    EndpointView,
    KeptFor,
    Reachability,
    RelayDuty,
)
from common.contracts.p2p import Duties as TakenDuties
from common.contracts.peer_reach import (
    NODE_ANNOUNCE,
    PEERS_EXCHANGE,
    PUNCH_NOW,
    REACH_CHECK,
    RELAY_CIRCUIT,
    RELAY_INCOMING,
    RELAY_RESERVE,
)
from common.parts import Parts
from common.rpc.method import Done, Empty
from common.rpc.table import Ctx
from common.units import Did
from dux_p2pd.announcer import Announcer
from dux_p2pd.circuits import RelayLedger, RelayLimits
from dux_p2pd.endpoints import Endpoints
from dux_p2pd.exchange import Exchange
from dux_p2pd.gateways import map_ports
from dux_p2pd.keeper import Keeper
from dux_p2pd.lan_beacon import LanBeacon
from dux_p2pd.lan_mdns import LanMdns
from dux_p2pd.local_address import towards
from dux_p2pd.overlay import Overlay
from dux_p2pd.punch import Punch
from dux_p2pd.reach import DialBack, Reach
from dux_p2pd.relay_client import RelayClient
from dux_p2pd.relay_server import RelayServer
from dux_p2pd.settings import P2pdSettings, is_everywhere, outside_port
from dux_p2pd.store import OwnTable
from dux_p2pd.upkeep import Upkeep

DUTIES_MAX = 16
_DUTIES = "duties"
NEEDED_ON_MAIN = 2  # networks that must agree on main before one address is given up or another one believed


@dataclass(frozen=True, slots=True)
class Surroundings:
    """How this node is reached, for the methods that show it."""

    endpoints: Endpoints
    relays: RelayClient
    relay: RelayServer
    gateway: Callable[[], str]
    duties: Duties
    kept: Mapping[Did, int]

    async def take(self, params: TakenDuties, _ctx: Ctx) -> Done:
        """p2p.take_duties."""
        self.duties.take(params.duties)
        return Done()

    async def show(self, _params: Empty, _ctx: Ctx) -> Reachability:
        """p2p.reachability."""
        how, ledger = self.endpoints.how(), self.relay.ledger
        told = self.endpoints.told()
        return Reachability(
            how="relayed" if how == "unreachable" and self.relays.relays else how,
            endpoints=[
                EndpointView(
                    endpoint=text,
                    verdict=self.endpoints.verdict(text),
                    verified_by=self.endpoints.verified_by(text),
                    told=text in told,
                )
                for text in self.endpoints.candidates()
            ],
            relays=list(self.relays.relays),
            gateway=self.gateway(),
            duty=RelayDuty(
                on_duty=self.relay.on_duty(),
                reservations=ledger.reservations(self.relay.now()),
                circuits=ledger.duty.circuits,
                bytes=ledger.duty.bytes,
                seconds=int(ledger.duty.seconds),
                refused=ledger.duty.refused,
            ),
            carried=[
                CarriedFor(relay=relay, circuits=circuits, bytes=count)
                for relay, (circuits, count) in self.relays.carried.items()
            ],
            kept=[KeptFor(keeper=keeper, records=count) for keeper, count in self.kept.items()],
        )


class Duties:
    """What this node does for others: by its settings, else by its tier; kept across restarts."""

    def __init__(self, settings: P2pdSettings, own: OwnTable, *, is_main: bool) -> None:
        self._settings, self._own, self._is_main = settings, own, is_main

    def take(self, duties: list[str]) -> None:
        """The registry says which duties the tier has."""
        self._own.set(_DUTIES, " ".join(sorted(duties)[:DUTIES_MAX]).encode())

    def _has(self, duty: str) -> bool:
        return duty in (self._own.get(_DUTIES) or b"").decode().split()

    @property
    def announces(self) -> bool:
        """Whether it passes announcements on: on main by its tier, on test networks all do."""
        chosen = self._settings.announce_duty
        return (not self._is_main or self._has("announce")) if chosen is None else chosen

    def relays(self, how: str) -> bool:
        """Whether it carries circuits: whoever is not itself unreachable, unless the settings say otherwise."""
        chosen = self._settings.relay_duty
        return how != "unreachable" if chosen is None else chosen


def make_endpoints(parts: Parts[P2pdSettings], keeper: Keeper) -> Endpoints:
    """The list of what is told, before anything listens."""
    needed = NEEDED_ON_MAIN if parts.network.is_main else 1
    return Endpoints(keeper.announce, needed=needed, fixed=parts.settings.endpoints)


async def open_surroundings(
    parts: Parts[P2pdSettings], keeper: Keeper, net: Overlay, upkeep: Upkeep, endpoints: Endpoints, own: OwnTable
) -> Surroundings:
    """Everything beside the connections themselves that p2pd does to find and be found."""
    settings = parts.settings
    duties = Duties(settings, own, is_main=parts.network.is_main)
    relay = _relay(parts, net, lambda: duties.relays(endpoints.how()))
    relays = RelayClient(
        net.transport, keeper, net.peers, net.directory, net.tasks, alpn=parts.network.alpn, clock=parts.clock,
        random=parts.random, log=parts.log,
        is_wanted=lambda: settings.use_relays and endpoints.how() == "unreachable",
    )  # fmt: skip
    net.router.answer_stream(RELAY_INCOMING, relays.serve_incoming)
    net.peers.through_relay = relays.through
    announcer = Announcer(
        keeper, net.directory, net.peers, net.tasks, on_duty=lambda: duties.announces, clock=parts.clock,
        random=parts.random, log=parts.log,
    )  # fmt: skip
    net.router.answer(NODE_ANNOUNCE, announcer.on_announce)
    upkeep.on_moved.append(announcer.tell_own)
    exchange = Exchange(
        net.peers, net.dht, upkeep, target=settings.peers_target, public_only=parts.network.is_main,
        clock=parts.clock, random=parts.random, log=parts.log,
    )  # fmt: skip
    net.router.answer(PEERS_EXCHANGE, exchange.on_exchange)
    dial_back = DialBack(net.transport, net.directory, clock=parts.clock)
    net.router.answer(REACH_CHECK, dial_back.on_check)
    parts.gauges["dial_backs_refused"] = lambda: dial_back.refused
    parts.background("exchange", exchange.run)
    if settings.reachability:
        _ask_for_dials(parts, net, endpoints, relays)
    found = Surroundings(
        endpoints,
        relays,
        relay,
        gateway=await map_ports(parts, endpoints, own),
        duties=duties,
        kept=net.dht.calls.kept,
    )
    parts.table.serve(P2P_TAKE_DUTIES, found.take)
    await _open_lan(parts, upkeep, endpoints)
    if settings.hole_punching:
        await _open_paths(parts, keeper, net, endpoints, relays)
    parts.table.serve(P2P_REACHABILITY, found.show)
    return found


async def _open_lan(parts: Parts[P2pdSettings], upkeep: Upkeep, endpoints: Endpoints) -> None:
    """Find nodes of the same LAN, and be found by them, where that is wanted.

    On main it is off unless asked for: it would tell everybody in a café that this machine holds coins.
    """
    settings = parts.settings
    usual = not parts.network.is_main and is_everywhere(settings)

    def found(text: str) -> None:
        if text not in endpoints.candidates() and upkeep.sources.hint(text, None):
            parts.log.info("heard of on the LAN", address=text)
            upkeep.look()

    network, port = parts.network.genesis, outside_port(settings)
    if usual if settings.lan_beacon is None else settings.lan_beacon:
        beacon = LanBeacon(found, network=network, port=port, clock=parts.clock, log=parts.log)
        await beacon.open()
        parts.stack.callback(beacon.close)
        parts.background("LAN beacon", beacon.run)
    if usual if settings.lan_mdns is None else settings.lan_mdns:
        mdns = LanMdns(found, lambda: towards([]), network=network, port=port, random=parts.random, log=parts.log)
        parts.background("mDNS", mdns.run)


async def _open_paths(
    parts: Parts[P2pdSettings], keeper: Keeper, net: Overlay, endpoints: Endpoints, relays: RelayClient
) -> None:
    """Direct paths past NATs; the library is an extra, imported by who wants it."""
    punch = Punch(
        net.transport, keeper, net.tasks, alpn=parts.network.alpn, port=outside_port(parts.settings),
        outside=endpoints.outside, clock=parts.clock, random=parts.random, log=parts.log,
    )  # fmt: skip
    await punch.open()
    parts.stack.push_async_callback(punch.close)
    net.router.answer(PUNCH_NOW, punch.on_punch)
    relays.upgrade = punch.upgrade
    parts.background("direct paths", punch.run)


def _relay(parts: Parts[P2pdSettings], net: Overlay, on_duty: Callable[[], bool]) -> RelayServer:
    settings = parts.settings
    limits = RelayLimits(
        circuits=settings.relay_circuits_max,
        did_bytes_per_hour=settings.relay_did_bytes_per_hour,
        bytes_per_hour=settings.relay_bytes_per_hour,
    )

    relay = RelayServer(RelayLedger(limits), net.peers, clock=parts.clock, log=parts.log, on_duty=on_duty)
    net.router.answer(RELAY_RESERVE, relay.on_reserve)
    net.router.answer_stream(RELAY_CIRCUIT, relay.serve_circuit)
    duty = relay.ledger.duty
    parts.gauges["relay_circuits_total"] = lambda: duty.circuits
    parts.gauges["relay_bytes_total"] = lambda: duty.bytes
    parts.gauges["relay_refused_total"] = lambda: duty.refused
    return relay


def _ask_for_dials(parts: Parts[P2pdSettings], net: Overlay, endpoints: Endpoints, relays: RelayClient) -> None:
    reach = Reach(
        endpoints, net.peers, port=outside_port(parts.settings), clock=parts.clock, random=parts.random, log=parts.log
    )
    reach.on_news.append(relays.look)
    parts.background("reachability", reach.run)
    parts.background("relays", relays.run)
