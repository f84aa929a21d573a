"""What registryds ask of each other about standing and machines, over real p2pds: processes, TLS, HTTP doors, limits.

Each p2pd is a process, each registryd stands in the test's own, and the two meet over HTTP with tokens, as on a node;
the coin alone is fake. A message too long, a deadline too short or a quota too small stops a call here as it would
there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from common.clock import SystemClock
from common.codec import canonical
from common.contracts import p2p, registry
from common.contracts.base import GOSSIP_HANDLE, GossipIn
from common.contracts.peer_benchmark import CHUNK_BYTES
from common.contracts.peer_registry import NOTES_MAX, SYNC_ITEMS_MAX, TOPIC_RECEIPT
from common.contracts.registry import AskOpinion, ListNodes, NodeName, NodeStatus, RegisterNode
from common.contracts.registry_audit import AuditName, AuditsAsked, GiveVerdict, RequestAudit
from common.contracts.registry_claims import AttestMe, Disclose, IssuersOf, VerifyClaim
from common.contracts.registry_machine import MachineAsked, MachineView
from common.contracts.registry_standing import FaultsAsked, ReportFault
from common.errors import NotFound
from common.identity.purposes import Purpose
from common.network import AuditParameters, BenchmarkParameters, Bootstrap, NetworkProfile
from common.quality import DAY_BLOCKS
from common.randomness import SeededRandomness
from common.receipts import ATTESTED_BYTES_MAX, Attested
from common.rpc.client import Client, HttpClient, LocalClient
from common.rpc.table import MethodTable
from common.standing import NOTE_BYTES_MAX
from common.units import UnixMs
from dux_p2pd.wire_limits import MESSAGE_BYTES
from dux_registryd.daemon import RegistryDaemon
from dux_registryd.receipt_methods import NOTES_BYTES_MAX, SHOWN_MAX
from tests.market.fakes import LOG, FakeChain, network, until
from tests.market.makers import changed, heartbeat, receipt
from tests.market.test_tpm import swtpm, tpm
from tests.p2pd.process_kit import Process, processes

__all__ = ["tpm"]  # a fixture

pytestmark = [pytest.mark.constellation, pytest.mark.patient]

WALLET = "mzBc4XEFSdzCDcTxAgf6EZXgsZWpztRhef"
HELD_UP: dict[str, Any] = {"heartbeat_s": 1.0, "check_s": 0.2, "sync_s": 600.0, "probe_s": 600.0}
NONCE = "5a" * 32
TAX = 50_000_000


class Registry:
    """The registryd on one p2pd: over HTTP to it and from it, over nothing to the coin."""

    def __init__(self, process: Process, chain: FakeChain, **settings: Any) -> None:
        self.process, self.did = process, process.node.did
        self._chain, self._settings = chain, settings
        self._flopd = MethodTable(log=LOG, clock=SystemClock(), randomness=SeededRandomness(process.node.index))
        chain.serve(self._flopd)
        self.daemon: RegistryDaemon
        self.client: LocalClient

    def p2pd(self, caller: str) -> HttpClient:
        """The node's p2pd, as one of its daemons calls it."""
        return self.process.client(caller)

    def _neighbour(self, daemon: str) -> Client:
        return LocalClient(self._flopd, "registryd") if daemon == "flopd" else self.p2pd("registryd")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The daemon with its loops and its HTTP door, registered."""
        node = self.process.node
        settings = RegistryDaemon.settings_type(
            network_profile="",
            data_dir=node.settings.data_dir,
            run_dir=node.settings.run_dir,
            port_base=node.base,
            **HELD_UP | self._settings,
        )
        self.daemon = RegistryDaemon(settings, node.profile, log=LOG, neighbours=self._neighbour, store_in_memory=True)
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.daemon.run(ready))
            await ready.wait()
            self.client = LocalClient(self.daemon.parts.table, "cli")
            try:
                yield
            finally:
                self.daemon.stopping.set()

    async def register(self) -> None:
        """Describe this node: a small machine, so that its memory and disk are filled quickly."""
        wish = RegisterNode(
            request_id="r", wallet_address=WALLET, hostname=f"n{self.process.node.index}", cpu_cores=1, memory_mb=32,
            storage_gb=1,
        )  # fmt: skip
        await self.client.call(registry.NODE_REGISTER, wish)

    async def signed(self, purpose: Purpose, value: Any, caller: str = "registryd") -> bytes:
        """The value with this node's own signature, as the daemon that owns the purpose has it made."""
        by = await self.p2pd(caller).call(p2p.IDENTITY_SIGN, p2p.Sign(purpose=purpose.value, body=canonical(value)))
        return canonical(Attested(body=canonical(value), did=by.did, key_seq=by.key_seq, signature=by.signature))

    async def machine(self, of: Registry) -> MachineView | None:
        """What this node knows of another one's machine."""
        with contextlib.suppress(NotFound):
            return await self.client.call(registry.MACHINE_SHOW, MachineAsked(node_id=of.did))
        return None


