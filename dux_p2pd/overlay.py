"""The overlay put together: directory, sessions, router, DHT and gossip on one transport."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.contracts.peer import namespaces, peer_methods, topics
from common.contracts.peer_p2p import (
    BLOB_CHUNKS_COST,
    BLOB_CHUNKS_STREAM,
    BLOB_KEEP,
    BLOB_MANIFEST,
    DHT_FIND,
    DHT_GET_AT,
    DHT_STORE,
    DID_LOG,
    GOSSIP_FLOW,
    GOSSIP_FLOW_COST,
    GOSSIP_FLOW_S,
)
from common.contracts.peer_reach import RELAY_CIRCUIT, RELAY_CIRCUIT_COST, RELAY_INCOMING
from common.identity.did import PREFIX as DID_PREFIX
from common.identity.stamp import STAMP_BITS
from common.network import Bootstrap
from common.parts import Parts
from common.rpc.client import Client, HttpClient
from common.units import Did
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.blob_swap import BlobSwap
from dux_p2pd.dht import Dht
from dux_p2pd.directory import Directory
from dux_p2pd.gate import CallBudget
from dux_p2pd.gossip import GossipNet
from dux_p2pd.keeper import Keeper
from dux_p2pd.peers import PeerBook
from dux_p2pd.record_table import RecordTable
from dux_p2pd.router import Router
from dux_p2pd.routing import DuxNode, DuxTable
from dux_p2pd.scores import BLAME_BREACH, Scores
from dux_p2pd.settings import P2pdSettings
from dux_p2pd.shelf import RecordShelf
from dux_p2pd.store import NodeTable
from dux_p2pd.tasks import Tasks
from dux_p2pd.wire_limits import STREAM_S_MAX

KNOWN_AFTER_S = 3600  # on main


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """The overlay, put together."""

    keeper: Keeper
    transport: BaseTransport
    directory: Directory
    peers: PeerBook
    router: Router
    dht: Dht
    gossip: GossipNet
    scores: Scores
    tasks: Tasks


MakeTransport = Callable[[Parts[P2pdSettings], Keeper, Directory], BaseTransport]


async def build_overlay(
    parts: Parts[P2pdSettings], keeper: Keeper, nodes: NodeTable, records: RecordTable, make_transport: MakeTransport
) -> Overlay:
    """Everything between the transport and the methods; the tasks end before the transport that they use."""
    clock, log, settings = parts.clock, parts.log, parts.settings
    directory = _directory(parts, keeper, nodes)
    transport = await parts.stack.enter_async_context(make_transport(parts, keeper, directory))
    tasks = await parts.stack.enter_async_context(Tasks(log))
    scores = Scores(clock)
    peers = PeerBook(
        transport,
        directory,
        scores,
        tasks,
        clock=clock,
        random=parts.random,
        log=log,
        sessions_max=settings.peers_max,
    )
    transport.on_breach = lambda did, why: peers.blame(did, BLAME_BREACH, why)
    router = Router(peer_methods(), _foreign(parts), parts.neighbour, directory)
    transport.prompt = router.at_once
    bits = stamp_bits(parts)
    shelf = RecordShelf(
        records, directory, namespaces(), clock=clock, bytes_max=settings.dht_bytes_max, stamp_bits=bits
    )
    table = DuxTable(DuxNode(keeper.did, "", 0), clock)
    dht = Dht(table, shelf, peers, directory, tasks, clock=clock, log=log)
    gossip = GossipNet(
        topics=topics(),
        keeper=keeper,
        directory=directory,
        peers=peers,
        router=router,
        scores=scores,
        tasks=tasks,
        clock=clock,
        random=parts.random,
        log=log,
        bits=bits,
    )
    return Overlay(
        keeper=keeper,
        transport=transport,
        directory=directory,
        peers=peers,
        router=router,
        dht=dht,
        gossip=gossip,
        scores=scores,
        tasks=tasks,
    )


def _directory(parts: Parts[P2pdSettings], keeper: Keeper, nodes: NodeTable) -> Directory:
    network = parts.network
    named = [custodian.did for custodian in network.fund.custodians]
    named += [*network.arbiters, *(one.did for one in bootstrap_list(parts) if one.did is not None)]
    return Directory(
        nodes,
        keeper,
        clock=parts.clock,
        inception_bits=network.inception_bits,
        known_after_s=_on_main(parts, parts.settings.known_after_s, KNOWN_AFTER_S),
        keep_max=parts.settings.directory_max,
        trusted=frozenset(named),
    )


def _foreign(parts: Parts[P2pdSettings]) -> dict[str, Client]:
    found: dict[str, Client] = {}
    for family, target in parts.settings.relay.items():
        client = HttpClient(family, target.url, Path(target.token_file))
        parts.stack.push_async_callback(client.close)
        found[family] = client
    return found


def answer_peers(net: Overlay, swap: BlobSwap) -> None:
    """What p2pd itself answers to other nodes."""
    router, dht = net.router, net.dht
    router.answer_at_once(DHT_FIND, dht.on_find)
    router.answer_at_once(DHT_GET_AT, dht.on_get_at)
    router.answer_at_once(DHT_STORE, dht.on_store)
    router.answer_at_once(DID_LOG, dht.on_log)
    router.answer(BLOB_MANIFEST, swap.on_manifest)
    router.answer(BLOB_KEEP, swap.on_keep)
    router.answer_stream(BLOB_CHUNKS_STREAM, swap.serve_chunks)
    router.answer_stream(GOSSIP_FLOW, net.gossip.serve_flow)


def shared_arguments(parts: Parts[P2pdSettings], directory: Directory) -> dict[str, Any]:
    """What every transport of a node is given."""
    methods = peer_methods().values()
    costs: dict[str, float] = {method.name: method.cost for method in methods}
    costs |= {BLOB_CHUNKS_STREAM: BLOB_CHUNKS_COST, RELAY_CIRCUIT: RELAY_CIRCUIT_COST, GOSSIP_FLOW: GOSSIP_FLOW_COST}
    long = {RELAY_CIRCUIT: STREAM_S_MAX, RELAY_INCOMING: STREAM_S_MAX, GOSSIP_FLOW: GOSSIP_FLOW_S}
    return {
        "network": parts.network.genesis,
        "papers": directory,
        "clock": parts.clock,
        "log": parts.log,
        "budget": CallBudget(costs),
        "method_s_max": {method.name: method.deadline_max_s for method in methods} | long,
    }


def bootstrap_list(parts: Parts[P2pdSettings]) -> list[Bootstrap]:
    """Addresses to begin from: the settings' and the network profile's."""
    return [*(read_bootstrap(text) for text in parts.settings.bootstrap), *parts.network.bootstrap]


def read_bootstrap(text: str) -> Bootstrap:
    """`host:port [did:dux:…] [region]` of the settings."""
    address, *words = text.split()
    did = next((word for word in words if word.startswith(DID_PREFIX)), None)
    region = next((word for word in words if not word.startswith(DID_PREFIX)), "")
    return Bootstrap(address=address, did=Did(did) if did else None, region=region)


def stamp_bits(parts: Parts[P2pdSettings]) -> int:
    """The work that strangers' messages, records and letters need here."""
    return _on_main(parts, parts.settings.stamp_bits, STAMP_BITS)


def _on_main(parts: Parts[P2pdSettings], chosen: int | None, on_main: int) -> int:
    """A setting as chosen; unset, the given value on main and 0 on test networks."""
    if chosen is not None:
        return chosen
    return on_main if parts.network.is_main else 0
