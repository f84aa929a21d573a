"""The payer's side: vouchers for calls, what becomes of them, and opening the channel they go over.

Write order (channel_protocol.md §5): the number, the request's hash and the amount are on disk before a voucher is
signed; the answer is on disk before it is handed to the caller. The request itself is the caller's, who repeats it byte
for byte; the same oid gets the same call and, within a session, the same voucher.
"""

from __future__ import annotations

from msgspec import structs

from common.channel_messages import ANSWER_BYTES_MAX, Answer, Offer, Outcome, Voucher, offer_hash, open_message
from common.codec import canonical, from_canonical
from common.contracts import channel as c
from common.contracts.channel_errors import BadChannelMessage, CallUnknown, ChannelBusy, NoChannel
from common.contracts.p2p import Signature
from common.errors import BadParams
from common.identity.purposes import Purpose
from common.receipts import attested
from common.store import Tx
from common.units import Did, Florins, format_flop
from dux_escrowd.channel import facts as f
from dux_escrowd.channel import orders as o
from dux_escrowd.channel.carrying import Carrying
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.greeting import Greeting, wants_session
from dux_escrowd.channel.ledger import Taken
from dux_escrowd.channel.model import (
    ENDED,
    IN_FLIGHT,
    Call,
    CallState,
    Payer,
    PayerState,
    blocks_until_trusted,
    call_of,
)
from dux_escrowd.channel.offers import read_offer
from dux_escrowd.channel.opening import Opening
from dux_escrowd.channel.shelf import CallRow
from dux_escrowd.channel.signing import NO_SIG, ack_of, outpoint_of

OFFERS_CHECKED = 1_024
GIVEN_UP_MS = 900_000  # a call whose caller did not come back for a quarter of an hour is given up


