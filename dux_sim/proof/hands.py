"""The hands of an honest node: what its orders do to the world, as effects and mouth do it in the product.

Each order is asked again whether it is still wanted right before it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dux_escrowd import facts as f
from dux_escrowd.model import Exit, Spend
from dux_escrowd.mouth import ping_fact
from dux_escrowd.orders import (
    Adopt,
    Fund,
    OpenStray,
    Order,
    PassOn,
    PingArbiters,
    PublishFault,
    Say,
    Settle,
    ShowCase,
    ShowKey,
    SignAward,
    SignCancel,
    SignRelease,
    Tell,
    Word,
)
from dux_escrowd.rules import still_wanted
from dux_sim.proof import laws
from dux_sim.proof.cast import PRICE, B, Funding, S
from dux_sim.proof.ids import award_spend
from dux_sim.proof.ladder import handed_in
from dux_sim.proof.search import require

if TYPE_CHECKING:
    from dux_sim.proof.world import World


def perform(world: World, name: str, order: Order) -> None:
    """Do an order, if it is still wanted."""
    if still_wanted(world.nodes[name].lot_of(order), order, world.height):
        HANDS[type(order)](world, name, order)


def _fund(world: World, _name: str, _order: Order) -> None:
    if world.coin is None and world.setting.funding is not Funding.LATE:
        world.fund()


def _release(world: World, _name: str, order: SignRelease) -> None:
    to = (S, *world.setting.panel) if world.nodes[B].lot.disputed_by else (S,)
    world.sign_release(order.outpoint, order.gross_florins, *to)


def _cancel(world: World, name: str, order: SignCancel) -> None:
    laws.cancel_is_free(world, name, order.outpoint)
    world.cancels |= {order.outpoint}
    world.keys_shown = True
    world.send(S, f.CancelSaid(at=0, by=S, outpoint=order.outpoint, valid=True), B)


def _award(world: World, name: str, order: SignAward) -> None:
    laws.before_the_margin(world)
    world.sign_award(name, order.key)


def _show_key(world: World, name: str, _order: ShowKey) -> None:
    world.shared_key_by_standby |= name == S
    world.keys_shown = True
    world.send(name, f.KeyShown(at=0, by=name), B)


def _show_case(world: World, name: str, _order: ShowCase) -> None:
    """With K where this node has delivered under it, or has bought it."""
    lot = world.nodes[name].lot
    held = not world.deal.lock or lot.revealed or (name == S and lot.delivered_at is not None)
    world.send(name, f.EvidenceArrived(at=0, key=held), *world.setting.panel)


def _ping(world: World, name: str, _order: PingArbiters) -> None:
    stand = [a for a in world.setting.panel if _stands_by(world, a)]
    fact = ping_fact(world.nodes[name].lot, len(stand), world.height, world.height)
    if fact is not None:
        world.learn(name, fact)


def _stands_by(world: World, arbiter: str) -> bool:
    return world.honest(arbiter) or (arbiter in world.setting.liars and world.liars_stand_by)


def _settle(world: World, name: str, order: Settle) -> None:
    """A spend is handed to the chain: it must be one that the keys allow; a coin that is gone the wallet refuses."""
    if world.is_beside(order.outpoint):
        _settle_beside(world, name, order)
        return
    if world.coin is None or (order.outpoint != world.coin.outpoint and world.was_there(order.outpoint)):
        return
    if order.exit is Exit.RELEASE:
        if B in world.nodes[name].lot.faulty and (order.outpoint, PRICE) not in world.releases:
            return  # the release was only told of in a proof of fault: the wallet holds no signatures and refuses
        gross = laws.release_is_right(world, name, order)
        world.keys_shown = True
        world.offer(handed_in(world, name, order, Spend(Exit.RELEASE, f"release-{gross}", gross, None)))
    elif order.exit is Exit.CANCEL:
        require(order.outpoint in world.cancels, "a cancel that the seller has not signed")
        world.offer(handed_in(world, name, order, Spend(Exit.CANCEL, "cancel", 0, None)))
    elif order.exit is Exit.AWARD:
        require(order.award is not None, "an award without its key")
        if order.award is not None:
            world.complete(order.award, handed_in(world, name, order, award_spend(order.award)))
    else:
        world.law(world.height >= world.deal.heights.timeout, "a refund before T")
        world.offer(handed_in(world, name, order, Spend(Exit.REFUND, "refund", 0, None)))
    world.pushed(name, order)


def _settle_beside(world: World, name: str, order: Settle) -> None:
    """A stray's way back: there is nobody to pay with it."""
    if order.exit is Exit.CANCEL:
        require(order.outpoint in world.cancels, "a cancel that the seller has not signed")
    elif order.exit is Exit.AWARD:
        signed = world.awards.get(order.award, frozenset()) if order.award is not None else frozenset()
        require(len(signed) >= world.deal.arbiters_needed, "an award with fewer than k signatures")
    else:
        world.law(order.exit is Exit.REFUND, "a stray pays for nothing")
        world.law(world.height >= world.deal.heights.timeout, "a refund before T")
    world.spend_beside(Spend(order.exit, f"stray-{order.exit}", 0, None))
    world.pushed(name, order)


