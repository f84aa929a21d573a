"""Audits by hand and services rendered: who may ask, who is drawn, what decides, what it weighs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.codec import canonical
from common.contracts import registry
from common.contracts.base import EventsSince
from common.contracts.peer_registry import TOPIC_STANDING
from common.contracts.registry import ListNodes, NodeName, NodeStatus
from common.contracts.registry_audit import (
    AuditName,
    AuditRefused,
    AuditsAsked,
    AuditView,
    GiveVerdict,
    NotYourAudit,
    RequestAudit,
)
from common.contracts.registry_service import ServiceHad, ServicesAsked
from common.contracts.registry_standing import FaultsAsked
from common.errors import BadParams, NotFound
from common.identity.purposes import Purpose
from common.network import TIERS, AuditParameters, first_problem
from common.quality import DAY_BLOCKS
from common.rpc.client import LocalClient
from common.standing import AuditRequest, AuditVerdict, Kind, Note
from common.units import FLOP, BlockHeight, UnixMs
from dux_registryd.audit_rules import (
    Audit,
    AuditState,
    drawn_at,
    ends_at,
    request_fault,
    state_of,
    verdict_fault,
    weight_of,
)
from dux_registryd.daemon import RegistryDaemon
from dux_registryd.duty import served_since
from dux_registryd.model import Presence
from dux_registryd.reputation_rules import duty_tier, score_of
from tests.attacks.registry import attack
from tests.market.fakes import FakeNet, attest, did_number, network, running, until
from tests.market.makers import NETWORK, NOW_MS, changed
from tests.market.test_registryd import QUICK, gossip, register

pytestmark = pytest.mark.patient

RULES = AuditParameters(draw_after_blocks=2, answer_blocks=20, per_asker=2, per_asker_blocks=100)
QUIET: dict[str, Any] = QUICK | {"benchmark": False, "probe_s": 60.0}
PANEL = tuple(did_number(number) for number in (3, 4, 5))


def asked(**changes: Any) -> AuditRequest:
    plain = AuditRequest(
        network=NETWORK,
        about=did_number(2),
        asker=did_number(1),
        height=BlockHeight(100),
        reason="keeps nothing",
        evidence="",
        appeals=b"",
        at_ms=UnixMs(NOW_MS),
    )
    made: AuditRequest = changed(plain, **changes)
    return made


def said(number: int, *, passed: bool, height: int = 105) -> AuditVerdict:
    return AuditVerdict(
        network=NETWORK,
        audit=b"\x01" * 32,
        auditor=did_number(number),
        passed=passed,
        reason="looked",
        height=BlockHeight(height),
        at_ms=UnixMs(NOW_MS),
    )


def ended(state: AuditState, audit_id: bytes = b"\x01" * 32, *, ends: int = 120, appeals: bytes = b"") -> Audit:
    return Audit(audit_id, asked(appeals=appeals), PANEL, (), state, drawn_at=102, ends_at=ends)


def test_who_may_ask() -> None:
    """Lately, not too often; an appeal against a decided audit of the same node, once."""

    def fault(
        request: AuditRequest, *earlier: AuditRequest, tip: int = 101, appealed: Audit | None = None
    ) -> str | None:
        return request_fault(request, tip=tip, earlier=earlier, appealed=appealed, rules=RULES)

    assert fault(asked()) is None
    assert fault(asked(), tip=121) is not None
    assert fault(asked(), tip=99) is not None
    assert fault(asked(), asked(height=BlockHeight(50))) is None
    assert "lately" in str(fault(asked(), asked(), asked(height=BlockHeight(50))))
    assert fault(asked(height=BlockHeight(200)), asked(), asked(), tip=200) is None
    appeal = asked(appeals=b"\x01" * 32)
    assert "not known" in str(fault(appeal))
    assert "has not decided" in str(fault(appeal, appealed=ended(AuditState.OPEN)))
    assert "has not decided" in str(fault(appeal, appealed=ended(AuditState.LAPSED)))
    assert fault(appeal, appealed=ended(AuditState.FAILED)) is None
    assert "final" in str(fault(appeal, appealed=ended(AuditState.FAILED, appeals=b"\x02" * 32)))
    other = changed_audit(ended(AuditState.FAILED), about=did_number(9))
    assert "another node" in str(fault(appeal, appealed=other))


def changed_audit(audit: Audit, **changes: Any) -> Audit:
    return Audit(
        audit.audit_id, changed(audit.request, **changes), audit.panel, audit.verdicts, audit.state, 102, audit.ends_at
    )


def test_whose_verdict_counts_and_what_decides() -> None:
    """Of drawn auditors, in time; two equal ones of three; too few in time say nothing."""
    assert (drawn_at(asked(), RULES), ends_at(asked(), RULES)) == (102, 122)
    for verdict, right in (
        (said(3, passed=True), True),
        (said(6, passed=True), False),
        (said(3, passed=True, height=101), False),
        (said(3, passed=True, height=123), False),
    ):
        assert (verdict_fault(verdict, asked(), PANEL, 122, RULES) is None) is right
    assert verdict_fault(said(3, passed=True, height=110), asked(), PANEL, 105, RULES) is not None
    good, bad = said(3, passed=True), said(4, passed=False)
    for verdicts, tip, state in (
        ((), 101, AuditState.OPEN),
        ((good, bad), 110, AuditState.OPEN),
        ((good, bad, said(5, passed=True)), 110, AuditState.PASSED),
        ((bad, said(5, passed=False)), 110, AuditState.FAILED),
        ((good,), 123, AuditState.LAPSED),
    ):
        assert state_of(verdicts, PANEL, tip, 122, 2) is state
    assert state_of((), (), 101, 122, 2) is AuditState.WAITING


def test_what_an_audit_weighs() -> None:
    """Failed ones lower Q and age; passed ones raise Q alone, one in thirty days; an appeal replaces its audit."""
    rules, tip = AuditParameters(), 200_000
    failed = weight_of([ended(AuditState.FAILED, ends=tip)], tip, rules)
    assert (failed.good, failed.bad) == (0, FLOP // 20)
    aged = weight_of([ended(AuditState.FAILED, ends=tip - 60 * DAY_BLOCKS)], tip, rules)
    assert aged.bad == FLOP // 40
    often = [ended(AuditState.PASSED, bytes([n]) * 32, ends=tip - n * DAY_BLOCKS) for n in range(4)]
    assert 0 < weight_of(often, tip, rules).good <= FLOP // 100
    appeal = ended(AuditState.PASSED, b"\x02" * 32, ends=tip, appeals=b"\x01" * 32)
    assert weight_of([ended(AuditState.FAILED, ends=tip - 10), appeal], tip, rules).bad == 0
    lapsed = ended(AuditState.LAPSED, b"\x02" * 32, ends=tip, appeals=b"\x01" * 32)
    assert weight_of([ended(AuditState.FAILED, ends=tip - 10), lapsed], tip, rules).bad > 0
    present = Presence(days_known=1, days_witnessed=1)
    fine = weight_of(often, tip, rules)
    plain, lower, higher = (score_of((), present, audits=one) for one in (weight_of([], tip, rules), failed, fine))
    assert lower.score_ppm < plain.score_ppm == 500_000 < higher.score_ppm
    assert (higher.standing_milli, int(higher.weight_florins)) == (0, 0)
    assert lower.trade_tier == 0


def test_a_tier_may_ask_for_services() -> None:
    """A network's profile names which services and how many; without them the tier is not reached."""
    rule = changed(TIERS[0], services={"relay": 10, "audit": 1})
    there = {"days_known": 60, "days_witnessed": 60, "days_good": 60}
    for services, tier in (((), 1), ((("audit", 1), ("relay", 9)), 1), ((("audit", 1), ("relay", 10)), 2)):
        assert duty_tier(Presence(services=services, **there), (rule,)) == tier
    for rules in (changed(AuditParameters(), needed=1), changed(AuditParameters(), draw_after_blocks=0)):
        assert "audit:" in first_problem(network(audit=rules))


