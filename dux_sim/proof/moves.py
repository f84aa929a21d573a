"""What may happen next: time and mail, free choices of honest owners, accidents, and everything that liars' keys allow.

A history has an allowance of accidents (a message late or doubled, a crash with restart, a death, a reorganisation, a
miner who leaves something out), of lies, and of whims (an owner disputes or cancels without need). Choices that cost
nothing: when the seller delivers, which of two valid spends a miner takes, and what a liar takes from the chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from msgspec.structs import replace

from common.chain.fees import FEE_LADDER
from dux_escrowd import facts as f
from dux_sim.proof.cast import PART, B, Funding, S
from dux_sim.proof.ids import LAST, malleated
from dux_sim.proof.kinds import ACCIDENT, FREE, LIE, WHIM, Move
from dux_sim.proof.ladder import is_taken, may_bump
from dux_sim.proof.lies import lies, takes
from dux_sim.proof.world import Message, World

DUPLICATED = (f.KeyShown, f.EvidenceArrived)  # statements have numbers: the inbox takes each once


# --- time and mail ------------------------------------------------------------------------------------------------


def deliver_round(world: World, crash: str = "") -> None:
    """All mail that is not held arrives, lane by lane; a node that crashes has decided, but its hands did not move."""
    world.asleep = crash or world.asleep
    batch = [m for m in sorted(world.mail, key=_lane) if (not m.held and m.to != world.asleep) or m.to == crash]
    for message in batch:
        world.arrive(message)
    world.taskds()


def _lane(message: Message) -> tuple[str, str]:
    return message.lane, message.to


def has_mail(world: World) -> bool:
    """Something may arrive in this block."""
    return any(not m.held and m.to != world.asleep and world.honest(m.to) for m in world.mail)


def next_block(world: World, *, spend: int = 0, censor: bool = False, other_id: bool = False, crash: str = "") -> None:
    """A block with one of the valid spends, or none; everybody looks; late mail and restarted nodes come afterwards."""
    if spend:
        world.prefer_rival(spend - 1)
    was_asleep = world.asleep
    world.asleep = was_asleep or crash
    world.mine(censor=censor, other_id=other_id)
    world.mail = [_in_next_block(message, world.asleep) for message in world.mail]
    if was_asleep:
        world.restart()


def _in_next_block(message: Message, asleep: str) -> Message:
    """What was late is there; what was lost is sent again, by a sender that is up."""
    waits = message.lost and sender_of(message) == asleep
    return replace(message, since=0) if waits else replace(message, held=False, lost=False, since=0)


def sender_of(message: Message) -> str:
    """Who said it."""
    return message.lane.split("/")[0]


def time_moves(world: World, *, accidents: bool) -> Iterator[Move]:
    """The mail of this block, or the next block; what an accident makes of it, where there may be one."""
    mailed = has_mail(world)
    if not mailed:
        yield Move("a block", FREE, next_block)
        if world.spend is not None and world.spend.height is None:
            for at, rival in enumerate(world.rivals, start=1):
                yield Move(f"a block with {rival.txid}", FREE, partial(next_block, spend=at))
    else:
        yield Move("mail arrives", FREE, deliver_round)
    if accidents:
        yield from _troubled_mail(world) if mailed else _troubled_block(world)


def _troubled_mail(world: World) -> Iterator[Move]:
    for name in dict.fromkeys(m.to for m in world.mail if not m.held and world.honest(m.to)):
        if not world.asleep:
            yield Move(f"mail arrives, {name} crashes", ACCIDENT, partial(deliver_round, crash=name), whom=name)
    yield Move("the next block comes before the mail", ACCIDENT, next_block)


def _troubled_block(world: World) -> Iterator[Move]:
    waits = world.spend is not None and world.spend.height is None
    if waits or (world.coin is not None and world.coin.height is None):
        yield Move("a block that leaves it out", ACCIDENT, partial(next_block, censor=True))
    if waits and is_taken(world):
        yield Move("a block with the spend under another id", ACCIDENT, partial(next_block, other_id=True))
    for name in world.nodes:
        if not world.asleep and world.honest(name):
            yield Move(f"a block, {name} crashes", ACCIDENT, partial(next_block, crash=name), whom=name)


# --- accidents ----------------------------------------------------------------------------------------------------


def accidents(world: World, *, more: bool = True) -> Iterator[Move]:
    """What is nobody's will; `more`: another may follow, without which what is lost is no more than late.

    `tests/sim/test_proof_wire.py` walks both.
    """
    for message in dict.fromkeys(m for m in world.mail if not m.held):
        name = f"{type(message.fact).__name__} of {message.lane} to {message.to}"
        yield Move(f"late: {name}", ACCIDENT, partial(_hold, message=message), whom=message.to)
        if more and world.honest(sender_of(message)):
            yield Move(f"lost: {name}", ACCIDENT, partial(_lose, message=message), whom=message.to)
        if isinstance(message.fact, DUPLICATED) and world.mail.count(message) == 1:
            yield Move(f"doubled: {name}", ACCIDENT, partial(_double, message=message), whom=message.to)
    for name in world.nodes:
        if world.honest(name) and not world.asleep:
            yield from _deaths(world, name)
    if world.honest(S) and not world.wallet_down and world.height <= world.deal.heights.vote_by:
        yield Move("the seller's wallet goes away", ACCIDENT, partial(_wallet_goes), whom=S)
    yield from _reorganisations(world)
    yield from _spikes(world)


def _spikes(world: World) -> Iterator[Move]:
    """Miners take no lower step of the ladder from now on; it matters once a spend waits."""
    waits = world.spend is not None and world.spend.height is None
    if world.setting.ladder and waits and world.height < world.deal.heights.timeout:
        for step in range(world.fees + 1, LAST + 1):
            yield Move(f"fees rise to x{FEE_LADDER[step]}", ACCIDENT, partial(_spike, step=step))


def _spike(world: World, step: int) -> None:
    world.fees, world.spend_since = step, world.height


def _wallet_goes(world: World) -> None:
    world.wallet_down = {S}


def _hold(world: World, message: Message) -> None:
    world.mail[world.mail.index(message)] = replace(message, held=True)


def _lose(world: World, message: Message) -> None:
    world.mail[world.mail.index(message)] = replace(message, held=True, lost=True)


def _double(world: World, message: Message) -> None:
    world.mail.append(replace(message, held=True))


def _deaths(world: World, name: str) -> Iterator[Move]:
    yield Move(f"{name} dies", ACCIDENT, partial(_die, who=name, loses=()), whom=name)
    on_its_way = [m.to for m in world.mail if sender_of(m) == name and not m.lost]
    if on_its_way:
        yield Move(
            f"{name} dies, and what it sent is lost",
            ACCIDENT,
            partial(_die, who=name, loses=tuple(world.nodes)),
            whom=name,
        )
        if len(set(on_its_way)) > 1:
            panel = world.setting.panel
            yield Move(
                f"{name} dies, and the panel hears nothing", ACCIDENT, partial(_die, who=name, loses=panel), whom=name
            )


def _die(world: World, who: str, loses: tuple[str, ...]) -> None:
    world.gone |= {who}
    world.delayed = [item for item in world.delayed if item[0] != who]
    world.mail = [m for m in world.mail if m.to != who and not (sender_of(m) == who and (m.lost or m.to in loses))]


def _reorganisations(world: World) -> Iterator[Move]:
    coin, spend, depth = world.coin, world.spend, world.deal.depth_blocks
    if coin is None or coin.height is None:
        return
    if spend is not None and spend.height is not None:
        if world.height - spend.height < depth:
            yield Move("a reorganisation: the spend waits again", ACCIDENT, partial(_spend_moves, again=True))
            yield Move("a reorganisation: the spend is forgotten", ACCIDENT, partial(_spend_moves, again=False))
            yield Move("a reorganisation: the spend has another id", ACCIDENT, _spend_is_another)
        return
    yield Move("a reorganisation: the funding waits again", ACCIDENT, partial(_coin_moves, again=True))
    yield Move("a reorganisation: the funding has another id", ACCIDENT, partial(_coin_moves, again=False))
    if B in world.setting.liars:
        yield Move("a reorganisation: the funding is spent elsewhere", ACCIDENT, _coin_goes)


def _spend_moves(world: World, *, again: bool) -> None:
    if world.spend is not None:
        world.spend = replace(world.spend, height=None) if again else None
    if not again and world.rivals:
        world.spend, world.rivals = world.rivals[0], world.rivals[1:]
    world.spend_since, world.child = world.height, False
    _all_look(world)


def _spend_is_another(world: World) -> None:
    """The new blocks hold it, too: what was signed, under an id that nobody had seen."""
    if world.spend is not None:
        world.spend = replace(world.spend, txid=malleated(world.spend.txid), height=world.height)
    _all_look(world)


def _coin_moves(world: World, *, again: bool) -> None:
    _note_depth(world)
    if again and world.coin is not None:
        world.coin = replace(world.coin, height=None)
        world.spend = None  # it waits for its coin, and whoever made it hands it over again
    else:
        world.fund()
        world.spend = None
    world.rivals = []
    _all_look(world)


def _coin_goes(world: World) -> None:
    _note_depth(world)
    world.coin, world.spend, world.rivals = None, None, []
    _all_look(world)


def _note_depth(world: World) -> None:
    """Work had begun on a coin that lay deep: what the seller loses then is stated in §2."""
    if world.coin is not None and world.coin.height is not None:
        world.reorged |= world.height - world.coin.height + 1 >= world.deal.depth_blocks


def _all_look(world: World) -> None:
    for name in world.nodes:
        world.look(name)


# --- choices of honest owners -------------------------------------------------------------------------------------


def choices(world: World, *, whims: bool) -> Iterator[Move]:
    """When the seller delivers; and owners who dispute or cancel without need."""
    if world.wallet_down and not world.asleep:
        yield Move("the seller's wallet is back", FREE, World.wallet_returns)
    if world.nodes[S].lot.delivered_at is None and _would_take(world, S, f.DeliveryMade(at=world.height)):
        yield Move("the seller delivers", FREE, _deliver)
    yield from late_question(world)
    if world.setting.ladder and may_bump(world):
        yield Move("the owner's child pays for both", FREE, _bump)
    if whims:
        yield from _whims(world)


def _bump(world: World) -> None:
    world.child = True


def late_question(world: World) -> Iterator[Move]:
    """The buyer's owner asks whether the late coin may count; a liar may ask at any time, and to any end."""
    if world.coin is None or not world.is_late():
        return
    if B in world.setting.liars:
        yield Move("the lying buyer asks LATE_OK", FREE, _lying_question, once=True)
    if world.coin.outpoint in world.nodes[B].lot.late_asked:
        return
    if _would_take(world, B, f.LateWanted(at=world.height, coin=world.coin)):
        yield Move("the buyer asks LATE_OK", FREE, _ask_late)


