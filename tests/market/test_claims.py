"""One property without the rest, between real daemons; and scores that are asked for with their evidence."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from common.clock import ManualClock
from common.codec import canonical, from_canonical
from common.contracts import registry, registry_claims
from common.contracts.peer_registry import ATTESTATION_NS
from common.contracts.registry import AskOpinion
from common.contracts.registry_claims import (
    AttestMe,
    ClaimVerdict,
    Disclose,
    NoClaim,
    Presentation,
    VerifyClaim,
)
from common.errors import BadParams
from common.identity.disclosure import ClaimRoot
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.randomness import SeededRandomness
from common.receipts import attested, body_of
from common.rpc.client import LocalClient
from common.rpc.method import Empty
from common.store import Store
from dux_registryd.claims import ClaimDesk, WrongAttestation
from dux_registryd.daemon import RegistryDaemon
from dux_registryd.effects import TipSeen
from dux_registryd.opinion_rules import Told, difference
from dux_registryd.presence_rules import SlotView, slots_per_day
from dux_registryd.receipt_methods import ReceiptMethods
from dux_registryd.scores import Scores
from dux_registryd.store import MIGRATIONS, Book
from tests.attacks.registry import attack
from tests.market.fakes import FakeNet, attest, did_number, network, running, until
from tests.market.makers import changed
from tests.market.test_registryd import QUICK, TAX, TXID, paid, register, submit, taken_back

pytestmark = pytest.mark.patient

NONCE, OTHER_NONCE = "ab" * 32, "cd" * 32
QUIET: dict[str, Any] = QUICK | {"benchmark": False, "probe_s": 60.0}


@contextlib.asynccontextmanager
async def three(net: FakeNet, folder: Path, **settings: Any) -> AsyncIterator[dict[int, LocalClient]]:
    """Three registered nodes, each heard of by the others."""
    async with contextlib.AsyncExitStack() as stack:
        made = {}
        for number in (1, 2, 3):
            kind = running(net.node(number), RegistryDaemon, folder, **QUIET | settings)
            made[number] = await stack.enter_async_context(kind)
            await made[number].call(registry.NODE_REGISTER, register())
        for client in made.values():
            await until(lambda client=client: _tiered(client))
        yield made


async def _tiered(client: LocalClient) -> bool:
    found = (await client.call(registry.NODE_LIST, registry.ListNodes(min_tier=1))).nodes
    return len(found) == 3


async def verdict(client: LocalClient, told: Presentation, nonce: str = NONCE, **changes: Any) -> ClaimVerdict:
    asked = VerifyClaim(presentation=changed(told, **changes), nonce=nonce)
    return await client.call(registry.CLAIMS_VERIFY, asked)


async def test_a_property_is_shown_without_the_rest(tmp_path: Path) -> None:
    """Issued by one node, shown by the second, believed by the third for its own nonce; nothing else is in it."""
    net = FakeNet()
    async with three(net, tmp_path) as made:
        held = await made[1].call(registry.CLAIMS_ATTEST, AttestMe(request_id="a", peer=did_number(2)))
        assert {"tier>=1", "reputation%>=50", "unsanctioned"} <= set(held.names)
        assert "tier>=2" not in held.names
        with pytest.raises(BadParams, match="cannot vouch for itself"):
            await made[1].call(registry.CLAIMS_ATTEST, AttestMe(request_id="own", peer=did_number(1)))
        assert (await made[1].call(registry.CLAIMS_LIST, Empty())).attestations == (held,)
        shown = await made[1].call(registry.CLAIMS_DISCLOSE, Disclose(name="tier>=1", nonce=NONCE))
        assert b"unsanctioned" not in shown.shown + shown.root
        found = await verdict(made[3], shown)
        assert (found.valid, found.name, found.value) == (True, "tier>=1", "true")
        assert (found.subject, found.issuer) == (did_number(1), did_number(2))
        with pytest.raises(NoClaim, match="attest PEER"):
            await made[1].call(registry.CLAIMS_DISCLOSE, Disclose(name="tier>=2", nonce=NONCE))
        wish = Disclose(name="tier>=1", nonce=NONCE, issuer=did_number(3))
        with pytest.raises(NoClaim):
            await made[1].call(registry.CLAIMS_DISCLOSE, wish)
        assert not (await verdict(made[3], shown, OTHER_NONCE)).valid
        assert not (await verdict(made[3], shown, subject=did_number(3))).valid
        own = msgspec.structs.replace(body_of(attested(shown.root), ClaimRoot, 1_000), subject=did_number(3))
        forged = canonical(attest(2, Purpose.CLAIM_ROOT, own))
        assert not (await verdict(made[3], shown, root=forged, subject=did_number(3))).valid
        stolen = canonical(msgspec.structs.replace(attested(shown.shown), did=did_number(3)))
        assert not (await verdict(made[3], shown, shown=stolen)).valid
        unsigned = canonical(msgspec.structs.replace(attested(shown.root), signature=b"\x00" * 64))
        assert "issuer has not signed" in (await verdict(made[3], shown, root=unsigned)).reason
        net.clock.advance(31 * 86_400)
        assert "expired" in (await verdict(made[3], shown)).reason
        assert (await made[1].call(registry.CLAIMS_LIST, Empty())).attestations == ()


@attack(
    "registry",
    tries="attests properties with an issuer's key that the issuer has recovered from, dated back before that",
    meets="shown in vain: a recovery or an end takes back what the issuer's keys attested before; a rotation does not",
)
async def test_an_attestation_outlives_a_rotation_of_its_issuer_and_no_recovery(tmp_path: Path) -> None:
    """Whoever verifies cannot tell a thief's attestation from one of before; the issuer attests anew."""
    net = FakeNet()
    async with three(net, tmp_path) as made:
        await made[1].call(registry.CLAIMS_ATTEST, AttestMe(request_id="a", peer=did_number(2)))
        net.clock.advance(60)
        net.node(2).change_key()
        net.clock.advance(2 * 86_400)
        wish = Disclose(name="tier>=1", nonce=NONCE)
        assert (await verdict(made[3], await made[1].call(registry.CLAIMS_DISCLOSE, wish))).valid
        net.unconfirmed = {did_number(2)}
        assert "Only 1 of 2" in (await verdict(made[3], await made[1].call(registry.CLAIMS_DISCLOSE, wish))).reason
        net.unconfirmed = set()
        net.node(2).change_key(recovered=True)
        found = await verdict(made[3], await made[1].call(registry.CLAIMS_DISCLOSE, wish))
        assert not found.valid
        assert "recovered or closed its name since" in found.reason


