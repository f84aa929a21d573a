"""Assembly of p2pd: the parts meet here and nowhere else."""

from __future__ import annotations

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
    GOSSIP_SEND,
)
from common.daemon import DuxOSDaemon
from common.errors import BadSettings
from common.node_ports import EGRESS_OFFSET, OUTSIDE_OFFSET
from common.parts import Parts
from common.rpc.client import Client, HttpClient
from common.units import Did
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.blob_http import BlobDoor
from dux_p2pd.blob_store import BlobStore
from dux_p2pd.blob_swap import BlobSwap
from dux_p2pd.dht import Dht
from dux_p2pd.directory import Directory
from dux_p2pd.egress import Egress
from dux_p2pd.gate import CallBudget
from dux_p2pd.gossip import GossipNet
from dux_p2pd.keeper import Keeper, load_branch, load_transport_seed
from dux_p2pd.methods import BlobMethods, IdentityMethods, NetworkMethods
from dux_p2pd.peers import PeerBook
from dux_p2pd.resolver import Resolver
from dux_p2pd.router import Router
from dux_p2pd.routing import DuxNode, DuxTable
from dux_p2pd.scores import Scores
from dux_p2pd.settings import P2pdSettings
from dux_p2pd.shelf import RecordShelf
from dux_p2pd.socks import parse_target
from dux_p2pd.store import MIGRATIONS, BlobTable, NodeTable, OwnTable, RecordTable
from dux_p2pd.tasks import Tasks
from dux_p2pd.tls_contexts import contexts_of_seed
from dux_p2pd.tls_transport import TlsTransport
from dux_p2pd.upkeep import Upkeep

KNOWN_AFTER_S = 3600
STAMP_BITS = 20
ANY_HOSTS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


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


