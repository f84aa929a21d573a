"""A call paid over a channel: whether to pay so, the call itself, and what the person is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import NotNow
from common.units import Florins
from dux_cli.output import flop

if TYPE_CHECKING:
    from common.contracts.task import CalledPaid, CallPaid
    from dux_cli.call import Wish
    from dux_cli.command import Session

INLINE_BYTES_MAX = 262_144
CALLS_PAID_AHEAD = 1_000  # a channel that is opened for a call holds so many of its price, within these bounds:
OPEN_LEAST_FLORINS, OPEN_MOST_FLORINS = 200_000_000, 2_000_000_000
PAUSE_S = 2.0
WAIT_S = 900.0  # for blocks: six of main take six minutes, seldom twice that
WAITED_FOR = ("channel-busy", "call-not-taken", "call-running", "remote-not-now")


def size_of(price_florins: int, most: Florins | None) -> Florins:
    """How large a channel is opened for calls of this price."""
    wanted = min(max(price_florins * CALLS_PAID_AHEAD, OPEN_LEAST_FLORINS), OPEN_MOST_FLORINS)
    return Florins(max(wanted, price_florins + OPEN_LEAST_FLORINS) if most is None else int(most))


async def choose(session: Session, wish: Wish, data: bytes, pay: str) -> tuple[bool, str]:
    """Whether the call goes over a channel, and why."""
    if wish.terms.named:
        return False, f"{wish.terms.named} takes a contract"
    from common.contracts.channel import LIST, ListChannels
    from common.contracts.store import SERVICE_SHOW, ServiceName
    from dux_taskd.paid_rules import OVER_CHANNEL, PayBy, pay_by

    service = (await session.call(SERVICE_SHOW, ServiceName(service_id=wish.service_id))).service
    found = (await session.call(LIST, ListChannels(role="payer"))).channels
    price = int(service.price_florins)
    fitting = [
        one
        for one in found
        if one.other == service.provider
        and one.state in ("OPEN", "RESYNC", "OPEN_SEEN")
        and one.usable_florins - one.owed_florins >= price
    ]
    is_open = any(one.trusted_florins - one.owed_florins >= price for one in fitting)
    fits = service.kind in OVER_CHANNEL and len(data) <= INLINE_BYTES_MAX
    checked = wish.check not in ("none", "auto")
    way, why = pay_by(
        pay, price, checked=checked, fits=fits, open_channel=is_open, young_channel=bool(fitting) and not is_open
    )
    return way is PayBy.CHANNEL, why


async def over_channel(session: Session, wish: Wish, data: bytes, open_florins: Florins | None) -> None:
    """Call, pay, write the output; a channel that has just been opened is waited for.

    Raises:
        NotNow: it does not carry the call yet; the same call is gone on with by its id.
    """
    from common.codec import to_plain
    from common.contracts.task import CallPaid
    from dux_cli.job_files import write_result

    asked = CallPaid(
        call_id=wish.request_id,
        service_id=wish.service_id,
        data=data,
        args=wish.args,
        price_limit_florins=wish.max_price,
        open_florins=size_of(int(wish.max_price), open_florins),
    )
    done = await _called(session, asked)
    for line in done.said:
        session.out.step(f"  {line}")
    again = f"duxnet call {wish.service_id} … --output FILE --request-id {wish.request_id}"
    written = write_result(done.output, wish.output, again) if done.outcome == "ok" else ""
    facts = [("outcome", str(done.outcome)), ("written", written), ("paid", flop(done.charged_florins)),
             ("detail", done.detail), ("channel", done.chid), ("call", str(done.j))]  # fmt: skip
    shown = {**to_plain(done), "output": "", "written": str(wish.output), "paid_by": "channel"}
    session.out.record(shown, [fact for fact in facts if fact[1]], name=f"{done.chid}/{done.j}")


async def _called(session: Session, asked: CallPaid) -> CalledPaid:
    """The call's answer; what it waits for is told once, and waited for within bounds."""
    import asyncio

    from common.contracts.task import CALL

    told, until = "", asyncio.get_running_loop().time() + WAIT_S
    while True:
        try:
            return await session.call(CALL, asked, deadline_s=120.0)
        except NotNow as error:
            if error.key not in WAITED_FOR:
                raise
            if asyncio.get_running_loop().time() > until:
                session.out.step(f"  go on with the same call by --request-id {asked.call_id}: it is paid once")
                raise
            if error.message != told:
                session.out.step(f"  {error.message}")
                told = error.message
        await asyncio.sleep(PAUSE_S)
