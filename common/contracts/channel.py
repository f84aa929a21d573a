"""What escrowd answers about pay-per-call channels: the narrow port by which work is paid, and what people ask.

Seller's side, per call: `channel.admit` with the voucher as it came and the hash of the request as it was really
received, then the work, then `channel.finish`; between them `channel.chunk` where the price is a meter, and now and
then `channel.at_work`: of a call that nobody speaks of any more the payer gets its money back. Buyer's side:
`channel.pay` gives the voucher to send with the request, `channel.settled` takes the answer. taskd uses this port for
calls between nodes; a program of the operator's own (`module`) uses it to sell or buy over HTTP. Opening and hellos go
between the two escrowds by themselves, or over HTTP where a program carries them (`channel_carried`).

Every method may be repeated: `oid` is the caller's own id of a call, and the same oid with the same request is the same
call. Source: channel_protocol.md §4 to §7; settled.md 4, 10, 28.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from common.channel_messages import (
    ANSWER_BYTES_MAX,
    OFFER_BYTES_MAX,
    VOUCHER_BYTES_MAX,
    Outcome,
    Pricing,
)
from common.codec import Wire
from common.contracts.channel_errors import BadChannelMessage, BadChannelTerms, CallUnknown, ChannelBusy, NoChannel
from common.contracts.escrow_base import IdStart, Refused, WrongChannelPhase
from common.contracts.wallet_errors import CoinsPending, InsufficientFunds, OverLimit, WalletLocked
from common.rpc.method import PEOPLE, Done, Empty, Method
from common.units import FLOP, Did, Florins

RESPONSE_BYTES_MAX = 1_048_576  # kept for repeats; a larger one is named by its hash and kept by who made it
ENVELOPE_BYTES = 160
CALLS_SAID_MAX = 256  # calls that one message says to be at work
SAY_EVERY_S = 15.0  # an eighth of escrowd's patience: a program that is slow to say so is not taken for dead

Chid = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
Oid = Annotated[str, Meta(min_length=16, max_length=128)]
VoucherBytes = Annotated[bytes, Meta(max_length=VOUCHER_BYTES_MAX + ENVELOPE_BYTES)]
AnswerBytes = Annotated[bytes, Meta(max_length=ANSWER_BYTES_MAX + ENVELOPE_BYTES)]
OfferBytes = Annotated[bytes, Meta(max_length=OFFER_BYTES_MAX + 2 * ENVELOPE_BYTES)]
Worker = Annotated[str, Meta(max_length=64)]  # the program that is at work at a call, as it names itself
WORKERS = ("taskd", *PEOPLE)
OPENING = (BadChannelTerms, BadChannelMessage, InsufficientFunds, CoinsPending, OverLimit, WalletLocked)
NOT_SO = (WrongChannelPhase, Refused)  # what does not fit where the channel stands
PAYING = (NoChannel, ChannelBusy, *NOT_SO, *OPENING)


class MakeOffer(Wire, frozen=True, kw_only=True):
    """Put a price on something for `valid_blocks`; the same wish gets the same offer until it is half over."""

    what: Annotated[str, Meta(min_length=1, max_length=256)]
    price_florins: Florins
    pricing: Pricing = Pricing.FIXED
    valid_blocks: Annotated[int, Meta(ge=1, le=100_000)] = 1_440


class OfferMade(Wire, frozen=True, kw_only=True):
    """The offer under this node's DID, and its hash, which vouchers name."""

    offer: OfferBytes
    hash: Hash
    valid_to: int


class Admit(Wire, frozen=True, kw_only=True):
    """A voucher as it came, and the hash of the request that really came with it."""

    voucher: VoucherBytes
    req: Hash
    what: str  # what is asked for: the offer must be for it
    developer: str = ""  # address of who gets a royalty of such calls: the channel's terms must pay it
    royalty_bps: Annotated[int, Meta(ge=0, le=10_000)] = 0
    worker: Worker = ""


class CallRef(Wire, frozen=True, kw_only=True):
    """One call of a channel."""

    chid: Chid
    j: Annotated[int, Meta(ge=1)]


