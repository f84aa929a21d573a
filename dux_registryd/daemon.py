"""Assembly of registryd: its parts meet here and nowhere else."""

from __future__ import annotations

from pathlib import Path

import msgspec

from common.catchup import CatchUp
from common.chain.address import script_to_address
from common.chain.params import family_named
from common.contracts import (
    registry,
    registry_audit,
    registry_claims,
    registry_service,
    registry_standing,
    registry_witness,
)
from common.contracts.base import GossipIn
from common.contracts.peer_registry import (
    CLAIMS_ISSUE,
    NODES_SYNC,
    PRESENCE_PROBE,
    PRESENCE_SHOW_PEER,
    PRESENCE_TELL,
    RECEIPTS_SYNC,
    REPUTATION_ASK,
    STANDING_SYNC,
    TOPIC_HEARTBEAT,
    TOPIC_NODE,
    TOPIC_PRESENCE,
    TOPIC_RECEIPT,
    TOPIC_STANDING,
)
from common.contracts.registry import NodeStatus
from common.contracts.registry_seen import EVIDENCE_SEEN
from common.daemon import DuxOSDaemon
from common.keygen import PAYOUT_FILE
from common.parts import Parts
from common.receipts import Attested
from common.standing import Kind
from dux_registryd.assembly_machines import measure_machines
from dux_registryd.attestations import Attestations
from dux_registryd.audit_methods import AuditMethods
from dux_registryd.audits import Audits
from dux_registryd.benchmarker import Benchmarker
from dux_registryd.bonds import Bonds
from dux_registryd.challengers import Challengers
from dux_registryd.claims import ClaimDesk
from dux_registryd.duty import Duty
from dux_registryd.effects import Outside
from dux_registryd.enforcer import Enforcer
from dux_registryd.finder import Finder
from dux_registryd.intake import Intake
from dux_registryd.machine import Machine
from dux_registryd.machines import Machines
from dux_registryd.networks import Networks
from dux_registryd.node_methods import NodeMethods
from dux_registryd.prober import Prober
from dux_registryd.pulse import Pulse
from dux_registryd.receipt_methods import ReceiptMethods
from dux_registryd.sanction_methods import SanctionMethods
from dux_registryd.scores import Scores
from dux_registryd.seen_methods import SeenMethods
from dux_registryd.services import ServiceBook
from dux_registryd.settings import RegistrydSettings
from dux_registryd.sightings import Sightings
from dux_registryd.statements import Statements
from dux_registryd.store import MIGRATIONS, Book
from dux_registryd.upkeep import Announcer, Checker, Monitor, missed
from dux_registryd.witness_methods import WitnessMethods


class RegistryDaemon(DuxOSDaemon[RegistrydSettings]):
    """Guards the list of nodes and what reputations are made of."""

    name = "registryd"
    settings_type = RegistrydSettings
    intake: Intake
    benchmarker: Benchmarker
    duty: Duty
    bonds: Bonds

    async def assemble(self, parts: Parts[RegistrydSettings]) -> None:
        """Store, neighbours, intake, methods, loops."""
        book = Book(parts.store(MIGRATIONS))
        outside = Outside(parts.neighbour("p2pd"), parts.neighbour("flopd"), parts.network)
        intake = Intake(book, outside, parts.network, parts.clock, parts.settings)
        machines = Machines(book, parts.network.benchmark, parts.clock)
        scores = Scores(book, outside, machines, parts.network, parts.clock)
        statements = Statements(book, outside, intake, network=parts.network.genesis, clock=parts.clock)
        checker = Checker(book, outside, intake, parts.log, parts.settings.check_s)
        machine = self.machine(parts)
        pulse = Pulse(
            book,
            outside,
            network=parts.network,
            clock=parts.clock,
            log=parts.log,
            machine=machine,
            interval_s=parts.settings.heartbeat_s,
        )
        nodes = NodeMethods(
            book,
            outside,
            intake,
            scores,
            pulse,
            network=parts.network,
            clock=parts.clock,
            settings=parts.settings,
            machine=machine,
        )
        receipts = ReceiptMethods(book, outside, intake, scores, statements)
        self.bonds = _bonds(parts, book, outside, scores, statements)
        _claims(
            parts, book, outside, ClaimDesk(book, outside, scores, self.bonds, clock=parts.clock, random=parts.random)
        )
        finder = Finder(book, outside, intake, scores, clock=parts.clock, settings=parts.settings)
        _serve_nodes(parts, nodes, finder)
        networks = Networks(book, outside)
        _serve_receipts(parts, receipts, networks)
        _serve_peers(parts, intake, receipts)
        challengers = Challengers(
            book, outside, scores, networks, rules=parts.network.presence, clock=parts.clock, settings=parts.settings
        )
        self.intake, intake.room.net_of = intake, challengers.net_of
        _witness(parts, book, outside, intake, scores, challengers, networks)
        self.benchmarker = measure_machines(parts, book, outside, challengers, statements, machines, machine)
        self.duty = _audits(parts, book, outside, intake, scores, challengers, statements, self.benchmarker)
        _sanctions(parts, book, outside, scores, statements)
        parts.serve_events(registry.REGISTRY_EVENTS, book.store)
        parts.outbox(book.store, outside.perform)
        monitor = Monitor(book, outside, parts.clock, parts.log, parts.settings)
        catchup = CatchUp(
            book,
            outside.connected,
            missed(outside, intake, statements),
            random=parts.random,
            log=parts.log,
            pause_s=parts.settings.sync_s,
        )
        parts.background(
            "announce", Announcer(nodes, book, outside, parts.log, paid_at(parts), parts.network.genesis).run
        )
        parts.background("heartbeats", pulse.run)
        parts.background("receipts", checker.run)
        parts.background("monitor", monitor.run)
        parts.background("duties", self.duty.run)
        parts.background("catch up", catchup.run)
        parts.gauges["nodes"] = lambda: float(book.count_nodes())
        for status in NodeStatus:
            parts.gauges[f"nodes_{status.value}"] = lambda status=status: float(monitor.count(status))  # type: ignore[misc]
        for word in ("accept", "ignore", "reject"):
            parts.gauges[f"taken_in_{word}"] = lambda word=word: float(intake.counted[word])  # type: ignore[misc]
        parts.gauges["receipts_settled"] = lambda: float(book.count_claims().get("settled", 0))
        parts.gauges["receipts_pending"] = lambda: float(book.count_claims().get("pending", 0))

    def machine(self, parts: Parts[RegistrydSettings]) -> Machine:
        """The hardware that is told of; a simulator's subclass has its own."""
        return Machine(parts.data_dir)