async def test_who_vouches_for_a_node_is_found_by_its_name_and_for_what_is_not(tmp_path: Path) -> None:
    """Two issuers stand in the DHT with their roots; a forged one, another node's and one that has ended do not count.

    Planted bugs noticed: no look at the signature; none at the subject; a root put at every asking.
    """
    net = FakeNet()
    async with three(net, tmp_path) as made:
        asked = registry_claims.IssuersOf(node_id=did_number(1))

        async def issuers() -> list[tuple[str, bytes]]:
            found = await made[3].call(registry.CLAIMS_ISSUERS, asked)
            return [(one.issuer, one.root) for one in found.issuers]

        assert await issuers() == []
        held = [
            await made[1].call(registry.CLAIMS_ATTEST, AttestMe(request_id=f"a{n}", peer=did_number(n))) for n in (2, 3)
        ]
        await until(lambda: _are(issuers, [(one.issuer, one.root) for one in held]))
        stored = net.dht[ATTESTATION_NS.name, did_number(1)]
        before = dict(stored)
        assert b"tier" not in before[did_number(2)].payload
        net.clock.advance(60)
        again = await made[1].call(registry.CLAIMS_ATTEST, AttestMe(request_id="b", peer=did_number(2)))
        assert again.root != held[0].root
        await asyncio.sleep(0.2)
        assert stored == before  # once an hour
        other = from_canonical(stored[did_number(3)].payload, Signed, max_bytes=1_000)
        forged = msgspec.structs.replace(other, sigs=(bytes(64),))
        stored[did_number(2)] = msgspec.structs.replace(stored[did_number(2)], payload=canonical(forged))
        assert await issuers() == [(did_number(3), held[1].root)]
        about = msgspec.structs.replace(from_canonical(other.body, ClaimRoot, max_bytes=1_000), subject=did_number(2))
        signed = attest(3, Purpose.CLAIM_ROOT, about)
        moved = canonical(Signed(body=signed.body, sigs=(signed.signature,)))
        stored[did_number(3)] = msgspec.structs.replace(stored[did_number(3)], payload=moved)
        assert await issuers() == []
        stored.update(before)
        assert len(await issuers()) == 2
        net.clock.advance(31 * 86_400)
        assert await issuers() == []


async def _are(found: Callable[[], Awaitable[list[tuple[str, bytes]]]], wanted: list[tuple[str, bytes]]) -> bool:
    return await found() == sorted(wanted)


async def test_what_was_issued_is_put_again_while_it_holds(tmp_path: Path) -> None:
    """The newest root after an hour; nothing any more once it has ended.

    Planted bugs noticed: what was put is never put again; what has ended is.
    """
    net = FakeNet()
    async with three(net, tmp_path, announce_s=0.1) as made:
        place = ATTESTATION_NS.name, did_number(1)
        first = await made[1].call(registry.CLAIMS_ATTEST, AttestMe(request_id="a", peer=did_number(2)))
        await until(lambda: net.dht.get(place))
        net.clock.advance(60)
        newest = await made[1].call(registry.CLAIMS_ATTEST, AttestMe(request_id="b", peer=did_number(2)))
        await asyncio.sleep(0.5)
        assert first.root in net.dht[place][did_number(2)].payload
        net.clock.advance(3_601)
        await until(lambda: newest.root in net.dht[place][did_number(2)].payload)
        net.clock.advance(31 * 86_400)
        net.dht.clear()
        await asyncio.sleep(0.5)
        assert place not in net.dht


