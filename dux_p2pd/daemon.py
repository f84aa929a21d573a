"""Assembly of p2pd: the parts meet here and nowhere else."""

from __future__ import annotations

from common.chain.params import family_named
from common.contracts.p2p_mail import MAIL_EVENTS
from common.contracts.peer import topics
from common.contracts.peer_p2p import DID_TELL
from common.daemon import DuxOSDaemon
from common.errors import BadSettings
from common.node_ports import EGRESS_OFFSET
from common.parts import Parts
from common.settings import is_loopback
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.blob_http import BlobDoor
from dux_p2pd.blob_store import BlobStore
from dux_p2pd.blob_swap import BlobSwap
from dux_p2pd.directory import Directory
from dux_p2pd.egress import Egress
from dux_p2pd.endpoints import Endpoints
from dux_p2pd.event_loop import new_event_loop
from dux_p2pd.keeper import Keeper
from dux_p2pd.key_source import KeySource, load_keys
from dux_p2pd.left_behind import Fetch, LeftBehind
from dux_p2pd.local_address import towards
from dux_p2pd.log_fetch import LogFetch
from dux_p2pd.look_key import LookKey
from dux_p2pd.mail_parts import mailbox_keys, open_mailbox
from dux_p2pd.mail_table import MailTable
from dux_p2pd.mailbox import Mailbox
from dux_p2pd.methods import BlobMethods, IdentityMethods, LookMethods, NetworkMethods
from dux_p2pd.outward import Outward, Passwords, way_out
from dux_p2pd.overlay import Overlay, answer_peers, bootstrap_list, build_overlay, shared_arguments
from dux_p2pd.record_table import RecordTable
from dux_p2pd.refusals import Refusals
from dux_p2pd.remembered import Remembered
from dux_p2pd.renewal import Renewal
from dux_p2pd.resolver import Resolver
from dux_p2pd.rules import contact_at, endpoint_of
from dux_p2pd.settings import ANY_HOSTS, P2pdSettings, listen_hosts, outside_port
from dux_p2pd.socks import Target, parse_target
from dux_p2pd.store import MIGRATIONS, BlobTable, NodeTable, OwnTable
from dux_p2pd.store_places import PlaceTable
from dux_p2pd.surroundings import Surroundings, make_endpoints, open_surroundings
from dux_p2pd.tls_keys import contexts_of_seed
from dux_p2pd.tls_transport import TlsTransport
from dux_p2pd.transport_keys import TransportKeys
from dux_p2pd.upkeep import Upkeep
from dux_p2pd.whereabouts import Whereabouts
from dux_p2pd.wire_limits import STOP_DRAIN_S


