"""Rule `bonded`: each condition with its reason, limits over all nodes, the share's cap, and what faking brings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from common.chain.bond import Bond, BondProof, bond_digest, bond_output_script
from common.chain.tx import Outpoint, TxOutput
from common.codec import canonical
from common.contracts.airdrop import Phase
from common.parameters import BondedParameters
from common.quality import DAY_BLOCKS
from common.receipts import Attested, Heartbeat, NodeInfo, Outcome
from common.units import FLOP, BlockHeight, Florins, UnixMs
from dux_airdropd import rules
from dux_airdropd.bonded_rules import (
    bond_least_at,
    bonded_census,
    carried_after,
    identity_cost,
    next_bond_least,
    share_cap,
    taxes_of,
    ticket,
    witnessed,
)
from dux_airdropd.evidence_rules import item_fault, open_bond, shape_fault, witness_of
from dux_airdropd.model import (
    NOTHING_CARRIED,
    BondSeen,
    BondShown,
    BondStep,
    Carried,
    Census,
    Facts,
    FundCoin,
    Item,
    Kind,
    Payment,
    Round,
    Seen,
    Window,
    Witness,
    WitnessWord,
)
from dux_sim.sybil.story import CUSTODIANS, NETWORK, Population, attacks, did_of, figures_for
from tests.market import makers

RULE = BondedParameters()
FIGURES = figures_for("bonded")
HEIGHT = 400 * DAY_BLOCKS
WEEK = Window(NETWORK, 500, frozenset(), frozenset(), HEIGHT - 7 * DAY_BLOCKS + 1, HEIGHT, "0c" * 32, frozenset({500}))
BEACON = b"\x07" * 32
BOND = int(RULE.bond_least_florins)
NODES = 6
SEATED = Carried(tuple(did_of(n) for n in range(NODES)), (), strict=False, bound=0)


def people(nodes: int = NODES) -> list[Witness]:
    """Sound evidence of some nodes."""
    return Population(1, nodes, "lognormal").evidence(0, 0, BOND, 1.0)


def census(witnesses: list[Witness], carried: Carried = SEATED, *, asns: Any = None, **figures: Any) -> Census:
    changed = msgspec.structs.replace(FIGURES, **figures)
    return bonded_census(witnesses, WEEK, changed, carried, BEACON, asns or {})


def reason(found: Census, node: int = 0) -> str:
    return next((one.reason for one in found.refusals if one.did == did_of(node)), "")


def mapped(witnesses: list[Witness], kind: type, change: Any, node: int = 0) -> list[Witness]:
    """One node's bodies of a kind changed, or left out when the change gives None."""
    found = []
    for one in witnesses:
        body: Any = one.body
        if isinstance(body, kind) and getattr(body, "did", None) == did_of(node):
            body = change(body)
            if body is None:
                continue
        found.append(Witness(one.item_id, body))
    return found


def seen(witnesses: list[Witness], node: int = 0, witnesses_changed: int = CUSTODIANS, **changes: Any) -> list[Witness]:
    """What so many custodians say of a node, changed."""
    found, done = [], 0
    for one in witnesses:
        body: Any = one.body
        if isinstance(body, WitnessWord) and done < witnesses_changed:
            lines = tuple(
                msgspec.structs.replace(line, **changes) if line.did == did_of(node) else line for line in body.lines
            )
            body, done = msgspec.structs.replace(body, lines=lines), done + 1
        found.append(Witness(one.item_id, body))
    return found


def changed(**fields: Any) -> Any:
    return lambda body: msgspec.structs.replace(body, **fields)


def nothing(_body: object) -> None:
    return None


def test_sound_nodes_have_seats() -> None:
    """Everything in order: all six, in the order of DIDs, nobody refused."""
    found = census(people())
    assert [member.did for member in found.members] == sorted(did_of(n) for n in range(NODES))
    assert found.refusals == ()
    assert (found.bound, found.least_bond_florins) == (False, BOND)