class Admission(Wire, frozen=True, kw_only=True):
    """What becomes of a call. `stored`: it was answered before; `answer` and `response` are what was said then.

    `refused` with its reason (need_funds, offer_expired, resync, closing, depth, busy, conflict, running, gone):
    nothing is charged, and held (W), owed (S) and missing say how the channel stands. `running`: `worker` is at work
    at it, or was when it died.
    """

    verdict: Literal["admitted", "refused", "stored"]
    call: CallRef
    oid: str
    payer: Did
    price_florins: Florins = field(default_factory=Florins)
    price_max_florins: Florins = field(default_factory=Florins)
    reason: str = ""
    held_florins: Florins = field(default_factory=Florins)
    owed_florins: Florins = field(default_factory=Florins)
    missing_florins: Florins = field(default_factory=Florins)
    answer: AnswerBytes = b""
    response: bytes | None = None  # None: acknowledged or too large, so only its hash is known here
    worker: Worker = ""


class Finish(Wire, frozen=True, kw_only=True):
    """How an admitted call ended. `charged_florins`: what it costs, 0 unless ok; None: its price, or the meter."""

    call: CallRef
    outcome: Outcome
    resp: Hash
    response: Annotated[bytes, Meta(max_length=RESPONSE_BYTES_MAX)] | None = None
    charged_florins: Florins | None = None


class Finished(Wire, frozen=True, kw_only=True):
    """The answer, signed and stored."""

    answer: AnswerBytes


class AtWork(Wire, frozen=True, kw_only=True):
    """Calls that a program is at work at now: said again before escrowd's `channel_silent_s` is over."""

    calls: Annotated[tuple[CallRef, ...], Meta(max_length=CALLS_SAID_MAX)]


class Chunk(Wire, frozen=True, kw_only=True):
    """The meter of a running call would stand here with its next chunk; wait so long for fuel."""

    call: CallRef
    price_florins: Florins
    wait_s: Annotated[float, Meta(ge=0, le=25)] = 0.0


class ChunkVerdict(Wire, frozen=True, kw_only=True):
    """Whether the chunk may leave."""

    go: bool
    missing_florins: Florins


class Pay(Wire, frozen=True, kw_only=True):
    """Pay `payee` for a request. With `open_florins` a channel of that size is opened when none can carry it.

    A channel carries calls of one royalty alone, its terms': to this developer's address, or to nobody.
    """

    payee: Did
    offer: OfferBytes
    oid: Oid
    req: Hash
    price_max_florins: Florins
    open_florins: Florins | None = None
    developer: str = ""
    royalty_bps: Annotated[int, Meta(ge=0, le=10_000)] = 0
    messages_url: Annotated[str, Meta(max_length=2_048)] = ""  # where the payee takes channel messages over HTTP
    wait_s: Annotated[float, Meta(ge=0, le=25)] = 20.0  # for a session, and for the funding of a channel just opened


class Paid(Wire, frozen=True, kw_only=True):
    """The voucher to send with the request. `said`: what was done for it, for people."""

    voucher: VoucherBytes
    call: CallRef
    said: tuple[str, ...] = ()


class Fuel(Wire, frozen=True, kw_only=True):
    """A metered call may cost more."""

    call: CallRef
    price_max_florins: Florins


class Settle(Wire, frozen=True, kw_only=True):
    """The payee's answer to a call as it came, and the hash of the response that really came with it."""

    call: CallRef
    answer: AnswerBytes
    resp: Hash


class SettledCall(Wire, frozen=True, kw_only=True):
    """How the call ended by the payee's own word, and what it cost."""

    call: CallRef
    outcome: Outcome
    charged_florins: Florins
    state: str


class ReportRefusal(Wire, frozen=True, kw_only=True):
    """The payee did not admit the call, for this reason; with `drop` the call is given up."""

    call: CallRef
    reason: str
    drop: bool = False


