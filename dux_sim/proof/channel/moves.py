"""What may happen next in a channel's world.

Every message that ever left may arrive, a handler may end, the application may want a call, time may pass; and what the
allowance still pays: crashes, copies, reorganisations, whims.

Loss is a message that never arrives; repetition, delay and reordering cost nothing and are walked in all combinations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from common.channel_messages import Outcome
from dux_escrowd.channel import facts as f
from dux_escrowd.channel.model import IN_FLIGHT, CallState, PayerState, call_of
from dux_sim.proof.channel import laws
from dux_sim.proof.channel.cast import (
    AWAY,
    CHAIN,
    CRASHES,
    EDGES,
    EXP,
    LATE,
    NAMES,
    NETWORK,
    OIDS,
    PAYEE,
    PAYER,
    request_of,
    response_of,
)
from dux_sim.proof.channel.chain import ABSENT
from dux_sim.proof.channel.hands import NUDGE
from dux_sim.proof.channel.lies import lies
from dux_sim.proof.channel.moment import Moment
from dux_sim.proof.channel.world import World

ACCIDENT, COPY_PAYER, COPY_PAYEE, WHIM = 0, 1, 2, 3
FREE = -1
Act = Callable[[World], None]
Move = tuple[str, int, Act]  # its name, what it costs of the allowance, what it does
LAST_ACCIDENT = len(EDGES) - 2  # the last edges are quiet: whoever is there sees the end
SHALLOW = 4  # a coin deeper than this does not move


def moves(world: World, moment: Moment) -> Iterator[Move]:
    """Everything that may happen next and that the allowance still pays."""
    for name, cost, act in _all(world, moment):
        if cost == FREE or moment.left[cost]:
            yield name, cost, act


def _all(world: World, moment: Moment) -> Iterator[Move]:
    yield from arrivals(world, moment)
    if world.awake(PAYEE):
        yield from handlers(world)
    if world.honest(PAYER):
        yield from _wishes(world)
    yield from lies(world)
    if world.edge < len(EDGES) - 1:
        yield from _time(world)
    if world.edge < LAST_ACCIDENT:
        yield from _accidents(world, moment)


# --- messages ---------------------------------------------------------------------------------------------------------


def arrivals(world: World, moment: Moment) -> Iterator[Move]:
    """Each message that ever left, where it changes anything."""
    bits, known = moment.sent, world.known
    while bits:
        bit = bits & -bits
        bits ^= bit
        number = bit.bit_length() - 1
        side, fact = known.sides[number], known.facts[number]
        if not world.awake(side):
            continue
        if isinstance(fact, f.HelloCame):
            yield from _hello(world, number, fact)
        elif fact is NUDGE:
            if _needs_hello(world):
                yield "the payer is told to say hello", FREE, World.hello
        else:
            if known.is_silent(moment.nodes[side], number, moment.edge):
                continue
            yield known.labels[number], FREE, partial(_hear, number=number)
            outcome = known.learn(moment.nodes[side], number, moment.edge)
            if outcome is not None and outcome[1] and moment.left[ACCIDENT] and may_crash(world, side):
                label = f"{known.labels[number]}, and crashes after the write"
                yield label, ACCIDENT, partial(_hear, number=number, crash=True)


def may_crash(world: World, side: int) -> bool:
    """Whether this case has its crashes."""
    return CRASHES in world.setting.accidents and side in world.setting.crashing


def _hear(world: World, number: int, *, crash: bool = False) -> None:
    world.learn_number(world.known.sides[number], number, crash=crash)


def _hello(world: World, number: int, fact: f.HelloCame) -> Iterator[Move]:
    heard = world.ghost.heard
    at = int(fact.payer_nonce[1:])
    times = heard[at] if at < len(heard) else 0
    if not times or NETWORK in world.setting.accidents:
        cost = FREE if not times else ACCIDENT
        yield f"{world.known.labels[number]} ({times})", cost, partial(_hear_hello, number=number)


def _hear_hello(world: World, number: int) -> None:
    world.hear_hello(number)


def _needs_hello(world: World) -> bool:
    payer = world.payer
    again = payer.state is PayerState.OPEN and payer.session != b""
    return again and world.ghost.nonces < world.setting.nonces_max


# --- what both owners do ----------------------------------------------------------------------------------------------


def handlers(world: World) -> Iterator[Move]:
    """Work that is being done comes to an end."""
    payee = world.payee
    for j in world.running:
        call = call_of(payee.calls, j)
        if call is None or call.state is not CallState.RUNNING:
            continue
        yield f"the handler of call {j} ends well", FREE, partial(_end, j=j, outcome=Outcome.OK)
        if world.setting.failing:
            yield f"the handler of call {j} fails", FREE, partial(_end, j=j, outcome=Outcome.FAILED)
        if world.setting.metered and call.price_florins == world.setting.price:
            yield f"the meter of call {j} goes on", FREE, partial(_meter, j=j)


def _end(world: World, j: int, outcome: Outcome) -> None:
    call = call_of(world.payee.calls, j)
    if call is None:
        return
    outcome = outcome if world.payee.counts(call) else Outcome.FAILED  # as the daemon does it
    charged = call.price_florins if outcome is Outcome.OK else 0
    fact = f.HandlerDone(at=0, j=j, outcome=outcome, resp=response_of(call.oid), charged_florins=charged)
    if world.learn(PAYEE, fact):
        laws.ended_as_told(world, j, outcome)
        world.running = tuple(one for one in world.running if one != j)


def _meter(world: World, j: int) -> None:
    world.learn(PAYEE, f.ChunkWanted(at=0, j=j, price_florins=2 * world.setting.price))


def _wishes(world: World) -> Iterator[Move]:
    """The application wants its calls in order; what its payer has forgotten it wants again."""
    ghost, payer = world.ghost, world.payer
    first = next((at for at, asked in enumerate(ghost.asked[: world.setting.calls]) if not asked), None)
    lost = [at for at, asked in enumerate(ghost.asked) if asked and ghost.paid[at] < 0 and _unknown(world, OIDS[at])]
    for at in (*lost, *(() if first is None else (first,))):
        if ghost.asks < world.setting.calls + 1:
            yield f"the application wants call {OIDS[at]}", FREE, partial(_want, oid=OIDS[at])
            label = f"the application wants call {OIDS[at]}, sends nothing, and its owner wants the end"
            yield label, WHIM, partial(_want_and_close, oid=OIDS[at])
    for call in payer.in_flight:
        if world.setting.metered and call.price_max_florins == world.setting.price:
            yield f"call {call.j} gets more fuel", FREE, partial(_fuel, j=call.j)
        if call.state is CallState.SENT_MAYBE and ghost.nonces < world.setting.nonces_max:
            yield f"the application gives call {call.j} up", WHIM, partial(_drop, j=call.j)
    if payer.state in (PayerState.OPEN_SEEN, PayerState.RESYNC) and not payer.nonce:
        yield "the payer says hello", FREE, World.hello
    yield "the payer's owner wants the end", WHIM, partial(_close, side=PAYER)
    if world.awake(PAYEE):
        yield "the payee's owner wants the end", WHIM, partial(_close, side=PAYEE)


def _unknown(world: World, oid: str) -> bool:
    return all(call.oid != oid for call in world.payer.calls)


def _want(world: World, oid: str) -> None:
    world.learn(PAYER, _wanted(world, oid))


def _wanted(world: World, oid: str) -> f.CallWanted:
    return f.CallWanted(
        at=0, oid=oid, req=request_of(oid), price_max_florins=world.setting.price, offer_valid_to=EXP
    )  # fmt: skip


def _want_and_close(world: World, oid: str) -> None:
    """The voucher is signed, and the program that asked for it has died with it."""
    sent = world.sent
    _want(world, oid)
    world.sent = sent
    _close(world, PAYER)


def _fuel(world: World, j: int) -> None:
    world.learn(PAYER, f.FuelWanted(at=0, j=j, price_max_florins=2 * world.setting.price))


def _drop(world: World, j: int) -> None:
    number = world.ghost.nonces
    if world.learn(PAYER, f.CallDropped(at=0, j=j, nonce=b"n%d" % number)):
        world.tell(nonces=number + 1, heard=(*world.ghost.heard, 0))


def _close(world: World, side: int) -> None:
    number = world.ghost.nonces
    asks = side == PAYER and in_flight(world)  # then a hello is said
    if world.learn(side, f.CloseWanted(at=0, nonce=b"n%d" % number if asks else b"")) and asks:
        world.tell(nonces=number + 1, heard=(*world.ghost.heard, 0))


# --- time and accidents -----------------------------------------------------------------------------------------------


def _time(world: World) -> Iterator[Move]:
    chain = world.chain
    yield "a block", FREE, World.next_edge
    for at in range(1, len(chain.waiting)):
        yield f"a block with {chain.waiting[at].kind}", FREE, partial(World.next_edge, take=at)
    if LATE in world.setting.accidents and world.edge < LAST_ACCIDENT:
        for side in (PAYER, PAYEE):
            if world.awake(side):
                yield f"a block that the {NAMES[side]} sees late", ACCIDENT, partial(World.next_edge, late=side)
        if chain.waiting:
            yield "a block that leaves it out", ACCIDENT, partial(World.next_edge, censor=True)


def _accidents(world: World, moment: Moment) -> Iterator[Move]:
    for side in (PAYER, PAYEE):
        if not world.awake(side):
            continue
        if may_crash(world, side):
            yield f"the {NAMES[side]} crashes and starts", ACCIDENT, partial(World.restart, side=side)
        cost = (COPY_PAYER, COPY_PAYEE)[side]
        if moment.copies[side] < 0:
            if moment.left[cost]:
                yield f"the {NAMES[side]}'s disk is copied", FREE, partial(World.copy, side=side)
        elif moment.copies[side] != moment.nodes[side]:
            yield f"the {NAMES[side]}'s copy is put back", cost, partial(World.restore, side=side)
    if CHAIN in world.setting.accidents:
        yield from _reorganisations(world)
    if world.honest(PAYEE) and AWAY in world.setting.accidents:
        if world.ghost.offline:
            yield "the payee is back", FREE, _come_back
        else:
            yield "the payee goes offline", ACCIDENT, _go_offline


def _reorganisations(world: World) -> Iterator[Move]:
    chain = world.chain
    if chain.beside == ABSENT:
        yield "a stranger pays the script too little", ACCIDENT, World.stranger_pays
    if chain.spend is None and chain.coin == 1 and 0 < chain.depth(world.height) < SHALLOW:
        yield "the funding comes back under another id", ACCIDENT, World.coin_moves
    if chain.spend is not None and chain.coin == 1 and chain.spend_depth(world.height) <= world.setting.rules.depth:
        yield "a deep one takes spend and funding, which comes back under another id", ACCIDENT, World.coin_moves
    if chain.spend is not None and chain.spend_depth(world.height) <= world.setting.rules.depth:
        yield "the spend waits again", ACCIDENT, partial(World.spend_goes, forgotten=False)
        yield "the spend is forgotten", ACCIDENT, partial(World.spend_goes, forgotten=True)


def _go_offline(world: World) -> None:
    world.tell(offline=True)
    world.running = ()


def _come_back(world: World) -> None:
    world.tell(offline=False)
    world.restart(PAYEE)
    world.look(PAYEE)


def in_flight(world: World) -> bool:
    """Some call of the payer's waits for its answer."""
    return any(call.state in IN_FLIGHT for call in world.payer.calls)