class P2pDaemon(DuxOSDaemon[P2pdSettings]):
    """The node's only door to the outside."""

    name = "p2pd"
    settings_type = P2pdSettings
    new_loop = staticmethod(new_event_loop)
    net: Overlay
    endpoints: Endpoints
    surroundings: Surroundings
    blobs: BlobStore
    egress: Egress
    renewal: Renewal
    resolver: Resolver
    mailbox: Mailbox
    _has_others: bool

    async def assemble(self, parts: Parts[P2pdSettings]) -> None:
        """Identity first, then the overlay, then what the other daemons see of it."""
        settings, store = parts.settings, parts.store(MIGRATIONS)
        keys, transport_keys = self.load_keys(parts)
        keeper = Keeper(
            keys,
            transport_keys,
            OwnTable(store),
            clock=parts.clock,
            inception_bits=parts.network.inception_bits,
            mailbox=(mail_keys := mailbox_keys(parts)),
        )
        nodes = NodeTable(store)
        self.endpoints = make_endpoints(parts, keeper)
        self.net = net = await build_overlay(parts, keeper, nodes, RecordTable(store), self.make_transport)
        self.blobs = blobs = BlobStore(
            parts.data_dir / "blobs",
            BlobTable(store),
            clock=parts.clock,
            quota_bytes=settings.blob_quota_bytes,
            blob_bytes_max=settings.blob_bytes_max,
        )
        swap = BlobSwap(blobs, net.peers, keeper, net.tasks, settings=settings, clock=parts.clock, log=parts.log)
        answer_peers(net, swap)
        parts.stack.push_async_callback(net.dht.offers.leave)
        await self._listen_outside(parts, keeper, net)
        self.egress = egress = await self.open_egress(parts)
        upkeep = self._upkeep(parts, keeper, net, Remembered(PlaceTable(store), net.directory, clock=parts.clock))
        self.surroundings = await open_surroundings(parts, keeper, net, upkeep, self.endpoints, OwnTable(store))
        self._serve_daemons(parts, keeper, net, upkeep, blobs, swap, egress)
        self.mailbox = open_mailbox(parts, mail_keys, keeper, net, self.resolver, MailTable(store))
        parts.serve_events(MAIL_EVENTS, store)
        parts.stack.push_async_callback(net.transport.drain, STOP_DRAIN_S)
        parts.stack.push_async_callback(net.gossip.leave)  # first of all that leaves: its streams would never end

    def load_keys(self, parts: Parts[P2pdSettings]) -> tuple[KeySource, TransportKeys]:
        """The keys of the identity and of the connections, from their files; the simulator hands in others."""
        transport_keys = TransportKeys(
            parts.data_dir,
            parts.random,
            now_ms=parts.clock.unix_ms(),
            period_s=parts.settings.rotate_transport_every_s,
        )
        return load_keys(parts.data_dir), transport_keys

    def load_look_key(self, parts: Parts[P2pdSettings]) -> LookKey:
        """The key that looks at others are proved with, from its file; the simulator hands in another."""
        return LookKey(parts.data_dir, parts.random)

    def make_transport(self, parts: Parts[P2pdSettings], keeper: Keeper, directory: Directory) -> BaseTransport:
        """TLS over TCP; the simulator puts another one here."""
        host, *more = listen_hosts(parts.settings.listen_host)
        port = outside_port(parts.settings)
        anywhere = host in ANY_HOSTS and not parts.settings.endpoints
        own = Whereabouts(self.endpoints.own, port=port, private_too=not parts.network.is_main)
        return TlsTransport(
            contexts=contexts_of_seed(keeper.transport.seed, parts.network.alpn),
            listen=(host, port),
            also_listen=tuple(more),
            bind_source=is_loopback(host),
            whereabouts=own if anywhere else None,
            **shared_arguments(parts, directory),
        )

    def log_fetch(self, parts: Parts[P2pdSettings]) -> Fetch | None:
        """Asks for this node's own log under another name; the simulator's nodes have no other."""
        return LogFetch(parts.network, clock=parts.clock, random=parts.random, log=parts.log).fetch

    async def _listen_outside(self, parts: Parts[P2pdSettings], keeper: Keeper, net: Overlay) -> None:
        try:
            host, port = await net.transport.serve(net.peers.on_session, net.router.handle)
        except OSError as error:
            raise BadSettings(path="listen_host", detail=f"cannot listen there: {error.strerror}") from error
        hosts = [] if host in ANY_HOSTS else listen_hosts(parts.settings.listen_host)
        endpoints = parts.settings.endpoints or tuple(endpoint_of((one, port)) for one in hosts)
        whereabouts = getattr(net.transport, "whereabouts", None)
        if isinstance(whereabouts, Whereabouts):
            known = [contact_at(one.address) for one in bootstrap_list(parts)]
            whereabouts.guessed(towards([address for address in known if address is not None]))
        if endpoints:  # else the first connections have told already where we are
            self.endpoints.own(endpoints)
        parts.problems.append(lambda: keeper.problem)
        parts.log.info("listening outside", did=keeper.did, address=endpoint_of((host, port)))
        self._has_others = any(n.address not in endpoints and n.did != keeper.did for n in bootstrap_list(parts))
        parts.problems.append(keeper.clock_problem)

    # what the other daemons see

    async def open_egress(self, parts: Parts[P2pdSettings]) -> Egress:
        """Let daemons out, each to where it may go; in a simulated world nobody has anywhere to go."""
        passwords = Passwords(parts.random)
        egress = shut_egress(parts, outward_of(parts.settings, passwords))
        port = parts.settings.port_base + EGRESS_OFFSET
        try:
            await egress.start(parts.settings.host, port)
        except OSError as error:
            raise BadSettings(path="port_base", detail=f"cannot listen on {port}: {error.strerror}") from error
        parts.stack.push_async_callback(egress.stop)
        parts.on_reload.append(lambda settings: self._reload_egress(egress, settings, passwords))
        return egress

    def _reload_egress(self, egress: Egress, settings: P2pdSettings, passwords: Passwords) -> None:
        """SIGHUP: other allow-lists, another upstream; what cannot be read changes nothing."""
        try:
            allow, outward = allow_lists(settings), outward_of(settings, passwords)
            egress.allow(allow)
            egress.take(outward)
        except BadSettings as error:
            self.log.error("allow-lists not taken", reason=error.message)  # noqa: TRY400 - a typing error has no trace

    def _upkeep(self, parts: Parts[P2pdSettings], keeper: Keeper, net: Overlay, met: Remembered) -> Upkeep:
        upkeep = Upkeep(
            net.peers,
            net.dht,
            keeper,
            met,
            bootstrap_list(parts),
            region=parts.settings.region,
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
        self.resolver = resolver = Resolver(net.dht, net.peers, net.directory, clock=parts.clock)
        net.peers.locate = resolver.locate
        renewal = self._renewal(parts, keeper, net, upkeep, resolver)
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
        refusals = Refusals(parts.clock, net.transport.part_with)
        net.transport.refuses = refusals.has
        refusals.serve(parts.table)
        family = family_named(parts.network.chain)
        IdentityMethods(keeper, resolver, renewal, parts.data_dir, family, clock=parts.clock).serve(parts.table)
        LookMethods(self.load_look_key(parts)).serve(parts.table)
        BlobMethods(blobs, swap).serve(parts.table)
        swap.publish, swap.find = upkeep.put, net.dht.get
        parts.background("blobs kept", swap.run_offers)
        parts.routes += BlobDoor(blobs, keep_s=parts.settings.blob_put_keep_s).routes()
        parts.gauges["sessions"] = lambda: len(net.peers.sessions())
        parts.gauges["contacts"] = lambda: len(net.dht.table.contacts())
        parts.gauges["records"] = net.dht.shelf.table.count
        parts.gauges["blob_bytes"] = lambda: blobs.totals()[1]
        parts.gauges["egress_refused"] = lambda: egress.refused
        for counted in (net.transport.count, net.peers.abuse, net.gossip):
            parts.gauges.update(counted.gauges())

    def _renewal(
        self, parts: Parts[P2pdSettings], keeper: Keeper, net: Overlay, upkeep: Upkeep, resolver: Resolver
    ) -> Renewal:
        renewal = Renewal(
            keeper,
            net.directory,
            net.peers,
            net.dht,
            resolver,
            upkeep,
            net.transport,
            net.tasks,
            clock=parts.clock,
            random=parts.random,
            log=parts.log,
            rotate_every_s=parts.settings.rotate_keys_every_s,
        )
        net.router.answer(DID_TELL, renewal.on_tell)
        parts.background("renewal", renewal.run)
        left_behind = LeftBehind(
            keeper,
            net.directory,
            net.peers,
            lambda: [source.address for source in upkeep.sources],
            self.log_fetch(parts),
            clock=parts.clock,
            log=parts.log,
        )
        renewal.left_behind, upkeep.on_failure = left_behind, left_behind.dial_failed
        parts.problems.append(lambda: left_behind.problem() if self._has_others else "")
        self.renewal = renewal
        return renewal


def shut_egress(parts: Parts[P2pdSettings], outward: Outward | None = None) -> Egress:
    """The egress as the settings want it, not listening yet.

    Raises:
        BadSettings: an entry of an allow-list is not host:port.
    """
    return Egress(
        allow_lists(parts.settings),
        parts.run_dir,
        connections_max=parts.settings.egress_connections_max,
        idle_s=parts.settings.egress_idle_s,
        log=parts.log,
        outward=outward,
    )


def allow_lists(settings: P2pdSettings) -> dict[str, frozenset[Target]]:
    """Where each daemon may go.

    Raises:
        BadSettings: an entry is not host:port.
    """
    try:
        return {
            daemon: frozenset(parse_target(text) for text in texts) for daemon, texts in settings.egress_allow.items()
        }
    except ValueError as error:
        raise BadSettings(path="egress_allow", detail=str(error)) from error


def outward_of(settings: P2pdSettings, passwords: Passwords) -> Outward:
    """The way out that the settings name.

    Raises:
        BadSettings: an address is not host:port, or a hidden service is to be reached straight.
    """
    try:
        return way_out(settings.egress_upstream, settings.egress_straight, passwords)
    except ValueError as error:
        raise BadSettings(path="egress_upstream", detail=str(error)) from error
