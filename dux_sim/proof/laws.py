"""The laws of money.md §1 and the bounds of escrow_protocol.md §2, asked of the world where they can break.

Nothing here asks the table: what was signed, shown and spent is read from the world. The letters are those of
escrow_protocol.md §11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.chain.contract import Policy
from dux_escrowd.facts import LateCoin
from dux_escrowd.model import AwardKey, Role, State
from dux_escrowd.orders import Order, PingArbiters, Say, Settle, Word
from dux_escrowd.voting import answer_window_over, winner_of
from dux_sim.proof.cast import PART, PRICE, B, S

if TYPE_CHECKING:
    from dux_sim.proof.world import World


def release_is_right(world: World, name: str, order: Settle) -> int:
    """Laws a and d: a release is for the coin that is there, and K is not shown inside the last margin. The gross."""
    pays = [gross for outpoint, gross in world.releases if outpoint == order.outpoint]
    there = world.coin is not None and order.outpoint == world.coin.outpoint
    world.law(pays and there, "law a: a release is for the coin that is there")
    first_time = world.nodes[name].lot.pushed is None
    late = world.deal.lock and first_time and world.height > world.deal.heights.vote_by
    world.law(not late, "law d: K is not shown inside the last margin")
    told = world.nodes[name].lot.release_gross_florins
    return told if told in pays else max(pays)


def before_the_margin(world: World) -> None:
    """Law e: no arbiter's coin signature inside the last margin."""
    world.law(world.height <= world.deal.heights.vote_by, "law e: no coin signature inside the last margin")


def vote_after_answer(world: World, name: str) -> None:
    """Law f: an honest arbiter votes only when the other side has answered, or could have."""
    both = {(name, B), (name, S)} <= world.heard_disputes
    over = answer_window_over(world.nodes[name].lot, world.height)
    world.law(name in world.heard_answer or both or over, "law f: a vote before the answer")


def cancel_is_free(world: World, name: str, outpoint: str) -> None:
    """K goes with a cancel, and opens the result whichever output of the script it is for."""
    if not world.deal.lock:
        return
    delivered = world.nodes[name].lot.delivered_at is not None
    if not world.is_beside(outpoint):
        world.law(not delivered, "K goes away with a cancel after the result")
        return
    sold = world.spend is not None and _is_buried(world)
    spent = sold and (paid(world) or not delivered)
    world.law(spent or (world.coin is None and not delivered), "K goes away with a stray beside a live lot")


def stray_award_is_safe(world: World, key: AwardKey) -> None:
    """An award that pays nobody is for no coin that work is done for."""
    there = world.coin is not None and key.outpoint == world.coin.outpoint
    world.law(key.revealed or not there, "a «stray» award of the lot's own coin")


def start_is_attended(world: World, orders: tuple[Order, ...]) -> None:
    """Who will show K while arbiters stand by asks at START whether they do."""
    standby = world.deal.lock and world.deal.policy is Policy.STANDBY
    begins = Say(word=Word.START) in orders
    world.law(not (standby and begins) or PingArbiters() in orders, "START without a look at who stands by")


def late_is_fair(world: World, fact: LateCoin) -> None:
    """An honest seller lets a late coin count only for the price, in time for every window, and while K is its own."""
    deal, at = world.deal, fact.at
    time_left = deal.heights.deliver_by - at
    fits = time_left >= deal.start_blocks and 2 * time_left >= deal.heights.deliver_by - deal.heights.fund_by
    world.law(fits, "LATE_OK: a window does not fit any more")
    world.law(not world.cancels, "LATE_OK: K went away with a cancel")
    there = world.coin is not None and fact.coin.outpoint == world.coin.outpoint
    world.law(there and fact.coin.value_florins >= deal.lot_florins, "LATE_OK: it is for the coin that is there")