DAY = DAY_BLOCKS
EXCLUSIONS = [
    (lambda w: mapped(w, NodeInfo, nothing), "not registered"),
    (lambda w: mapped(w, NodeInfo, changed(withdrawn=True)), "not registered"),
    (lambda w: mapped(w, NodeInfo, changed(wallet_address="nonsense")), "wallet address"),
    (lambda w: mapped(w, Heartbeat, nothing), "no heartbeat"),
    (lambda w: mapped(w, BondSeen, nothing), "shown no bond"),
    (lambda w: mapped(w, BondSeen, changed(value_florins=Florins(BOND - 1))), "smaller than the least"),
    (lambda w: mapped(w, BondSeen, changed(until=HEIGHT + 80 * DAY - 1)), "not locked for 180 days"),
    (lambda w: mapped(w, BondSeen, changed(height=HEIGHT - 170 * DAY, until=HEIGHT + 20 * DAY)), "less than 30"),
    (lambda w: seen(w, since_height=HEIGHT - 30 * DAY + 1), "known for less than 30 days"),
    (lambda w: seen(w, up_bps=7_999), "less than 80 %"),
    (lambda w: seen(w, up_last=False), "last slot"),
    (lambda w: seen(w, standing_milli=999), "standing is too low"),
    (lambda w: seen(w, fault_height=HEIGHT - 90 * DAY + 1), "fault of it was proven"),
    (lambda w: seen(w, witnesses_changed=2, up_bps=0), "less than 80 %"),
    (lambda w: [one for one in w if not isinstance(one.body, WitnessWord)], "too few custodians"),
]  # fmt: skip


@pytest.mark.parametrize(("break_it", "words"), EXCLUSIONS)
def test_every_exclusion_has_its_reason(break_it: Any, words: str) -> None:
    """E1 to E6, one at a time."""
    assert words in reason(census(break_it(people())))


STILL_FINE = [
    lambda w: seen(w, since_height=HEIGHT - 30 * DAY),
    lambda w: seen(w, up_bps=8_000),
    lambda w: seen(w, fault_height=HEIGHT - 90 * DAY),
    lambda w: seen(w, witnesses_changed=1, up_bps=0, up_last=False, standing_milli=0, fault_height=HEIGHT),
    lambda w: seen(w, witnesses_changed=1, since_height=HEIGHT),
    lambda w: mapped(w, BondSeen, changed(until=HEIGHT + 80 * DAY)),
]  # fmt: skip


@pytest.mark.parametrize("change", STILL_FINE)
def test_bounds_are_met_exactly_and_one_custodian_cannot_slander(change: Any) -> None:
    """On the bound is enough; what fewer than m custodians say changes nothing."""
    assert reason(census(change(people()))) == ""


def test_money_has_to_be_earned_with_others() -> None:
    """Too little tax, too few counterparties, too low a quality: three reasons."""
    poor = msgspec.structs.replace(RULE, tax_least_florins=Florins(10**12))
    assert "too little tax" in reason(census(people(), bonded=poor))
    lonely = msgspec.structs.replace(RULE, counterparties=7)
    assert "fewer than 7 others" in reason(census(people(), bonded=lonely))
    assert "reputation" in reason(census(people(), min_quality_ppm=999_999_999))


def test_a_job_that_paid_nothing_counts_for_nobody() -> None:
    """No tax and no partner from a refund."""
    refund = makers.receipt(gross_florins=Florins(0), tax_florins=Florins(0), outcome=Outcome.REFUNDED)
    tax, partners = taxes_of([refund, makers.receipt()])
    assert tax == {makers.BUYER: 25_000_000, makers.SELLER: 25_000_000}
    assert partners[makers.BUYER] == {makers.SELLER}


