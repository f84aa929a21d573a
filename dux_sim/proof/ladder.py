"""The fee ladder in the proof's world: what each step costs, who may climb it how far, and what miners take.

Fees and the number of steps are the product's own (`common.chain.templates`), for a contract with real keys. A spike is
an accident: from then on miners take no step below it, to the end of the history; where it is above the ladder, until
two blocks after T. An owner may hang a child on its own output (CPFP) once its last co-signed step is too low; that is
its own act, `duxnet wallet bump`, so nothing waits for it.

Source: escrow_protocol.md §3, §4.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec.structs import replace

from common.chain.contract import Contract, lot_value
from common.chain.fees import LADDER_SHARE
from common.chain.templates import build, gross_of, rungs_of
from common.chain.tx import Outpoint
from dux_escrowd.model import Exit, Spend
from dux_escrowd.orders import Settle
from dux_sim.proof.cast import B, S, Setting
from dux_sim.proof.ids import LAST, at_step, outcome_of, step_of
from dux_sim.proof.played import contract_for, template_of
from dux_sim.proof.player import History

if TYPE_CHECKING:
    from dux_sim.proof.world import World

PLACE = Outpoint("11" * 32, 0)


@lru_cache(maxsize=64)
def _contract(setting: Setting) -> Contract:
    return contract_for(History(name="fees", setting=setting, events=(), timeout=0, end=0), 0)


@lru_cache(maxsize=1024)
def fee_of(setting: Setting, outcome: str, exit_: Exit, gross_florins: int, step: int) -> tuple[int, int]:
    """What this step pays to miners, and the most that it may: a twentieth of what is paid out (florins)."""
    contract, template = _contract(setting), template_of(Spend(exit_, outcome, gross_florins, None))
    value = int(lot_value(contract))
    paid = int(build(contract, PLACE, value, template, step).paid_florins)
    return value - paid, (int(gross_of(template)) or value) // LADDER_SHARE


@lru_cache(maxsize=1024)
def steps_signed(setting: Setting, outcome: str, exit_: Exit, gross_florins: int) -> int:
    """How many steps are open: a refund is the buyer's own, for the others co-signatures are held."""
    if exit_ is Exit.REFUND:
        return LAST + 1
    if setting.steps_signed:  # a planted fault: whatever they cost
        return setting.steps_signed
    contract, template = _contract(setting), template_of(Spend(exit_, outcome, gross_florins, None))
    return rungs_of(contract, PLACE, int(lot_value(contract)), template)


def last_step(world: World, spend: Spend) -> int:
    """The highest step at which this way out can be handed in."""
    return steps_signed(world.setting, outcome_of(spend.txid), spend.exit, spend.gross_florins) - 1


def handed_in(world: World, name: str, order: Settle, spend: Spend) -> Spend:
    """The way out at the step that was ordered, or the highest that was co-signed; judged by the laws of the ladder."""
    if not world.setting.ladder:
        return spend
    step = min(order.rung, last_step(world, spend))
    _allowed(world, spend, step)
    _one_outcome(world, name, spend, order.rung)
    return replace(spend, txid=at_step(spend.txid, step))


def _allowed(world: World, spend: Spend, step: int) -> None:
    if step and spend.exit is not Exit.REFUND:
        fee, most = fee_of(world.setting, outcome_of(spend.txid), spend.exit, spend.gross_florins, step)
        world.law(fee <= most, "the ladder: a step costs more than a twentieth of what is paid out")


def _one_outcome(world: World, name: str, spend: Spend, rung: int) -> None:
    """A ladder is one way out at three fees: each begins at its first step, and goes up one by one."""
    outcome = outcome_of(spend.txid)
    before, reached = world.climbed.get(name, ("", 0))
    same = before == f"{outcome} {world.coins_made}"
    world.law(rung == 0 or (same and rung - reached in (0, 1)), "the ladder: a way out begins above its first step")
    world.climbed = world.climbed | {name: (f"{outcome} {world.coins_made}", rung)}


def is_taken(world: World) -> bool:
    """Miners take the spend that waits."""
    return world.spend is not None and (world.child or step_of(world.spend.txid) >= world.fees)


def outbids(world: World, spend: Spend) -> bool:
    """BIP125: what pays more replaces what waits."""
    waits = world.spend is not None and world.spend.height is None
    return waits and world.spend is not None and step_of(spend.txid) > step_of(world.spend.txid)


def owner_of(spend: Spend) -> str:
    """The party that hands this way out to the chain, and has an output of its own in it."""
    return S if spend.exit is Exit.RELEASE or spend.gross_florins else B


def may_bump(world: World) -> bool:
    """The ladder is at its end, and too low: the owner's own output can pay for both."""
    spend = world.spend
    if spend is None or spend.height is not None or is_taken(world) or step_of(spend.txid) < last_step(world, spend):
        return False
    owner = owner_of(spend)
    return world.honest(owner) and owner != world.asleep and owner not in world.wallet_down


def climbs_in_time(world: World) -> None:
    """A spend that miners pass over is at its next step when its blocks are over, unless its owner is down."""
    spend = world.spend
    if spend is None or spend.height is not None or is_taken(world) or step_of(spend.txid) >= last_step(world, spend):
        return
    owner = owner_of(spend)
    free = world.honest(owner) and owner != world.asleep and owner not in world.wallet_down
    stuck = world.height - world.spend_since > world.deal.rung_blocks
    world.law(not (free and stuck), "the ladder: a spend stays at a step that miners pass over")


def is_forgotten(world: World) -> bool:
    """Below what miners take, of somebody who died or has no wallet: mempools drop what nobody hands in again."""
    spend, away = world.spend, world.gone | world.wallet_down
    if spend is None or spend.height is not None or is_taken(world) or owner_of(spend) not in away:
        return False
    return world.height - world.spend_since > world.deal.rebroadcast_blocks


def is_overrun(world: World) -> bool:
    """T has come, and what pays the seller waits at its last step, below what miners take: §12, attack 23."""
    spend, at_t = world.spend, world.height >= world.deal.heights.timeout - 1
    waits = spend is not None and spend.height is None and owner_of(spend) == S and not is_taken(world)
    return at_t and waits and spend is not None and step_of(spend.txid) >= last_step(world, spend)
