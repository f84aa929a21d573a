"""What waits for a person, by role and state; and the audit of a contract's file, where every change is noticed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from msgspec.structs import replace
from structlog.testing import capture_logs

from common.chain.contract import CONTRACT_BYTES_MAX, Contract, cid, lot_script, lot_value
from common.chain.spends import SpendKind
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, serialize
from common.codec import canonical, from_canonical
from common.contracts.wallet_chain import Coins, CoinView, SpendView
from common.identity.purposes import Purpose
from common.receipts import Attested
from common.units import Did, Florins
from dux_escrowd import agreement as deal
from dux_escrowd import facts as f
from dux_escrowd.case_chain import outputs_of
from dux_escrowd.case_file import NO_CHAIN, CaseFile, audited, case_bytes
from dux_escrowd.case_methods import Reminders
from dux_escrowd.docket import Item, is_near, items
from dux_escrowd.model import Coin, Exit, Lot, Role, Spend, State
from dux_escrowd.observe import OnChain, exit_of
from dux_escrowd.orders import Word
from dux_escrowd.replay import LoggedFact
from dux_escrowd.rules import decide
from dux_escrowd.statements import Heard, next_statement, statement_hash
from dux_escrowd.words import SaidReady, SaidStart
from tests.chain.contract_kit import public_key
from tests.rules.test_escrow_lots import BOND
from tests.rules.test_escrow_statements import ALICE, BOB, DIDS, NET, offer, party, quote
from tests.rules.test_escrow_table import DEAL, POINT, H, lot

E = replace(DEAL, lock=False)
PART = {"part_florins": 50_000_000, "part_outpoint": POINT}


@pytest.mark.parametrize(
    ("one", "what", "due"),
    [
        (lot(State.REVEALED), "judge the result", H.dispute_by - 1),
        (lot(State.DELIVERED, deal=E), "judge the result", H.dispute_by - 1),
        (lot(State.ANSWERED, delivered_at=110), "settle before", H.vote_by - 1),
        (lot(State.FUNDED, Role.SELLER, started=True), "deliver", H.deliver_by),
        (lot(State.REVEALED, Role.SELLER, **PART), "the buyer offers 0.5", H.vote_by),
        (lot(State.ANSWERED, Role.ARBITER, case_open=True), "look at the evidence", H.commit_by),
    ],
)
def test_what_waits_is_said_with_its_height_and_its_command(one: Lot, what: str, due: int) -> None:
    """Each role sees what it can do now, until when, what happens otherwise, and what to type."""
    (item,) = items(one)
    assert what in item.what
    assert item.due == due
    assert item.otherwise
    assert all(command.startswith("duxnet escrow ") and one.contract_id in command for command in item.commands)


@pytest.mark.parametrize(
    "one",
    [
        lot(State.DELIVERED),
        lot(State.DISPUTED),
        lot(State.FUNDED),
        lot(State.FUNDED, Role.SELLER),
        lot(State.CLOSED, Role.SELLER, **PART),
        lot(State.REVEALED, Role.SELLER, **(PART | {"part_outpoint": "gone"})),
        lot(State.ANSWERED, Role.ARBITER),
        lot(State.ANSWERED, Role.ARBITER, case_open=True, vote_florins=0),
        lot(State.AWARD_SIGNED, Role.ARBITER, case_open=True),
        lot(State.FUNDED, Role.SELLER, started=True, deal=BOND),
    ],
)
def test_nothing_waits_where_the_daemons_act_alone(one: Lot) -> None:
    """No work for people where escrowd or taskd go on by themselves, or where it is over."""
    assert items(one) == ()


def test_a_reminder_is_near_in_the_last_blocks() -> None:
    """`start_blocks` before the height, not earlier."""
    item = Item("x", 100, "y", ())
    assert [is_near(item, tip, 6) for tip in (93, 94, 100)] == [False, True, True]


def test_a_reminder_is_told_and_logged_once() -> None:
    """Whoever reads events, and whoever reads the journal, hears of it; not again at every block."""
    one, told = lot(State.REVEALED), list[Any]()
    book = SimpleNamespace(shelf=SimpleNamespace(lot=lambda _: one), tell=lambda _tx, due: told.append(due))
    desk: Any = SimpleNamespace(book=book, profile=SimpleNamespace(heights="main"), log=structlog.get_logger())
    row: Any = SimpleNamespace(contract_id=one.contract_id)
    tx: Any = None
    reminders = Reminders(desk)
    with capture_logs() as lines:
        for tip in (H.dispute_by - 2, H.dispute_by - 1, H.dispute_by):
            reminders.look(tx, row, tip)
    assert [due.due for due in told] == [H.dispute_by - 1]
    assert [(line["log_level"], line["until_block"]) for line in lines] == [("warning", H.dispute_by - 1)]


# --- the audit --------------------------------------------------------------------------------------------------------

SIGNED = b"s" * 64


def attested(value: Any, did: str) -> Attested:
    return Attested(canonical(value), Did(did), 0, SIGNED)


def is_right(_purpose: Purpose, one: Attested) -> bool:
    return one.signature == SIGNED


def case_of(role: Role = Role.BUYER) -> CaseFile:
    """A contract that was agreed, funded and begun, as one of its parties holds it."""
    terms = deal.terms_of(offer(arbiters=DIDS[:3]), quote(), ALICE)
    accepts = [
        deal.Accept(deal.terms_hash(terms), deal.Arbiter(did, public_key(did), party(did).payout_script))
        for did in DIDS[:3]
    ]
    contract = deal.contract_of(terms, accepts)
    me = ALICE if role is Role.BUYER else BOB
    birth = Lot(contract_id=terms.contract_id.hex(), me=me, role=role, deal=deal.deal_of(terms))
    panel = tuple(arbiter.did for arbiter in contract.arbiters)
    coin = Coin("ab" * 32 + ":0", int(lot_value(contract)), 105)
    ready = SaidReady(lot_script(contract), contract.fund_script)
    heard = [_said(cid(contract), did, [], Word.READY, ready) for did in (ALICE, BOB, *panel)]
    start = _said(cid(contract), BOB, [heard[1].hash], Word.START, SaidStart())
    heard.insert(2, start)
    facts: list[f.Fact] = [f.TermsSigned(at=100), f.PanelSeated(at=100, panel=panel)]
    facts += [f.Ready(at=101, by=did, same=True) for did in (ALICE, BOB, *panel)]
    facts += [f.OutputSeen(at=105, coin=coin), f.CoinDeep(at=106, coin=coin)]
    if role is Role.BUYER:
        facts.append(f.StartSaid(at=106, by=BOB))
    spend = Spend(Exit.CANCEL, "t", 0, 107)
    facts += [f.SpendSeen(at=107, spend=spend), f.SpendDeep(at=108, spend=spend)]
    lines, now = [], birth
    for fact in facts:
        now, _orders = decide(now, fact)
        lines.append(LoggedFact(birth.contract_id, 0, fact, now.state))  # type: ignore[arg-type]
    return CaseFile(
        network=NET, me=me, contract=canonical(contract), by_buyer=canonical(attested(terms, ALICE)),
        by_seller=canonical(attested(terms, BOB)),
        accepts=tuple(canonical(attested(one, one.arbiter.did)) for one in accepts),
        statements=tuple(canonical(one.attested) for one in heard), births=(birth,), facts=tuple(lines),
    )  # fmt: skip


def _said(name: bytes, did: str, hashes: list[bytes], word: Word, said: Any) -> Heard:
    statement = next_statement(
        net=NET, cid=name, signer=Did(did), hashes=hashes, heads={}, word=word, said=said, height=101, block="00" * 32
    )
    return Heard(attested(statement, did), statement, said, statement_hash(canonical(statement)))


def test_a_case_replays_to_the_same_outcome_from_every_partys_file() -> None:
    """Nothing is missing, the state follows, and buyer's and seller's files give one outcome."""
    found = [audited(case_of(role), is_right) for role in (Role.BUYER, Role.SELLER)]
    assert [one.problems for one in found] == [(), ()]
    assert {one.state for one in found} == {"CLOSED"}
    assert len({one.outcome for one in found}) == 1
    assert (found[0].statements, found[0].signers) == (6, tuple(sorted((ALICE, BOB, *DIDS[:3]))))
    assert case_bytes(case_of()) != case_bytes(case_of(Role.SELLER))


def test_whatever_was_changed_is_named() -> None:
    """A state, a fact, a statement left out or swapped, a wrong signature, other terms: the audit says which."""
    case = case_of()
    lines = case.facts
    bent = replace(lines[-1], state=State.REFUND_SEEN)
    unsaid = replace(case, statements=tuple(one for at, one in enumerate(case.statements) if at != 2))
    misplaced = replace(lines[0], number=7)
    wrong_fact = replace(lines[0], fact=f.DeliveryMade(at=100))
    cases = {
        "not to REFUND_SEEN": replace(case, facts=(*lines[:-1], bent)),
        "does not fit": replace(case, facts=(wrong_fact, *lines[1:])),
        "unknown lot": replace(case, facts=(misplaced, *lines[1:])),
        "backed by no statement": unsaid,
        "gap or a fork": replace(case, statements=(*case.statements[:1], *case.statements[2:])),
        "another network": replace(case, network="11" * 32),
        "other parties": replace(case, by_buyer=case.by_seller, by_seller=case.by_buyer),
        "different arbiters have to accept": replace(case, accepts=case.accepts[:2]),
        "an acceptance is another's": replace(case, accepts=(_as(case.accepts[0], ALICE), *case.accepts[1:])),
    }
    for words, other in cases.items():
        assert any(words in problem for problem in audited(other, is_right).problems), words
    told = audited(case, lambda _purpose, _one: False).problems
    assert any("signature of the terms" in one for one in told)
    assert any("signature of statement" in one for one in told)
    assert any("signature of an acceptance" in one for one in told)
    other_end = replace(case, facts=lines[:-2])
    assert audited(other_end, is_right).outcome != audited(case, is_right).outcome
    assert audited(replace(case, births=(), facts=()), is_right).state == ""


def on_chain() -> tuple[OnChain, ...]:
    """What every chain shows of `case_of`: its coin, and the spend that gave it back."""
    lot = case_of().births[0]
    return (OnChain(Coin("ab" * 32 + ":0", lot.deal.lot_florins, 105), Spend(Exit.CANCEL, "t", 0, 107)),)


def test_what_the_file_says_of_the_chain_is_held_against_the_auditors_own() -> None:
    """Another exit, id, gross, height or coin, an end that was cut off, a payment left out: each is named."""
    case, shown = case_of(), on_chain()
    assert audited(case, is_right, shown).problems == ()
    assert audited(case, is_right, shown).unchecked == ()
    assert audited(case, is_right).unchecked == (NO_CHAIN,)
    coin, spend = shown[0].coin, shown[0].spend
    assert spend is not None
    spends = [replace(spend, exit=Exit.AWARD), replace(spend, txid="u"), replace(spend, gross_florins=1),
              replace(spend, height=108), None]  # fmt: skip
    for other in spends:
        assert any("the spend t (cancel)" in one for one in audited(case, is_right, (OnChain(coin, other),)).problems)
    for bent in (replace(coin, height=104), replace(coin, value_florins=coin.value_florins + 1)):
        assert any("amount or height" in one for one in audited(case, is_right, (OnChain(bent, spend),)).problems)
    assert any("not on this chain" in one for one in audited(case, is_right, ()).problems)
    cut = replace(case, facts=case.facts[:-2])
    assert any("the file ends before" in one for one in audited(cut, is_right, shown).problems)
    assert audited(cut, is_right, (OnChain(coin, None),)).problems == ()
    unpaid = replace(case, facts=case.facts[:7])
    assert any("does not tell of it" in one for one in audited(unpaid, is_right, shown).problems)
    dust = OnChain(Coin("cd" * 32 + ":0", 1, 105), None)
    assert audited(case, is_right, (*shown, dust)).problems == ()


def test_what_was_not_in_a_block_when_the_file_was_made_may_be_in_one_now() -> None:
    """Heights that the file does not name are no lie."""
    case = case_of()
    facts = list(case.facts[:-2])
    seen = f.SpendSeen(at=107, spend=Spend(Exit.CANCEL, "t", 0, None))
    early = replace(case, facts=(*facts, replace(case.facts[-2], fact=seen)))
    assert audited(early, is_right, on_chain()).problems == ()


def test_lots_begin_as_the_terms_say_and_as_nothing_else() -> None:
    """A later state, another price, eyes that the contract does not name, no lot, a stray of another panel."""
    case = case_of()
    (birth,) = case.births
    stray = replace(birth, number=1, state=State.FUNDED_SEEN, coin=Coin("cd" * 32 + ":0", 1, 106), panel=DIDS[:3])
    seats = tuple(arbiter.did for arbiter in _contract(case).arbiters)
    begins = "does not begin as the terms say"
    cases = {
        begins: (replace(birth, state=State.CLOSED),),
        f"lot 0 {begins}": (replace(birth, deal=replace(birth.deal, price_florins=1)),),
        f"lot 1 {begins}": (birth, replace(stray, panel=())),
        "not numbered": (),
    }
    for words, births in cases.items():
        assert any(words in one for one in audited(replace(case, births=births, facts=()), is_right).problems), words
    assert audited(replace(case, births=(birth, replace(stray, panel=seats))), is_right).problems == ()
    assert "the file is of nobody in the contract" in audited(replace(case, me=DIDS[3]), is_right).problems


def test_a_file_that_was_cut_off_is_no_whole_one() -> None:
    """No facts after the seal, or a statement that another names: the audit does not call it whole."""
    case = case_of()
    cut = replace(case, statements=case.statements[:1], facts=())
    assert "the contract is sealed, and the facts do not come so far" in audited(cut, is_right).problems
    name = cid(_contract(case))
    first = _said(name, ALICE, [], Word.READY, SaidReady(b"", b""))
    named = next_statement(
        net=NET, cid=name, signer=Did(BOB), hashes=[], heads={Did(ALICE): first.hash}, word=Word.START,
        said=SaidStart(), height=101, block="00" * 32,
    )  # fmt: skip
    told = audited(replace(case, statements=(canonical(attested(named, BOB)),)), is_right)
    assert f"a statement of {ALICE} that another names is not in the file" in told.unchecked


def test_a_spend_on_the_chain_is_read_as_the_contract_says() -> None:
    """An unspent coin has no spend; a spend in no known shape is named by whom it paid."""
    contract = _contract(case_of())
    point = Outpoint("ab" * 32, 0)
    raw = serialize(Tx(inputs=(TxInput(point),), outputs=(TxOutput(lot_value(contract), contract.fund_script),)))
    coin = CoinView(outpoint=point, value_florins=lot_value(contract), height=None, position=0, spend=None)
    spent = replace(coin, spend=SpendView(txid="t", height=None, raw=raw, script_sig=b""))
    found = outputs_of(contract, Coins(coins=[coin, spent], tip=110))  # type: ignore[arg-type]
    assert found[0].spend is None
    assert found[1].spend == Spend(Exit.RELEASE, "t", int(lot_value(contract)), None)
    assert exit_of(SpendKind.AWARD, Florins(0)) is Exit.AWARD


def _contract(case: CaseFile) -> Contract:
    return from_canonical(case.contract, Contract, max_bytes=CONTRACT_BYTES_MAX)


def _as(data: bytes, did: str) -> bytes:
    return canonical(replace(from_canonical(data, Attested, max_bytes=10_000), did=Did(did)))
