"""A request that is to be paid, the call that it becomes, and what can go wrong with it, whatever the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from common.contracts.channel import CHUNK, CallRef, Chunk
from common.errors import CallerMistake, DuxError, NotNow, PeerMisbehaved
from common.rpc.client import Client
from common.rpc.patience import patiently
from common.units import Florins, parse_flop
from dux_pay.answers import BODY_BYTES_MAX as ANSWER_BYTES_MAX
from dux_pay.answers import Headers
from dux_pay.price import Price
from dux_pay.statuses import Reason
from dux_pay.streams import Parts, had_of

AWAY_TRIES, AWAY_PAUSE_S = 20, 0.5


class BodyTooLarge(CallerMistake):
    """The body has more than {limit_bytes} bytes."""

    code = 3153
    key = "paid-body-too-large"


class BodyTooSlow(NotNow):
    """The body did not come within {limit_s} seconds."""

    code = 3154
    key = "paid-body-too-slow"


class OverPrice(CallerMistake):
    """A handler charges {florins} of a call that was promised to cost at most {limit_florins}."""

    code = 3155
    key = "over-price"


class NotCovered(NotNow):
    """The meter stands at {florins} and the payer has not covered it; what was delivered is charged."""

    code = 3156
    key = "meter-not-covered"


class OtherPayload(CallerMistake):
    """The voucher of {oid} is for another method, path, query or body than this request's."""

    code = 3171
    key = "other-payload"


def reason_of(error: DuxError) -> Reason:
    """Which row of the table an error belongs to: whose fault it is decides."""
    named = {BodyTooLarge: Reason.TOO_LARGE, BodyTooSlow: Reason.TOO_SLOW, OtherPayload: Reason.CONFLICT}
    if type(error) in named:
        return named[type(error)]
    return Reason.MALFORMED if isinstance(error, CallerMistake | PeerMisbehaved) else Reason.NODE_DOWN


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it came: path and query as written, the URL as the caller knows it."""

    method: str
    path: str
    query: str
    url: str
    payment: str | None  # the text of PAYMENT-SIGNATURE
    read_body: Callable[[int], Awaitable[bytes]]  # at most so many bytes, else BodyTooLarge
    stream: str | None = None  # the text of PAYMENT-STREAM, of servers that can send in parts
    messages_at: str = ""  # path that takes channel messages, of servers that have one

    @property
    def had(self) -> int | None:
        """How many bytes of the answer the caller has; None: it wants the answer in one piece."""
        return had_of(self.stream)


@dataclass(frozen=True)
class Reply:
    """What goes back over the wire. `at_work`: the call is being run, and this is what may be read of it."""

    status: int
    headers: Headers
    body: bytes
    at_work: Parts | None = None


@dataclass(kw_only=True)
class Payment:
    """A call that was admitted, as its handler sees it: who pays, how much it may cost, and what it shall cost."""

    call: CallRef
    oid: str
    payer: str
    price: Price
    price_max_florins: Florins
    body: bytes
    url: str
    _escrowd: Client
    charged_florins: Florins | None = None
    metered_florins: int = 0
    done: bool = field(default=False)
    parts: Parts = field(default_factory=Parts)

    def charge(self, flop: str) -> None:
        """The call costs so much, of at most its price: for `upto`.

        Raises:
            OverPrice: more than was promised.
        """
        florins = parse_flop(flop)
        if florins > self.price_max_florins:
            raise OverPrice(florins=int(florins), limit_florins=int(self.price_max_florins))
        self.charged_florins = florins

    async def meter(self, flop: str, *, wait_s: float = 20.0) -> None:
        """So much more is about to be delivered: returns once it is covered, after waiting for fuel.

        Raises:
            NotCovered: the payer sent no fuel in time; stop delivering, what was covered before is charged.
        """
        await self.meter_to(Florins(self.metered_florins + int(parse_flop(flop))), wait_s=wait_s)

    async def meter_to(self, wanted: Florins, *, wait_s: float = 20.0) -> None:
        """As `meter`, for a meter that stands at this sum with what is about to be delivered."""
        asked = Chunk(call=self.call, price_florins=wanted, wait_s=wait_s)
        verdict = await patiently(
            lambda: self._escrowd.call(CHUNK, asked, deadline_s=wait_s + 5), tries=AWAY_TRIES, pause_s=AWAY_PAUSE_S
        )  # a node that starts anew keeps a call of which parts have left
        if not verdict.go:
            raise NotCovered(florins=int(wanted))
        self.metered_florins = int(wanted)
        self.charged_florins = wanted

    async def send(self, part: bytes, flop: str, *, wait_s: float = 20.0) -> None:
        """Deliver a part of the answer for so much: it leaves once it is covered, and belongs to the answer.

        Raises:
            NotCovered: as `meter`. BodyTooLarge: the answer would be too large to be kept; the part costs nothing.
        """
        if not self.parts.has_room(part):
            raise BodyTooLarge(limit_bytes=ANSWER_BYTES_MAX)
        await self.meter(flop, wait_s=wait_s)
        await self.parts.put(part)
