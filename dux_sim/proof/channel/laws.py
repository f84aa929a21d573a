"""The laws of channel_protocol.md §9 and the bounds of its §1, asked of the world where they can break.

Nothing here asks a table whether it was right: what was run, charged, signed and spent is read from what happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.channel_messages import Outcome
from dux_escrowd.channel import facts as f
from dux_escrowd.channel.model import AT_WORK, Call, CallState, PayeeState, PayerState, call_of
from dux_sim.proof.channel.cast import EXP, OIDS, PAYEE, PAYER, ZONE, response_of
from dux_sim.proof.channel.chain import THERE
from dux_sim.proof.search import require

if TYPE_CHECKING:
    from dux_sim.proof.channel.world import World


# --- the payee's side -------------------------------------------------------------------------------------------------


def may_execute(world: World, call: Call) -> None:
    """A call is run once, paid before, in time, and on a coin that lies deep enough."""
    payee, ghost = world.payee, world.ghost
    at = OIDS.index(call.oid)
    once = world.setting.rules.rerun or ghost.restored[PAYEE]
    require(once or not ghost.runs[at], "a request is executed twice")
    require(payee.owed_florins <= payee.held_florins, "S above W for work that is executed")
    require(world.height < EXP - ZONE, "work is begun in the closing zone")
    at_risk = payee.owed_florins
    require(at_risk <= payee.cap_florins(world.height), "more is owed than the coin's depth allows")
    unsaved = payee.held_florins - ghost.mirrored
    require(unsaved < world.setting.rules.mirror_florins, "work beyond the step with no copy of its voucher elsewhere")
    require(len(world.running) < world.setting.rules.window, "more calls run than the window holds")


def payee_stands(world: World) -> None:
    """No request counts twice in S; what was stored as earned is remembered."""
    payee = world.payee
    counted = [call.oid for call in payee.calls if call.state in (*AT_WORK, CallState.OK)]
    counted += [call.oid for call in world.node(PAYEE).archive if call.state is CallState.OK]
    require(len(set(counted)) == len(counted), "a request is charged twice")
    for call in payee.calls:
        if call.state is CallState.OK and world.ghost.earned[OIDS.index(call.oid)] != call.price_florins:
            world.tell_oid("earned", call.oid, call.price_florins)


def ended_as_told(world: World, j: int, outcome: Outcome) -> None:
    """A call that failed costs nothing."""
    call = call_of(world.payee.calls, j)
    failed = outcome is Outcome.FAILED and call is not None
    require(not failed or call.state is CallState.FAILED, "a failed call is charged")  # type: ignore[union-attr]


def nobody_is_framed(world: World) -> None:
    """An honest payer never asks two things under one number."""
    require(not world.honest(PAYER), "an honest payer is shown to have asked two things under one number or id")


def close_is_signed(world: World, cum_florins: int) -> None:
    """A close is brought to the chain only with the payer's signature of that very state."""
    payee = world.payee
    if payee.coin is not None and payee.coin.outpoint == world.chain.outpoint:
        require(cum_florins in world.ghost.shown, "a close of a state that the payer has not signed")


def payee_learnt(world: World, fact: f.Fact) -> None:
    """Which states of the present coin the payee can hold; W says no more than that."""
    here, ghost = world.chain.outpoint, world.ghost
    if isinstance(fact, f.VoucherCame | f.FinalCame | f.HelloCame) and fact.outpoint == here:
        cum = fact.head_florins if isinstance(fact, f.HelloCame) else fact.cum_florins
        if cum not in ghost.shown:
            world.tell(shown=tuple(sorted({*ghost.shown, cum})))
    payee = world.payee
    if payee.coin is not None and payee.coin.outpoint == here:
        require(payee.held_florins <= max(world.ghost.shown, default=0), "W above every voucher for this coin")


# --- the payer's side -------------------------------------------------------------------------------------------------