@contextlib.asynccontextmanager
async def registries(
    profile: NetworkProfile, chain: FakeChain, settings: list[dict[str, Any]], **of_p2pd: Any
) -> AsyncIterator[list[Registry]]:
    """A node for each of the settings, each registered and heard of by the others."""

    def joined(bootstrap: tuple[Bootstrap, ...]) -> NetworkProfile:
        return changed(profile, bootstrap=bootstrap)  # type: ignore[no-any-return]

    async with contextlib.AsyncExitStack() as stack:
        made = await stack.enter_async_context(processes(len(settings), joined, **of_p2pd))
        found = [Registry(process, chain, **one) for process, one in zip(made, settings, strict=True)]
        for one in found:
            await stack.enter_async_context(one.running())
        for one in found:
            await one.register()
        for one in found:
            await until(lambda one=one: _knows(one, len(found)), within_s=20)
        yield found


async def _knows(one: Registry, count: int) -> bool:
    return (await one.client.call(registry.NODE_LIST, ListNodes(status=NodeStatus.ACTIVE))).total == count


def test_the_longest_answers_fit_one_message() -> None:
    """Every page and every opinion at its largest, with a tenth of a percent for the frame around its items."""
    items, notes = SYNC_ITEMS_MAX * ATTESTED_BYTES_MAX, NOTES_MAX * NOTE_BYTES_MAX
    opinion = SHOWN_MAX * ATTESTED_BYTES_MAX + NOTES_BYTES_MAX
    assert max(items, notes, opinion, CHUNK_BYTES) * 1_001 // 1_000 + 1_024 < MESSAGE_BYTES


@pytest.mark.timeout(90)
async def test_words_about_standing_cross_the_wire() -> None:
    """Attested, audited, accused, asked for an opinion: each by one node, each read and verified by another."""
    chain = FakeChain()
    rules = AuditParameters(panel=2, needed=2, draw_after_blocks=2, answer_blocks=20)
    async with registries(network(audit=rules), chain, [{}] * 3) as (one, two, three):
        chain.height = 110
        await _attested(one, two, three)
        await _audited(one, two, three, chain)
        await _opinion(one, two, three, chain)
        await _accused(one, two, three)  # last: it costs the accused its tiers


async def _attested(one: Registry, two: Registry, three: Registry) -> None:
    """The second attests the first, which shows the third one property; who vouches for it stands in the DHT."""
    held = await one.client.call(registry.CLAIMS_ATTEST, AttestMe(request_id="a", peer=two.did))
    assert (held.issuer, "unsanctioned" in held.names) == (two.did, True)
    shown = await one.client.call(registry.CLAIMS_DISCLOSE, Disclose(name="unsanctioned", nonce=NONCE))
    found = await three.client.call(registry.CLAIMS_VERIFY, VerifyClaim(presentation=shown, nonce=NONCE))
    assert (found.valid, found.reason) == (True, "")
    assert (found.subject, found.issuer, found.name) == (one.did, two.did, "unsanctioned")

    async def vouching() -> bool:
        listed = await three.client.call(registry.CLAIMS_ISSUERS, IssuersOf(node_id=one.did))
        return [entry.issuer for entry in listed.issuers] == [two.did]

    await until(vouching, within_s=10)


async def _audited(one: Registry, two: Registry, three: Registry, chain: FakeChain) -> None:
    """Asked for by the first about itself, drawn, judged by the two others, and the same verdict everywhere."""
    wish = RequestAudit(request_id="a", reason="look at me", evidence="my log")
    audit_id = (await one.client.call(registry.AUDIT_REQUEST, wish)).audit_id

    async def stands(at: Registry, state: str) -> bool:
        with contextlib.suppress(NotFound):
            return (await at.client.call(registry.AUDIT_SHOW, AuditName(audit_id=audit_id))).state == state
        return False

    for other in (two, three):
        await until(lambda other=other: stands(other, "waiting"), within_s=10)
    chain.height += 3
    for judge in (two, three):
        await until(lambda judge=judge: stands(judge, "open"), within_s=10)
        said = GiveVerdict(request_id="v", audit_id=audit_id, passed=True, reason="looked at its disk")
        await judge.client.call(registry.AUDIT_VERDICT, said)
    for node in (one, two, three):
        await until(lambda node=node: stands(node, "passed"), within_s=10)
    listed = await three.client.call(registry.AUDIT_LIST, AuditsAsked(node_id=one.did))
    assert [len(audit.verdicts) for audit in listed.audits] == [2]


