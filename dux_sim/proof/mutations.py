"""Faults to plant into the table, each a small change of its rows, and the case in which the walk must find it.

`a` to `f` are those of escrow_protocol.md §11, the next ones were found by this walk or by the random histories; the
others are what a hand could forget. A walk that no longer finds one of them proves less than it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as changed

import msgspec
from msgspec.structs import replace

from dux_escrowd import changes as c
from dux_escrowd import facts as f
from dux_escrowd import guards as g
from dux_escrowd import replies as r
from dux_escrowd.model import SEEN, AwardKey, AwardSigned, Exit, Lot, Role, State
from dux_escrowd.orders import Order, PassOn, PingArbiters, Settle, ShowCase, ShowKey, SignAward
from dux_escrowd.rules import ROWS
from dux_escrowd.table import Row, indexed
from dux_escrowd.voting import verdict
from dux_sim.proof.cases import ONE, SCRIPTS, Case, Script, case_of, ladder_case, late_case, stray_case
from dux_sim.proof.cast import PAY, PRICE, B, Funding, S
from dux_sim.proof.hasty import for_a_fork, from_hearing, silence_tells, soon_after_delivery, window
from dux_sim.proof.plant import Plant, Rows, altered, dropped, forgets, instead, orders_less, without
from dux_sim.proof.search import Found
from dux_sim.proof.states import Allowance
from dux_sim.proof.walk import Walk
from dux_sim.proof.world import World

STANDBY, SWAP, OVER_LIMIT, PLAIN = SCRIPTS
SEARCH_STATES_MAX = 150_000


class Mutation(msgspec.Struct, frozen=True, kw_only=True):
    """A fault, and where it is looked for."""

    name: str
    plant: Plant
    case: Case
    story: Callable[[World], None] | None = None  # what happens before the walk


# --- the six of §11 -----------------------------------------------------------------------------------------------


def silent_in_flight(rows: Rows) -> Rows:
    """Fault b: a seller that thinks the release suffices and does not answer a dispute."""
    kept: list[Row] = []
    for row in rows:
        if row.fact is f.DisputeSaid and State.RELEASE_SIGNED in row.frm:
            quiet = changed(row, frm=(State.RELEASE_SIGNED,), to=None, change=None, orders=None, who=(Role.SELLER,))
            kept += [quiet, changed(row, frm=tuple(state for state in row.frm if state is not State.RELEASE_SIGNED))]
        elif row.fact is f.DisputeSaid and State.RELEASE_SEEN in row.frm:
            kept.append(changed(row, orders=None))
        else:
            kept.append(row)
    return tuple(kept)


def late_key(rows: Rows) -> Rows:
    """Fault d: no cut-off at vote_by, neither for taking a release nor for ordering it."""

    def order(before: Lot, after: Lot, fact: f.Fact) -> tuple[Order, ...]:
        return tuple(replace(one, not_after=None) for one in r.settle(Exit.RELEASE)(before, after, fact))

    free = without(rows, f.ReleaseSaid, g.by_vote_by)
    return altered(free, lambda row: row.fact is f.ReleaseSaid and bool(row.to), lambda row: changed(row, orders=order))


def verdict_without_margin(lot: Lot, at: int) -> AwardKey | None:
    """Fault e, first half: a verdict counts up to T."""
    free = replace(lot.deal, heights=replace(lot.deal.heights, vote_by=lot.deal.heights.timeout))
    return verdict(replace(lot, deal=free), at)


def _taken_away(lot: Lot, fact: f.Clock) -> bool:
    """As it was: no verdict below a release, be it made after the votes were sealed."""
    least = (lot.release_gross_florins or 0) if lot.release_stands else 0
    return g.verdict_ready(lot, fact) and (lot.vote_florins or 0) >= least


def _gift(rows: Rows) -> Rows:
    """As it was: an arbiter shows K with its own signature of the award, whoever else signs."""

    def orders(before: Lot, after: Lot, fact: f.Fact) -> tuple[Order, ...]:
        made = r.awarded(before, after, fact)
        pays = any(isinstance(one, SignAward) and one.key.gross_florins for one in made)
        return (*made, ShowKey(not_after=None)) if pays else made

    return altered(rows, lambda row: row.orders is r.awarded, lambda row: changed(row, orders=orders))


def late_reveals(rows: Rows) -> Rows:
    """Fault e, second half: votes are taken and signed for inside the last margin."""

    def signed_late(before: Lot, after: Lot, fact: f.Fact) -> tuple[Order, ...]:
        orders = r.awarded(before, after, fact)
        return tuple(replace(one, not_after=10**6) if isinstance(one, SignAward) else one for one in orders)

    def sign(lot: Lot, fact: f.VoteRevealed) -> Lot:
        taken = c.take_vote(lot, fact)
        key = verdict_without_margin(taken, fact.at)
        return taken if key is None else replace(taken, awards=(*taken.awards, AwardSigned(taken.me, key)))

    free = without(rows, f.VoteRevealed, g.reveal_counts)

    def late(row: Row) -> Row:
        return changed(row, change=sign, orders=signed_late)

    return altered(free, lambda row: row.fact is f.VoteRevealed and bool(row.to), late)


def released_then_disputed(world: World) -> None:
    """A lying buyer sends its release while the seller's wallet is away, and then disputes."""
    world.mine(3)
    world.work()
    world.wallet_down = {S}
    world.sign_release(world.coin.outpoint if world.coin else "", PRICE)
    world.arrive_all()
    world.send(B, f.DisputeSaid(at=0, by=B), S, *world.setting.panel)


