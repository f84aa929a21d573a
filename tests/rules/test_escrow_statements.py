"""Statements, agreement, replay, content key: one form of what is signed, and one meaning of it everywhere."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from common.chain.contract import NO_ROYALTY, LotKind, Royalty, cid, lot_value, result_hash_of
from common.chain.fees import FEE_RATE_FLORINS_PER_KB
from common.chain.heights import DELIVER_BLOCKS_MAX, Heights, heights_problems, heights_profile, plan
from common.chain.settle import lot_digest
from common.chain.templates import Release, build
from common.codec import canonical
from common.community_fund import fund_script_of
from common.contracts.escrow import BadStatement
from common.contracts.peer_escrow import ONE_LOT, Offer, OfferedStage, Quote
from common.errors import BadParams
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.network import Custodian, FundParameters, NetworkProfile
from common.receipts import Attested
from common.units import FLOP, Did, Florins
from dux_escrowd import agreement as deal
from dux_escrowd import facts as f
from dux_escrowd.content_key import content_key
from dux_escrowd.hearing import Ear, fits
from dux_escrowd.model import Coin, Lot, Role, State
from dux_escrowd.orders import Word
from dux_escrowd.replay import FACT_LINE, LOT_LINE, LoggedFact, LoggedLot, replay
from dux_escrowd.rules import decide
from dux_escrowd.statements import (
    NO_PREV,
    Heard,
    Place,
    fits_statement,
    heads_of,
    is_fault,
    larger_release,
    next_statement,
    opened_statement,
    place_of,
    statement_hash,
    statement_problem,
)
from dux_escrowd.voting import commitment_of
from dux_escrowd.words import Said, SaidDelivered, SaidDispute, SaidRelease, SaidStart
from dux_sim.proof.cast import ARBITERS, B, S, deal_for
from tests.attacks.registry import attack
from tests.chain.contract_kit import OUTPOINT, make_contract, party, public_key, sign_digest

ALICE, BOB = Did("did:dux:" + "a" * 52), Did("did:dux:" + "b" * 52)
NET, CID = "00" * 32, b"c" * 32


def said(seq_hashes: list[bytes], word: Word, body: Said, signer: Did = ALICE) -> Heard:
    """The next statement of a signer, opened."""
    statement = next_statement(
        net=NET, cid=CID, signer=signer, hashes=seq_hashes, heads={BOB: b"h" * 32, ALICE: b"x" * 32}, word=word,
        said=body, height=7, block="0c",
    )  # fmt: skip
    return opened_statement(canonical(Attested(canonical(statement), signer, 0, b"s" * 64)))


def release(gross: int) -> SaidRelease:
    """A release's body."""
    return SaidRelease("ab" * 32 + ":0", Florins(gross), (b"sig",))


def test_a_chain_has_no_gap_and_a_contradiction_is_a_proof() -> None:
    """Next, known, gap and fork are told apart; two different statements with one number prove a fault."""
    first = said([], Word.START, SaidStart())
    second = said([first.hash], Word.DISPUTE, SaidDispute("no"))
    assert (first.statement.prev, second.statement.prev) == (NO_PREV, first.hash)
    assert [head.signer for head in first.statement.heads] == [BOB]
    assert place_of(first.statement, first.hash, []) is Place.NEXT
    assert place_of(first.statement, first.hash, [first.hash]) is Place.KNOWN
    assert place_of(second.statement, second.hash, []) is Place.GAP
    other = said([], Word.RELEASE, release(5))
    assert place_of(other.statement, other.hash, [first.hash]) is Place.FORK
    assert place_of(second.statement, second.hash, [other.hash]) is Place.FORK
    assert is_fault(first, other)
    assert not is_fault(first, first)
    assert not is_fault(first, second)
    assert larger_release(first.said, other.said) == release(5)
    assert larger_release(release(7), release(5)) == release(7)
    assert larger_release(first.said, second.said) is None
    assert heads_of({BOB: [], ALICE: [first.hash]})[0].next_seq == 1


