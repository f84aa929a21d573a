"""What the keys of a liar allow: any number, request, amount and receipt as payer, any answer or none as payee."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from common.channel_messages import Outcome
from dux_escrowd.channel import facts as f
from dux_escrowd.channel.model import Receipt
from dux_sim.proof.channel.cast import EXP, OIDS, PAYEE, PAYER, request_of
from dux_sim.proof.channel.chain import Spend
from dux_sim.proof.channel.world import World

Move = tuple[str, int, Callable[[World], None]]
FREE = -1
GARBAGE = b"!?"


def lies(world: World) -> Iterator[Move]:
    """What a lying side may do now."""
    if PAYER in world.setting.liars and world.awake(PAYEE):
        yield from _of_payer(world)
    if PAYER in world.setting.liars and world.height >= EXP and world.chain.spend is None:
        yield "the lying payer refunds", FREE, _refund
    if PAYEE in world.setting.liars:
        yield from _of_payee(world)


def _told(world: World, side: int, fact: f.Fact, act: Callable[[World], None]) -> Iterator[Move]:
    """The lie, if the other side's table takes it and changes by it."""
    known = world.known
    number = known.fact(side, fact)
    outcome = known.learn(world.nodes[side], number, world.edge)
    if outcome is not None and (outcome[0] != world.nodes[side] or outcome[1]):
        yield "lie: " + known.labels[number], FREE, act


# --- of a payer -------------------------------------------------------------------------------------------------------


def _receipts(world: World) -> tuple[Receipt, ...]:
    """None; the true one of what the payee has stored; one that claims that all was answered and nothing cost."""
    mine = world.payee.receipt
    false = tuple(Receipt(low=low, root=GARBAGE, paid_florins=0) for low in (2, 3))
    return (Receipt(), *((mine,) if mine != Receipt() else ()), *false)


def _of_payer(world: World) -> Iterator[Move]:
    setting, payee = world.setting, world.payee
    outpoints = dict.fromkeys((world.chain.outpoint, payee.outpoint))
    for outpoint in outpoints:
        for cum in (setting.price * units for units in range(1, setting.calls + 1)):
            for session in dict.fromkeys((payee.session, b"old")):
                for j in range(1, setting.calls + 1):
                    for oid, req in ((OIDS[0], OIDS[0]), (OIDS[1], OIDS[1]), (OIDS[0], OIDS[1])):
                        fact = _voucher(world, outpoint, cum, session, j, oid, req, Receipt())
                        yield from _told(world, PAYEE, fact, partial(_say, fact=fact))
    for receipt in _receipts(world):
        fact = _voucher(world, world.chain.outpoint, setting.price, payee.session, 1, OIDS[0], OIDS[0], receipt)
        yield from _told(world, PAYEE, fact, partial(_say, fact=fact))
        if world.ghost.nonces < setting.nonces_max:
            hello = f.HelloCame(
                at=0, payer_nonce=b"n%d" % world.ghost.nonces, session=b"n%d/" % world.ghost.nonces,
                outpoint=world.chain.outpoint, head_florins=0, receipt=receipt,
            )  # fmt: skip
            yield from _told(world, PAYEE, hello, partial(_greet, fact=hello))
    for cum in (0, *(setting.price * units for units in range(1, setting.calls + 1))):
        final = f.FinalCame(at=0, outpoint=world.chain.outpoint, cum_florins=cum, next_script=b"")
        yield from _told(world, PAYEE, final, partial(_say, fact=final))


def _voucher(
    world: World, outpoint: str, cum: int, session: bytes, j: int, oid: str, req: str, receipt: Receipt
) -> f.VoucherCame:
    return f.VoucherCame(
        at=0, outpoint=outpoint, session=session, j=j, oid=oid, req=request_of(req), cum_florins=cum,
        price_max_florins=world.setting.price, price_florins=world.setting.price, offer_valid=True, receipt=receipt,
    )  # fmt: skip


def _say(world: World, fact: f.Fact) -> None:
    world.learn(PAYEE, fact)


def _greet(world: World, fact: f.HelloCame) -> None:
    world.tell(nonces=world.ghost.nonces + 1, heard=(*world.ghost.heard, 1))
    world.learn(PAYEE, fact)


def _refund(world: World) -> None:
    world.offer(Spend("refund", 0, world.chain.outpoint))


# --- of a payee -------------------------------------------------------------------------------------------------------


def _of_payee(world: World) -> Iterator[Move]:
    yield from _answers(world)
    yield from _hellos(world)
    chain = world.chain
    if chain.spend is None and chain.coin_height is not None:
        known = {spend.paid_florins for spend in chain.waiting if spend.kind == "close"}
        for cum in world.ghost.signed:
            if cum not in known:
                yield f"the lying payee closes at {cum}", FREE, partial(_close, cum=cum)


def _answers(world: World) -> Iterator[Move]:
    payer, price = world.payer, world.setting.price
    for call in payer.calls:
        for req in dict.fromkeys((call.req, request_of(OIDS[1]))):
            for outcome, charged in (
                (Outcome.OK, price),
                (Outcome.OK, 0),
                (Outcome.OK, 3 * price),
                (Outcome.FAILED, 0),
            ):
                fact = f.AnswerCame(at=0, j=call.j, req=req, resp=GARBAGE, outcome=outcome, charged_florins=charged)
                yield from _told(world, PAYER, fact, partial(_answer, fact=fact))


def _hellos(world: World) -> Iterator[Move]:
    """Shows no calls or some: only those of which it holds the payer's own signature; and any head that it holds."""
    payer = world.payer
    if not payer.nonce:
        return
    held = list(_vouchers_sent(world))
    shown = [_shown(fact, outcome) for fact in held for outcome in (None, Outcome.OK, Outcome.FAILED)]
    head = max((fact.cum_florins for fact in held), default=0)
    for calls, florins in (((), 0), ((), head), *(((one,), one.cum_florins) for one in shown)):
        fact = f.HelloBackCame(
            at=0, nonce=payer.nonce, session=payer.nonce + b"/", head_florins=florins, head_j=0, calls=calls,
            more=False, next_nonce=b"",
        )  # fmt: skip
        yield from _told(world, PAYER, fact, partial(_answer, fact=fact))


def _shown(fact: f.VoucherCame, outcome: Outcome | None) -> f.Shown:
    charged = fact.price_max_florins if outcome is Outcome.OK else 0
    return f.Shown(
        j=fact.j, oid=fact.oid, req=fact.req, cum_florins=fact.cum_florins, price_max_florins=fact.price_max_florins,
        outcome=outcome, resp=GARBAGE if outcome else b"", charged_florins=charged,
    )  # fmt: skip


def _vouchers_sent(world: World) -> Iterator[f.VoucherCame]:
    """Lying payees keep everything that was ever sent to them."""
    for number in world.numbers_sent():
        fact = world.known.facts[number]
        if isinstance(fact, f.VoucherCame):
            yield fact


def _answer(world: World, fact: f.Fact) -> None:
    world.learn(PAYER, fact)


def _close(world: World, cum: int) -> None:
    world.offer(Spend("close", cum, world.chain.outpoint))
