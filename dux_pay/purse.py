"""Pays for HTTP calls out of this node's channels, within the owner's limits, and checks what came for it.

Promises: nothing is promised above the limits; the payee's offer is checked under both of its keys before anything is
signed; the same id with the same request gets the same header, byte for byte, also after a restart; a call ends only by
the payee's signed answer over the response that really came. Knows nothing of sockets: `gateway` and the command line
bring it requests. A seller that refuses what it was given keeps the voucher: it counts as spent until its channel has
closed for less, and one id opens one channel more at most. One that signs that a call failed, or cost less, and closes
its channel with the voucher all the same has left the proof of it: it counts as spent, and the owner is told.
Source: channel_protocol.md §5 and §7.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib

import msgspec

from common.channel_messages import Offer, Pricing, request_hash, response_hash
from common.contracts.channel import (
    FUEL,
    PAY,
    REFUSED,
    SETTLED,
    SHOW,
    CallRef,
    ChannelRef,
    Fuel,
    Paid,
    Pay,
    ReportRefusal,
    Settle,
)
from common.contracts.channel_errors import NoChannel
from common.errors import DuxError, NotNow, Unavailable
from common.jws import OfferClaims, ReceiptClaims, opened
from common.network import NetworkProfile
from common.randomness import Randomness, new_id
from common.rpc.client import Client
from common.units import Did, Florins, format_flop
from dux_pay.answers import kept_of
from dux_pay.buying import (
    BadAnswer,
    BadOffer,
    CallOver,
    Came,
    Ended,
    Header,
    OverOwnLimit,
    Wanted,
    offer_problem,
    offered_in,
    path_of,
)
from dux_pay.coin_keys import CoinKeySource
from dux_pay.headers import (
    ASSET,
    IDENTIFIER,
    RECEIPTS,
    SCHEME,
    X402_VERSION,
    Accepts,
    PaymentPayload,
    PaymentRequired,
    Settlement,
    answer_in,
    decode_required,
    decode_settlement,
    encode,
    network_name,
    open_shown_answer,
    show_voucher,
)
from dux_pay.ledger import GIVEN_UP, Ledger, OverDayLimit, PaidCall
from dux_pay.messages import place_of

OPEN_WAIT_S, OPEN_PAUSE_S = 600.0, 2.0
PAY_WAIT_S = 25.0
ANEW = ("offer_expired", "closing")  # the call is given up, and made again under a new number
DONE = "OK"
NEVER_RUN = ("REFUSED", "ABANDONED")
CLOSE_SEEN, CLOSED = "CLOSE_SEEN", "CLOSED"
CHANNELS_PER_CALL_MAX = 2  # the one that was there or was opened, and one more
GONE = 410  # the body was dropped: there is nothing to compare


class Purse:
    """Pays out of one node."""

    def __init__(
        self,
        *,
        escrowd: Client,
        coin_keys: CoinKeySource,
        network: NetworkProfile,
        ledger: Ledger,
        random: Randomness,
        open_wait_s: float = OPEN_WAIT_S,
        open_pause_s: float = OPEN_PAUSE_S,
    ) -> None:
        self._escrowd = escrowd
        self._network = network
        self._random = random
        self._open_wait_s = open_wait_s
        self._open_pause_s = open_pause_s
        self._coin_keys = coin_keys
        self.ledger = ledger

    # --- paying -------------------------------------------------------------------------------------------------------

    async def pay(self, wanted: Wanted) -> Header:
        """The header that pays for this request; for a known id the header of then, or the next one after a refusal.

        Raises:
            Malformed, BadOffer: it cannot be paid. OverCallLimit, OverDayLimit: the owner forbids it.
            NotNow, Unavailable: repeat with the same id.
        """
        required = decode_required(wanted.required)
        oid = wanted.oid or new_id(self._random, "http")
        req = self._request(wanted, oid)
        known = self.ledger.find(oid, req)
        if known is not None and known.header and known.state != GIVEN_UP:
            return await self._again(known, required, wanted)
        return await self._first(wanted, required, oid, req)

    async def _first(self, wanted: Wanted, required: PaymentRequired, oid: str, req: bytes) -> Header:
        """Promise, then sign; what could not be signed is promised no more."""
        entry = self._entry(required, wanted.url)
        offer, envelope, payee = await self._offer(required, entry, wanted.url)
        most = self._most(wanted, offer)
        call = _new_call(oid, req, payee, wanted.url, most)
        if self.ledger.is_look_due():
            await self._look()
        try:
            self.ledger.reserve(call)
        except OverDayLimit:  # what was given up may count for less by now
            await self._look()
            self.ledger.reserve(call)
        may_open = self.ledger.channels_given_up(oid) < CHANNELS_PER_CALL_MAX
        asked = Pay(
            payee=payee,
            offer=envelope,
            oid=oid,
            req=req,
            price_max_florins=most,
            open_florins=self.ledger.limits.open_florins if may_open else None,
            messages_url=place_of(entry.extra.open_url, entry.extra.hello_url, wanted.url),
            wait_s=PAY_WAIT_S,
        )
        try:
            paid = await self._voucher(asked)
        except DuxError:
            self.ledger.taken_back(oid)
            raise
        return self._header(oid, required, entry, paid, most)

    async def _look(self) -> None:
        """What payees can take, or have taken, beyond what calls cost, by this node's books and by the chain."""
        for chid in self.ledger.in_question():
            try:
                shown = (await self._escrowd.call(SHOW, ChannelRef(chid))).channel
            except (NotNow, Unavailable):  # everything counts whole
                return
            except DuxError:  # it counts whole
                continue
            is_closed = shown.state in (CLOSE_SEEN, CLOSED)
            most = shown.taken_florins if is_closed else shown.held_florins
            left = int(most) - int(shown.owed_florins)
            self.ledger.bound(chid, left, is_closed=is_closed, is_final=shown.state == CLOSED)

    def _request(self, wanted: Wanted, oid: str) -> bytes:
        path, query = path_of(wanted.url)
        return request_hash(
            method=wanted.method.upper(), path=path, query=query, body_hash=bytes.fromhex(wanted.body_sha256), oid=oid
        )

    async def _voucher(self, pay: Pay) -> Paid:
        """The voucher, after the channel that may have to be opened for it has its first block."""
        deadline = asyncio.get_running_loop().time() + self._open_wait_s
        while True:
            try:
                return await self._escrowd.call(PAY, pay, deadline_s=PAY_WAIT_S + 5)
            except NoChannel:  # none may be opened for it any more
                raise
            except NotNow:
                if asyncio.get_running_loop().time() >= deadline:
                    raise
            await asyncio.sleep(self._open_pause_s)

    def _header(self, oid: str, required: PaymentRequired, entry: Accepts, paid: Paid, most: Florins) -> Header:
        payload = PaymentPayload(
            x402_version=X402_VERSION,
            resource=required.resource,
            accepted=entry,
            payload=show_voucher(paid.voucher),
            extensions={IDENTIFIER: {"info": {"required": True, "id": oid}}},
        )
        text = encode(payload)
        self.ledger.paid(oid, chid=paid.call.chid, number=paid.call.j, header=text)
        return Header(
            header=text,
            oid=oid,
            payload=payload.payload,
            extensions=payload.extensions,
            most_florins=most,
            said=(*self._overtaken(), *paid.said, f"at most {format_flop(most)} FLOP promised, call {paid.call.j}"),
        )

    def _overtaken(self) -> tuple[str, ...]:
        """Closes of which the owner is told now, once."""
        return tuple(
            f"{one.payee} closed channel {one.chid[:8]} for {format_flop(one.over_florins)} FLOP more than its signed "
            f"answers charge: it counts as spent (`duxnet channel show {one.chid[:8]}`)"
            for one in self.ledger.untold()
        )

    async def _again(self, known: PaidCall, required: PaymentRequired, wanted: Wanted) -> Header:
        """The same bytes; or, when the payee has refused them for a reason that something mends, what follows then."""
        reason = required.error
        if reason in ("", "no_voucher"):
            return _header_of(known, ("the same header as before",))
        call = CallRef(chid=known.chid, j=known.number)
        anew = reason in ANEW
        report = ReportRefusal(call=call, reason=reason, drop=anew)
        advice = await self._escrowd.call(REFUSED, report, deadline_s=30.0)
        if anew and advice.action == "ended" and advice.state in NEVER_RUN:
            self.ledger.given_up(known.oid)
            return await self._first(wanted, required, known.oid, known.bound)
        if advice.action == "ended" and known.charged_florins is not None:
            raise CallOver(oid=known.oid, state=advice.state)
        if advice.action == "ended":
            cost = known.most_florins if advice.state == DONE else 0  # no signed answer is at hand that says how much
            if not cost:
                self.ledger.given_up(known.oid)
            self.ledger.ended(known.oid, state=advice.state, charged_florins=cost, receipt="")
            raise CallOver(oid=known.oid, state=advice.state)
        if advice.action == "wait" or not advice.voucher:
            await asyncio.sleep(self._open_pause_s)
            return _header_of(known, (f"refused: {reason}; the same header once more",))
        entry = self._entry(required, known.url)
        again = Paid(voucher=advice.voucher, call=call, said=(f"refused: {reason}; said hello",))
        return self._header(known.oid, required, entry, again, Florins(known.most_florins))

    async def fuel(self, oid: str, most_florins: Florins) -> Header:
        """Let a metered call cost more: the next voucher of the same call.

        Raises:
            UnknownCall: none of that id. OverCallLimit: the owner forbids it.
        """
        known = self.ledger.known(oid)
        self.ledger.raise_most(oid, int(most_florins))
        call = CallRef(chid=known.chid, j=known.number)
        paid = await self._escrowd.call(FUEL, Fuel(call=call, price_max_florins=most_florins))
        old = msgspec.json.decode(base64.b64decode(known.header), type=PaymentPayload)
        payload = msgspec.structs.replace(old, payload=show_voucher(paid.voucher))
        self.ledger.paid(oid, chid=known.chid, number=known.number, header=encode(payload))
        return _header_of(self.ledger.known(oid), paid.said)

    # --- what is offered ----------------------------------------------------------------------------------------------

    def _entry(self, required: PaymentRequired, url: str) -> Accepts:
        ours = (one for one in required.accepts if one.network == network_name(self._network.genesis))
        entry = next(ours, None)
        if entry is None or entry.asset != ASSET or entry.scheme != SCHEME:
            raise BadOffer(url=url, reason=f"no entry for {SCHEME} on {network_name(self._network.genesis)}")
        return entry

    async def _offer(self, required: PaymentRequired, entry: Accepts, url: str) -> tuple[Offer, bytes, Did]:
        """The offer, which says what the entry says; its signer's coin key has signed the same for this resource."""
        offer, envelope, jws, payee = offered_in(required, entry, url)
        claims = opened(jws, OfferClaims, coin_key=await self._coin_keys.of(payee))
        problem = offer_problem(offer, entry, claims, payee, url)
        if problem:
            raise BadOffer(url=url, reason=problem)
        return offer, envelope, payee

    def _most(self, wanted: Wanted, offer: Offer) -> Florins:
        """What is promised: the price, or of a metered call as much as the caller allows."""
        limit = wanted.most_florins
        if limit is None:
            return Florins(int(offer.price_florins))
        if offer.price_florins > limit:
            raise OverOwnLimit(price_florins=int(offer.price_florins), limit_florins=int(limit))
        return limit if offer.pricing is Pricing.METERED else Florins(int(offer.price_florins))

    # --- what came ----------------------------------------------------------------------------------------------------

    async def settled(self, came: Came) -> Ended:
        """What the call cost, by the payee's signed answer over this very response.

        Raises:
            UnknownCall: not paid here. Malformed, BadAnswer: the answer does not hold.
        """
        known = self.ledger.known(came.oid)
        settlement = decode_settlement(came.response)
        envelope, answer = open_shown_answer(settlement)
        if (answer.chid.hex(), answer.j, answer.oid) != (known.chid, known.number, known.oid):
            raise BadAnswer(url=known.url, reason="it is for another call")
        resp = response_hash(
            status=came.status, headers=kept_of(came.headers), body_hash=bytes.fromhex(came.body_sha256)
        )
        if resp != answer.resp and came.status != GONE:
            raise BadAnswer(url=known.url, reason="the response is not the one that was signed; was it compressed?")
        receipt = await self._receipt(settlement, known, envelope)
        call = CallRef(chid=known.chid, j=known.number)
        ended = await self._escrowd.call(SETTLED, Settle(call=call, answer=envelope, resp=answer.resp))
        self.ledger.ended(
            came.oid, state=ended.outcome.value, charged_florins=int(ended.charged_florins), receipt=receipt
        )
        return Ended(
            oid=came.oid,
            outcome=ended.outcome.value,
            charged_florins=ended.charged_florins,
            receipt=receipt,
            said=(f"{format_flop(ended.charged_florins)} FLOP charged ({ended.outcome.value})",),
        )

    async def _receipt(self, settlement: Settlement, known: PaidCall, envelope: bytes) -> str:
        """The JWS receipt, which says what the signed answer says; empty when none came."""
        try:
            jws = str(settlement.extensions[RECEIPTS]["info"]["receipt"]["signature"])
        except (KeyError, TypeError):
            return ""
        claims = opened(jws, ReceiptClaims, coin_key=await self._coin_keys.of(Did(known.payee)))
        answer = answer_in(envelope)
        said = (claims.payer, claims.call, claims.amount, claims.answer)
        if said != (
            known.chid,
            known.number,
            str(int(answer.charged_florins)),
            hashlib.sha256(envelope).hexdigest(),
        ):
            raise BadAnswer(url=known.url, reason="its receipt says other than its answer")
        return jws


def _new_call(oid: str, req: bytes, payee: Did, url: str, most: Florins) -> PaidCall:
    return PaidCall(
        oid=oid,
        bound=req,
        payee=payee,
        url=url,
        chid="",
        number=0,
        most_florins=int(most),
        charged_florins=None,
        state="reserved",
        header="",
        receipt="",
    )


def _header_of(known: PaidCall, said: tuple[str, ...]) -> Header:
    payload = msgspec.json.decode(base64.b64decode(known.header), type=PaymentPayload)
    return Header(
        header=known.header,
        oid=known.oid,
        payload=payload.payload,
        extensions=payload.extensions,
        most_florins=Florins(known.most_florins),
        said=said,
    )
