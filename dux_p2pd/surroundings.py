"""Assembly of what finds nodes and makes this one reachable: relays, dial-back, exchange, announcements, LAN."""

from __future__ import annotations

from dataclasses import dataclass

from common.contracts.peer_reach import (
    NODE_ANNOUNCE,
    PEERS_EXCHANGE,
    REACH_CHECK,
    RELAY_CIRCUIT,
    RELAY_INCOMING,
    RELAY_RESERVE,
)
from common.parts import Parts
from dux_p2pd.announcer import Announcer
from dux_p2pd.circuit_rules import RelayLedger, RelayLimits
from dux_p2pd.endpoints import Endpoints
from dux_p2pd.exchange import Exchange
from dux_p2pd.keeper import Keeper
from dux_p2pd.overlay import Overlay
from dux_p2pd.reach import DialBack, Reach
from dux_p2pd.relay_client import RelayClient
from dux_p2pd.relay_server import RelayServer
from dux_p2pd.settings import P2pdSettings, outside_port
from dux_p2pd.upkeep import Upkeep

NEEDED_ON_MAIN = 2  # networks that must agree on main before one address is given up or another one believed


@dataclass(frozen=True, slots=True)
class Surroundings:
    """How this node is reached, for the methods that show it."""

    endpoints: Endpoints
    relays: RelayClient
    relay: RelayServer


def make_endpoints(parts: Parts[P2pdSettings], keeper: Keeper) -> Endpoints:
    """The list of what is told, before anything listens."""
    needed = NEEDED_ON_MAIN if parts.network.is_main else 1
    return Endpoints(keeper.announce, needed=needed, fixed=parts.settings.endpoints)


def open_surroundings(
    parts: Parts[P2pdSettings], keeper: Keeper, net: Overlay, upkeep: Upkeep, endpoints: Endpoints
) -> Surroundings:
    """Everything beside the connections themselves that p2pd does to find and be found."""
    settings = parts.settings
    relay = _relay(parts, net, endpoints)
    relays = RelayClient(
        net.transport, keeper, net.peers, net.directory, net.tasks, alpn=parts.network.alpn, clock=parts.clock,
        random=parts.random, log=parts.log,
        is_wanted=lambda: settings.use_relays and endpoints.how() == "unreachable",
    )  # fmt: skip
    net.router.answer_stream(RELAY_INCOMING, relays.serve_incoming)
    net.peers.through_relay = relays.through
    announcer = Announcer(
        keeper, net.directory, net.peers, net.tasks, on_duty=lambda: announces(parts), clock=parts.clock,
        random=parts.random, log=parts.log,
    )  # fmt: skip
    net.router.answer(NODE_ANNOUNCE, announcer.on_announce)
    upkeep.on_moved.append(announcer.tell_own)
    exchange = Exchange(
        net.peers, net.dht, upkeep, target=settings.peers_target, public_only=parts.network.is_main,
        clock=parts.clock, random=parts.random, log=parts.log,
    )  # fmt: skip
    net.router.answer(PEERS_EXCHANGE, exchange.on_exchange)
    net.router.answer(REACH_CHECK, DialBack(net.transport, net.directory, clock=parts.clock).on_check)
    parts.background("exchange", exchange.run)
    if settings.reachability:
        _ask_for_dials(parts, net, endpoints, relays)
    return Surroundings(endpoints, relays, relay)


def announces(parts: Parts[P2pdSettings]) -> bool:
    """Whether this node passes announcements on: on main by its tier, on test networks all do."""
    return not parts.network.is_main if parts.settings.announce_duty is None else parts.settings.announce_duty


def _relay(parts: Parts[P2pdSettings], net: Overlay, endpoints: Endpoints) -> RelayServer:
    settings = parts.settings
    limits = RelayLimits(
        circuits=settings.relay_circuits_max,
        did_bytes_per_hour=settings.relay_did_bytes_per_hour,
        bytes_per_hour=settings.relay_bytes_per_hour,
    )

    def on_duty() -> bool:
        return endpoints.how() != "unreachable" if settings.relay_duty is None else settings.relay_duty

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