def payer_learnt(world: World, fact: f.Fact) -> None:
    """What it was told a call cost; from an honest payee the answer is the one to what was asked."""
    most = world.setting.price * (2 if world.setting.metered else 1)
    require(
        world.payer.spent_florins <= world.ghost.asks * most + most, "the payer takes a charge that it did not allow"
    )
    if isinstance(fact, f.CallWanted):
        world.tell(asks=world.ghost.asks + 1)
        world.tell_oid("asked", fact.oid, value=True)
    elif isinstance(fact, f.AnswerCame):
        oid = fact.req[1:].decode()
        _told(world, oid, fact.outcome, fact.resp, fact.charged_florins)
    elif isinstance(fact, f.HelloBackCame):
        for shown in fact.calls:
            if shown.outcome is not None:
                _told(world, shown.oid, shown.outcome, shown.resp, shown.charged_florins)


def _told(world: World, oid: str, outcome: Outcome, resp: bytes, charged_florins: int) -> None:
    at = OIDS.index(oid)
    if world.honest(PAYEE) and outcome is Outcome.OK:
        require(resp == response_of(oid), "an answer to another request")
        require(world.ghost.runs[at], "an answer to what never ran")
    charged = charged_florins if outcome is Outcome.OK else 0
    if world.ghost.paid[at] < charged:
        world.tell_oid("paid", oid, charged)


def never_above_need(world: World, cum_florins: int) -> None:
    """A voucher says what the calls need and no more; after a copy, never more than the price of all requests."""
    ghost, setting = world.ghost, world.setting
    before = max(ghost.signed, default=0)
    most = setting.price * (2 if setting.metered else 1)
    per_call = [most if told < 0 else told for asked, told in zip(ghost.asked, ghost.paid, strict=True) if asked]
    need = ghost.asks * most if ghost.restored[PAYER] else sum(per_call)
    known = max(world.payer.cum_florins if ghost.moved else 0, before)
    require(cum_florins <= max(known, setting.rules.first_min_florins, need), "a voucher above need")


def refund_in_time(world: World) -> None:
    """Nobody tries a refund that the script forbids."""
    require(world.height >= EXP, "a refund before EXP")


# --- the end ----------------------------------------------------------------------------------------------------------


def at_the_end(world: World) -> None:
    """Everybody honest is out, books say what the chain says, and nobody lost more than §1 says."""
    _nobody_left(world)
    if world.honest(PAYEE):
        _payee_bound(world)
    if world.honest(PAYER):
        _payer_bound(world)


def _nobody_left(world: World) -> None:
    chain = world.chain
    if world.honest(PAYER) and chain.coin and chain.coin_height is not None:
        require(chain.spend is not None, "dead state: the coin is left in")
        require(world.payer.state is PayerState.CLOSED, f"dead state: the payer is left in {world.payer.state}")
    back = chain.beside != THERE or not world.honest(PAYER)
    require(back, "dead state: what a stranger paid beside the coin is left in")
    if world.awake(PAYEE):
        ends = (PayeeState.CLOSED, PayeeState.LOST, PayeeState.ABANDONED)
        require(world.payee.state in ends, f"dead state: the payee is left in {world.payee.state}")
        owes = world.payee.spend is not None and chain.spend is not None
        require(not owes or world.payee.spend.cum_florins == chain.spend.paid_florins, "the payee's books lie")  # type: ignore[union-attr]


def paid(world: World) -> int:
    """What the chain paid for calls in the end."""
    return world.chain.spend.paid_florins if world.chain.spend is not None else 0


def _payee_bound(world: World) -> None:
    ghost = world.ghost
    earned = sum(max(0, one) for one in ghost.earned)
    forgotten = world.forgotten() if all(ghost.restored) else min(ghost.forgot, world.forgotten())
    safe = earned - ghost.excused - forgotten
    if not ghost.served:  # away, blind or left out through the whole zone: only a watcher's older voucher is left
        safe = min(safe, 0 if ghost.censored else ghost.mirrored)
    require(paid(world) >= safe, "closed below the work that was executed")


def _payer_bound(world: World) -> None:
    ghost, setting = world.ghost, world.setting
    answered = sum(max(0, one) for one in ghost.paid)
    most = setting.price * (2 if setting.metered else 1)
    window = setting.rules.window * most
    require(
        paid(world) <= max(setting.rules.first_min_florins, answered + window), "the payer loses more than the window"
    )
    require(paid(world) <= max(setting.rules.first_min_florins, ghost.asks * most), "the payer pays for no request")


LEARNT = (payer_learnt, payee_learnt)