class Buying:
    """What a payer's node answers to its own programs."""

    def __init__(self, counter: Counter, greeting: Greeting, opening: Opening, carrying: Carrying) -> None:
        self._counter = counter
        self._carrying = carrying
        self._ledger = counter.ledger
        self._greeting = greeting
        self._opening = opening
        self._offers: dict[bytes, Offer] = {}  # by their bytes, whose signature was right
        self._oids: dict[tuple[str, str], str] = {}  # payee, oid -> channel, of calls in flight

    async def pay(self, params: c.Pay) -> c.Paid:
        """A voucher for one request."""
        offer = await self._offer(params)
        self._carrying.learn(Did(params.payee), params.messages_url)
        again = self._known(params)
        if again is not None:
            return await self._again(again, params)
        chid, said = await self._channel(params, int(offer.price_florins))
        fact = f.CallWanted(
            at=await self._counter.height(),
            oid=params.oid,
            req=params.req,
            price_max_florins=int(params.price_max_florins),
            offer_valid_to=offer.valid_to,
        )
        body: list[bytes] = []

        def write(tx: Tx, _before: Payer, after: Payer) -> None:
            body.append(self._write(tx, after, after.calls[-1], offer_hash(offer)))

        taken = await self._ledger.take(chid, fact, write)
        self._oids[params.payee, params.oid] = chid
        return await self._paid(taken, taken.next.calls[-1], body[0], said)

    async def _paid(self, taken: Taken, call: Call, body: bytes, said: tuple[str, ...]) -> c.Paid:
        chid = taken.next.chid
        voucher = await self._counter.signer.voucher(body)
        return c.Paid(voucher=voucher, call=c.CallRef(chid=chid, j=call.j), said=said)

    def _write(self, tx: Tx, after: Payer, call: Call, offer: bytes) -> bytes:
        """The call's row with the body that the wallet signs."""
        if after.coin is None:
            raise TypeError("a call was decided on a channel without a coin")
        voucher = Voucher(
            v=1,
            network=self._counter.genesis,
            chid=bytes.fromhex(after.chid),
            outpoint=outpoint_of(after.coin.outpoint),
            session=after.session,
            j=call.j,
            oid=call.oid,
            cum_florins=Florins(after.cum_florins),
            price_max_florins=Florins(call.price_max_florins),
            offer=offer,
            req=call.req,
            ack=ack_of(after.receipt),
            coin_sig=NO_SIG,
        )
        body = canonical(voucher)
        self._ledger.shelf.put_call(tx, after.chid, call, body)
        return body

    async def _offer(self, params: c.Pay) -> Offer:
        """The payee's offer; its signature is checked once."""
        known = self._offers.get(params.offer)
        if known is None:
            signed, offer = attested(params.offer), read_offer(params.offer)
            by = Signature(did=signed.did, key_seq=signed.key_seq, signature=signed.signature)
            right = signed.did == offer.payee == params.payee and offer.network == self._counter.genesis
            if not right or not await self._counter.desk.peers.is_signed(Purpose.CHANNEL_OFFER, signed.body, by):
                raise BadChannelMessage(chid="", reason=f"the offer is not signed by {params.payee} for this network")
            if len(self._offers) >= OFFERS_CHECKED:
                self._offers.clear()
            known = self._offers[params.offer] = offer
        if known.price_florins > params.price_max_florins:
            raise BadParams(
                detail=f"the offer asks {format_flop(known.price_florins)} FLOP, more than price_max allows"
            )
        return known

    # --- which channel ------------------------------------------------------------------------------------------------

    def _known(self, params: c.Pay) -> tuple[str, int] | None:
        """The call that has this oid already."""
        chid = self._oids.get((params.payee, params.oid))
        for name in (chid,) if chid else self._ledger.shelf.with_payee(params.payee):
            row = self._ledger.shelf.call_by_oid(name, params.oid)
            if row is not None and not self._was_given_up(name, row):
                if row.call.req != params.req:
                    raise BadParams(detail=f"oid {params.oid!r} was used for another request; take a new one")
                return name, row.j
        return None

    def _was_given_up(self, chid: str, row: CallRow) -> bool:
        """The call was dropped and never run: the same oid may be tried anew, under another number."""
        call = call_of(self._ledger.payer(chid).calls, row.j) or row.call
        return call.state in (CallState.REFUSED, CallState.ABANDONED)

    async def _again(self, known: tuple[str, int], params: c.Pay) -> c.Paid:
        """The same call once more: its voucher, under the session that is live now."""
        chid, j = known
        call = call_of(self._ledger.payer(chid).calls, j)
        if call is not None and call.state in IN_FLIGHT:
            await self._live(chid, params.wait_s)
        row = self._ledger.shelf.call(chid, j)
        if row is None:
            raise CallUnknown(chid=chid, name=f"number {j}")
        voucher = await self._counter.signer.voucher(row.voucher)
        return c.Paid(voucher=voucher, call=c.CallRef(chid=chid, j=j), said=("the same call as before",))

    async def _channel(self, params: c.Pay, least_florins: int) -> tuple[str, tuple[str, ...]]:
        """A channel with a session that carries the price; one is opened where that is allowed.

        Raises:
            ChannelBusy: the one that will carry it does not yet, because its coin is too young: repeat the call.
        """
        price, reasons, young = int(params.price_max_florins), list[str](), list[str]()
        names = [name for name in self._ledger.shelf.with_payee(params.payee) if self._pays_royalty(name, params)]
        for chid in names:
            state = self._ledger.payer(chid)
            left = state.usable_florins - max(state.cum_florins, state.need_florins)
            room = state.usable_florins - state.need_florins
            if not wants_session(state) or state.closing or room < price:
                reasons.append(f"{chid[:8]} is {state.state.value} with {format_flop(max(0, room))} FLOP left")
                continue
            if await self._blocks_to_wait(chid, least_florins):
                young.append(chid)
                continue
            await self._live(chid, params.wait_s)
            return chid, (f"over channel {chid[:8]}, {format_flop(max(0, left))} FLOP not yet promised",)
        if young:
            await self._old_enough(young[0], least_florins)
        if params.open_florins is None:
            raise NoChannel(payee=params.payee, price_florins=price, reason="; ".join(reasons) or "there is none")
        return await self._opened(params, names, least_florins)

    def _pays_royalty(self, chid: str, params: c.Pay) -> bool:
        """The channel's terms pay the royalty of this call and no other."""
        terms = self._ledger.book(chid).terms
        wanted = self._counter.royalty(params.developer, params.royalty_bps)
        return (terms.developer_script, terms.royalty_bps) == wanted

    async def _opened(self, params: c.Pay, names: list[str], least_florins: int) -> tuple[str, tuple[str, ...]]:
        unseen = [name for name in names if self._ledger.payer(name).state is PayerState.FUND_SENT]
        waiting = next((name for name in unseen if not self._ledger.payer(name).closing), None)
        cap = int(params.open_florins or 0)
        script, bps = self._counter.royalty(params.developer, params.royalty_bps)
        chid = waiting or await self._opening.open(Did(params.payee), cap, developer_script=script, royalty_bps=bps)
        size = int(self._ledger.book(chid).terms.cap_florins)
        said = f"opened channel {chid[:8]} of {format_flop(size)} FLOP"
        await self._live(chid, params.wait_s, said=f"{said}; ")
        await self._old_enough(chid, least_florins, said=f"{said}; ")
        return chid, (said,)

    async def _blocks_to_wait(self, chid: str, least_florins: int) -> int:
        """How many blocks more until the payee takes a call that costs so much: 0 where nothing is waited for."""
        state, tip = self._ledger.payer(chid), await self._counter.height()
        return blocks_until_trusted(state.coin, state.rules, tip, state.spent_florins + least_florins) or 0

    async def _old_enough(self, chid: str, least_florins: int, *, said: str = "") -> None:
        """The payee takes the call: its coin is not too young for it. `said`: what was done before, for people.

        Raises:
            ChannelBusy: repeat the call after so many blocks.
        """
        left = await self._blocks_to_wait(chid, least_florins)
        if left:
            state = self._ledger.payer(chid)
            what = f"its coin is too young for calls of {format_flop(state.spent_florins + least_florins)} FLOP in all"
            reason = (
                f"{said}{what}, {left} more block{'s are' if left > 1 else ' is'} needed; repeat the same call then"
            )
            raise ChannelBusy(chid=chid, state=state.state.value, reason=reason)

    async def _live(self, chid: str, wait_s: float, *, said: str = "") -> None:
        """A session, or why there is none yet. `said`: what was done before, for people.

        Raises:
            ChannelBusy: repeat the call.
        """
        if self._ledger.payer(chid).session:
            return
        if not await self._greeting.live(chid, wait_s):
            state = self._ledger.payer(chid)
            reason = "its funding waits for a block" if state.coin is None else "the payee has not answered a hello"
            raise ChannelBusy(chid=chid, state=state.state.value, reason=f"{said}{reason}; repeat the same call")

    # --- what becomes of a call ---------------------------------------------------------------------------------------

    async def fuel(self, params: c.Fuel) -> c.Paid:
        """The same call, up to a higher price."""
        chid, j = params.call.chid, params.call.j
        row = self._ledger.shelf.call(chid, j)
        if row is None:
            raise CallUnknown(chid=chid, name=f"number {j}")
        offer = from_canonical(row.voucher, Voucher, max_bytes=len(row.voucher)).offer
        fact = f.FuelWanted(at=await self._counter.height(), j=j, price_max_florins=int(params.price_max_florins))
        body: list[bytes] = []

        def write(tx: Tx, _before: Payer, after: Payer) -> None:
            call = call_of(after.calls, j)
            if call is not None:
                body.append(self._write(tx, after, call, offer))

        taken = await self._ledger.take(chid, fact, write)
        return await self._paid(taken, call_of(taken.next.calls, j) or row.call, body[0], ())

    async def settled(self, params: c.Settle) -> c.SettledCall:
        """The payee's signed answer, checked against the response that came."""
        chid, j = params.call.chid, params.call.j
        book = self._ledger.book(chid)
        purpose, key = Purpose.CHANNEL_ANSWER, book.terms.payee_key
        answer, _ = open_message(params.answer, Answer, pubkey=key, purpose=purpose, max_bytes=ANSWER_BYTES_MAX)
        bound = answer.resp == params.resp or answer.outcome is not Outcome.OK  # what failed costs nothing
        if (answer.chid.hex(), answer.j) != (chid, j) or not bound:
            raise BadChannelMessage(chid=chid, reason="the answer is for another call or another response")
        fact = f.AnswerCame(
            at=await self._counter.height(),
            j=j,
            req=answer.req,
            resp=answer.resp,
            outcome=answer.outcome,
            charged_florins=int(answer.charged_florins),
        )

        def write(tx: Tx, before: Payer, _after: Payer) -> None:
            known = call_of(before.calls, j)
            if known is not None and known.state in IN_FLIGHT:
                self._ledger.shelf.end_call(tx, chid, _ended(known, answer), params.answer, None)

        taken = await self._ledger.take(chid, fact, write)
        self._oids.pop((book.other, answer.oid), None)
        await self._counter.carry(chid, taken.effects)
        charged = answer.charged_florins if answer.outcome is Outcome.OK else Florins(0)
        return c.SettledCall(
            call=params.call, outcome=answer.outcome, charged_florins=charged, state=taken.next.state.value
        )

    async def refused(self, params: c.ReportRefusal) -> c.Advice:
        """What helps: a hello after `resync` and `need_funds`, waiting otherwise; or the call is given up."""
        chid, j = params.call.chid, params.call.j
        self._ledger.payer(chid)
        if params.drop:
            await self.drop(chid, j)
        elif params.reason in (o.Reason.RESYNC, o.Reason.NEED_FUNDS):
            await self._greeting.begin(chid)
        else:
            return c.Advice(action="wait")
        live = await self._greeting.live(chid, 10.0)
        call = call_of(self._ledger.payer(chid).calls, j)
        row = self._ledger.shelf.call(chid, j)
        if call is None or call.state not in IN_FLIGHT:
            return c.Advice(action="ended", state=(call or (row.call if row else None) or _GONE).state.value)
        if not live or row is None or params.drop:
            return c.Advice(action="wait")
        return c.Advice(action="send", voucher=await self._counter.signer.voucher(row.voucher))

    async def drop(self, chid: str, j: int) -> None:
        """Give a call up; the hello that follows tells whether it was run."""
        at, nonce = await self._counter.height(), self._counter.random.bytes(32)
        taken = await self._ledger.take(chid, f.CallDropped(at=at, j=j, nonce=nonce))
        await self._counter.carry(chid, taken.effects)

    async def sweep(self, now_ms: int) -> None:
        """Give up calls whose callers never came back; where the end waits for a call, ask what has become of it."""
        for chid in self._ledger.shelf.listed("payer", open_only=True, limit=500):
            state = self._ledger.payer(chid)
            old = set(self._ledger.shelf.waiting(chid, now_ms - GIVEN_UP_MS))
            late = [call.j for call in state.in_flight if call.j in old and call.state is CallState.SENT_MAYBE]
            if late and state.state in (PayerState.OPEN, PayerState.RESYNC, PayerState.DRAINING):
                await self.drop(chid, late[0])
            elif state.session and _waits_to_end(state):
                await self._greeting.begin(chid)


def _waits_to_end(state: Payer) -> bool:
    """A call that nobody wants any more, or that the close waits for, is still at work at the payee."""
    waiting = state.in_flight
    return bool(waiting) and (state.closing or any(call.state is CallState.DROPPING for call in waiting))


def _ended(call: Call, answer: Answer) -> Call:
    return structs.replace(
        call, state=ENDED[answer.outcome], price_florins=int(answer.charged_florins), resp=answer.resp
    )


_GONE = Call(j=1, oid="", req=b"", state=CallState.ABANDONED, price_max_florins=0, price_florins=0)