# whole daemons


@contextlib.asynccontextmanager
async def crowd(net: FakeNet, folder: Path, count: int) -> AsyncIterator[dict[int, LocalClient]]:
    """Registered nodes that have heard of each other."""
    async with contextlib.AsyncExitStack() as stack:
        made = {}
        for number in range(1, count + 1):
            kind = running(net.node(number), RegistryDaemon, folder, profile=network(audit=RULES), **QUIET)
            made[number] = await stack.enter_async_context(kind)
        for number, client in made.items():
            await client.call(registry.NODE_REGISTER, register(ip_address=f"127.1.{number}.1"))
        for client in made.values():
            await until(lambda client=client: _knows(client, count))
        net.chain.height = 110
        yield made


async def _knows(client: LocalClient, count: int) -> bool:
    return (await client.call(registry.NODE_LIST, ListNodes(status=NodeStatus.ACTIVE))).total == count


async def shown(client: LocalClient, audit_id: str) -> AuditView | None:
    with contextlib.suppress(NotFound):
        return await client.call(registry.AUDIT_SHOW, AuditName(audit_id=audit_id))
    return None


async def _state(client: LocalClient, audit_id: str) -> str:
    view = await shown(client, audit_id)
    return view.state if view else ""


async def q(client: LocalClient, number: int) -> float:
    return (await client.call(registry.REPUTATION_GET, NodeName(node_id=did_number(number)))).score


