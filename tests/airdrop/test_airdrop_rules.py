"""The airdrop's pure rules: conservation, equality, determinism, one payout per cut-off, every refusal by name."""

from __future__ import annotations

import msgspec
import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from common.chain.address import p2pkh_script, p2sh_script, script_to_address
from common.chain.fees import DUST_FLORINS, TX_BYTES_MAX
from common.chain.fund import FundPayout, fund_output_script, payout_problems, payout_size
from common.chain.params import EMBEDDED
from common.chain.script import BRANCH_ARBITERS, BRANCH_COOP
from common.chain.tx import Outpoint, TxOutput
from common.codec import canonical
from common.contracts.airdrop import Phase
from common.network import NetworkProfile
from common.parameters import AirdropParameters
from common.randomness import SeededRandomness
from common.receipt_keys import LotSpent, of_other_lots
from common.receipts import Attested, Heartbeat, LotKeys, NodeInfo, Outcome, SettledReceipt
from common.units import FLOP, BlockHeight, Did, Florins, UnixMs
from dux_airdropd import payout_rules, rules
from dux_airdropd.evidence_rules import (
    census,
    in_order,
    item_fault,
    item_id,
    open_item,
    quality_of,
    settled,
    shape_fault,
)
from dux_airdropd.model import (
    Carried,
    Facts,
    Figures,
    FundCoin,
    Item,
    Kind,
    Member,
    Payment,
    Plan,
    Proposal,
    Round,
    Window,
    Witness,
)
from dux_airdropd.payout_rules import NothingToPay
from tests.attacks.registry import attack
from tests.market import makers
from tests.market.keyed import LOT, OTHER_LOT, keyed

pytestmark = pytest.mark.patient

NETWORK = makers.NETWORK
KEYS = tuple(sorted(PrivateKey(bytes([n]) * 32).public_key.format() for n in range(1, 4)))
FUND = fund_output_script(2, KEYS)
FIGURES = Figures(
    network=NETWORK,
    needed=2,
    pubkeys=KEYS,
    fund_script=FUND,
    family="embedded",
    threshold_florins=100 * FLOP,
    carry_below_florins=FLOP // 10,
    min_quality_ppm=500_000,
    max_nodes=1000,
    evidence_blocks=4,
    depth_blocks=2,
)
LARGE_FUND = msgspec.structs.replace(
    FIGURES,
    needed=8,
    pubkeys=tuple(sorted(PrivateKey(bytes([n]) * 32).public_key.format() for n in range(1, 16))),
)
WINDOW = Window(NETWORK, 500, frozenset(makers.ARBITERS), frozenset({FUND}), 0, 200, "0c" * 32, frozenset({500}))
LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


