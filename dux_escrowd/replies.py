"""What the table's rows order: each takes the lot before and after, and the fact, and gives orders.

Pure. An order names the last tip at which it may be done; `rules.still_wanted` is asked again right before it is done.
"""

from __future__ import annotations

from typing import Any

from common.chain.contract import Policy
from dux_escrowd.facts import AwardSaid, Fact, OutputSeen
from dux_escrowd.model import AwardKey, Coin, Exit, Lot, Role
from dux_escrowd.orders import (
    Adopt,
    Fund,
    News,
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
from dux_escrowd.voting import revealed, signed_by, winner_of, winning

Orders = tuple[Order, ...]


def tell(news: News) -> Any:
    """Orders that only tell."""

    def orders(_before: Lot, _after: Lot, _fact: Fact) -> Orders:
        return (Tell(news=news),)

    return orders


def adopt(_before: Lot, _after: Lot, _fact: Fact) -> Orders:
    """Rebuild, then READY."""
    return (Adopt(),)


def agreed(before: Lot, after: Lot, _fact: Fact) -> Orders:
    """With the last READY: tell, and the buyer funds; it must confirm by fund_by, so d blocks are left for that."""
    named = {after.deal.buyer, after.deal.seller, *after.panel}
    if set(before.ready) == named or set(after.ready) != named:
        return ()
    told: Orders = (Tell(news=News.AGREED),)
    last = after.deal.heights.fund_by - after.deal.depth_blocks
    return (*told, Fund(not_after=last)) if after.role is Role.BUYER else told


def funded(before: Lot, after: Lot, _fact: Fact) -> Orders:
    """First time: START and tell. After a reorganisation: sign again what was signed."""
    if after.release_stands and after.role is Role.BUYER:
        return _sign_release(after)
    if after.role is Role.SELLER and not after.started:
        return ()  # a later stage waits for its turn, and nobody works for a bond
    if after.role is Role.SELLER and not before.started:
        return _begun(after)
    return (Tell(news=News.FUNDED),)


def stage_opened(_before: Lot, after: Lot, _fact: Fact) -> Orders:
    """The turn of a later stage has come: START, and the readers are told to work."""
    return _begun(after)


def _begun(lot: Lot) -> Orders:
    """START, and where K is shown while arbiters stand by: whether they are there, before much work is in it."""
    begun: Orders = (Say(word=Word.START), Tell(news=News.FUNDED))
    return (*begun, PingArbiters()) if _standby(lot) else begun


def cancel_late(_before: Lot, after: Lot, _fact: Fact) -> Orders:
    """A late coin of the lot itself goes back: nothing was worked for it, so K is worth nothing."""
    return (SignCancel(outpoint=after.outpoint or "", not_after=after.deal.heights.timeout),)


def open_stray(_before: Lot, _after: Lot, fact: OutputSeen) -> Orders:
    """Another output on the script gets its own record."""
    return (_stray(fact.coin),)


def open_old_coin(before: Lot, _after: Lot, _fact: Fact) -> Orders:
    """The coin that an earlier one has displaced is a stray now."""
    return (_stray(before.coin),) if before.coin else ()


def _stray(coin: Coin) -> Order:
    return OpenStray(outpoint=coin.outpoint, value_florins=coin.value_florins, height=coin.height)


def delivered(_before: Lot, after: Lot, _fact: Fact) -> Orders:
    """The seller says so and asks the arbiters; the buyer's readers are told, with the key where none is sold."""
    if after.role is Role.SELLER:
        said: Orders = (Say(word=Word.DELIVERED),)
        return (*said, PingArbiters()) if _standby(after) else said
    told: Orders = (Tell(news=News.DELIVERED),)
    return told if after.deal.lock or after.role is Role.ARBITER else (*told, Tell(news=News.KEY_REVEALED))


def delivered_in_dispute(before: Lot, after: Lot, _fact: Fact) -> Orders:
    """Delivered while the arbiters are at it: they are shown it too."""
    if after.role is Role.SELLER:
        return (Say(word=Word.DELIVERED), ShowCase())
    if after.role is Role.BUYER:
        return (Tell(news=News.DELIVERED),)
    return considered(before, after, _fact)


def _standby(lot: Lot) -> bool:
    return lot.deal.lock and lot.deal.policy is Policy.STANDBY


def ping(_before: Lot, _after: Lot, _fact: Fact) -> Orders:
    """Ask the arbiters."""
    return (PingArbiters(),)


def show_key(_before: Lot, after: Lot, _fact: Fact) -> Orders:
    """Show K, before dispute_by only: later nobody could be asked if the buyer kept silent."""
    return (ShowKey(not_after=after.deal.heights.dispute_by - 1),)


def release(_before: Lot, after: Lot, _fact: Fact) -> Orders:
    """The buyer signs and sends its release."""
    return _sign_release(after)


def _sign_release(lot: Lot) -> Orders:
    return (
        SignRelease(
            outpoint=lot.outpoint or "",
            gross_florins=lot.release_gross_florins or 0,
            not_after=lot.deal.heights.vote_by - 1,
        ),
    )


def settle(exit_: Exit) -> Any:
    """Orders that hand this node's own way out to the chain."""

    def orders(_before: Lot, after: Lot, _fact: Fact) -> Orders:
        return (_settle(after, exit_),)

    return orders


def _settle(lot: Lot, exit_: Exit, award: AwardKey | None = None) -> Order:
    hides_key = exit_ is Exit.RELEASE and lot.deal.lock and lot.pushed is not Exit.RELEASE
    last = lot.deal.heights.vote_by if hides_key else None
    return Settle(exit=exit_, outpoint=lot.outpoint or "", not_after=last, award=award, rung=lot.rung)


def settle_again(_before: Lot, after: Lot, _fact: Fact) -> Orders:
    """Hand the award over once more."""
    key = winning(after)
    return (_settle(after, Exit.AWARD, key),) if key else ()


def sign_cancel(_before: Lot, after: Lot, _fact: Fact) -> Orders:
    """The seller gives everything back."""
    return (SignCancel(outpoint=after.outpoint or "", not_after=after.deal.heights.vote_by),)


def say(word: Word) -> Any:
    """Orders that only say."""

    def orders(_before: Lot, _after: Lot, _fact: Fact) -> Orders:
        return (Say(word=word),)

    return orders


def dispute(_before: Lot, _after: Lot, _fact: Fact) -> Orders:
    """Ask the arbiters and show them the evidence."""
    return (Say(word=Word.DISPUTE), ShowCase(), Tell(news=News.DISPUTED))


def disputed(_before: Lot, after: Lot, _fact: Fact) -> Orders:
    """A party always answers, whatever is in flight; an arbiter makes sure that it was told; so are the readers."""
    told: Orders = (Tell(news=News.DISPUTED),)
    return (PassOn(), *told) if after.role is Role.ARBITER else (Say(word=Word.ANSWER), ShowCase(), *told)


def show_case(_before: Lot, _after: Lot, _fact: Fact) -> Orders:
    """Show the evidence again, with what is new."""
    return (ShowCase(),)


def considered(before: Lot, after: Lot, _fact: Fact) -> Orders:
    """Arbiter: what `changes.consider`, a vote or a commitment has brought about."""
    orders: Orders = ()
    if before.vote_florins is None and after.vote_florins is not None:
        orders += (Say(word=Word.VOTE_COMMIT),)
    if after.case_open and not before.case_open:
        orders += (Tell(news=News.CASE_OPENED),)
    if after.me in revealed(after) and after.me not in revealed(before):
        orders += (Say(word=Word.VOTE_REVEAL),)
    return orders


def awarded(before: Lot, after: Lot, fact: Fact) -> Orders:
    """Arbiter: sign each award that is new; show the buyer K once k have signed that the seller is paid.

    One signature moves no coin: K with it would be a gift where the others die before theirs.
    """
    new = [a.key for a in after.awards if a.arbiter == after.me and a not in before.awards]
    orders = considered(before, after, fact)
    orders += tuple(SignAward(key=key, not_after=after.deal.heights.vote_by) for key in new)
    complete = winning(after) if winning(before) is None else None
    if complete is not None and complete.gross_florins > 0 and after.deal.lock and after.key_known:
        orders += (ShowKey(not_after=None),)
    return orders


def award_arrived(before: Lot, after: Lot, _fact: AwardSaid) -> Orders:
    """A party: with the k-th signature the winner completes the award."""
    key = winning(after)
    if key is None or after.role is not winner_of(key):
        return ()
    if len(signed_by(before, key)) >= after.deal.arbiters_needed:
        return ()
    return (_settle(after, Exit.AWARD, key),)


def publish(_before: Lot, _after: Lot, fact: Any) -> Orders:
    """Spread the proof."""
    return (PublishFault(by=fact.by),)