async def judge(made: dict[int, LocalClient], view: AuditView, *words: bool) -> None:
    """The panel's first members speak."""
    numbers = [next(n for n in made if did_number(n) == did) for did in view.panel]
    for number, passed in zip(numbers, words, strict=False):
        await until(lambda number=number: _state(made[number], view.audit_id))
        given = GiveVerdict(request_id="v", audit_id=view.audit_id, passed=passed, reason="looked")
        await made[number].call(registry.AUDIT_VERDICT, given)


async def test_an_audit_from_request_to_appeal(tmp_path: Path) -> None:
    """Asked for, drawn alike everywhere, judged, felt in Q everywhere; others judge the appeal, which replaces it."""
    net = FakeNet()
    async with crowd(net, tmp_path, 9) as made:
        wish = RequestAudit(request_id="a", node_id=did_number(2), reason="keeps nothing", evidence="log")
        view = await made[1].call(registry.AUDIT_REQUEST, wish)
        assert (view.state, view.panel, view.panel_at) == ("waiting", (), 112)
        assert await made[1].call(registry.AUDIT_REQUEST, wish) == view
        for client in made.values():
            await until(lambda client=client: shown(client, view.audit_id))
        early = GiveVerdict(request_id="e", audit_id=view.audit_id, passed=True, reason="r")
        with pytest.raises(NotYourAudit):
            await made[3].call(registry.AUDIT_VERDICT, early)
        net.chain.height = 113
        for client in made.values():
            await until(lambda client=client: _drawn(client, view.audit_id))
        panels = {(await _found(client, view.audit_id)).panel for client in made.values()}
        assert len(panels) == 1
        panel = panels.pop()
        assert len(panel) == 3
        assert not {did_number(1), did_number(2)} & set(panel)
        view = await _found(made[1], view.audit_id)
        before = await q(made[1], 2)
        await judge(made, view, False, False)
        for client in made.values():
            await until(lambda client=client: _is(client, view.audit_id, "failed"))
            assert await q(client, 2) < before
        again = RequestAudit(request_id="x", node_id=did_number(2), reason="r", appeals="ab" * 32)
        with pytest.raises(AuditRefused):
            await made[2].call(registry.AUDIT_REQUEST, again)
        appeal = RequestAudit(request_id="b", reason="they looked at the wrong disk", appeals=view.audit_id)
        second = await made[2].call(registry.AUDIT_REQUEST, appeal)
        net.chain.height = 116
        for client in made.values():
            await until(lambda client=client: _drawn(client, second.audit_id))
        second = await _found(made[2], second.audit_id)
        assert not set(second.panel) & set(panel)
        await judge(made, second, True, True)
        await until(lambda: _is(made[1], second.audit_id, "passed"))
        assert await q(made[1], 2) > before
        done = await made[1].call(registry.SERVICE_LIST, ServicesAsked(node_id=second.panel[0]))
        assert {line.service: line.count for line in done.services}["audit"] == 1
        listed = await made[1].call(registry.AUDIT_LIST, AuditsAsked(node_id=did_number(2)))
        assert {audit.state for audit in listed.audits} == {"failed", "passed"}


async def _is(client: LocalClient, audit_id: str, state: str) -> bool:
    return await _state(client, audit_id) == state


async def _found(client: LocalClient, audit_id: str) -> AuditView:
    return await client.call(registry.AUDIT_SHOW, AuditName(audit_id=audit_id))