def disputed_while_released(world: World) -> None:
    """The seller asks the arbiters in the block in which the buyer releases."""
    world.judged = False
    world.mine(3)
    world.work()
    world.mine(3)
    world.learn(S, f.DisputeWanted(at=world.height))
    world.judge()


def judged_bad(world: World) -> None:
    """The buyer has seen the result, and it is bad; the bought arbiter takes part in the vote."""
    bought = sorted(set(world.setting.panel) & world.setting.liars)
    world.mine(3)
    world.send(S, f.DeliverySaid(at=0, by=S, claimed_at=world.height), B)
    world.arrive_all()
    world.send(S, f.KeyShown(at=0, by=S), B)
    world.arrive_all()
    world.judge()
    world.arrive_all()
    world.mine(8)
    for name in bought:
        world.send(name, f.VoteCommitted(at=0, by=name, commitment=b"c"), *(n for n in world.nodes if n != name))
    world.arrive_all()


def claimed(world: World) -> None:
    """A lying seller has said that it delivered."""
    world.mine(3)
    world.send(S, f.DeliverySaid(at=0, by=S, claimed_at=world.height), B)
    world.arrive_all()


# --- more ---------------------------------------------------------------------------------------------------------


def _near_timeout(lot: Lot, fact: f.Fact) -> bool:
    return fact.at >= lot.deal.heights.timeout - 1


def _soon(lot: Lot, fact: f.Fact) -> bool:
    return lot.answered or (lot.disputed_at is not None and fact.at > lot.disputed_at)


def _price_for_all(rows: Rows) -> Rows:
    def change(lot: Lot, fact: f.VoteDecided) -> Lot:
        return c.vote(lot, replace(fact, gross_florins=lot.deal.price_florins))

    return altered(rows, lambda row: row.fact is f.VoteDecided, lambda row: changed(row, change=change))


def _part_is_nothing(rows: Rows) -> Rows:
    def change(lot: Lot, fact: f.VoteDecided) -> Lot:
        whole = fact.gross_florins == lot.deal.price_florins
        return c.vote(lot, fact if whole else replace(fact, gross_florins=0))

    return altered(rows, lambda row: row.fact is f.VoteDecided, lambda row: changed(row, change=change))


def _releases_whatever_it_sees(rows: Rows) -> Rows:
    good = [row for row in rows if row.fact is f.ResultGood and row.to is State.RELEASE_SENT]
    bad = [changed(row, fact=f.ResultBad) for row in good]
    return (*bad, *(row for row in rows if row.fact is not f.ResultBad))


def _keeps_the_coin(rows: Rows) -> Rows:
    return altered(
        rows, lambda row: row.fact is f.OutputGone, lambda row: changed(row, to=None, change=None, orders=None)
    )


