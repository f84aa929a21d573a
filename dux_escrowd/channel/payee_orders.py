"""What the payee's rows order. Pure. Source: channel_protocol.md §5, §6."""

from __future__ import annotations

from collections.abc import Callable

from dux_escrowd.channel import facts as f
from dux_escrowd.channel import orders as o
from dux_escrowd.channel.model import AT_WORK, CallState, Closing, Payee, SpendKind
from dux_escrowd.channel.payee_steps import why_not

Orders = tuple[o.Order, ...]


def open_ok(_before: Payee, _after: Payee, _fact: f.OpenAsked) -> Orders:
    """Sign the terms."""
    return (o.SendOpenOk(),)


def hello_back(_before: Payee, after: Payee, fact: f.HelloCame) -> Orders:
    """Begin the session, show what is held."""
    return (o.SendHelloBack(nonce=fact.payer_nonce, session=after.session, low=fact.receipt.low),)


def ask_hello(_before: Payee, _after: Payee, _fact: f.Fact) -> Orders:
    """The payer has to say hello."""
    return (o.AskHello(), o.Tell(news=o.News.SUSPENDED))


def ask_if_short(_before: Payee, after: Payee, _fact: f.Fact) -> Orders:
    """The payer has to say hello where W does not cover S: it has the best voucher."""
    return (o.AskHello(),) if after.held_florins < after.owed_florins else ()


def execute(_before: Payee, after: Payee, fact: f.VoucherCame) -> Orders:
    """Run it; where the step x is crossed, by W or by work that was paid ahead, a copy is placed first."""
    return (*_mirror(after), o.Execute(j=fact.j))


def _mirror(payee: Payee) -> Orders:
    paid = payee.held_florins - payee.mirrored_florins
    worked = payee.owed_florins - payee.copied_florins
    if max(paid, worked) < payee.rules.mirror_florins:
        return ()
    return (o.Mirror(cum_florins=payee.held_florins),)


def fuel(_before: Payee, after: Payee, fact: f.VoucherCame) -> Orders:
    """The handler may go on."""
    return (*_mirror(after), o.AddFuel(j=fact.j, price_max_florins=fact.price_max_florins))


def answer(_before: Payee, _after: Payee, fact: f.VoucherCame | f.HandlerDone) -> Orders:
    """What is stored."""
    return (o.SendAnswer(j=fact.j),)


def answers(before: Payee, after: Payee, _fact: f.Started) -> Orders:
    """Calls that a crash ended are answered, those to be run again are run."""
    was = {call.j for call in before.calls if call.state in AT_WORK}
    ended = tuple(o.SendAnswer(j=call.j) for call in after.calls if call.j in was and call.state is CallState.FAILED)
    again = tuple(o.Execute(j=call.j) for call in after.calls if after.rules.rerun and call.state is CallState.ADMITTED)
    return (*ended, *again)


def answers_and_hello(before: Payee, after: Payee, fact: f.Started) -> Orders:
    """The same, and the payer is asked for a hello: nobody has to know whether this disk is an old one."""
    return (*answers(before, after, fact), o.AskHello())


def chunk(_before: Payee, _after: Payee, fact: f.ChunkWanted) -> Orders:
    """The chunk leaves."""
    return (o.SendChunk(j=fact.j),)


def _refused(payee: Payee, j: int, reason: o.Reason, price_florins: int) -> o.Refuse:
    held, owed = payee.held_florins, payee.owed_florins
    missing = max(0, owed + price_florins - held)
    return o.Refuse(j=j, reason=reason, held_florins=held, owed_florins=owed, missing_florins=missing)


def refuse(before: Payee, after: Payee, fact: f.VoucherCame) -> Orders:
    """Why the call is not admitted, with W, S and what is missing."""
    reason = why_not(before, fact) or o.Reason.CLOSING
    return (_refused(after, fact.j, reason, fact.price_florins),)


def refuse_as(reason: o.Reason) -> Callable[[Payee, Payee, f.VoucherCame], Orders]:
    """Refused for this reason."""

    def refusing(_before: Payee, after: Payee, fact: f.VoucherCame) -> Orders:
        return (_refused(after, fact.j, reason, fact.price_florins),)

    return refusing


def conflict(_before: Payee, after: Payee, fact: f.VoucherCame) -> Orders:
    """Both vouchers are kept."""
    return (o.KeepProof(j=fact.j), _refused(after, fact.j, o.Reason.CONFLICT, fact.price_florins))


def starve(_before: Payee, after: Payee, fact: f.ChunkWanted) -> Orders:
    """The meter stops until there is more."""
    call = next(call for call in after.calls if call.j == fact.j)
    return (_refused(after, fact.j, o.Reason.NEED_FUNDS, fact.price_florins - call.price_florins),)


def close(_before: Payee, after: Payee, _fact: f.Fact) -> Orders:
    """Sign and broadcast."""
    return (_close(after), o.Tell(news=o.News.CLOSING))


def close_again(_before: Payee, after: Payee, _fact: f.Fact) -> Orders:
    """The same, with the fee of this step."""
    return (_close(after),)


def _close(payee: Payee) -> o.Close:
    closing = payee.closing or Closing(payee.held_florins)
    return o.Close(
        cum_florins=closing.cum_florins, final=closing.final, next_script=closing.next_script, step=payee.steps
    )


def lost(before: Payee, after: Payee, _fact: f.SpendSeen) -> Orders:
    """A refund that has come into a block is told, once: what was owed is gone."""
    was = before.spend is not None and before.spend.kind is SpendKind.REFUND and before.spend.height is not None
    is_so = after.spend is not None and after.spend.kind is SpendKind.REFUND and after.spend.height is not None
    return (o.Tell(news=o.News.LOST),) if is_so and not was else ()


def tell(news: o.News) -> Callable[[Payee, Payee, f.Fact], Orders]:
    """One piece of news."""

    def telling(_before: Payee, _after: Payee, _fact: f.Fact) -> Orders:
        return (o.Tell(news=news),)

    return telling