def test_uptime_is_attested_after_a_day_of_slots() -> None:
    """Up in every slot: 143 of them say nothing that should hold for a month, 144 do."""
    clock = ManualClock()
    book, profile = Book(Store.open(None, MIGRATIONS, clock)), network()
    outside: Any = SimpleNamespace(tip_seen=None)
    scores = Scores(book, outside, SimpleNamespace(), profile, clock)  # type: ignore[arg-type]
    bonds: Any = SimpleNamespace(properties=lambda _did, _tip: [])
    desk = ClaimDesk(book, outside, scores, bonds, clock=clock, random=SeededRandomness(1))
    day, of = slots_per_day(profile.presence), did_number(3)
    with book.store.transaction() as tx:
        for slot in range(day):
            book.put_slot(tx, of, SlotView(slot, 1, 1, up=True), 0)
    attested_at = {}
    for slot in (1, day - 1, day):
        outside.tip_seen = TipSeen(height=slot * profile.presence.slot_blocks, hash="00" * 32)
        assert scores.presence(of).uptime_bps == 10_000
        attested_at[slot] = [name for name, _ in desk.properties(of) if name.startswith("uptime")]
    assert attested_at == {1: [], day - 1: [], day: ["uptime%>=95"]}


@attack("registry", tries="an issuer gives leaves of another root, or another node's attestation", meets="refused")
async def test_an_issuer_that_gives_something_else_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaves of another root, or an attestation of another node, are refused with advice."""
    net = FakeNet()
    honest = ClaimDesk.issue

    async def other_leaves(self: ClaimDesk, ask: Any, sender: Any) -> Any:
        one, two = await honest(self, ask, sender), await honest(self, ask, sender)
        return msgspec.structs.replace(one, claims=two.claims)

    async def other_node(self: ClaimDesk, ask: Any, _sender: Any) -> Any:
        return await honest(self, ask, did_number(3))

    for number, lie in enumerate((other_leaves, other_node)):
        monkeypatch.setattr(ClaimDesk, "issue", lie)
        async with three(net, tmp_path) as made:
            wish = AttestMe(request_id=f"a{number}", peer=did_number(2))
            with pytest.raises(WrongAttestation):
                await made[1].call(registry.CLAIMS_ATTEST, wish)


async def test_a_score_is_asked_for_with_its_evidence_and_counted_again(tmp_path: Path) -> None:
    """The asker takes the receipts, looks at the chain, and comes to the same."""
    net = FakeNet()
    async with three(net, tmp_path) as made:
        net.node(3).cut = True
        net.chain.settle(TXID, 100, TAX)
        net.chain.height = 110
        await submit(made[1], paid(2, 1, 1))
        net.chain.settle("ee" * 32, 101, 0)
        await submit(made[1], taken_back(2, 1, 1, cid=b"\x02" * 32, txid="ee" * 32, height=101), "t")
        await until(lambda: _lost(made[1]))
        net.node(3).cut = False
        ask = AskOpinion(of=did_number(1), peer=did_number(1))
        told = await made[3].call(registry.REPUTATION_OPINION, ask)
        assert (told.agrees, told.reason, told.receipts) == (True, "", 2)
        assert told.own_score == told.score
        assert told.own_standing_milli == told.standing_milli > 0


@attack("registry", tries="tells a score that its evidence does not give", meets="told apart from one that does")
async def test_a_boast_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A score that does not follow from what was shown is told apart from one that does."""
    net = FakeNet()
    honest = ReceiptMethods.reputation_for_peer

    async def boast(self: ReceiptMethods, ask: Any, sender: Any) -> Any:
        return msgspec.structs.replace(await honest(self, ask, sender), score_ppm=990_000)

    monkeypatch.setattr(ReceiptMethods, "reputation_for_peer", boast)
    async with three(net, tmp_path) as made:
        told = await made[3].call(registry.REPUTATION_OPINION, AskOpinion(of=did_number(1), peer=did_number(1)))
        assert (told.score, told.own_score, told.agrees) == (0.99, 0.5, False)
        assert "does not follow" in told.reason


async def _lost(client: LocalClient) -> bool:
    name = registry.NodeName(node_id=did_number(1))
    return (await client.call(registry.REPUTATION_GET, name)).bad_florins > 0


def test_why_two_scores_may_differ() -> None:
    """Equal within a day's decay; else another height, more contracts than shown, or simply not what was shown."""
    told = Told(score_ppm=900_000, settled=3, shown=3, at_height=800)
    assert difference(told, 901_000, own_height=800) == ""
    assert "at block 800" in difference(told, 500_000, own_height=900)
    more = Told(score_ppm=900_000, settled=300, shown=200, at_height=800)
    assert "300 contracts and showed 200" in difference(more, 500_000, own_height=800)
    assert "does not follow" in difference(told, 500_000, own_height=800)