def paid_at(parts: Parts[RegistrydSettings]) -> RegistrydSettings:
    """The settings with the address at which the node is paid: the owner's, else the one that key making left."""
    left = parts.data_dir / Path(PAYOUT_FILE).name
    if parts.settings.wallet_address or parts.store_in_memory or not left.exists():
        return parts.settings
    script = bytes.fromhex(left.read_text())
    return msgspec.structs.replace(
        parts.settings, wallet_address=script_to_address(script, family_named(parts.network.chain)) or ""
    )


def _serve_nodes(parts: Parts[RegistrydSettings], nodes: NodeMethods, finder: Finder) -> None:
    parts.table.serve(registry.NODE_REGISTER, nodes.register)
    parts.table.serve(registry.NODE_SELF, nodes.own_view)
    parts.table.serve(registry.NODE_SHOW, nodes.show)
    parts.table.serve(registry.NODE_LIST, nodes.list_nodes)
    parts.table.serve(registry.NODE_FIND, finder.find)
    parts.table.serve(registry.NODE_UPDATE_HEALTH, nodes.update_health)
    parts.table.serve(registry.NODE_DEREGISTER, nodes.deregister)
    parts.table.serve(registry.NODE_CAPABILITIES, nodes.capabilities)
    parts.table.serve(registry.REGISTRY_STATUS, nodes.status)


def _serve_receipts(parts: Parts[RegistrydSettings], receipts: ReceiptMethods, networks: Networks) -> None:
    parts.table.serve(registry.REPUTATION_GET, receipts.reputation)
    parts.table.serve(registry.REPUTATION_OPINION, receipts.opinion)
    parts.table.serve(registry.REPUTATION_SUBMIT, receipts.submit)
    parts.table.serve(registry.RECEIPT_SHOW, receipts.show)
    parts.table.serve(registry.RECEIPTS_SINCE, receipts.since)
    parts.table.serve(registry.EVIDENCE_WINDOW, receipts.evidence)
    seen = SeenMethods(receipts.book, receipts.scores, networks, parts.network.presence, parts.clock)
    parts.table.serve(EVIDENCE_SEEN, seen.seen)


def _bonds(
    parts: Parts[RegistrydSettings], book: Book, outside: Outside, scores: Scores, statements: Statements
) -> Bonds:
    """What is locked by whom: tiers, lists and attestations ask for it."""
    bonds = Bonds(
        book,
        outside,
        statements,
        network=parts.network,
        clock=parts.clock,
        log=parts.log,
        check_s=parts.settings.check_s,
    )
    scores.bonded = bonds.florins
    parts.background("bonds", bonds.run)
    return bonds


def _claims(parts: Parts[RegistrydSettings], book: Book, outside: Outside, desk: ClaimDesk) -> None:
    """Properties that others attest, shown one by one; and who attests whom."""
    parts.table.serve(registry_claims.CLAIMS_ATTEST, desk.attest)
    parts.table.serve(registry_claims.CLAIMS_LIST, desk.listed)
    parts.table.serve(registry_claims.CLAIMS_DISCLOSE, desk.disclose)
    parts.table.serve(registry_claims.CLAIMS_VERIFY, desk.verify)
    again_s = parts.settings.announce_s
    attestations = Attestations(book, outside, clock=parts.clock, log=parts.log, again_s=again_s)
    desk.on_issued = attestations.issued
    parts.table.serve(registry_claims.CLAIMS_ISSUERS, attestations.issuers)
    parts.background("attestations", attestations.run)
    parts.serve_peer(CLAIMS_ISSUE, desk.issue)