class Advice(Wire, frozen=True, kw_only=True):
    """What to do next: send `voucher` again, wait and repeat, or take the call as ended in `state`."""

    action: Literal["send", "wait", "ended"]
    voucher: VoucherBytes = b""
    state: str = ""


class OpenChannel(Wire, frozen=True, kw_only=True):
    """Open a channel. `blocks`: until EXP, by default the network's."""

    request_id: Annotated[str, Meta(min_length=1, max_length=128)]
    payee: Did
    cap_florins: Florins
    blocks: int | None = None
    developer: str = ""  # a service's developer is paid a royalty: its address
    royalty_bps: Annotated[int, Meta(ge=0, le=5_000)] = 0


class ChannelRef(Wire, frozen=True):
    """A channel by its id."""

    chid: Chid


class RecoverFrom(Wire, frozen=True, kw_only=True):
    """A payee that this node, restored from its phrase, may have had channels to; keys up to this number are tried."""

    request_id: Annotated[str, Meta(min_length=1, max_length=128)]
    payee: Did
    keys: Annotated[int, Meta(ge=1, le=100)] = 20


class ChannelAct(Wire, frozen=True):
    """Something done to a channel."""

    request_id: Annotated[str, Meta(min_length=1, max_length=128)]
    chid: Chid


class TopUp(Wire, frozen=True):
    """Another channel to the same payee, both run."""

    request_id: Annotated[str, Meta(min_length=1, max_length=128)]
    chid: Chid
    cap_florins: Florins


class CloseChannel(Wire, frozen=True, kw_only=True):
    """End a channel together, or alone when the other is silent. `roll`: the payer's rest opens the next one."""

    request_id: Annotated[str, Meta(min_length=1, max_length=128)]
    chid: Chid
    roll: bool = False


class CallView(Wire, frozen=True, kw_only=True):
    """One call for people."""

    j: int
    oid: str
    state: str
    price_max_florins: Florins
    price_florins: Florins


class ChannelView(Wire, frozen=True, kw_only=True):
    """A channel as this node sees it. `held` is W, `owed` is S: for the payer what it signed and what calls cost.

    `trusted`: what may be owed for calls on a coin that lies as deep as this one does now. `taken`: what the close that
    the chain shows pays the payee, tax included; 0 before it, and of a refund.
    """

    chid: Chid
    role: Literal["payer", "payee"]
    other: Did
    state: str
    cap_florins: Florins
    usable_florins: Florins
    trusted_florins: Florins
    held_florins: Florins
    owed_florins: Florins
    exp: int
    height: int
    depth: int
    outpoint: str
    address: str
    calls: int
    in_flight: int
    spend: str
    reason: str
    taken_florins: Florins = field(default_factory=Florins)


class ListChannels(Wire, frozen=True, kw_only=True):
    """Which channels: of this role, and whose id begins so."""

    role: Literal["payer", "payee", "any"] = "any"
    open_only: bool = True
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    start: IdStart = ""


class ChannelList(Wire, frozen=True):
    """Channels, newest first."""

    channels: tuple[ChannelView, ...]


class ChannelDetail(Wire, frozen=True):
    """A channel with its newest calls."""

    channel: ChannelView
    calls: tuple[CallView, ...]
    lines: tuple[str, ...]


class ChannelRules(Wire, frozen=True, kw_only=True):
    """What a seller prints beside a price: how channels to this node are opened and what they can carry."""

    did: Did
    network: str
    fund_script: bytes
    tax_bps: int
    fee_rate_florins_per_kb: int
    first_min_florins: Florins
    window: int
    closing_zone: int
    exp_min: int
    exp_max: int
    depth_caps: tuple[tuple[int, Florins], ...]
    on_crash: str
    height: int


_CHID, _BOB = "c4" * 32, Did("did:dux:" + "b" * 52)
_CALL = CallRef(chid=_CHID, j=7)
_OID = "order-0000000001"
_VIEW = ChannelView(
    chid=_CHID,
    role="payer",
    other=_BOB,
    state="OPEN",
    cap_florins=Florins(10 * FLOP),
    usable_florins=Florins(999_000_000),
    trusted_florins=Florins(1_000 * FLOP),
    held_florins=Florins(20_000_000),
    owed_florins=Florins(700_000),
    exp=10_180,
    height=140,
    depth=7,
    outpoint="ab" * 32 + ":0",
    address="2N…",
    calls=7,
    in_flight=1,
    spend="",
    reason="",
)