def test_a_statement_of_another_contract_signer_or_network_is_refused() -> None:
    """Replay into another network, contract or mouth fails."""
    heard = said([], Word.START, SaidStart())
    named = (ALICE, BOB)
    assert statement_problem(heard.statement, net=NET, cid=CID, named=named) is None
    assert "network" in (statement_problem(heard.statement, net="11" * 32, cid=CID, named=named) or "")
    assert "contract" in (statement_problem(heard.statement, net=NET, cid=b"d" * 32, named=named) or "")
    assert "not named" in (statement_problem(heard.statement, net=NET, cid=CID, named=(BOB,)) or "")
    orphan = msgspec.structs.replace(heard.statement, prev=b"p" * 32)
    assert "predecessor" in (statement_problem(orphan, net=NET, cid=CID, named=named) or "")
    with pytest.raises(BadStatement):
        opened_statement(canonical(Attested(heard.attested.body, BOB, 0, b"s" * 64)))


def test_a_statement_has_one_byte_form_and_a_limit() -> None:
    """What is not canonical, of another kind, or too long does not open."""
    heard = said([], Word.START, SaidStart())
    assert statement_hash(heard.attested.body) == heard.hash
    with pytest.raises(BadParams):
        opened_statement(canonical(heard.attested) + b"\x00")
    wrong = msgspec.structs.replace(heard.statement, kind=Word.DISPUTE)
    with pytest.raises(BadParams):
        opened_statement(canonical(Attested(canonical(wrong), ALICE, 0, b"s" * 64)))
    long = SaidDelivered("ab" * 32, b"o" * 32, (b"r" * 512,) * 4, (ALICE,) * 8, b"w" * 1024)
    with pytest.raises(BadParams, match="longer"):
        fits_statement(long)
    fits_statement(msgspec.structs.replace(long, work_receipt=b"w" * 400, holders=(ALICE,)))


def test_a_vote_cannot_be_copied_or_changed() -> None:
    """The commitment binds contract, arbiter, amount and salt."""
    salt = b"s" * 32
    own = commitment_of("c" * 64, "anna", 5, salt)
    assert own != commitment_of("c" * 64, "bert", 5, salt)
    assert own != commitment_of("c" * 64, "anna", 6, salt)
    assert own != commitment_of("d" * 64, "anna", 5, salt)
    assert own != commitment_of("c" * 64, "anna", 5, b"t" * 32)


def test_the_content_key_needs_both_secrets() -> None:
    """K from the chain alone does not open the result."""
    right = content_key("c" * 64, b"k" * 32, b"r" * 32)
    assert len(right) == 32
    wrong = {
        content_key("c" * 64, b"k" * 32, b"x" * 32),
        content_key("c" * 64, b"x" * 32, b"r" * 32),
        content_key("d" * 64, b"k" * 32, b"r" * 32),
        content_key("c" * 64, b"", b"r" * 32),
    }
    assert right not in wrong
    assert len(wrong) == 4


# --- agreement --------------------------------------------------------------------------------------------------------

DIDS = tuple(Did("did:dux:" + letter * 52) for letter in "defg")
PROFILE = NetworkProfile(
    name="test", chain="embedded", genesis=NET, heights="demo",
    fund=FundParameters(threshold=2, custodians=tuple(
        Custodian(did=did, pubkey=public_key(f"custodian-{at}").hex()) for at, did in enumerate(DIDS[:3])
    )),
)  # fmt: skip


LATER = OfferedStage(series=b"s" * 32, number=1, count=2, begins_blocks=5, kind=LotKind.WORK, bonded=True)
BOND_STAGE = OfferedStage(series=b"s" * 32, number=0, count=2, begins_blocks=0, kind=LotKind.BOND, bonded=False)


