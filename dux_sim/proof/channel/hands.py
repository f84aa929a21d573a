"""What an honest side's orders do to the world, as the daemon's effects do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from dux_escrowd.channel import facts as f
from dux_escrowd.channel import orders as o
from dux_escrowd.channel.model import OUTCOME_OF, Call, call_of
from dux_sim.proof.channel import laws
from dux_sim.proof.channel.cast import OIDS, PAYEE, PAYER
from dux_sim.proof.channel.chain import Spend

if TYPE_CHECKING:
    from dux_sim.proof.channel.world import World


def with_session(hello: f.HelloCame, session: bytes) -> f.HelloCame:
    """The hello with the session that both nonces make."""
    return replace(hello, session=session)


def _sign(world: World, outpoint: str, cum_florins: int) -> None:
    if cum_florins and outpoint == world.chain.outpoint:
        world.tell(signed=tuple(sorted({*world.ghost.signed, cum_florins})))


# --- the payer's ------------------------------------------------------------------------------------------------------


def _fund(world: World, _order: o.Fund) -> None:
    world.chain = world.chain.fund()


def _withdraw(world: World, _order: o.Withdraw) -> None:
    if not world.chain.coin:
        world.learn(PAYER, f.NotFunded(at=0))


def _send_hello(world: World, order: o.SendHello) -> None:
    payer = world.payer
    outpoint = payer.coin.outpoint if payer.coin is not None else ""
    _sign(world, outpoint, order.cum_florins)
    hello = f.HelloCame(
        at=0, payer_nonce=order.nonce, session=b"", outpoint=outpoint, head_florins=order.cum_florins,
        receipt=payer.receipt,
    )  # fmt: skip
    world.post(PAYEE, hello)


def _send_voucher(world: World, order: o.SendVoucher) -> None:
    payer = world.payer
    call = call_of(payer.calls, order.j)
    if call is None or payer.coin is None:
        return
    laws.never_above_need(world, order.cum_florins)
    _sign(world, payer.coin.outpoint, order.cum_florins)
    voucher = f.VoucherCame(
        at=0, outpoint=payer.coin.outpoint, session=order.session, j=order.j, oid=call.oid, req=call.req,
        cum_florins=order.cum_florins, price_max_florins=order.price_max_florins, price_florins=world.setting.price,
        offer_valid=True, receipt=payer.receipt,
    )  # fmt: skip
    world.post(PAYEE, voucher)


def _send_final(world: World, order: o.SendFinal) -> None:
    payer = world.payer
    if payer.coin is None:
        return
    laws.never_above_need(world, order.cum_florins)
    _sign(world, payer.coin.outpoint, order.cum_florins)
    if not order.cum_florins:
        world.tell(signed=tuple(sorted({*world.ghost.signed, 0})))
    final = f.FinalCame(
        at=0, outpoint=payer.coin.outpoint, cum_florins=order.cum_florins, next_script=order.next_script
    )
    world.post(PAYEE, final)


def _refund(world: World, _order: o.Refund) -> None:
    laws.refund_in_time(world)
    coin = world.payer.coin
    if coin is not None:
        world.offer(Spend("refund", 0, coin.outpoint))


def _hand_over(_world: World, _order: o.HandOver) -> None:
    """The application was told by `laws.payer_learnt`."""


# --- the payee's ------------------------------------------------------------------------------------------------------


def _send_open_ok(world: World, _order: o.SendOpenOk) -> None:
    world.post(PAYER, f.OpenOk(at=0, same=True))


def _send_hello_back(world: World, order: o.SendHelloBack) -> None:
    node, payee = world.node(PAYEE), world.payee
    calls = sorted((*node.archive, *payee.calls), key=lambda call: call.j)
    cums = dict(node.vouchers)
    back = f.HelloBackCame(
        at=0, nonce=order.nonce, session=order.session, head_florins=payee.held_florins, head_j=node.head_j,
        calls=tuple(_shown(call, cums.get(call.j, 0)) for call in calls if call.j >= order.low), more=False,
        next_nonce=b"",
    )  # fmt: skip
    world.post(PAYER, back)


def _shown(call: Call, cum_florins: int) -> f.Shown:
    outcome = OUTCOME_OF.get(call.state)
    return f.Shown(
        j=call.j, oid=call.oid, req=call.req, cum_florins=cum_florins, price_max_florins=call.price_max_florins,
        outcome=outcome, resp=call.resp if outcome else b"", charged_florins=call.price_florins if outcome else 0,
    )  # fmt: skip


def _ask_hello(world: World, _order: o.AskHello) -> None:
    world.post(PAYER, NUDGE)


def _mirror(world: World, order: o.Mirror) -> None:
    world.tell(mirrored=max(world.ghost.mirrored, order.cum_florins))
    world.learn(PAYEE, f.Mirrored(at=0, cum_florins=order.cum_florins))


def _execute(world: World, order: o.Execute) -> None:
    """RUNNING is written first; then the handler begins."""
    if not world.learn(PAYEE, f.RunStarted(at=0, j=order.j)):
        return
    call = call_of(world.payee.calls, order.j)
    if call is None:
        return
    laws.may_execute(world, call)
    at = OIDS.index(call.oid)
    world.tell_oid("runs", call.oid, world.ghost.runs[at] + 1)
    world.running = tuple(sorted({*world.running, order.j}))


def _send_answer(world: World, order: o.SendAnswer) -> None:
    node = world.node(PAYEE)
    call = call_of((*node.archive, *world.payee.calls), order.j)
    outcome = OUTCOME_OF.get(call.state) if call is not None else None
    if call is None or outcome is None:
        return
    answer = f.AnswerCame(
        at=0, j=call.j, req=call.req, resp=call.resp, outcome=outcome, charged_florins=call.price_florins
    )
    world.post(PAYER, answer)


def _refuse(world: World, order: o.Refuse) -> None:
    """What the caller can do about it is to ask again later, or, where it says resync, to say hello."""
    if order.reason is o.Reason.RESYNC:
        world.post(PAYER, NUDGE)


def _keep_proof(world: World, _order: o.KeepProof) -> None:
    laws.nobody_is_framed(world)


def _close(world: World, order: o.Close) -> None:
    laws.close_is_signed(world, order.cum_florins)
    coin = world.payee.coin
    outpoint = coin.outpoint if coin is not None else world.payee.outpoint
    world.offer(Spend("final" if order.final else "close", order.cum_florins, outpoint))


def _nothing(_world: World, _order: o.Order) -> None:
    """Readers and fuel of a handler that waits for nothing."""


NUDGE = f.Started(at=0, nonce=b"hello!")
HANDS: dict[type[o.Order], Callable[[World, Any], None]] = {
    o.Fund: _fund,
    o.Withdraw: _withdraw,
    o.SendHello: _send_hello,
    o.SendVoucher: _send_voucher,
    o.SendFinal: _send_final,
    o.Refund: _refund,
    o.HandOver: _hand_over,
    o.SendOpenOk: _send_open_ok,
    o.SendHelloBack: _send_hello_back,
    o.AskHello: _ask_hello,
    o.Mirror: _mirror,
    o.Execute: _execute,
    o.AddFuel: _nothing,
    o.SendAnswer: _send_answer,
    o.SendChunk: _nothing,
    o.Refuse: _refuse,
    o.KeepProof: _keep_proof,
    o.Close: _close,
    o.Tell: _nothing,
}