async def _opinion(one: Registry, two: Registry, three: Registry, chain: FakeChain) -> None:
    """As many receipts as an answer holds, known to one registry alone, are taken in by the asker: it agrees."""
    by_hand = LocalClient(two.daemon.parts.table, "p2pd")
    for number in range(SHOWN_MAX):
        txid = f"{number:064x}"
        chain.settle(txid, chain.height, TAX)
        paid = receipt(
            cid=number.to_bytes(32), txid=txid, height=chain.height, buyer=three.did, seller=one.did, signer=one.did,
            at_ms=UnixMs(SystemClock().unix_ms()),
        )  # fmt: skip
        signed = await one.signed(Purpose.SETTLED_RECEIPT, paid, "taskd")
        told = GossipIn(topic=TOPIC_RECEIPT.name, payload=signed, sender=one.did, key_seq=0, seq_ms=0)
        assert (await by_hand.call(GOSSIP_HANDLE, told)).verdict == "accept"  # p2pd would have told the third, too
    chain.height += 2

    async def counted() -> bool:
        return (await two.client.call(registry.REPUTATION_GET, NodeName(node_id=one.did))).jobs_done == SHOWN_MAX

    await until(counted, within_s=20)
    before = await three.client.call(registry.REPUTATION_GET, NodeName(node_id=one.did))
    assert before.jobs_done == 0
    found = await three.client.call(registry.REPUTATION_OPINION, AskOpinion(of=one.did, peer=two.did))
    assert (found.receipts, found.new_receipts, found.notes) == (SHOWN_MAX, SHOWN_MAX, 3)
    assert (found.agrees, found.reason, found.own_score) == (True, "", found.score)
    assert found.score > 0.99
    after = await three.client.call(registry.REPUTATION_GET, NodeName(node_id=one.did))
    assert after.jobs_done == SHOWN_MAX


async def _accused(one: Registry, two: Registry, three: Registry) -> None:
    """Two heartbeats of one moment, handed in at the second: the third verifies both signatures and has the proof."""
    at_ms = UnixMs(SystemClock().unix_ms())
    beats = [heartbeat(did=one.did, at_ms=at_ms, cpu_available=cores) for cores in (1, 2)]
    pair = [await one.signed(Purpose.HEARTBEAT, beat) for beat in beats]
    wish = ReportFault(request_id="f", claim="heartbeat", one=pair[0], other=pair[1])
    assert (await two.client.call(registry.FAULT_REPORT, wish)).node_id == one.did

    async def proven() -> bool:
        found = await three.client.call(registry.FAULTS, FaultsAsked(node_id=one.did))
        return [fault.claim for fault in found.faults] == ["heartbeat"]

    await until(proven, within_s=10)


@swtpm
@pytest.mark.timeout(120)
async def test_a_machine_is_measured_as_shipped_among_strangers(tpm: str) -> None:
    """The shipped sizes and deadlines, with what strangers may: 4 MiB each way, a second's chain, a walk, a quote.

    Everybody has met everybody just now, so nobody is known: whoever is measured grants the challenger a tenth of the
    calls and no credit beyond a stream's first window. The third node reads what the two others signed.
    """
    rules = changed(BenchmarkParameters(), load_max_milli=1_000_000)  # other tests run on this machine, too
    chain = FakeChain()
    chain.height = DAY_BLOCKS - 10
    quick = {"benchmark_s": 0.5}
    settings = [quick | {"tpm": tpm}, quick, quick]
    async with registries(network(benchmark=rules), chain, settings, known_after_s=3_600, stamp_bits=4) as nodes:
        chain.height += 20  # a period in which all draw from the same list
        for reader in nodes:
            for other in nodes:
                await until(lambda reader=reader, other=other: _measured(reader, other), within_s=60)
        for reader in nodes[1:]:
            view = await until(lambda reader=reader: _quoted(reader, nodes[0]), within_s=20)
            assert {quote.verifier for quote in view.quotes} <= {nodes[1].did, nodes[2].did}


async def _measured(reader: Registry, other: Registry) -> bool:
    view = await reader.machine(other)
    if view is None or not view.results:
        return False
    assert view.failed == (), "no honest node answers wrongly"
    assert min(view.up_kbps, view.down_kbps) > 0
    assert {one.prober for one in view.results}.isdisjoint({other.did})
    return "bandwidth" in view.verified


async def _quoted(reader: Registry, other: Registry) -> MachineView | None:
    view = await reader.machine(other)
    return view if view and "tpm" in view.verified else None