def _audits(
    parts: Parts[RegistrydSettings],
    book: Book,
    outside: Outside,
    intake: Intake,
    scores: Scores,
    challengers: Challengers,
    statements: Statements,
    benchmarker: Benchmarker,
) -> Duty:
    """Audits by hand, and services rendered: what else a tier hangs on."""
    audits = Audits(book, outside, challengers, statements, network=parts.network, clock=parts.clock)
    services = ServiceBook(book, outside, intake, statements, network=parts.network, clock=parts.clock)
    scores.audit_weight, scores.services = audits.weight, services.counts
    benchmarker.on_failure.append(audits.on_failure)
    methods = AuditMethods(book, outside, audits)
    parts.table.serve(registry_audit.AUDIT_REQUEST, methods.request)
    parts.table.serve(registry_audit.AUDIT_VERDICT, methods.verdict)
    parts.table.serve(registry_audit.AUDIT_SHOW, methods.show)
    parts.table.serve(registry_audit.AUDIT_LIST, methods.list_audits)
    parts.table.serve(registry_service.SERVICE_HAD, services.had)
    parts.table.serve(registry_service.SERVICE_LIST, services.listed)
    return Duty(outside, scores, services, parts.log)


def _sanctions(
    parts: Parts[RegistrydSettings], book: Book, outside: Outside, scores: Scores, statements: Statements
) -> None:
    """Who is kept from what: by this node's operator, and by proven faults."""
    enforcer = Enforcer(book, outside, scores, parts.clock, parts.log)
    methods = SanctionMethods(book, outside, scores, statements, enforcer, parts.clock)
    statements.on_taken.append(lambda kept: enforcer.look_soon() if kept.kind is Kind.FAULT else None)
    parts.table.serve(registry_standing.NODE_BAN, methods.ban)
    parts.table.serve(registry_standing.NODE_UNBAN, methods.unban)
    parts.table.serve(registry_standing.NODE_SANCTIONS, methods.sanctions)
    parts.table.serve(registry_standing.FAULT_REPORT, methods.report)
    parts.table.serve(registry_standing.FAULTS, methods.faults)
    parts.serve_topic(TOPIC_STANDING, statements.gossip)
    parts.serve_peer(STANDING_SYNC, statements.for_peer)
    parts.background("sanctions", enforcer.run)
    parts.gauges["nodes_sanctioned"] = lambda: float(len(book.restricted()))


def _witness(
    parts: Parts[RegistrydSettings],
    book: Book,
    outside: Outside,
    intake: Intake,
    scores: Scores,
    challengers: Challengers,
    networks: Networks,
) -> None:
    """Presence as others see it, and the latencies that come with it."""
    rules, clock, settings = parts.network.presence, parts.clock, parts.settings
    sightings = Sightings(book, outside, intake, challengers, parts.network)
    prober = Prober(
        book,
        outside,
        challengers,
        sightings,
        networks,
        network=parts.network,
        clock=clock,
        random=parts.random,
        log=parts.log,
        settings=settings,
    )
    methods = WitnessMethods(book, outside, scores, sightings, rules=rules, clock=clock, settings=settings)
    parts.table.serve(registry_witness.PRESENCE_SHOW, methods.presence)
    parts.table.serve(registry_witness.TOPOLOGY_SHOW, methods.topology)
    parts.serve_topic(TOPIC_PRESENCE, sightings.bundle)
    parts.serve_peer(PRESENCE_PROBE, sightings.probe)
    parts.serve_peer(PRESENCE_TELL, sightings.tell)
    parts.serve_peer(PRESENCE_SHOW_PEER, sightings.show)
    parts.background("presence", prober.run)
    parts.gauges["nodes_seen_by_me"] = lambda: float(prober.seen)


def _serve_peers(parts: Parts[RegistrydSettings], intake: Intake, receipts: ReceiptMethods) -> None:
    async def node(envelope: Attested, _message: GossipIn) -> str:
        return intake.count(await intake.node(envelope))

    async def heartbeat(envelope: Attested, _message: GossipIn) -> str:
        return intake.count(await intake.heartbeat(envelope))

    async def receipt(envelope: Attested, _message: GossipIn) -> str:
        return intake.count(await intake.receipt(envelope, tell=False))

    parts.serve_topic(TOPIC_NODE, node)
    parts.serve_topic(TOPIC_HEARTBEAT, heartbeat)
    parts.serve_topic(TOPIC_RECEIPT, receipt)
    parts.serve_peer(NODES_SYNC, receipts.nodes_for_peer)
    parts.serve_peer(RECEIPTS_SYNC, receipts.receipts_for_peer)
    parts.serve_peer(REPUTATION_ASK, receipts.reputation_for_peer)