MAKE_OFFER: Method[MakeOffer, OfferMade] = Method(
    name="channel.offer",
    params=MakeOffer,
    result=OfferMade,
    summary="Put a price on something, under this node's DID, until a height.",
    callers=WORKERS,
    example=(
        MakeOffer(what="service/upscale", price_florins=Florins(100_000)),
        OfferMade(offer=b"\x92", hash=b"o" * 32, valid_to=1_580),
    ),
)
ADMIT: Method[Admit, Admission] = Method(
    name="channel.admit",
    params=Admit,
    result=Admission,
    summary="Seller: check and store a voucher with its request; admitted calls run once, repeats get what is stored.",
    callers=WORKERS,
    example=(
        Admit(voucher=b"\x92", req=b"r" * 32, what="service/upscale"),
        Admission(verdict="admitted", call=_CALL, oid=_OID, payer=_BOB, price_florins=Florins(100_000)),
    ),
)
FINISH: Method[Finish, Finished] = Method(
    name="channel.finish",
    params=Finish,
    result=Finished,
    summary="Seller: store how an admitted call ended, and get the signed answer.",
    callers=WORKERS,
    example=(Finish(call=_CALL, outcome=Outcome.OK, resp=b"s" * 32, response=b"{}"), Finished(answer=b"\x92")),
)
STILL_AT_WORK: Method[AtWork, Done] = Method(
    name="channel.at_work",
    params=AtWork,
    result=Done,
    summary="Seller: these calls are still at work; one of which nobody says so for too long has failed.",
    callers=WORKERS,
    example=(AtWork(calls=(_CALL,)), Done()),
)
CHUNK: Method[Chunk, ChunkVerdict] = Method(
    name="channel.chunk",
    params=Chunk,
    result=ChunkVerdict,
    summary="Seller: may the next chunk of a metered call leave? Waits for fuel when asked to.",
    callers=WORKERS,
    example=(
        Chunk(call=_CALL, price_florins=Florins(200_000), wait_s=5.0),
        ChunkVerdict(go=True, missing_florins=Florins(0)),
    ),
)
PAY: Method[Pay, Paid] = Method(
    name="channel.pay",
    params=Pay,
    result=Paid,
    summary="Buyer: a voucher for one request, over an open channel or one opened for it.",
    callers=WORKERS,
    raises=PAYING,
    example=(
        Pay(payee=_BOB, offer=b"\x92", oid=_OID, req=b"r" * 32, price_max_florins=Florins(100_000)),
        Paid(voucher=b"\x92", call=_CALL, said=("over channel c4c4c4c4, 9.98 FLOP left",)),
    ),
)
FUEL: Method[Fuel, Paid] = Method(
    name="channel.fuel",
    params=Fuel,
    result=Paid,
    summary="Buyer: let a metered call cost more; the same call's next voucher.",
    callers=WORKERS,
    raises=(CallUnknown, *NOT_SO),
    example=(Fuel(call=_CALL, price_max_florins=Florins(300_000)), Paid(voucher=b"\x92", call=_CALL)),
)
SETTLED: Method[Settle, SettledCall] = Method(
    name="channel.settled",
    params=Settle,
    result=SettledCall,
    summary="Buyer: check and store the payee's answer; what the call cost.",
    callers=WORKERS,
    raises=(BadChannelMessage,),
    example=(
        Settle(call=_CALL, answer=b"\x92", resp=b"s" * 32),
        SettledCall(call=_CALL, outcome=Outcome.OK, charged_florins=Florins(100_000), state="OK"),
    ),
)
REFUSED: Method[ReportRefusal, Advice] = Method(
    name="channel.refused",
    params=ReportRefusal,
    result=Advice,
    summary="Buyer: the payee did not admit a call; says hello where that helps, and what to do next.",
    callers=WORKERS,
    example=(ReportRefusal(call=_CALL, reason="resync"), Advice(action="send", voucher=b"\x92")),
)
RULES: Method[Empty, ChannelRules] = Method(
    name="channel.rules",
    params=Empty,
    result=ChannelRules,
    summary="How channels to this node are opened and what they can carry.",
    callers=WORKERS,
    example=(
        Empty(),
        ChannelRules(
            did=_BOB,
            network="1f" * 32,
            fund_script=b"\xa9\x14",
            tax_bps=500,
            fee_rate_florins_per_kb=1_200_000,
            first_min_florins=Florins(20_000_000),
            window=32,
            closing_zone=288,
            exp_min=1_440,
            exp_max=43_200,
            depth_caps=((1, Florins(FLOP)),),
            on_crash="credit",
            height=140,
        ),
    ),
)
OPEN: Method[OpenChannel, ChannelRef] = Method(
    name="channel.open",
    params=OpenChannel,
    result=ChannelRef,
    summary="Open a channel to a payee: agree, fund; calls can go over it once its coin is in a block.",
    callers=WORKERS,
    raises=OPENING,
    once=True,
    example=(OpenChannel(request_id="r1", payee=_BOB, cap_florins=Florins(10 * FLOP)), ChannelRef(chid=_CHID)),
)
TOP_UP: Method[TopUp, ChannelRef] = Method(
    name="channel.top_up",
    params=TopUp,
    result=ChannelRef,
    summary="Open another channel to the same payee; both run, the older one is used up first.",
    callers=WORKERS,
    raises=OPENING,
    once=True,
    example=(TopUp(request_id="r2", chid=_CHID, cap_florins=Florins(10 * FLOP)), ChannelRef(chid=_CHID)),
)
CLOSE: Method[CloseChannel, ChannelView] = Method(
    name="channel.close",
    params=CloseChannel,
    result=ChannelView,
    summary="End a channel: together where the other side answers; the payer's rest may open the next one.",
    callers=WORKERS,
    raises=(ChannelBusy, *NOT_SO, *OPENING),
    once=True,
    example=(CloseChannel(request_id="r3", chid=_CHID), _VIEW),
)
REFUND: Method[ChannelAct, ChannelView] = Method(
    name="channel.refund",
    params=ChannelAct,
    result=ChannelView,
    summary="Payer: everything back, by agreement while nothing was spent, alone from EXP on.",
    callers=WORKERS,
    raises=(ChannelBusy, *NOT_SO),
    once=True,
    example=(ChannelAct(request_id="r4", chid=_CHID), _VIEW),
)
LIST: Method[ListChannels, ChannelList] = Method(
    name="channel.list",
    params=ListChannels,
    result=ChannelList,
    summary="Channels of this node, newest first.",
    callers=WORKERS,
    example=(ListChannels(), ChannelList(channels=(_VIEW,))),
)
SHOW: Method[ChannelRef, ChannelDetail] = Method(
    name="channel.show",
    params=ChannelRef,
    result=ChannelDetail,
    summary="One channel with its newest calls, and what happens next in sentences.",
    callers=WORKERS,
    example=(ChannelRef(chid=_CHID), ChannelDetail(channel=_VIEW, calls=(), lines=("calls can go over it",))),
)
RECOVER: Method[Empty, Done] = Method(
    name="channel.recover",
    params=Empty,
    result=Done,
    summary="Say hello over every channel of this node as payer: both sides show what they hold.",
    callers=WORKERS,
    example=(Empty(), Done()),
)
RECOVER_FROM: Method[RecoverFrom, ChannelList] = Method(
    name="channel.recover_from",
    params=RecoverFrom,
    result=ChannelList,
    summary="Find channels to a payee again with the phrase alone: their terms from the payee, their books by hello.",
    callers=WORKERS,
    once=True,
    example=(RecoverFrom(request_id="r5", payee=_BOB), ChannelList(channels=(_VIEW,))),
    deadline_max_s=120.0,
)