def offer(**changes: Any) -> Offer:
    """An offer that this network may enter."""
    job = b"\x93job"
    fields: dict[str, Any] = {
        "contract_id": deal.contract_id_of(NET, ALICE, b"n" * 32), "network": NET, "buyer_nonce": b"n" * 32,
        "buyer_key": public_key("buyer"), "buyer_payout_script": party("buyer").payout_script, "seller": BOB,
        "service_id": "upscale", "job": job, "job_hash": bytes(tagged_hash(Purpose.JOB, job)),
        "price_florins": Florins(10 * FLOP), "arbiters": DIDS, "arbiters_needed": 2, "deliver_blocks": 10,
        "result_lock": True, "policy": "standby", "swap_limit_florins": Florins(0),
        "result_salt_hash": deal.salt_hash(b"r" * 32), "fund_script": fund_script_of(PROFILE.fund), "tax_bps": 500,
        "fee_rate_florins_per_kb": 1_200_000, "heights_profile": "demo", "stage": ONE_LOT, "royalty": NO_ROYALTY,
        "weights": (0,) * len(changes.get("arbiters", DIDS)),
        "parameters": 1,
    }  # fmt: skip
    return Offer(**fields | changes)


def quote(**changes: Any) -> Quote:
    """The seller's answer."""
    fields: dict[str, Any] = {
        "contract_id": offer().contract_id, "accept": True, "reason": "", "seller_nonce": b"m" * 32,
        "seller_key": public_key("seller"), "seller_payout_script": party("seller").payout_script,
        "result_hash": result_hash_of(b"K"), "start": 100, "strikes": (),
    }  # fmt: skip
    return Quote(**fields | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": "11" * 32}, "another network"),
        ({"buyer_nonce": b"x" * 32}, "name does not follow"),
        ({"seller": DIDS[0]}, "another seller"),
        ({"fund_script": b"\xa9"}, "the fund is not"),
        ({"tax_bps": 0}, "the tax is not"),
        ({"heights_profile": "main"}, "heights"),
        ({"job": b"other"}, "job does not hash"),
        ({"policy": "trust"}, "policy"),
        ({"deliver_blocks": 0}, "no time"),
        ({"fee_rate_florins_per_kb": 20 * FEE_RATE_FLORINS_PER_KB}, "fee rate"),  # burnt from the seller's part
        ({"price_florins": Florins(1)}, "a price is from"),
        ({"price_florins": Florins(30 * FLOP)}, "wants 5 arbiters"),
        ({"arbiters": DIDS[:2]}, "have to be named"),
        ({"arbiters": (*DIDS[:2], ALICE)}, "different nodes"),
        ({"weights": (0,)}, "weighs other names"),
        ({"weights": (0, 0, 0, -1)}, "weighs other names"),
        ({"price_florins": Florins(5_001 * FLOP), "arbiters_needed": 1}, "needs a nonce of each party"),
        ({"stage": msgspec.structs.replace(ONE_LOT, number=1)}, "its stage"),
        ({"stage": msgspec.structs.replace(ONE_LOT, bonded=True)}, "its stage"),
        ({"stage": msgspec.structs.replace(ONE_LOT, begins_blocks=3)}, "its stage"),
        ({"stage": msgspec.structs.replace(LATER, begins_blocks=10)}, "its stage"),
        ({"stage": BOND_STAGE}, "its stage"),  # with a result lock
        ({"stage": BOND_STAGE, "result_lock": False, "price_florins": Florins(FLOP // 10)}, "a price is from"),
        ({"deliver_blocks": 0}, "no time, or more"),
        ({"deliver_blocks": DELIVER_BLOCKS_MAX + 1}, "no time, or more"),
        (
            {
                "stage": BOND_STAGE,
                "result_lock": False,
                "deliver_blocks": deal.bond_blocks(DELIVER_BLOCKS_MAX, PROFILE.heights) + 1,
            },
            "no time, or more",
        ),
        ({"royalty": Royalty("did:dux:d", b"\x6a", 500)}, "royalty"),
        ({"royalty": Royalty("", party("dev").payout_script, 500)}, "royalty"),
        ({"royalty": Royalty("did:dux:d", party("dev").payout_script, 5_001)}, "royalty"),
    ],
)
def test_an_offer_that_differs_from_what_this_node_knows_is_refused(changes: dict[str, Any], words: str) -> None:
    """Wrong fund, tax, network, heights, job, price or panel: said in words, before any key is made."""
    assert deal.offer_problem(offer(), ALICE, BOB, PROFILE) is None
    assert words in (deal.offer_problem(offer(**changes), ALICE, BOB, PROFILE) or "")


def test_a_seller_takes_candidates_from_the_list_that_both_hold_and_no_others() -> None:
    """A buyer cannot seat its own names; any part of the list will do; where the network has none, anybody's."""
    named = msgspec.structs.replace(PROFILE, arbiters=DIDS)
    assert deal.offer_problem(offer(), ALICE, BOB, named) is None
    fewer = msgspec.structs.replace(PROFILE, arbiters=DIDS[1:])
    assert set(offer().arbiters) - set(fewer.arbiters)
    assert "names arbiters" in (deal.offer_problem(offer(), ALICE, BOB, fewer) or "")


@attack(
    "escrow",
    tries="two names make terms that begin at block 0, or are to be funded or delivered in centuries, and offer a seat",
    meets="an arbiter takes heights alone that follow from a start of today and a job of 100,000 blocks at most",
)
def test_both_sides_build_the_same_contract_and_an_arbiter_sees_through_another() -> None:
    """Terms follow from offer and quote, the contract from terms and acceptances; what does not follow is refused."""
    terms = deal.terms_of(offer(), quote(), ALICE)
    tip, heights = terms.heights.start, terms.heights
    assert deal.terms_problem(terms, PROFILE, DIDS[0], tip) is None
    assert "candidate" in (deal.terms_problem(terms, PROFILE, ALICE, tip) or "")
    assert "ahead of the tip" in (deal.terms_problem(terms, PROFILE, DIDS[0], tip - 3) or "")
    assert "too old" in (deal.terms_problem(terms, PROFILE, DIDS[0], heights.fund_by) or "")
    bent = msgspec.structs.replace(terms, heights=msgspec.structs.replace(heights, timeout=heights.timeout + 10**6))
    assert "distance from T" in (deal.terms_problem(bent, PROFILE, DIDS[0], tip) or "")
    profile, price = heights_profile(PROFILE.heights), terms.price_florins
    later = {name: getattr(heights, name) + 10**6 for name in Heights.__struct_fields__ if name != "start"}
    odd = {
        "its coin is looked for from block 0 on": msgspec.structs.replace(heights, start=0),
        "it may be funded for years": Heights(start=tip, **later),
        "it takes years": plan(profile, tip, DELIVER_BLOCKS_MAX + 1, price),
    }
    for what, strange in odd.items():
        assert heights_problems(profile, strange, price) == []
        drawn = msgspec.structs.replace(terms, heights=strange, draw_height=strange.start + deal.DRAW_AFTER_BLOCKS)
        assert "its start and job" in (deal.terms_problem(drawn, PROFILE, DIDS[0], tip) or ""), what
    longest = msgspec.structs.replace(terms, heights=plan(profile, tip, DELIVER_BLOCKS_MAX, price))
    assert deal.terms_problem(longest, PROFILE, DIDS[0], tip) is None
    accepts = [
        deal.Accept(deal.terms_hash(terms), deal.Arbiter(did, public_key(did), party(did).payout_script))
        for did in DIDS[:3]
    ]
    contract = deal.contract_of(terms, accepts)
    assert cid(contract) == cid(deal.contract_of(terms, accepts[::-1]))
    assert deal.seal_problem(terms, contract, accepts) is None
    assert "3 different" in (deal.seal_problem(terms, contract, accepts[:2]) or "")
    stranger = msgspec.structs.replace(accepts[0], arbiter=msgspec.structs.replace(accepts[0].arbiter, did=ALICE))
    assert "candidates" in (deal.seal_problem(terms, contract, [stranger, *accepts[1:]]) or "")
    for changes, words in (
        ({"key": b"\x05" * 33}, "key"),
        ({"key": terms.seller.key}, "key"),
        ({"payout_script": b"\x6a"}, "payout"),
        ({"payout_script": terms.seller.payout_script}, "paid where"),
    ):
        bad = msgspec.structs.replace(accepts[0], arbiter=msgspec.structs.replace(accepts[0].arbiter, **changes))
        assert words in (deal.seat_problem(terms, bad) or "")
    assert deal.seat_problem(terms, accepts[0]) is None
    stale = msgspec.structs.replace(accepts[0], terms_hash=b"x" * 32)
    assert "other terms" in (deal.seal_problem(terms, contract, [stale, *accepts[1:]]) or "")
    cheaper = msgspec.structs.replace(contract, tax_bps=0)
    assert "follows" in (deal.seal_problem(terms, cheaper, accepts) or "")
    assert deal.deal_of(terms).lot_florins == 10 * FLOP + 3 * FLOP // 10


def test_a_quote_that_is_early_late_or_without_its_lock_is_not_taken() -> None:
    """The buyer signs no terms that could not be funded in time."""
    assert deal.quote_problem(offer(), quote(), 100) is None
    assert "lock" in (deal.quote_problem(offer(), quote(result_hash=b""), 100) or "")
    assert "ahead" in (deal.quote_problem(offer(), quote(start=103), 100) or "")
    assert "too old" in (deal.quote_problem(offer(), quote(), 112) or "")


# --- replay -----------------------------------------------------------------------------------------------------------


def test_a_log_gives_its_lots_again_or_the_first_line_that_does_not_follow() -> None:
    """Anybody can run the log; a changed state, a fact out of phase or an unknown lot is pointed at."""
    birth = Lot(contract_id="c" * 64, me=B, role=Role.BUYER, deal=deal_for())
    facts: list[f.Fact] = [f.TermsSigned(at=100), f.PanelSeated(at=100, panel=ARBITERS)]
    facts += [f.Ready(at=101, by=by, same=True) for by in (B, S, *ARBITERS)]
    lines, lot = [(1, LOT_LINE, msgspec.json.encode(LoggedLot(birth))), (2, "other", b"{}")], birth
    for fact in facts:
        lot, _ = decide(lot, fact)
        logged = LoggedFact("c" * 64, 0, fact, lot.state)  # type: ignore[arg-type]
        lines.append((len(lines) + 1, FACT_LINE, msgspec.json.encode(logged)))
    again = replay(lines)
    assert (again.broken, again.lots) == (None, {("c" * 64, 0): lot})
    assert lot.state is State.AGREED
    forged = [(n, kind, body.replace(b'"state":"AGREED"', b'"state":"VOID"')) for n, kind, body in lines]
    assert replay(forged).broken == lines[-1][0]
    assert replay(lines[1:]).broken == 3
    assert replay([lines[0], lines[3]]).broken == lines[3][0]


def test_the_name_of_a_contract_binds_buyer_and_network() -> None:
    """Nobody can open a contract under another's name."""
    assert deal.contract_id_of(NET, ALICE, b"n" * 32) != deal.contract_id_of(NET, BOB, b"n" * 32)
    assert deal.contract_id_of(NET, ALICE, b"n" * 32) != deal.contract_id_of("11" * 32, ALICE, b"n" * 32)
    assert hashlib.sha256(b"r").digest() != deal.salt_hash(b"r"), "tagged, so that no other hash serves"


def test_coin_signatures_are_judged_for_the_coin_of_the_lot_alone() -> None:
    """For another coin the table judges by its outpoint; for this one a way out that cannot be built fits nothing."""
    kit = make_contract()
    coin = Coin(f"{OUTPOINT.txid}:{OUTPOINT.vout}", int(lot_value(kit.contract)), 100)
    lot = Lot(contract_id="c", me=S, role=Role.SELLER, deal=deal_for(), panel=ARBITERS, state=State.FUNDED, coin=coin)
    ear = Ear(kit.contract, lot, 101)
    release = Release(Florins(10 * FLOP))
    right = sign_digest(
        "buyer", lot_digest(kit.contract, build(kit.contract, OUTPOINT, coin.value_florins, release, 0))
    )
    assert fits(ear, coin.outpoint, release, kit.contract.buyer.key, (right,))
    assert not fits(ear, coin.outpoint, release, kit.contract.seller.key, (right,))
    assert not fits(ear, coin.outpoint, Release(Florins(1)), kit.contract.buyer.key, (right,))  # dust cannot be paid
    assert fits(ear, "ee" * 32 + ":0", release, kit.contract.buyer.key, (b"junk",))
    assert fits(Ear(kit.contract, msgspec.structs.replace(lot, coin=None), 101), coin.outpoint, release, b"", (b"",))