def one_verdict(world: World, name: str, key: AwardKey) -> None:
    """An honest arbiter signs for one gross only, for one coin."""
    signed = [other for other, names in world.awards.items() if name in names and other.outpoint == key.outpoint]
    grosses = {other.gross_florins for other in signed}
    world.law(grosses <= {key.gross_florins}, "an honest arbiter signs one verdict for one coin")


def award_is_fair(world: World, key: AwardKey) -> None:
    """K have signed, and law c: an honest buyer takes nothing back that it has released."""
    world.law(len(world.awards.get(key, ())) >= world.deal.arbiters_needed, "an award with fewer than k signatures")
    lot = world.nodes[B].lot
    if winner_of(key) is Role.BUYER and world.honest(B) and lot.release_gross_florins is not None:
        kept = not lot.release_stands or key.gross_florins >= (lot.release_gross_florins or 0)
        world.law(kept, "law c: the buyer takes back what it has released")


def at_the_end(world: World) -> None:
    """Everybody honest is out, everybody's books say what the chain says, and nobody lost more than §2 says."""
    _nobody_left(world)
    _books_agree(world)
    _buyer_bound(world)
    _seller_bound(world)


def _nobody_left(world: World) -> None:
    if world.honest(B):
        for lot in (world.nodes[B].lot, *world.nodes[B].strays):
            world.law(lot.state in (State.CLOSED, State.VOID), f"dead state: the buyer is left in {lot.state}")
        if world.coin is not None and world.coin.height is not None:
            world.law(world.spend is not None and world.spend.height is not None, "dead state: the coins are left in")
    if world.honest(S) and _is_deep(world):
        state = world.nodes[S].lot.state
        world.law(state in (State.CLOSED, State.VOID), f"dead state: the seller is left in {state}")


def _is_deep(world: World) -> bool:
    """The spend lies d deep and a crash since is over: whoever made it, and however late."""
    height = world.spend.height if world.spend is not None else None
    return height is not None and world.height - height > world.deal.depth_blocks + 1


def _is_buried(world: World) -> bool:
    height = world.spend.height if world.spend is not None else None
    return height is not None and world.height - height + 1 >= world.deal.depth_blocks


def _books_agree(world: World) -> None:
    """Laws 3 and 5: one spend of the coin, and every honest book says so."""
    for name, node in world.nodes.items():
        if world.honest(name) and node.lot.state is State.CLOSED:
            world.law(node.lot.spend == world.spend, f"the books of {name} are ahead of the chain")


def paid(world: World) -> int:
    """What the chain paid for the work in the end."""
    return world.spend.gross_florins if world.spend is not None and world.spend.height is not None else 0


def _buyer_bound(world: World) -> None:
    if not world.honest(B) or world.is_bought() or not paid(world):
        return
    worth = world.setting.worth_florins
    if world.setting.parts and paid(world) == PART:
        return  # its owner's wish, be it in the middle of a dispute
    if paid(world) > worth:
        first = (world.deal.lock and world.deal.policy is Policy.SWAP) or not world.has_quorum()
        allowed = world.releases and world.deal.lock and first and world.deal.swap_limit_florins >= PRICE
        world.law(allowed, "an honest buyer pays more than the result is worth")
    nothing_came = world.nodes[S].lot.delivered_at is None and S not in world.setting.liars
    world.law(not nothing_came, "an honest buyer pays for nothing")


def _seller_bound(world: World) -> None:
    lot = world.nodes[S].lot
    cancelled = {outpoint for outpoint in world.cancels if not world.is_beside(outpoint)}
    if not world.honest(S) or world.is_bought() or world.reorged or world.wallet_missed or cancelled or world.overrun:
        return
    worth = world.setting.worth_florins
    earned = lot.delivered_at is not None and worth > 0 and world.coin is not None
    if world.part_taken:
        worth = min(worth, PART)  # by its own wish
    if earned and world.has_quorum():
        world.law(paid(world) >= worth, "an entitled seller is not paid")
    if earned and world.deal.lock and not paid(world):
        world.law(not world.keys_shown or world.shared_key_by_standby, "K was given away for nothing")