def _lying_question(world: World) -> None:
    if world.coin is not None:
        world.send(B, f.LateOkSaid(at=0, by=B, outpoint=world.coin.outpoint), S, *world.setting.panel)


def _ask_late(world: World) -> None:
    if world.coin is not None:
        world.learn(B, f.LateWanted(at=world.height, coin=world.coin))


def _whims(world: World) -> Iterator[Move]:
    for name, offer in ((B, f.PartWanted), (S, f.PartTaken)):
        if world.setting.parts and _would_take(world, name, offer(at=world.height, gross_florins=PART)):
            yield Move(f"the {name}'s owner settles for a part", WHIM, partial(_settle_for_part, who=name))
    wishes = [(B, f.DisputeWanted), (S, f.DisputeWanted), (S, f.CancelWanted)]
    if world.setting.funding is not Funding.IN_TIME:
        wishes.append((B, f.CancelWanted))
    for name, kind in wishes:
        if _would_take(world, name, kind(at=world.height)):
            wanted = partial(_want, who=name, kind=kind)
            yield Move(f"the {name}'s owner wants: {kind.__name__}", WHIM, wanted)


def _would_take(world: World, name: str, fact: f.Fact) -> bool:
    awake = world.honest(name) and world.asleep != name
    return awake and world.minds.learn(world.nodes[name], fact) is not None


def _settle_for_part(world: World, who: str) -> None:
    """The buyer offers a part, the seller takes it: from then on that part is what it is entitled to."""
    kind = f.PartWanted if who == B else f.PartTaken
    if world.learn(who, kind(at=world.height, gross_florins=PART)) and who == S:
        world.part_taken = True


def _deliver(world: World) -> None:
    world.work()


def _want(world: World, who: str, kind: type[f.Fact]) -> None:
    world.learn(who, kind(at=world.height))


def all_moves(world: World, left: tuple[int, int, int, int], *, eager: bool) -> Iterator[Move]:
    """Everything that may happen next and that the allowance still pays.

    `eager`: lies are told also while mail of the block is on its way, not only between.
    """
    yield from time_moves(world, accidents=bool(left[ACCIDENT]))
    if left[ACCIDENT]:
        yield from accidents(world, more=left[ACCIDENT] > 1)
    quiet = not has_mail(world)
    if quiet:
        yield from choices(world, whims=bool(left[WHIM]))
    for who in (B, S):
        if who in world.setting.liars:
            yield from takes(world, who)
    if left[LIE] and (quiet or eager):
        yield from lies(world)