async def _drawn(client: LocalClient, audit_id: str) -> bool:
    view = await shown(client, audit_id)
    return view is not None and bool(view.panel)


@attack(
    "registry",
    tries="an auditor tells some that a node passed and others that it failed",
    meets="a proven fault where the two words meet",
)
async def test_two_verdicts_of_one_auditor_prove_a_fault(tmp_path: Path) -> None:
    """Whoever tells some that it passed and others that it failed is found out where the two words meet."""
    net = FakeNet()
    async with crowd(net, tmp_path, 6) as made:
        view = await made[1].call(registry.AUDIT_REQUEST, RequestAudit(request_id="a", reason="look at me"))
        net.chain.height = 113
        await until(lambda: _drawn(made[1], view.audit_id))
        panel = (await _found(made[1], view.audit_id)).panel
        number = next(n for n in range(1, 7) if did_number(n) == panel[0])
        for passed in (True, False):
            word = changed(said(number, passed=passed, height=113), audit=bytes.fromhex(view.audit_id))
            note = Note(Kind.VERDICT, canonical(attest(number, Purpose.AUDIT_VERDICT, word)))
            await gossip(net.node(1), TOPIC_STANDING.name, canonical(note))
        found = await made[1].call(registry.FAULTS, FaultsAsked(node_id=panel[0]))
        assert [fault.claim for fault in found.faults] == ["verdict"]
        page = await made[1].call(registry.REGISTRY_EVENTS, EventsSince())
        assert "FaultProven" in {event.kind for event in page.events}
        stranger = next(n for n in range(1, 7) if did_number(n) not in panel)
        word = changed(said(stranger, passed=True, height=113), audit=bytes.fromhex(view.audit_id))
        note = Note(Kind.VERDICT, canonical(attest(stranger, Purpose.AUDIT_VERDICT, word)))
        assert await gossip(net.node(1), TOPIC_STANDING.name, canonical(note)) == "ignore"


@attack("registry", tries="serves itself, or is praised by strangers", meets="counts nothing")
async def test_services_count_by_the_word_of_who_was_served(tmp_path: Path) -> None:
    """Once per served node and day, known to others; nobody serves itself, and a stranger's word counts nothing."""
    net = FakeNet()
    async with crowd(net, tmp_path, 3) as made:
        for number in (1, 2):
            had = ServiceHad(request_id="h", service="relay", server=did_number(3), amount=1_000)
            await made[number].call(registry.SERVICE_HAD, had)
            more = ServiceHad(request_id="i", service="relay", server=did_number(3), amount=5)
            await made[number].call(registry.SERVICE_HAD, more)
        await until(lambda: _served(made[1], 3, "relay", 2))
        own = ServiceHad(request_id="j", service="relay", server=did_number(1), amount=1)
        with pytest.raises(BadParams):
            await made[1].call(registry.SERVICE_HAD, own)
        told = await made[1].call(registry.SERVICE_LIST, ServicesAsked(node_id=did_number(3)))
        assert {line.service: line.count for line in told.services}["dht"] == 0


async def test_who_keeps_records_for_this_node_is_told_of(tmp_path: Path) -> None:
    """The busiest few a day, each once; p2pd is told its duties."""
    net = FakeNet()
    async with crowd(net, tmp_path, 7) as made:
        node = net.node(1)
        daemon = node.daemons["registryd"]
        assert isinstance(daemon, RegistryDaemon)
        node.kept = {did_number(n): n for n in range(2, 8)}
        for _look in range(3):
            await daemon.duty.once()
        assert node.duties == ["probe"]
        for number, count in {7: 1, 6: 1, 5: 1, 4: 1, 3: 0, 2: 0}.items():
            await until(lambda number=number, count=count: _served(made[2], number, "dht", count))


def test_a_service_is_new_when_its_count_grew_or_began_anew() -> None:
    """The busiest since last told of come first; a restarted p2pd counts from zero."""
    a, b, c = did_number(1), did_number(2), did_number(3)
    assert served_since({a: 5, b: 9, c: 3}, {a: 5, b: 8, c: 9}) == [c, b]
    assert served_since({a: 0}, {}) == []


async def _served(client: LocalClient, number: int, service: str, count: int) -> bool:
    told = await client.call(registry.SERVICE_LIST, ServicesAsked(node_id=did_number(number)))
    return {line.service: line.count for line in told.services}[service] == count
