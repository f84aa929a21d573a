"""The nouns of a channel: its states on either side, its calls, its coin, and the numbers that both sides agreed.

Frozen and without logic beyond sums over what stands in it. W is the highest voucher that the payee has stored, S what
calls cost that were admitted and have not failed; the payee admits a call iff W - S covers its price. Amounts are
florins, heights blocks. Source: channel_protocol.md §1, §5, §6.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from common.chain.channel_heights import Cap
from common.channel_messages import NO_ROOT, Outcome


class PayerState(StrEnum):
    """Where a channel stands for who pays."""

    NEW = "NEW"
    FUND_SENT = "FUND_SENT"
    OPEN_SEEN = "OPEN_SEEN"
    OPEN = "OPEN"
    RESYNC = "RESYNC"
    DRAINING = "DRAINING"
    REFUND_SENT = "REFUND_SENT"
    CLOSE_SEEN = "CLOSE_SEEN"
    REFUND_SEEN = "REFUND_SEEN"
    CLOSED = "CLOSED"


class PayeeState(StrEnum):
    """Where a channel stands for who is paid."""

    NEW = "NEW"
    OFFERED = "OFFERED"
    OPEN_SEEN = "OPEN_SEEN"
    OPEN = "OPEN"
    SUSPENDED = "SUSPENDED"
    CLOSE_SENT = "CLOSE_SENT"
    CLOSE_SEEN = "CLOSE_SEEN"
    CLOSED = "CLOSED"
    LOST = "LOST"
    ABANDONED = "ABANDONED"


class CallState(StrEnum):
    """Where a call stands; the first two are the payer's names, the middle two the payee's."""

    SENT_MAYBE = "SENT_MAYBE"
    DROPPING = "DROPPING"  # the caller wants it no more; the next hello says whether it was run
    ADMITTED = "ADMITTED"
    RUNNING = "RUNNING"
    OK = "OK"
    FAILED = "FAILED"
    REFUSED = "REFUSED"
    ABANDONED = "ABANDONED"


IN_FLIGHT = (CallState.SENT_MAYBE, CallState.DROPPING)
AT_WORK = (CallState.ADMITTED, CallState.RUNNING)
ENDED = {Outcome.OK: CallState.OK, Outcome.FAILED: CallState.FAILED, Outcome.REFUSED: CallState.REFUSED}
OUTCOME_OF = {state: outcome for outcome, state in ENDED.items()}


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of one channel that guards read."""

    exp: int
    zone: int  # Z
    margin: int
    window: int  # w
    caps: tuple[Cap, ...]
    fee_florins: int  # of a state: a coin carries its value less this
    first_min_florins: int
    coin_min_florins: int
    depth: int  # d
    idle: int
    fund: int  # an offer that nobody funds is forgotten after so many blocks
    step: int
    rebroadcast: int
    limit_florins: int  # U
    mirror_florins: int  # x
    rerun: bool = False  # what a crash found running is run again, not credited
    calls_kept: int = 128  # unacknowledged calls beyond the first: a bound on both sides' memory


class Coin(msgspec.Struct, frozen=True):
    """The output that the channel rests on; `height` None: not in a block."""

    outpoint: str
    value_florins: int
    height: int | None

    def depth(self, tip: int) -> int:
        """How many blocks confirm it."""
        return 0 if self.height is None else max(0, tip - self.height + 1)


def trusted_florins(coin: Coin | None, rules: Rules, tip: int) -> int:
    """What may be owed for calls on a coin that lies as deep as this one does."""
    depth = 0 if coin is None else coin.depth(tip)
    return max((cap.florins for cap in rules.caps if cap.depth <= depth), default=0)


def blocks_until_trusted(coin: Coin | None, rules: Rules, tip: int, owed_florins: int) -> int | None:
    """How many blocks more until so much may be owed: 0 if it may now, None if it never may."""
    depth = 0 if coin is None else coin.depth(tip)
    wanted = min((cap.depth for cap in rules.caps if cap.florins >= owed_florins), default=None)
    return None if wanted is None else max(0, wanted - depth)


class SpendKind(StrEnum):
    """Which way out was taken."""

    CLOSE = "close"
    REFUND = "refund"


class Spend(msgspec.Struct, frozen=True):
    """A spend of the coin; `cum_florins`: what a close pays, tax included."""

    kind: SpendKind
    txid: str
    cum_florins: int
    height: int | None


class Receipt(msgspec.Struct, frozen=True):
    """Which answers the payer holds: `common.channel_messages.Ack` in plain values."""

    low: int = 1
    root: bytes = NO_ROOT
    bits: int = 0
    paid_florins: int = 0