def _never_hands_in(rows: Rows) -> Rows:
    def how(row: Row) -> Row:
        return changed(row, orders=None)

    return altered(
        rows,
        lambda row: (
            (row.orders is not None and "release" in row.source.lower() and row.who == (Role.SELLER,))
            or g.release_stands in row.guards
        ),
        how,
    )


def _no_refund_from(*states: State) -> Plant:
    def plant(rows: Rows) -> Rows:
        def how(row: Row) -> Row:
            return changed(row, frm=tuple(state for state in row.frm if state not in states))

        return altered(rows, lambda row: g.timeout_reached in row.guards, how)

    return plant


def _one_is_enough(rows: Rows) -> Rows:
    """The buyer hands a «stray» award in with the first signature."""

    def orders(_before: Lot, after: Lot, fact: f.Fact) -> tuple[Order, ...]:
        assert isinstance(fact, f.AwardSaid)  # noqa: S101 - rows of no other fact are changed
        return (Settle(exit=Exit.AWARD, outpoint=after.outpoint or "", not_after=None, award=fact.key),)

    def how(row: Row) -> Row:
        return changed(row, to=State.AWARD_SIGNED, orders=orders, who=(Role.BUYER,))

    return altered(rows, lambda row: g.gives_all_back in row.guards, how)


def _only_parties(rows: Rows) -> Rows:
    """What both said of a late coin counts between them alone."""

    def how(row: Row) -> Row:
        return changed(row, who=(Role.BUYER,))

    return altered(rows, lambda row: row.fact is f.LateOkSaid and g.by_seller in row.guards, how)


def _never_again(rows: Rows) -> Rows:
    return altered(rows, lambda row: g.push_due in row.guards, lambda _row: None)


def _knows_the_first_id_alone(rows: Rows) -> Rows:
    """A spend that was seen is the one, whatever the block holds."""
    return altered(rows, lambda row: row.source == "§8 OtherSpendSeen", lambda row: changed(row, to=None, change=None))


def _as_it_is(rows: Rows) -> Rows:
    return rows


def _two_at_once(rows: Rows) -> Rows:
    """A climb that leaves a step out, and pays for it."""

    def how(row: Row) -> Row:
        return changed(row, change=lambda lot, fact: replace(c.climb(lot, fact), rung=min(g.RUNG_LAST, lot.rung + 2)))

    return altered(rows, lambda row: g.climb_due in row.guards, how)


def _slow(lot: Lot, fact: f.Fact) -> bool:
    """The next step only when the mempool forgets."""
    return g.climb_due(lot, fact) and g.push_due(lot, fact)


def _not_while_seen(rows: Rows) -> Rows:
    """As if a spend that the mempool shows could wait."""

    def how(row: Row) -> Row:
        return changed(row, frm=tuple(state for state in row.frm if state not in SEEN))

    return altered(rows, lambda row: g.climb_due in row.guards, how)


def _goes_on_above(rows: Rows) -> Rows:
    """An award begins at the step that the release had reached."""

    def how(row: Row) -> Row:
        return changed(row, change=lambda lot, fact: replace(c.take_award(lot, fact), rung=max(lot.rung, 1)))

    return altered(rows, lambda row: row.change is c.take_award and g.fair_to_take in row.guards, how)


def _climb(
    name: str, plant: Plant, parties: str, *, left: Allowance, dear: bool = False, steps_signed: int = 0
) -> Mutation:  # fmt: skip
    case = ladder_case(STANDBY, parties, left=left, dear=dear)
    setting = replace(case.setting, steps_signed=steps_signed)
    return Mutation(name=name, plant=plant, case=replace(case, setting=setting, states_max=SEARCH_STATES_MAX))


def _hunt(
    name: str, plant: Plant, script: Script = STANDBY, parties: str = "buyer lies", *,
    left: Allowance = ONE, bought: int = 0, silent: int = 0, story: Callable[[World], None] | None = None,
    funding: Funding = Funding.IN_TIME, stray: int = 0,
) -> Mutation:  # fmt: skip
    if stray:
        case = stray_case(script, parties, stray, left=left, silent=silent)
    elif funding is not Funding.IN_TIME:
        case = late_case(script, parties, funding, left=left, bought=bought)
    else:
        case = case_of(script, parties, bought=bought, silent=silent, left=left)
    return Mutation(name=name, plant=plant, case=replace(case, states_max=SEARCH_STATES_MAX), story=story)