def _say(world: World, name: str, order: Say) -> None:
    """What an honest node says reaches those it concerns."""
    _WORDS[order.word](world, name)


def _say_start(world: World, name: str) -> None:
    world.send(name, f.StartSaid(at=0, by=name), B, *_panel_once_disputed(world, name))


def _say_late_ok(world: World, name: str) -> None:
    lot = world.nodes[name].lot
    outpoint = lot.late_agreed or lot.late_asked[-1]
    world.send(name, f.LateOkSaid(at=0, by=name, outpoint=outpoint), *_others(world, name))


def _say_delivered(world: World, name: str) -> None:
    fact = f.DeliverySaid(at=0, by=name, claimed_at=max(world.height, world.deal.heights.deliver_by))
    world.send(name, fact, B, *_panel_once_disputed(world, name))


def _panel_once_disputed(world: World, name: str) -> tuple[str, ...]:
    return world.setting.panel if world.nodes[name].lot.disputed_by else ()


def _say_cancel_ask(world: World, name: str) -> None:
    node = world.nodes[name]
    if node.lot.cancelled:
        world.send(name, f.CancelAsked(at=0, by=name), S)
    for stray in node.strays:
        if stray.asked_back and stray.outpoint:
            world.send(name, f.CancelAsked(at=0, by=name, outpoint=stray.outpoint), *_others(world, name))


def _say_dispute(world: World, name: str) -> None:
    _hand_on(world, name)
    world.send(name, f.DisputeSaid(at=0, by=name), *_others(world, name))


def _say_answer(world: World, name: str) -> None:
    _hand_on(world, name)
    world.send(name, f.AnswerSaid(at=0, by=name), *_others(world, name))


def _say_commit(world: World, name: str) -> None:
    laws.vote_after_answer(world, name)
    world.send(name, f.VoteCommitted(at=0, by=name, commitment=b"c"), *_others(world, name))


def _say_reveal(world: World, name: str) -> None:
    gross = world.nodes[name].lot.vote_florins or 0
    world.send(name, f.VoteRevealed(at=0, by=name, gross_florins=gross, fits=True), *_others(world, name))


def _others(world: World, name: str) -> tuple[str, ...]:
    return tuple(other for other in (B, S, *world.setting.panel) if other != name)


def _hand_on(world: World, name: str) -> None:
    """Before its dispute or answer a party hands the arbiters what both have said: LATE_OK, START, delivery, releases.

    A party holds a delivery only when it was claimed in time; how long before deliver_by, nobody asks.
    """
    lot = world.nodes[name].lot
    panel = world.setting.panel
    if lot.late_agreed:
        for who in (B, S):
            world.send(name, f.LateOkSaid(at=0, by=who, outpoint=lot.late_agreed), *panel)
    if lot.started or world.nodes[S].lot.started:
        world.send(name, f.StartSaid(at=0, by=S), *panel)
    if lot.delivered_at is not None:
        world.send(name, f.DeliverySaid(at=0, by=S, claimed_at=world.deal.heights.deliver_by), *panel)
    if lot.disputed_by not in (None, name):
        world.send(name, f.DisputeSaid(at=0, by=lot.disputed_by or ""), *panel)
    if lot.release_gross_florins is not None and lot.release_outpoint is not None:
        for outpoint, gross in sorted(world.releases):
            fact = f.ReleaseSaid(at=0, by=B, outpoint=outpoint, gross_florins=gross, valid=True)
            world.send(name, fact, *panel)


def _pass_on(world: World, name: str, _order: PassOn) -> None:
    """The other party gets the opener's chain; where that is another one than it holds, it has a proof of fault."""
    opener = world.nodes[name].lot.disputed_by or ""
    fact: f.Fact = f.DisputeSaid(at=0, by=opener)
    if opener in world.forked:
        fact = f.Equivocation(at=0, by=opener)
    world.send(name, fact, S if opener == B else B)


def _publish(world: World, name: str, order: PublishFault) -> None:
    """Whoever does not know it yet learns it by gossip."""
    others = [other for other in _others(world, name) if order.by not in world.nodes[other].lot.faulty]
    world.send(name, f.Equivocation(at=0, by=order.by), *others)


def _nothing(_world: World, _name: str, _order: Order) -> None:
    """Readers are not part of this world, and its funding stands on one output."""


_WORDS: dict[Word, Callable[[World, str], None]] = {
    Word.START: _say_start,
    Word.LATE_OK: _say_late_ok,
    Word.DELIVERED: _say_delivered,
    Word.CANCEL_ASK: _say_cancel_ask,
    Word.DISPUTE: _say_dispute,
    Word.ANSWER: _say_answer,
    Word.VOTE_COMMIT: _say_commit,
    Word.VOTE_REVEAL: _say_reveal,
}
HANDS: dict[type[Order], Callable[[World, str, Any], None]] = {
    Fund: _fund,
    Say: _say,
    SignRelease: _release,
    SignCancel: _cancel,
    SignAward: _award,
    Settle: _settle,
    ShowKey: _show_key,
    ShowCase: _show_case,
    PingArbiters: _ping,
    OpenStray: _nothing,
    Tell: _nothing,
    Adopt: _nothing,
    PassOn: _pass_on,
    PublishFault: _publish,
}