def test_a_young_network_asks_for_less_age() -> None:
    """In its first ninety days a week is enough, later a month."""
    young = msgspec.structs.replace(RULE, early_days=500)
    told = seen(people(), since_height=HEIGHT - 7 * DAY)
    assert reason(census(told, bonded=young)) == ""
    assert "30 days" in reason(census(told))
    assert "7 days" in reason(census(seen(people(), since_height=HEIGHT - 7 * DAY + 1), bonded=young))


def test_one_seat_per_net_and_a_part_per_asn() -> None:
    """Of one /24 the lowest ticket has the seat, of one ASN a twentieth; all of unknown networks share one seat."""
    same = seen(seen(people(), 0, net="10.9.9.0/24"), 1, net="10.9.9.0/24")
    winner = min((0, 1), key=lambda n: ticket(did_of(n), BEACON))
    found = census(same)
    assert len(found.members) == NODES - 1
    assert "10.9.9.0/24" in reason(found, 1 - winner)
    assert reason(found, winner) == ""
    off = msgspec.structs.replace(RULE, one_per_net=False)
    assert len(census(same, bonded=off).members) == NODES
    blank = seen(seen(people(), 0, net=""), 1, net="")
    assert len(census(blank).members) == NODES - 1
    assert "unknown whereabouts" in reason(census(blank), 1 - winner)
    asns = {f"10.0.{n}.0/24": 65_000 for n in range(4)}
    found = census(people(), asns=asns)
    assert len(found.members) == NODES - 3, "one of the four has the seat of their ASN"
    assert sum("AS65000" in one.reason for one in found.refusals) == 3


def test_newcomers_wait_and_the_oldest_bonds_come_first() -> None:
    """At most a tenth of last time's seats, not below twenty; when they wait twice running, shares are capped hard."""
    few = msgspec.structs.replace(RULE, new_seats_least=2)
    old = mapped(people(), BondSeen, changed(height=HEIGHT - 101 * DAY), node=4)
    found = census(old, NOTHING_CARRIED, bonded=few)
    assert did_of(4) in {member.did for member in found.members}
    assert len(found.members) == 2
    assert found.bound
    assert sum("new nodes may join" in one.reason for one in found.refusals) == NODES - 2
    once = carried_after(NOTHING_CARRIED, found, few, fund_florins=100 * FLOP, from_height=1, to_height=HEIGHT)
    twice = carried_after(once, found, few, fund_florins=100 * FLOP, from_height=1, to_height=HEIGHT)
    calm = carried_after(twice, census(people()), few, fund_florins=100 * FLOP, from_height=1, to_height=HEIGHT)
    assert [(one.bound, one.strict) for one in (once, twice, calm)] == [(1, False), (2, True), (0, False)]
    assert len(census(people(), NOTHING_CARRIED).members) == NODES, "twenty may come at once"


def test_more_nodes_than_shares_are_drawn_for() -> None:
    """By the beacon: the lowest tickets, whatever they earn."""
    found = census(people(), max_nodes=2)
    best = sorted(range(NODES), key=lambda n: ticket(did_of(n), BEACON))[:2]
    assert {member.did for member in found.members} == {did_of(n) for n in best}
    assert sum("draw" in one.reason for one in found.refusals) == NODES - 2


def test_a_bond_in_force_is_honoured_and_the_share_follows_the_least() -> None:
    """A bond of the time before the least one rose keeps its seat; all shares are capped by what it costs."""
    risen = Carried(SEATED.seats, (BondStep(HEIGHT - 50 * DAY, Florins(10 * BOND)),), strict=False, bound=0)
    found = census(people(), risen)
    assert len(found.members) == NODES
    assert found.least_bond_florins == BOND
    late = mapped(people(), BondSeen, changed(height=HEIGHT - 40 * DAY, until=HEIGHT + 200 * DAY))
    assert "smaller than the least" in reason(census(late, risen))
    assert [bond_least_at(risen, RULE, h) for h in (0, HEIGHT - 50 * DAY)] == [BOND, 10 * BOND]