LOT_FLORINS = PRICE + 3 * PAY
QUIET: Allowance = (0, 0, 0, 0)
LIES: Allowance = (0, 1, 0, 1)
LIE_TWICE: Allowance = (0, 2, 0, 2)
ACCIDENTS: Allowance = (1, 0, 0, 1)
HONEST, BAD, NO_BUYER = "both honest", "seller lies, bad work", "buyer silent"
HALF = "seller lies, half the work"

MUTATIONS: tuple[Mutation, ...] = (
    _hunt("a: a release for another coin is taken", forgets(f.ReleaseSaid, g.this_coin), left=(1, 1, 0, 2)),
    _hunt("b: a seller with a release in flight answers no dispute", silent_in_flight, left=(0, 0, 0, 0),
          story=released_then_disputed),
    _hunt("c: a buyer takes an award below its release", forgets(f.AwardSaid, g.fair_to_take), parties=HONEST,
          bought=2, left=LIES, story=disputed_while_released),
    _hunt("d: a release inside the last margin shows K", late_key, left=LIES, silent=2),
    _hunt("e: votes are signed for inside the last margin", late_reveals, parties=BAD, bought=1, silent=1, left=LIES,
          story=judged_bad),
    _hunt("f: arbiters vote before the other side could answer", forgets(f.Clock, g.answer_over), left=LIES),
    _hunt("an arbiter does not tell the other party of a dispute", orders_less(f.DisputeSaid, PassOn), left=LIES),
    _hunt("the fast award counts from hearing, be it before the funding",
          window(from_hearing), left=LIES),
    _hunt("the fast award serves an opener with two tongues",
          window(for_a_fork), left=LIES),
    _hunt("a dispute leaves a block to answer", instead(f.Clock, g.answer_over, _soon), left=ONE),
    _hunt("a seller does not ask the arbiters in time", dropped(f.Clock, g.dispute_due), parties=NO_BUYER, left=QUIET),
    _hunt("nobody refunds at T", dropped(f.Clock, g.timeout_reached), parties="seller silent", silent=2, left=QUIET),
    _hunt("a refund a block early", instead(f.Clock, g.timeout_reached, _near_timeout), parties="seller silent",
          silent=2, left=QUIET),
    _hunt("no refund out of a dispute", _no_refund_from(State.DISPUTED, State.ANSWERED), parties="seller silent",
          silent=2, left=QUIET),
    _hunt("no refund of a late coin", _no_refund_from(State.STRAY), parties=HONEST, left=ACCIDENTS),
    _hunt("a late coin is left where it is", dropped(f.CoinDeep, g.this_coin, to=State.STRAY), parties=HONEST,
          left=ACCIDENTS),
    _hunt("a late coin counts when a window does not fit any more", forgets(f.LateCoin, g.late_fits), left=QUIET,
          funding=Funding.LATE),
    _hunt("a late coin counts after its cancel", forgets(f.LateCoin, g.not_cancelled), left=LIES,
          funding=Funding.SEEN),
    _hunt("a stray's cancel shows K beside a live lot", forgets(f.StrayAsked, g.key_is_free), parties=HONEST,
          left=QUIET, stray=LOT_FLORINS),
    _hunt("arbiters give a late coin back that both let count", forgets(f.StrayAsked, g.counts_never), left=LIES,
          funding=Funding.LATE),
    _hunt("a stray that nobody may take at T", _no_refund_from(State.STRAY), parties="seller silent", silent=2,
          left=QUIET, stray=LOT_FLORINS - 1),
    _hunt("a «stray» award is taken with fewer than k signatures", _one_is_enough, parties=HONEST, left=QUIET,
          silent=2, stray=LOT_FLORINS),
    _hunt("a seller begins without asking who stands by", orders_less(f.CoinDeep, PingArbiters), parties=HONEST,
          left=QUIET),
    _hunt("arbiters are not bound by LATE_OK", _only_parties, left=QUIET, funding=Funding.LATE),
    _hunt("a coin that is gone stays in the books", _keeps_the_coin, parties=HONEST, left=ACCIDENTS),
    _hunt("a closed lot stays closed when its spend goes", dropped(f.SpendGone, g.that_spend), parties=HONEST,
          left=ACCIDENTS),
    _hunt("nothing is handed over twice", _never_again, parties="seller silent", silent=2, left=ACCIDENTS),
    _hunt("a release of a part is taken", forgets(f.ReleaseSaid, g.full_price), left=LIES),
    _hunt("a release is never handed to the chain", _never_hands_in, parties=HONEST, left=QUIET),
    _hunt("an answer without evidence", orders_less(f.DisputeSaid, ShowCase), left=LIES),
    _hunt("a dispute without evidence", orders_less(f.Clock, ShowCase), parties=NO_BUYER, left=QUIET),
    _hunt("an arbiter signs what another signed", forgets(f.AwardSaid, g.cosignable), parties=BAD, bought=1,
          left=LIE_TWICE),
    _hunt("every vote is for the price", _price_for_all, parties=BAD, left=LIES, story=claimed),
    _hunt("a vote for a part is a vote for the price", _price_for_all, parties=HALF, left=LIES, story=claimed),
    _hunt("a vote for a part is a vote for nothing", _part_is_nothing, parties="buyer silent, half the work",
          left=QUIET),
    _hunt("a buyer releases whatever it sees", _releases_whatever_it_sees, parties=BAD, left=LIES, story=claimed),
    _hunt("a buyer pays first although the seller should", forgets(f.Clock, g.swap_agreed), parties=BAD, left=LIES),
    _hunt("a buyer pays first above its limit", forgets(f.Clock, g.may_pay_first), OVER_LIMIT, BAD, left=LIES),
    _hunt("a seller cancels after the result", forgets(f.CancelWanted, g.nothing_delivered), parties=NO_BUYER,
          left=(0, 0, 2, 2)),
    _hunt("a seller delivers after the time", forgets(f.DeliveryMade, g.before_deliver_by), PLAIN, HONEST, left=ONE),
    _hunt("K is shown before k have signed", _gift, SWAP, "buyer silent", silent=1, left=ONE),
    _hunt("an arbiter takes a late DELIVERED for none", silence_tells(soon_after_delivery), OVER_LIMIT,
          "both honest, half the work", silent=1, left=ACCIDENTS),
    _hunt("a release after the votes takes the award away", instead(f.Clock, g.verdict_ready, _taken_away),
          parties="buyer lies, half the work", silent=1, left=LIES),
    _hunt("votes are not opened while one is missing", dropped(f.Clock, g.reveal_due), parties=NO_BUYER, silent=1,
          left=QUIET),
    _hunt("a spend under another id is not the spend", _knows_the_first_id_alone, parties=HONEST, left=ACCIDENTS),
    _climb("nobody climbs the fee ladder", dropped(f.Clock, g.climb_due), NO_BUYER, left=ACCIDENTS),
    _climb("the next step waits until the mempool forgets", instead(f.Clock, g.climb_due, _slow), NO_BUYER,
           left=ACCIDENTS),
    _climb("a spend that the mempool shows does not climb", _not_while_seen, NO_BUYER, left=ACCIDENTS),
    _climb("a climb leaves a step out", _two_at_once, NO_BUYER, left=ACCIDENTS),
    _climb("an award begins above its first step", _goes_on_above, NO_BUYER, left=ACCIDENTS),
    _climb("steps are signed for that cost more than a twentieth", _as_it_is, NO_BUYER, left=ACCIDENTS, dear=True,
           steps_signed=3),
    _climb("an award for the buyer has one step alone", _as_it_is, "seller silent", left=ACCIDENTS, steps_signed=1),
    _hunt("a verdict waits for the last vote", dropped(f.Clock, g.verdict_ready), parties=NO_BUYER, silent=1,
          left=QUIET),
)  # fmt: skip


def hunt(mutation: Mutation) -> Found | None:
    """The first law that the fault breaks, and how; None: it was not found."""
    case = mutation.case
    walk = Walk(case.name, case.setting, case.left, table=indexed(mutation.plant(ROWS)), eager=case.eager)
    told = walk.run(case.states_max, first_only=True, story=mutation.story)
    return told.violations[0] if told.violations else None