class Word(msgspec.Struct, frozen=True):
    """What the payee counts on the payer's word alone: `florins` of S for calls below `low`, which it never knew."""

    low: int = 1
    florins: int = 0
    lapsed: bool = False  # the hello of the live session says less: the payer has lost the books that it spoke from


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call, as one side knows it. `price_florins`: what it counts for now; `resp`: hash of the response.

    `sent_florins`: what of a metered answer was covered and may have left, at the payee.
    """

    j: int
    oid: str
    req: bytes
    state: CallState
    price_max_florins: int
    price_florins: int
    resp: bytes = NO_ROOT
    sent_florins: int = 0


class Payer(msgspec.Struct, frozen=True, kw_only=True):
    """A channel as its payer sees it. `calls`: those from `receipt.low` on, by j."""

    chid: str
    rules: Rules
    state: PayerState = PayerState.NEW
    before: PayerState | None = None
    coin: Coin | None = None
    session: bytes = b""
    nonce: bytes = b""  # of the hello that is not answered yet
    cum_florins: int = 0  # the highest voucher ever signed
    j: int = 0  # the last number used
    calls: tuple[Call, ...] = ()
    receipt: Receipt = Receipt()
    closing: bool = False
    next_script: bytes = b""
    acted_at: int | None = None  # tip when the last close was asked for or refund sent
    steps: int = 0  # of the refund's fee
    spend: Spend | None = None

    @property
    def spent_florins(self) -> int:
        """What the calls that were answered have cost."""
        done = (call.price_florins for call in self.calls if call.state is CallState.OK)
        return self.receipt.paid_florins + sum(done)

    @property
    def in_flight(self) -> tuple[Call, ...]:
        """Calls that wait for their answer."""
        return tuple(call for call in self.calls if call.state in IN_FLIGHT)

    @property
    def need_florins(self) -> int:
        """What a voucher has to say at least: the amount rule without a new call."""
        return self.spent_florins + sum(call.price_max_florins for call in self.in_flight)

    @property
    def usable_florins(self) -> int:
        """The highest voucher that the coin carries."""
        return 0 if self.coin is None else self.coin.value_florins - self.rules.fee_florins


class Closing(msgspec.Struct, frozen=True):
    """Which state the payee brings to the chain; `final`: the payer signed it as the last one."""

    cum_florins: int
    final: bool = False
    next_script: bytes = b""


class Payee(msgspec.Struct, frozen=True, kw_only=True):
    """A channel as its payee sees it. `calls`: not acknowledged, or still at work; `cums`: vouchers that may count."""

    chid: str
    rules: Rules
    state: PayeeState = PayeeState.NEW
    before: PayeeState | None = None
    offered_at: int = 0
    coin: Coin | None = None
    outpoint: str = ""  # of the coin that `cums` are signed for
    cums: tuple[int, ...] = ()
    session: bytes = b""
    settled_florins: int = 0  # of S: calls that were acknowledged
    calls: tuple[Call, ...] = ()
    receipt: Receipt = Receipt()
    word: Word = Word()
    mirrored_florins: int = 0  # W when the last copy was placed
    copied_florins: int = 0  # S in that copy
    used_at: int = 0
    closing: Closing | None = None
    acted_at: int | None = None
    steps: int = 0  # inputs added for the fee
    spend: Spend | None = None

    @property
    def held_florins(self) -> int:
        """W."""
        return self.cums[-1] if self.cums else 0

    @property
    def owed_florins(self) -> int:
        """S."""
        counted = (
            call.price_florins for call in self.calls if call.state in (*AT_WORK, CallState.OK) and self.counts(call)
        )
        return self.settled_florins + sum(counted)

    @property
    def earned_florins(self) -> int:
        """S without what may still fail."""
        done = (call.price_florins for call in self.calls if call.state is CallState.OK and self.counts(call))
        return self.settled_florins + sum(done)

    def counts(self, call: Call) -> bool:
        """False: it is at work although the payer's own receipt says how it ended, and gets nothing more."""
        return call.j >= self.receipt.low

    @property
    def at_work(self) -> int:
        """Calls admitted or running."""
        return sum(call.state in AT_WORK for call in self.calls)

    @property
    def usable_florins(self) -> int:
        """The highest voucher that the coin carries."""
        return 0 if self.coin is None else self.coin.value_florins - self.rules.fee_florins

    def cap_florins(self, tip: int) -> int:
        """What may be owed on a coin that lies as deep as it does."""
        return trusted_florins(self.coin, self.rules, tip)


Channel = Payer | Payee


def with_call(calls: tuple[Call, ...], changed: Call) -> tuple[Call, ...]:
    """The calls with this one in its place, by j."""
    if not calls or changed.j > calls[-1].j:
        return (*calls, changed)
    if any(call.j == changed.j for call in calls):
        return tuple(changed if call.j == changed.j else call for call in calls)
    return tuple(sorted((*calls, changed), key=lambda call: call.j))


def the_call(calls: tuple[Call, ...], j: int) -> Call:
    """The call of this number, where a guard has seen it."""
    return next(call for call in calls if call.j == j)


def call_of(calls: tuple[Call, ...], j: int) -> Call | None:
    """The call of this number."""
    return next((call for call in reversed(calls) if call.j == j), None)