def test_the_fund_pays_no_more_than_an_identity_costs() -> None:
    """The share is floor(min(F/K, phi·C)); the rest stays; strict mode leaves the bond's rate out."""
    now = Round(0, BlockHeight(WEEK.from_height), BlockHeight(HEIGHT), "0c" * 32, Phase.SIGNING)
    pot = [FundCoin(Outpoint("ab" * 32, 0), 100 * FLOP, HEIGHT)]
    made = rules.plan_of(census(people()), now, pot, {}, SEATED, FIGURES, name="x")
    cost = identity_cost(RULE, BOND, 7 * DAY, strict=False)
    assert cost == 6_000_000 + BOND * 7 // 20 // 365
    assert made.cap_florins == share_cap(RULE, BOND, 7 * DAY, strict=False) == cost * 9 // 10
    assert made.share_florins == made.cap_florins < FLOP // 10
    assert made.paid_florins == 0 or made.paid_florins >= FLOP // 10
    assert share_cap(RULE, BOND, 7 * DAY, strict=True) == 5_400_000
    assert made.carried_after.steps == (BondStep(HEIGHT + 1, Florins(BOND * 5 // 4)),)


@settings(max_examples=200, deadline=None)
@given(st.integers(BOND, 1000 * BOND), st.integers(0, 10**14), st.integers(1, 1000), st.integers(1, 365 * DAY))
def test_the_least_bond_moves_in_bounded_steps(held: int, fund: int, seats: int, blocks: int) -> None:
    """Between four fifths and five quarters of what it was, never below the network's own least."""
    made = next_bond_least(RULE, held, fund, seats, blocks)
    assert made >= BOND
    assert made <= held * 5 // 4
    assert made == BOND or made >= held * 4 // 5


def test_the_least_bond_finds_the_value_at_which_all_is_paid() -> None:
    """B_min of mechanisms.md §2.2: 2,255 FLOP for 50 nodes and a week, 526 for a month, within a hundredth."""
    for days, wanted in ((7, 2_255), (30, 526)):
        bond = BOND
        for _ in range(60):
            bond = next_bond_least(RULE, bond, 100 * FLOP, 50, days * DAY)
        assert abs(bond / FLOP - wanted) < wanted / 100


def test_the_next_cutoff_waits_for_a_window_of_presence() -> None:
    """What stays in the fund does not make a cut-off every block; the first, and rule `full`, need not wait."""
    assert rules.earliest_cutoff(1_000, FIGURES) == 1_000 + 7 * DAY - 1
    assert rules.earliest_cutoff(0, FIGURES) == 0
    assert rules.earliest_cutoff(1_000, figures_for("full")) == 0


# words and bonds as evidence


def test_words_count_from_custodians_alone_and_two_of_one_for_the_worse() -> None:
    """A stranger's word is no word; who says two things is taken at the worse; m agree."""
    line = Seen(did_of(1), BlockHeight(5), 9_000, up_last=True, standing_milli=5_000, fault_height=-1, net="a")

    def word(witness: int, **changes: Any) -> WitnessWord:
        told = msgspec.structs.replace(line, **changes)
        return WitnessWord(NETWORK, did_of(witness), BlockHeight(1), "0c" * 32, (told,), UnixMs(0))

    custodians = frozenset(did_of(n) for n in (10, 11, 12))
    assert witnessed([word(10), word(13), word(14)], custodians, 2) == {}
    found = witnessed([word(10), word(11, up_bps=7_000, since_height=9), word(12, up_bps=8_000)], custodians, 2)
    assert (found[did_of(1)].up_bps, found[did_of(1)].since_height) == (8_000, 5)
    liar = [word(10), word(10, up_bps=1), word(11)]
    assert witnessed(liar, custodians, 2)[did_of(1)].up_bps == 1


KEY = PrivateKey(b"\x21" * 32)
POINT = Outpoint("cd" * 32, 1)


def bond_item(**changes: Any) -> Item:
    owner = KEY.public_key.format()
    bond = Bond(makers.NETWORK, makers.BUYER, owner, 5_000, POINT)
    bond = msgspec.structs.replace(bond, **{k: v for k, v in changes.items() if k in ("network", "until")})
    signature = KEY.sign(bond_digest(bond), hasher=None) + b"\x01"
    proof = canonical(BondProof(bond, changes.get("signature", signature)))
    return Item(Kind.BOND, canonical(BondShown(proof, BlockHeight(100), changes.get("value", Florins(BOND)))))


def test_a_bond_is_what_the_chain_shows() -> None:
    """Another sum, another height, another script, another network, a forged signature, a later block: each is told."""
    window = Window(makers.NETWORK, 500, frozenset(), frozenset(), 0, 200, "0c" * 32, frozenset({500}))
    script = bond_output_script(KEY.public_key.format(), 5_000)
    outputs = (TxOutput(Florins(1), b""), TxOutput(Florins(BOND), script))
    good = Facts(signed=True, payment=Payment(100, outputs))
    assert item_fault(bond_item(), good, window) == ""
    assert witness_of(bond_item()).body == BondSeen(makers.BUYER, str(POINT), Florins(BOND), 100, 5_000)
    assert open_bond(bond_item())[1].bond.outpoint == POINT
    assert "another sum" in item_fault(bond_item(value=Florins(BOND + 1)), good, window)
    assert "another script" in item_fault(bond_item(until=6_000), good, window)
    assert "another network" in item_fault(bond_item(network="00" * 32), good, window)
    assert "signature" in item_fault(bond_item(signature=b"\x30\x01"), good, window)
    assert "does not show" in item_fault(bond_item(), Facts(signed=True), window)
    assert "does not show" in item_fault(bond_item(), Facts(signed=True, payment=Payment(100, outputs[:1])), window)
    early = msgspec.structs.replace(window, to_height=99)
    assert "younger" in item_fault(bond_item(), good, early)
    assert shape_fault(Item(Kind.BOND, b"\x00"))


def test_a_word_is_about_its_own_cutoff() -> None:
    """A custodian's word for another cut-off does not count."""
    word = WitnessWord(makers.NETWORK, makers.BUYER, BlockHeight(200), "0c" * 32, (), UnixMs(0))
    window = Window(makers.NETWORK, 500, frozenset(), frozenset(), 0, 200, "0c" * 32, frozenset({500}))
    item = Item(Kind.WITNESS, canonical(Attested(canonical(word), makers.BUYER, 0, b"s" * 64)))
    assert item_fault(item, Facts(signed=True), window) == ""
    assert "another cut-off" in item_fault(item, Facts(signed=True), msgspec.structs.replace(window, to_hash="11" * 32))
    assert witness_of(item).body == word


# what faking brings


@pytest.mark.parametrize("honest", [50, 300])
def test_full_is_worth_faking_and_bonded_is_not(honest: int) -> None:
    """The short form of `duxnet sim --story sybil`: the product's own rules, a ladder of fakes, profit by rate."""
    ladder = (4, 100, 500)
    full = attacks("full", honest, seed=1, ladder=ladder)
    bonded = attacks("bonded", honest, seed=1, ladder=ladder)
    assert full.worth_faking
    assert full.best(500).profit_florins[500] > 50 * FLOP
    assert all(one.profit_florins[500] < 0 and one.profit_florins[1_000] < 0 for one in bonded.attacks)
    assert all(one.fakes_paid for one in bonded.attacks if one.fakes < 500), "they were not merely shut out"
    margin = min(-one.each(500) for one in bonded.attacks)
    assert margin >= int(RULE.closings_florins) // 10, "a tenth of an identity's cost is lost by each fake"


def test_evidence_in_any_order_gives_the_same_seats() -> None:
    """Determinism: the items' order does not matter."""
    told = people()
    assert census(told) == census(told[::-1])