def did(number: int) -> Did:
    return Did("did:dux:" + LETTERS[number % 32] + LETTERS[number // 32 % 32] + LETTERS[number // 1024] + "a" * 49)


def member(number: int, *, p2sh: bool = False) -> Member:
    digest = number.to_bytes(20, "big")
    script = p2sh_script(digest) if p2sh else p2pkh_script(digest)
    return Member(did(number), script_to_address(script, EMBEDDED) or "", script, 500_000)


def coin(number: int, florins: int, height: int | None = 5, **spent: object) -> FundCoin:
    made = FundCoin(Outpoint(f"{number:064x}", number % 3), florins, height)
    return msgspec.structs.replace(made, **spent)


members_drawn = st.lists(st.integers(0, 500), min_size=1, max_size=40, unique=True).map(
    lambda numbers: [member(n, p2sh=n % 7 == 0) for n in numbers]
)
coins_drawn = st.lists(st.integers(1, 300 * FLOP), min_size=1, max_size=100).map(
    lambda values: [coin(at, value) for at, value in enumerate(values)]
)
ledgers_drawn = st.dictionaries(st.integers(0, 520).map(did), st.integers(1, FLOP // 10), max_size=12)


def check_plan(made: Plan, members: list[Member], ledger: dict[Did, int], figures: Figures = FIGURES) -> None:
    """Every law of a payout."""
    payout = made.payout
    assert payout_problems(payout) == [], "flopd of every custodian signs it"
    assert made.spent_florins == sum(int(item.value_florins) for item in payout.inputs)
    assert made.spent_florins == made.paid_florins + made.change_florins + made.fee_florins
    assert sum(int(out.value_florins) for out in payout.outputs) == made.paid_florins + made.change_florins
    assert [line.member.did for line in made.lines] == sorted(item.did for item in members)
    for line in made.lines:
        assert line.share_florins == made.share_florins > 0
        assert line.before_florins == ledger.get(line.member.did, 0)
        assert line.before_florins + line.share_florins == line.paid_florins + line.after_florins
        assert line.paid_florins == 0 or line.paid_florins >= figures.carry_below_florins
    owed_after = {line.did: int(line.florins) for line in made.ledger_after}
    others = {name: owed for name, owed in ledger.items() if name not in {m.did for m in members}}
    assert owed_after == others | {x.member.did: x.after_florins for x in made.lines if x.after_florins}
    assert made.change_florins >= sum(owed_after.values()), "what is owed lies in the fund"
    assert payout_size(figures.needed, figures.pubkeys, len(payout.inputs), payout.outputs) <= TX_BYTES_MAX


@settings(max_examples=150, deadline=None)
@given(members_drawn, coins_drawn, ledgers_drawn)
def test_any_payout_conserves_and_pays_evenly(
    members: list[Member], coins: list[FundCoin], ledger: dict[Did, int]
) -> None:
    """Whatever the fund, the nodes and the ledger are: a payout obeys every law, or there is none and it says why."""
    try:
        made = payout_rules.plan(members, coins, ledger, "airdrop 0", FIGURES)
    except NothingToPay:
        return
    check_plan(made, members, ledger)


@settings(max_examples=60, deadline=None)
@given(members_drawn, coins_drawn, ledgers_drawn, st.integers(0, 2**32))
def test_order_does_not_matter(members: list[Member], coins: list[FundCoin], ledger: dict[Did, int], seed: int) -> None:
    """Shuffled members, coins and ledger lines give the same payout, bit for bit."""
    shuffled = SeededRandomness(seed).sample
    try:
        made = payout_rules.plan(members, coins, ledger, "airdrop 0", FIGURES)
    except NothingToPay:
        return
    lines = dict(shuffled(list(ledger.items()), len(ledger)))
    again = payout_rules.plan(shuffled(members, len(members)), shuffled(coins, len(coins)), lines, "airdrop 0", FIGURES)
    assert canonical(again.payout) == canonical(made.payout)
    assert again == made


@settings(max_examples=60, deadline=None)
@given(members_drawn, members_drawn, coins_drawn)
def test_two_payouts_of_one_cutoff_cannot_both_be_mined(
    some: list[Member], others: list[Member], coins: list[FundCoin]
) -> None:
    """Whatever evidence two proposals rest on, they spend one coin in common."""
    try:
        first, second = (payout_rules.plan(pile, coins, {}, "airdrop 0", FIGURES).payout for pile in (some, others))
    except NothingToPay:
        return
    assert {item.outpoint for item in first.inputs} & {item.outpoint for item in second.inputs}


def test_the_whole_fund_goes_out_evenly() -> None:
    """Rule `full`: 100 FLOP to four nodes are 100 FLOP less the fee, in equal parts, nothing kept."""
    made = payout_rules.plan([member(n) for n in range(4)], [coin(1, 100 * FLOP)], {}, "airdrop 0", FIGURES)
    assert made.fee_florins < FLOP // 50
    assert {line.paid_florins for line in made.lines} == {made.share_florins}
    assert made.change_florins == 0
    assert made.paid_florins == 4 * made.share_florins
    check_plan(made, [member(n) for n in range(4)], {})


def test_small_shares_are_carried_and_paid_later() -> None:
    """Shares below 0.1 FLOP stay in the fund for their nodes; with the next airdrop they are paid."""
    members = [member(n) for n in range(30)]
    ledger = {member(n).did: FLOP // 20 for n in range(3)}
    made = payout_rules.plan(members, [coin(1, 3 * FLOP)], ledger, "airdrop 0", FIGURES)
    check_plan(made, members, ledger)
    assert sum(line.paid_florins > 0 for line in made.lines) == 3
    assert made.share_florins < FIGURES.carry_below_florins
    ledger = {line.did: int(line.florins) for line in made.ledger_after}
    again = payout_rules.plan(members, [coin(2, made.change_florins), coin(3, 5 * FLOP)], ledger, "airdrop 1", FIGURES)
    check_plan(again, members, ledger)
    assert not again.ledger_after


def test_change_below_the_smallest_output_is_avoided() -> None:
    """Where the ledger would leave less than 0.01 FLOP of change, shares shrink until the change can be made."""
    stranger = {did(900): 5_000}
    made = payout_rules.plan([member(1)], [coin(1, 10 * FLOP)], stranger, "airdrop 0", FIGURES)
    check_plan(made, [member(1)], stranger)
    assert DUST_FLORINS + 5_000 <= made.change_florins < DUST_FLORINS + 5_010


def test_a_thousand_nodes_and_many_coins_fit_one_transaction() -> None:
    """At most a thousand outputs, change among them, and as many inputs of an 8-of-15 fund as the size allows."""
    members = [member(n) for n in range(1000)]
    coins = [coin(n, 5 * FLOP + n) for n in range(120)]
    made = payout_rules.plan(members, coins, {}, "airdrop 0", LARGE_FUND)
    check_plan(made, members, {}, LARGE_FUND)
    assert len(made.payout.outputs) == 1000
    assert 50 < len(made.payout.inputs) < 87
    kept = payout_rules.plan(members, coins, {did(1010): 7}, "airdrop 0", LARGE_FUND)
    check_plan(kept, members, {did(1010): 7}, LARGE_FUND)
    assert len(kept.payout.outputs) == 1000
    assert len(kept.ledger_after) == 2, "one node waits, for the change takes its place"


def test_more_nodes_than_outputs_are_paid_in_batches_those_who_waited_first() -> None:
    """2,500 members over three payouts: nobody is paid twice before all were paid once, and all are owed alike."""
    members = [member(n) for n in range(2_500)]
    ledger: dict[Did, int] = {}
    got: dict[Did, int] = {one.did: 0 for one in members}
    for number in range(3):
        held = sum(ledger.values())
        coins = [coin(number, 3_000 * FLOP + held)]
        made = payout_rules.plan(members, coins, ledger, f"airdrop {number}", LARGE_FUND)
        check_plan(made, members, ledger, LARGE_FUND)
        for line in made.lines:
            got[line.member.did] += line.paid_florins
        ledger = {owed.did: int(owed.florins) for owed in made.ledger_after}
    assert all(got.values()), "three batches of 999 reach everybody"
    assert len({got[one.did] + ledger.get(one.did, 0) for one in members}) == 1


NOTHING = [
    ([], [coin(1, 100 * FLOP)], {}, "nobody is eligible"),
    ([member(1)], [], {}, "no coin"),
    ([member(n) for n in range(40)], [coin(1, FLOP)], {}, "below the smallest payment"),
    ([member(1)], [coin(1, FLOP)], {did(900): 2 * FLOP}, "below the smallest payment"),
    ([member(1)], [coin(1, 900_000)], {}, "below the smallest payment"),
]


@pytest.mark.parametrize(("members", "coins", "ledger", "words"), NOTHING)
def test_nothing_to_pay_says_why(
    members: list[Member], coins: list[FundCoin], ledger: dict[Did, int], words: str
) -> None:
    """No eligible node, no coin, or parts too small: no payout, and the reason."""
    with pytest.raises(NothingToPay, match=words):
        payout_rules.plan(members, coins, ledger, "airdrop 0", FIGURES)


def test_a_part_of_zero_is_never_paid() -> None:
    """With a fund that owes all it has, members with enough on the ledger are not paid out of nothing."""
    with pytest.raises(NothingToPay):
        payout_rules.plan([member(1)], [coin(1, 2 * FLOP)], {did(1): FLOP, did(900): FLOP}, "airdrop 0", FIGURES)


# when

CUTOFF_COINS = [
    coin(1, 40 * FLOP, 10),
    coin(2, 50 * FLOP, 20, spent_height=25),
    coin(3, 60 * FLOP, 30),
    coin(4, 80 * FLOP, None),
    coin(5, 10 * FLOP, 40),
]


@pytest.mark.parametrize(
    ("threshold", "after", "tip", "owed", "expected"),
    [
        (90, 0, 99, 0, 20),
        (100, 0, 99, 0, 30),
        (100, 0, 31, 0, 30),
        (100, 0, 30, 0, None),
        (100, 35, 99, 0, 35),
        (110, 0, 99, 0, 40),
        (110, 0, 99, FLOP, None),
        (40, 0, 10, 0, None),
        (200, 0, 99, 0, None),
    ],
)
def test_cutoff_is_the_first_height_with_enough(
    threshold: int, after: int, tip: int, owed: int, expected: int | None
) -> None:
    """Spent and unconfirmed coins do not count, nor what is owed; the height has to lie deep enough."""
    found = rules.cutoff_height(
        CUTOFF_COINS, after=after, tip=tip, depth=2, owed_florins=owed, threshold_at=lambda _height: threshold * FLOP
    )
    assert found == expected


def test_attempts_begin_after_the_exchange_and_rotate() -> None:
    """Depth, then N blocks of exchange, then one proposer after the other."""
    assert rules.proposal_after(30, FIGURES) == 35
    assert [rules.attempt_at(tip, 30, FIGURES) for tip in (34, 35, 38, 39, 43)] == [None, 0, 0, 1, 2]
    order = [did(1), did(2), did(3)]
    assert [rules.proposer(order, 1, attempt) for attempt in range(4)] == [did(2), did(3), did(1), did(2)]
    quick = msgspec.structs.replace(FIGURES, evidence_blocks=0)
    assert rules.attempt_at(33, 30, quick) == 2


@pytest.mark.parametrize(
    ("name", "rule", "words"),
    [("main", "full", "worth faking"), ("main", "bonded", ""), ("demo", "bonded", ""), ("demo", "full", "")],
)
def test_rule_full_refuses_main(name: str, rule: str, words: str) -> None:
    """The spec's even payout runs on closed networks only; bonds do not exist yet."""
    network = NetworkProfile(
        name=name,
        chain="embedded",
        genesis=NETWORK,
        heights="demo",
        airdrop=AirdropParameters(rule=rule),  # type: ignore[arg-type]
    )
    problem = rules.rule_problem(network)
    assert words in problem
    assert bool(words) == bool(problem)


# evidence


def item(kind: Kind, body: Heartbeat | NodeInfo | SettledReceipt, by: Did | None = None) -> Item:
    signer = by or (body.signer if isinstance(body, SettledReceipt) else body.did)
    return Item(kind, canonical(Attested(canonical(body), signer, 0, b"s" * 64)))


BEAT = makers.heartbeat()
PAID = makers.receipt()
GOOD: dict[Kind, tuple[Heartbeat | NodeInfo | SettledReceipt, Facts]] = {
    Kind.HEARTBEAT: (BEAT, Facts(True, BEAT.block_hash)),
    Kind.NODE: (makers.node(), Facts(True)),
    Kind.RECEIPT: (PAID, Facts(True, payment=Payment(100, (TxOutput(Florins(50_000_000), FUND),)))),
}


@pytest.mark.parametrize("kind", list(GOOD))
def test_sound_evidence_verifies(kind: Kind) -> None:
    """A right signature, a block of the chain, a payment that pays the fund its tax."""
    body, facts = GOOD[kind]
    assert item_fault(item(kind, body), facts, WINDOW) == ""


FAULTS = [
    (Kind.HEARTBEAT, {}, Facts(False, BEAT.block_hash), "signature"),
    (Kind.HEARTBEAT, {"network": "00" * 32}, Facts(True, BEAT.block_hash), "another network"),
    (Kind.HEARTBEAT, {"height": 201}, Facts(True, BEAT.block_hash), "outside the window"),
    (Kind.HEARTBEAT, {}, Facts(True, "11" * 32), "not on the chain"),
    (Kind.NODE, {"network": "00" * 32}, Facts(True), "another network"),
    (Kind.RECEIPT, {"tax_florins": Florins(1)}, GOOD[Kind.RECEIPT][1], "tax is not"),
    (Kind.RECEIPT, {"height": 201}, GOOD[Kind.RECEIPT][1], "outside the window"),
    (Kind.RECEIPT, {}, Facts(True), "does not show"),
    (Kind.RECEIPT, {"height": 99}, GOOD[Kind.RECEIPT][1], "does not show"),
    (Kind.RECEIPT, {}, Facts(True, payment=Payment(100, (TxOutput(Florins(1), FUND),))), "does not pay"),
    (Kind.RECEIPT, {}, Facts(True, payment=Payment(100, (TxOutput(Florins(50_000_000), b"x"),))), "does not pay"),
]


@pytest.mark.parametrize(("kind", "changes", "facts", "words"), FAULTS)
def test_each_fault_has_its_name(kind: Kind, changes: dict[str, object], facts: Facts, words: str) -> None:
    """One thing wrong at a time."""
    body = msgspec.structs.replace(GOOD[kind][0], **changes)
    assert words in item_fault(item(kind, body), facts, WINDOW)


def test_foreign_signers_and_noise_are_refused_before_any_look_up() -> None:
    """Somebody else's signature, bytes that are nothing, and a body of another kind."""
    assert "somebody else" in shape_fault(item(Kind.HEARTBEAT, BEAT, by=makers.STRANGER))
    assert shape_fault(Item(Kind.NODE, b"\x00"))
    assert shape_fault(Item(Kind.RECEIPT, item(Kind.HEARTBEAT, BEAT).data))
    assert item_fault(Item(Kind.NODE, b"\x00"), Facts(True), WINDOW) == shape_fault(Item(Kind.NODE, b"\x00"))


def test_items_have_one_order_and_stand_once() -> None:
    """The bundle of the same items is the same bytes, whoever held them in whatever order."""
    items = [item(kind, body) for kind, (body, _) in GOOD.items()]
    assert in_order([*items, items[0]]) == in_order(items[::-1])
    assert len(in_order([*items, items[0]])) == 3


def witness(body: Heartbeat | NodeInfo | SettledReceipt) -> Witness:
    kind = {Heartbeat: Kind.HEARTBEAT, NodeInfo: Kind.NODE, SettledReceipt: Kind.RECEIPT}[type(body)]
    return Witness(item_id(item(kind, body)), body)


def alive(*dids: Did) -> list[Witness]:
    """A heartbeat and a description of each."""
    found = []
    for name in dids:
        found += [witness(makers.heartbeat(did=name)), witness(makers.node(did=name))]
    return found


def test_buyer_and_seller_of_a_paid_job_are_members() -> None:
    """Both took part; a node that is merely there is told why it gets nothing."""
    people = alive(makers.BUYER, makers.SELLER, makers.STRANGER)
    members, refusals = census([*people, witness(PAID)], WINDOW, FIGURES)
    assert [m.did for m in members] == [makers.BUYER, makers.SELLER]
    assert [(r.did, r.reason) for r in refusals] == [(makers.STRANGER, "no settled receipt since the last cut-off")]


REASONS = [
    ([witness(makers.heartbeat()), witness(PAID)], "it is not registered"),
    ([witness(makers.heartbeat()), witness(makers.node(withdrawn=True)), witness(PAID)], "it is not registered"),
    ([witness(makers.node()), witness(PAID)], "no heartbeat since the last cut-off"),
    (alive(makers.SELLER), "no settled receipt since the last cut-off"),
    ([*alive(makers.SELLER), witness(makers.lost())], "no settled receipt since the last cut-off"),
    (
        [
            *alive(makers.SELLER),
            witness(PAID),
            witness(makers.lost(cid=b"\x02" * 32, txid="ce" * 32, price_florins=Florins(100 * FLOP))),
        ],
        "its reputation is too low",
    ),
    (
        [witness(makers.heartbeat()), witness(makers.node(wallet_address="0x12")), witness(PAID)],
        "its wallet address is not of this network",
    ),
]


@pytest.mark.parametrize(("witnesses", "reason"), REASONS)
def test_who_gets_nothing_is_told_why(witnesses: list[Witness], reason: str) -> None:
    """Each condition missing alone."""
    members, refusals = census(witnesses, WINDOW, FIGURES)
    assert makers.SELLER not in [m.did for m in members]
    assert reason in [r.reason for r in refusals if r.did == makers.SELLER]


def test_the_latest_description_counts() -> None:
    """A node that moved its wallet is paid at the new address, in whatever order its descriptions come."""
    newer = makers.node(at_ms=UnixMs(makers.NOW_MS + 5), wallet_address=member(7).address)
    people = [*alive(makers.SELLER), witness(newer), witness(PAID)]
    for pile in (people, people[::-1]):
        assert [m.address for m in census(pile, WINDOW, FIGURES)[0]] == [member(7).address]


def test_beyond_the_limit_the_best_quality_counts() -> None:
    """With two shares for three nodes, a node whose sales paid tax goes before two that only bought."""
    other = makers.receipt(cid=b"\x02" * 32, txid="ce" * 32, buyer=makers.STRANGER, signer=makers.STRANGER)
    people = [*alive(makers.BUYER, makers.SELLER, makers.STRANGER), witness(PAID), witness(other)]
    narrow = msgspec.structs.replace(FIGURES, max_nodes=2)
    members, refusals = census(people, WINDOW, narrow)
    assert [m.did for m in members] == sorted([makers.BUYER, makers.SELLER])
    assert [(r.did, r.reason) for r in refusals] == [(makers.STRANGER, "more nodes than shares")]


@attack(
    "payment",
    tries="a stranger's payment as one's own in the evidence, by as many names and with any contract id",
    meets="keys weigh more than words; of stories told equally well none counts",
)
def test_one_transaction_settles_one_contract() -> None:
    """Of two claims to one transaction the better attested counts, under keys before all; of equals none."""
    names = {"buyer": makers.did("k"), "seller": makers.STRANGER}
    rivals = [makers.receipt(cid=b"\x00" * 32, signer=name, **names) for name in names.values()]
    both = [PAID, makers.receipt(signer=makers.BUYER)]
    assert settled([PAID, rivals[0]], frozenset()) == []
    assert settled([*both, rivals[0]], frozenset())[0].cid == PAID.cid
    assert settled([*both, *rivals], frozenset()) == []
    assert settled([PAID, *rivals], frozenset())[0].cid == rivals[0].cid, "what keys are for"
    assert settled([keyed(PAID), *rivals], frozenset()) == [keyed(PAID)]
    buyers = keyed(makers.receipt(signer=makers.BUYER, seller=makers.STRANGER))
    assert settled([buyers, keyed(PAID)], frozenset()) == [keyed(PAID)]


def test_one_contract_is_settled_once_unless_keys_tell_two_apart() -> None:
    """Of two payments under one id one counts, the better attested; of other lots both do."""
    twice = makers.receipt(txid="ce" * 32)
    assert settled([PAID, twice], frozenset()) == [twice if twice.txid < PAID.txid else PAID]
    assert settled([PAID, keyed(twice)], frozenset()) == [keyed(twice), PAID]
    third = makers.receipt(txid="cf" * 32)
    assert settled([keyed(PAID), keyed(twice)], frozenset()) == [keyed(PAID)]
    assert settled([twice, third], frozenset()) == [twice]
    assert settled([keyed(PAID), keyed(twice, OTHER_LOT)], frozenset()) == [keyed(PAID), keyed(twice, OTHER_LOT)]


LOTS = [LOT, OTHER_LOT, LotKeys(buyer=LOT.buyer, seller=OTHER_LOT.seller)]
STORIES = st.tuples(st.sets(st.sampled_from(LOTS), max_size=2), st.booleans())


@given(st.lists(STORIES, max_size=6))
def test_one_pass_tells_apart_what_pairs_would(stories: list[tuple[set[LotKeys], bool]]) -> None:
    """Payments under one id: none kept is a rival of another, and each left out is the rival of one that is kept."""
    told = []
    for number, (lots, pays) in enumerate(stories):
        made = (makers.receipt if pays else makers.lost)(txid=f"{number:064x}")
        told.append([made, *(keyed(made, lot) for lot in sorted(lots, key=canonical))])
    kept = settled((one for each in told for one in each), frozenset())
    ours = {one.txid: each for each in told for one in each}
    groups = [ours[one.txid] for one in kept]
    assert all(of_other_lots(one, other) for at, one in enumerate(groups) for other in groups[:at])
    left = [each for each in told if each not in groups]
    assert all(any(not of_other_lots(one, other) for other in groups) for one in left)


@attack("payment", tries="evidence under keys that the payment does not show", meets="it does not verify")
def test_keys_in_evidence_are_looked_up() -> None:
    """A receipt's keys stand in the script that its payment spends, and have signed it."""
    sound = keyed(PAID)
    payment = GOOD[Kind.RECEIPT][1].payment
    shows = Facts(True, payment=msgspec.structs.replace(payment, lots=(LotSpent(LOT, BRANCH_COOP),)))
    assert item_fault(item(Kind.RECEIPT, sound), shows, WINDOW) == ""
    taken = Facts(True, payment=msgspec.structs.replace(payment, lots=(LotSpent(LOT, BRANCH_ARBITERS),)))
    for told in (sound, PAID):
        assert "that is awarded, not released" in item_fault(item(Kind.RECEIPT, told), taken, WINDOW)
    assert "not of the script" in item_fault(item(Kind.RECEIPT, sound), Facts(True, payment=payment), WINDOW)
    forged = msgspec.structs.replace(sound, lot_signature=b"")
    assert "not signed by the key" in item_fault(item(Kind.RECEIPT, forged), shows, WINDOW)


def test_a_buyer_alone_cannot_slander() -> None:
    """An unpaid job counts against its seller by the seller's own word or two arbiters'."""
    arbiters = frozenset(makers.ARBITERS)
    by_buyer = makers.lost(signer=makers.BUYER)
    told = [makers.lost(signer=name) for name in makers.ARBITERS]
    assert settled([by_buyer], arbiters) == []
    assert settled([by_buyer, told[0]], arbiters) == []
    assert len(settled([by_buyer, *told[:2]], arbiters)) == 1
    assert len(settled([makers.lost()], arbiters)) == 1
    cancelled = makers.lost(outcome=Outcome.CANCELLED, signer=makers.BUYER)
    assert quality_of(makers.SELLER, settled([cancelled], arbiters), tip=100, tax_bps=500) == 500_000


@given(
    st.lists(st.sampled_from(REASONS[0][0] + REASONS[5][0] + alive(makers.BUYER)), max_size=12), st.integers(0, 2**32)
)
def test_census_is_the_same_in_any_order(witnesses: list[Witness], seed: int) -> None:
    """Permuted and repeated evidence gives the same members and the same reasons."""
    again = SeededRandomness(seed).sample(witnesses * 2, 2 * len(witnesses))
    assert census(again, WINDOW, FIGURES) == census(witnesses, WINDOW, FIGURES)


# what is signed

MINE = Round(0, BlockHeight(0), BlockHeight(200), "0c" * 32, Phase.GATHERING)
EVIDENCE_ITEMS = [
    item(Kind.RECEIPT, PAID),
    *(item(Kind.HEARTBEAT, makers.heartbeat(did=name)) for name in (makers.BUYER, makers.SELLER)),
    *(item(Kind.NODE, makers.node(did=name)) for name in (makers.BUYER, makers.SELLER)),
]
FUND_COINS = [coin(1, 101 * FLOP)]


def recomputed(items: list[Item], ledger: dict[Did, int] | None = None) -> Proposal:
    bodies = {item_id(one): (one, Witness(item_id(one), open_item(one)[1])) for one in items}
    return rules.recompute(MINE, bodies, WINDOW, FUND_COINS, ledger or {}, FIGURES)[0]


def test_a_right_proposal_is_signed() -> None:
    """The same evidence gives the same proposal; nothing is left to object to."""
    proposal = recomputed(EVIDENCE_ITEMS)
    own = recomputed(EVIDENCE_ITEMS[::-1])
    assert rules.round_fault(proposal, MINE, NETWORK, 1) == ""
    assert rules.signing_fault(proposal, own, [item_id(one) for one in EVIDENCE_ITEMS], {}) == ""
    assert rules.proposal_id(proposal) == rules.proposal_id(own)


def test_wrong_proposals_are_not_signed() -> None:
    """Another round, disorder, an unverified item, an item left out, another ledger, other outputs: each by name."""
    good = recomputed(EVIDENCE_ITEMS)
    change = msgspec.structs.replace
    assert "another network" in rules.round_fault(change(good, network="00" * 32), MINE, NETWORK, 1)
    assert "get the newer set" in rules.round_fault(change(good, parameters=2), MINE, NETWORK, 1)
    assert "another cut-off" in rules.round_fault(change(good, cutoff_hash="00" * 32), MINE, NETWORK, 1)
    assert "out of order" in rules.round_fault(change(good, items=good.items[::-1]), MINE, NETWORK, 1)
    held = [item_id(one) for one in EVIDENCE_ITEMS]
    assert "does not verify: forged" in rules.signing_fault(good, good, held, {held[0]: "forged"})
    assert "leaves out 1 items" in rules.signing_fault(good, good, [*held, b"x" * 32], {})
    owing = recomputed(EVIDENCE_ITEMS, {did(9): FLOP})
    assert "ledger differs" in rules.signing_fault(good, owing, held, {})
    seated = change(good, carried=Carried((did(1),), (), strict=False, bound=0))
    assert "what it carries" in rules.signing_fault(seated, good, held, {})
    greedy = change(good.payout, outputs=good.payout.outputs[:1])
    assert "not what its evidence gives" in rules.signing_fault(change(good, payout=greedy), good, held, {})


def test_what_the_chain_says_of_a_payout() -> None:
    """The first spend of a cut-off coin is looked at; it is the payout iff it pays the same outputs."""
    payout: FundPayout = recomputed(EVIDENCE_ITEMS).payout
    spent = coin(1, 101 * FLOP, spent_height=210, spent_txid="aa" * 32, spent_outputs=payout.outputs)
    other = coin(2, 5 * FLOP, spent_height=205, spent_txid="bb" * 32, spent_outputs=payout.outputs[:1])
    assert rules.spent_by([spent, other], 200) == other
    assert rules.spent_by(FUND_COINS, 200) is None
    assert rules.spent_by([coin(3, FLOP, spent_height=150)], 200) is None, "it was gone before the cut-off"
    assert rules.pays(spent, payout)
    assert not rules.pays(other, payout)
    assert not rules.pays(msgspec.structs.replace(spent, outpoint=other.outpoint), payout)
    assert rules.is_deep(10, 11, 2)
    assert not rules.is_deep(10, 10, 2)