class P2pDaemon(DuxOSDaemon[P2pdSettings]):
    """The node's only door to the outside."""

    name = "p2pd"
    settings_type = P2pdSettings
    net: Overlay
    blobs: BlobStore

    async def assemble(self, parts: Parts[P2pdSettings]) -> None:
        """Identity first, then the overlay, then what the other daemons see of it."""
        settings, store = parts.settings, parts.store(MIGRATIONS)
        keeper = Keeper(
            load_branch(parts.data_dir),
            load_transport_seed(parts.data_dir, parts.random),
            OwnTable(store),
            clock=parts.clock,
            inception_bits=parts.network.inception_bits,
        )
        nodes = NodeTable(store)
        self.net = net = await self._overlay(parts, keeper, nodes, RecordTable(store))
        self.blobs = blobs = BlobStore(
            parts.data_dir / "blobs",
            BlobTable(store),
            clock=parts.clock,
            quota_bytes=settings.blob_quota_bytes,
            blob_bytes_max=settings.blob_bytes_max,
        )
        swap = BlobSwap(blobs, net.peers, keeper, settings=settings, clock=parts.clock, log=parts.log)
        self._answer_peers(net, swap)
        await self._listen_outside(parts, keeper, net)
        egress = await self._egress(parts)
        upkeep = self._upkeep(parts, keeper, net, nodes)
        self._serve_daemons(parts, keeper, net, upkeep, blobs, swap, egress)

    # the overlay

    async def _overlay(
        self, parts: Parts[P2pdSettings], keeper: Keeper, nodes: NodeTable, records: RecordTable
    ) -> Overlay:
        clock, log, settings = parts.clock, parts.log, parts.settings
        directory = self._directory(parts, keeper, nodes)
        transport = await parts.stack.enter_async_context(self.make_transport(parts, keeper, directory))
        tasks = await parts.stack.enter_async_context(Tasks(log))  # ends before the transport that its tasks use
        scores = Scores(clock)
        peers = PeerBook(
            transport,
            directory,
            nodes,
            scores,
            tasks,
            clock=clock,
            random=parts.random,
            log=log,
            sessions_max=settings.peers_max,
        )
        router = Router(peer_methods(), self._foreign(parts), parts.neighbour, directory)
        shelf = RecordShelf(records, directory, namespaces(), clock=clock, bytes_max=settings.dht_bytes_max)
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
            log=log,
            bits=_on_main(parts, settings.stamp_bits, STAMP_BITS),
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

    def _directory(self, parts: Parts[P2pdSettings], keeper: Keeper, nodes: NodeTable) -> Directory:
        network = parts.network
        named = [custodian.did for custodian in network.fund.custodians]
        named += [*network.arbiters, *(did for _, did in _bootstrap(parts) if did is not None)]
        return Directory(
            nodes,
            keeper,
            clock=parts.clock,
            inception_bits=network.inception_bits,
            known_after_s=_on_main(parts, parts.settings.known_after_s, KNOWN_AFTER_S),
            keep_max=parts.settings.directory_max,
            trusted=frozenset(named),
        )

    def make_transport(self, parts: Parts[P2pdSettings], keeper: Keeper, directory: Directory) -> BaseTransport:
        """TLS over TCP; the simulator puts another one here."""
        host = parts.settings.listen_host
        port = parts.settings.listen_port or parts.settings.port_base + OUTSIDE_OFFSET
        return TlsTransport(
            contexts=contexts_of_seed(keeper.transport_seed, parts.network.alpn),
            listen=(host, port),
            bind_source=host.startswith("127."),
            **shared_arguments(parts, directory),
        )

    def _foreign(self, parts: Parts[P2pdSettings]) -> dict[str, Client]:
        found: dict[str, Client] = {}
        for family, target in parts.settings.relay.items():
            client = HttpClient(family, target.url, Path(target.token_file))
            parts.stack.push_async_callback(client.close)
            found[family] = client
        return found

    def _answer_peers(self, net: Overlay, swap: BlobSwap) -> None:
        """What p2pd itself answers to other nodes."""
        router, dht = net.router, net.dht
        router.answer(DHT_FIND, dht.on_find)
        router.answer(DHT_GET_AT, dht.on_get_at)
        router.answer(DHT_STORE, dht.on_store)
        router.answer(DID_LOG, dht.on_log)
        router.answer(GOSSIP_SEND, net.gossip.on_message)
        router.answer(BLOB_MANIFEST, swap.on_manifest)
        router.answer(BLOB_KEEP, swap.on_keep)
        router.answer_stream(BLOB_CHUNKS_STREAM, swap.serve_chunks)

    async def _listen_outside(self, parts: Parts[P2pdSettings], keeper: Keeper, net: Overlay) -> None:
        try:
            host, port = await net.transport.serve(net.peers.on_session, net.router.handle)
        except OSError as error:
            raise BadSettings(path="listen_host", detail=f"cannot listen there: {error.strerror}") from error
        endpoints = parts.settings.endpoints or (() if host in ANY_HOSTS else (f"{host}:{port}",))
        keeper.announce(endpoints)
        parts.log.info("listening outside", did=keeper.did, address=f"{host}:{port}")
        parts.problems.append(lambda: "" if net.peers.sessions() or not _bootstrap(parts) else "no peer is connected")

    # what the other daemons see

    async def _egress(self, parts: Parts[P2pdSettings]) -> Egress:
        try:
            allow = {
                daemon: frozenset(parse_target(text) for text in texts)
                for daemon, texts in parts.settings.egress_allow.items()
            }
        except ValueError as error:
            raise BadSettings(path="egress_allow", detail=str(error)) from error
        egress = Egress(
            allow,
            parts.run_dir,
            connections_max=parts.settings.egress_connections_max,
            idle_s=parts.settings.egress_idle_s,
            log=parts.log,
        )
        port = parts.settings.port_base + EGRESS_OFFSET
        try:
            await egress.start(parts.settings.host, port)
        except OSError as error:
            raise BadSettings(path="port_base", detail=f"cannot listen on {port}: {error.strerror}") from error
        parts.stack.push_async_callback(egress.stop)
        return egress

    def _upkeep(self, parts: Parts[P2pdSettings], keeper: Keeper, net: Overlay, nodes: NodeTable) -> Upkeep:
        upkeep = Upkeep(
            net.peers,
            net.dht,
            keeper,
            nodes,
            _bootstrap(parts),
            clock=parts.clock,
            random=parts.random,
            log=parts.log,
            target=parts.settings.peers_target,
            republish_s=parts.settings.republish_s,
        )
        parts.background("connections", upkeep.run_connections)
        parts.background("records", upkeep.run_records)
        return upkeep

    def _serve_daemons(
        self,
        parts: Parts[P2pdSettings],
        keeper: Keeper,
        net: Overlay,
        upkeep: Upkeep,
        blobs: BlobStore,
        swap: BlobSwap,
        egress: Egress,
    ) -> None:
        resolver = Resolver(net.dht, net.peers, net.directory, clock=parts.clock)
        net.peers.locate = resolver.locate
        NetworkMethods(
            network=parts.network.genesis,
            keeper=keeper,
            peers=net.peers,
            router=net.router,
            gossip=net.gossip,
            dht=net.dht,
            upkeep=upkeep,
            blobs=blobs,
            egress=egress,
            topics=topics(),
        ).serve(parts.table)
        IdentityMethods(keeper, resolver, clock=parts.clock).serve(parts.table)
        BlobMethods(blobs, swap).serve(parts.table)
        parts.routes += BlobDoor(blobs, keep_s=parts.settings.blob_put_keep_s).routes()
        parts.gauges["sessions"] = lambda: len(net.peers.sessions())
        parts.gauges["contacts"] = lambda: len(net.dht.table.contacts())
        parts.gauges["records"] = net.dht.shelf.table.count
        parts.gauges["blob_bytes"] = lambda: blobs.totals()[1]
        parts.gauges["egress_refused"] = lambda: egress.refused


def shared_arguments(parts: Parts[P2pdSettings], directory: Directory) -> dict[str, Any]:
    """What every transport of a node is given."""
    methods = peer_methods().values()
    costs: dict[str, float] = {method.name: method.cost for method in methods}
    costs[BLOB_CHUNKS_STREAM] = BLOB_CHUNKS_COST
    return {
        "network": parts.network.genesis,
        "papers": directory,
        "clock": parts.clock,
        "log": parts.log,
        "budget": CallBudget(costs),
        "method_s_max": {method.name: method.deadline_max_s for method in methods},
    }


def _bootstrap(parts: Parts[P2pdSettings]) -> list[tuple[str, Did | None]]:
    """Addresses to begin from: the settings' and the network profile's."""
    found: list[tuple[str, Did | None]] = []
    for text in parts.settings.bootstrap:
        address, _, did = text.partition(" ")
        found.append((address, Did(did.strip()) if did.strip() else None))
    return found + [(one.address, one.did) for one in parts.network.bootstrap]


def _on_main(parts: Parts[P2pdSettings], chosen: int | None, on_main: int) -> int:
    """A setting as chosen; unset, the given value on main and 0 on test networks."""
    if chosen is not None:
        return chosen
    return on_main if parts.network.is_main else 0
