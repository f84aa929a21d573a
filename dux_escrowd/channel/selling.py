"""The payee's side: opening, hellos, vouchers with their calls, and how calls end.

Write order, each a decision on disk before what follows (channel_protocol.md §5): voucher and request -> ADMITTED,
then RUNNING (both in one write where no copy has to be placed between them), the handler's work, response and outcome
-> STORED, and only then the answer leaves. Signatures are checked before a table sees anything.
"""

from __future__ import annotations

import asyncio

from msgspec import structs

from common.channel_messages import (
    NO_ROOT,
    VOUCHER_BYTES_MAX,
    Answer,
    Outcome,
    Voucher,
    is_channel_signature,
)
from common.codec import from_canonical
from common.contracts import channel as c
from common.contracts.channel_errors import BadChannelMessage, CallUnknown, ChannelBusy
from common.identity.purposes import Purpose
from common.identity.signed import decode_signed
from common.rpc.method import Done
from common.store import Tx
from common.units import Did, Florins
from dux_escrowd.channel import facts as f
from dux_escrowd.channel import orders as o
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.ledger import Taken
from dux_escrowd.channel.leftover import Leftover
from dux_escrowd.channel.model import AT_WORK, OUTCOME_OF, Call, CallState, Channel, Payee, call_of
from dux_escrowd.channel.offers import Offers
from dux_escrowd.channel.payee_steps import conflicting
from dux_escrowd.channel.shelf import Book, CallRow, ChannelShelf
from dux_escrowd.channel.signing import fits_coin, receipt_of


class Selling:
    """What a payee's node answers, for its own programs and for payers."""

    def __init__(self, counter: Counter, offers: Offers) -> None:
        self._counter = counter
        self._ledger = counter.ledger
        self._offers = offers
        self._fuel: dict[tuple[str, int], asyncio.Event] = {}
        desk = counter.desk
        self.leftover = Leftover(counter, desk.clock, desk.settings.channel_silent_s, self._left)

    # --- calls --------------------------------------------------------------------------------------------------------

    async def admit(self, params: c.Admit) -> c.Admission:
        """Check and store a voucher with its call; admitted ones are RUNNING when this returns."""
        voucher, book, state = self._opened(params.voucher)
        if voucher.req != params.req:
            raise BadChannelMessage(chid=book.chid, reason="the voucher is for another request than the one that came")
        wanted = self._counter.royalty(params.developer, params.royalty_bps)
        if (book.terms.developer_script, book.terms.royalty_bps) != wanted:
            raise BadChannelMessage(chid=book.chid, reason="this channel does not pay the developer of what is called")
        fact, call = await self._fact(voucher, book, state, params.what), c.CallRef(chid=book.chid, j=voucher.j)

        def write(tx: Tx, before: Payee, after: Payee) -> None:
            self._keep_voucher(tx, before, after, voucher, params.voucher)
            if conflicting(before, fact):
                self._ledger.shelf.keep_fault(tx, book.chid, voucher.j, params.voucher)
            if call_of(before.calls, voucher.j) is None and call_of(after.calls, voucher.j) is not None:
                self.leftover.begins(call, params.worker)  # also when the program gets no answer any more

        taken = await self._ledger.take(book.chid, fact, write, _runs_at_once)
        if isinstance(taken.effects[-1], o.Execute):
            self.leftover.begins(call, params.worker)
        said = await self._admission(taken, book, voucher, fact)
        running = said.reason == o.Reason.RUNNING
        return structs.replace(said, worker=self.leftover.worker(call)) if running else said

    def _opened(self, data: bytes) -> tuple[Voucher, Book, Payee]:
        """The voucher under its channel's payer key, its coin part for the coin that is there."""
        body = decode_signed(data, max_bytes=VOUCHER_BYTES_MAX)
        voucher = from_canonical(body.body, Voucher, max_bytes=VOUCHER_BYTES_MAX)
        chid = voucher.chid.hex()
        state, book = self._ledger.payee(chid), self._ledger.book(chid)
        own = len(body.sigs) == 1 and is_channel_signature(
            book.terms.payer_key, Purpose.CHANNEL_VOUCHER, body.body, body.sigs[0]
        )
        if not own or voucher.network != book.terms.network:
            raise BadChannelMessage(chid=chid, reason="the voucher is not signed by the channel's payer")
        there = state.coin is not None and str(voucher.outpoint) == state.coin.outpoint
        if there and state.coin is not None and not fits_coin(voucher, book.terms, state.coin):
            raise BadChannelMessage(chid=chid, reason="the voucher's coin part does not sign that state of the coin")
        return voucher, book, state

    async def _fact(self, voucher: Voucher, book: Book, state: Payee, what: str) -> f.VoucherCame:
        at, fresh = await self._counter.at()
        offer = self._offers.named(voucher.offer)
        valid = offer is not None and at <= offer.valid_to and (not what or offer.what == what)
        price = int(offer.price_florins) if offer else 0
        known = call_of(state.calls, voucher.j)
        return f.VoucherCame(
            at=at,
            outpoint=str(voucher.outpoint),
            session=voucher.session,
            j=voucher.j,
            oid=voucher.oid,
            req=voucher.req,
            cum_florins=int(voucher.cum_florins),
            price_max_florins=int(voucher.price_max_florins),
            price_florins=price,
            offer_valid=valid,
            receipt=receipt_of(voucher.ack),
            fresh=fresh,
            archived=None if known else self._archived(book.chid, state, voucher),
        )

    def _archived(self, chid: str, state: Payee, voucher: Voucher) -> Call | None:
        """What the store still knows of an acknowledged call with this number or this oid."""
        found = self._ledger.shelf.either(chid, voucher.j, voucher.oid)
        return None if found is None or call_of(state.calls, found.j) else found

    def _keep_voucher(self, tx: Tx, before: Payee, after: Payee, voucher: Voucher, data: bytes) -> None:
        shelf: ChannelShelf = self._ledger.shelf
        cum, chid = int(voucher.cum_florins), after.chid
        if cum in after.cums and cum not in before.cums:
            shelf.put_voucher(tx, chid, after.outpoint, cum, voucher.j, data)
            shelf.drop_vouchers(tx, chid, after.outpoint, set(before.cums).difference(after.cums))
        call = call_of(after.calls, voucher.j)
        if call is not None and call != call_of(before.calls, voucher.j) and call.req == voucher.req:
            shelf.put_call(tx, chid, call, data)
        if after.receipt.low > before.receipt.low:
            shelf.drop_responses(tx, chid, after.receipt.low)

    async def _admission(self, taken: Taken, book: Book, voucher: Voucher, fact: f.VoucherCame) -> c.Admission:
        call = c.CallRef(chid=book.chid, j=voucher.j)
        said = c.Admission(
            verdict="admitted",
            call=call,
            oid=voucher.oid,
            payer=Did(book.terms.payer),
            price_florins=Florins(fact.price_florins),
            price_max_florins=voucher.price_max_florins,
        )
        last = taken.effects[-1]
        if isinstance(last, o.Execute):
            if isinstance(taken.effects[0], o.Mirror):
                await self._after_mirror(taken, book, voucher.j)
            return said
        if isinstance(last, o.AddFuel):
            if isinstance(taken.effects[0], o.Mirror):
                await self._mirrored(taken.next, book)
            self._wake(book.chid, voucher.j)
            return _refused(said, o.Reason.RUNNING, 0, 0, 0)
        if isinstance(last, o.SendAnswer):
            return await self._stored(said, book, voucher)
        if isinstance(last, o.Refuse):
            return _refused(said, last.reason, last.held_florins, last.owed_florins, last.missing_florins)
        raise TypeError(f"a voucher led to {last!r}")

    async def _after_mirror(self, taken: Taken, book: Book, j: int) -> None:
        """The copy first; without it the call fails and costs nothing."""
        if not await self._mirrored(taken.next, book):
            await self._end(book, j, Outcome.FAILED, bytes(32), None, 0)
            raise ChannelBusy(chid=book.chid, state=taken.next.state.value, reason="no copy of the voucher was placed")
        at, _ = await self._counter.at()
        await self._ledger.take(book.chid, f.RunStarted(at=at, j=j))

    async def _mirrored(self, after: Channel, book: Book) -> bool:
        """Whether a copy of the best voucher lies elsewhere now."""
        held, owed = (after.held_florins, after.owed_florins) if isinstance(after, Payee) else (0, 0)
        if not await self._counter.mirror(book, held):
            return False
        at, _ = await self._counter.at()
        await self._ledger.take(book.chid, f.Mirrored(at=at, cum_florins=held, owed_florins=owed))
        return True

    async def _stored(self, said: c.Admission, book: Book, voucher: Voucher) -> c.Admission:
        row = self._ledger.shelf.call(book.chid, voucher.j) or self._ledger.shelf.call_by_oid(book.chid, voucher.oid)
        if row is None:
            raise CallUnknown(chid=book.chid, name=f"number {voucher.j}")
        answer = row.answer or await self.answer_again(book, row)
        return structs.replace(said, verdict="stored", answer=answer, response=row.response)

    # --- the end of a call --------------------------------------------------------------------------------------------

    async def finish(self, params: c.Finish) -> c.Finished:
        """Store how a call ended, then answer; the same call twice gets the first answer."""
        book, state = self._ledger.book(params.call.chid), self._ledger.payee(params.call.chid)
        call = call_of(state.calls, params.call.j)
        if call is None or call.state not in AT_WORK:
            return await self._finished_before(book, params.call.j)
        charged = call.price_florins if params.charged_florins is None else int(params.charged_florins)
        charged = charged if params.outcome is Outcome.OK else 0
        if not state.counts(call):
            await self._end(book, params.call.j, Outcome.FAILED, NO_ROOT, None, 0)
            reason = f"the payer's own receipt says that call {params.call.j} is answered; hand nothing out"
            raise ChannelBusy(chid=book.chid, state=state.state.value, reason=reason)
        answer = await self._end(book, params.call.j, params.outcome, params.resp, params.response, charged)
        return c.Finished(answer=answer)

    async def at_work(self, params: c.AtWork) -> Done:
        """A program says which calls it holds."""
        self.leftover.heard(params.calls)
        return Done()

    async def _left(self, call: c.CallRef) -> None:
        """Nobody is at work at it any more: the payer gets its credit back."""
        await self._end(self._ledger.book(call.chid), call.j, Outcome.FAILED, NO_ROOT, None, 0)

    async def _finished_before(self, book: Book, j: int) -> c.Finished:
        row = self._ledger.shelf.call(book.chid, j)
        if row is None:
            raise CallUnknown(chid=book.chid, name=f"number {j}")
        return c.Finished(answer=row.answer or await self.answer_again(book, row))

    async def _end(
        self, book: Book, j: int, outcome: Outcome, resp: bytes, response: bytes | None, charged: int
    ) -> bytes:
        """Sign the answer, write it with the outcome, and only then hand it out."""
        state, (at, _) = self._ledger.payee(book.chid), await self._counter.at()
        call = call_of(state.calls, j)
        if call is None:
            raise CallUnknown(chid=book.chid, name=f"number {j}")
        owed = state.owed_florins - call.price_florins + charged
        answer = await self._sign(book, call, outcome, resp, charged, state.held_florins, owed, at)
        fact = f.HandlerDone(at=at, j=j, outcome=outcome, resp=resp, charged_florins=charged)

        def write(tx: Tx, _before: Payee, after: Payee) -> None:
            ended = call_of(after.calls, j)
            if ended is not None:
                self._ledger.shelf.end_call(tx, book.chid, ended, answer, response)

        await self._ledger.take(book.chid, fact, write)
        self.leftover.ends(c.CallRef(chid=book.chid, j=j))
        self._wake(book.chid, j)
        return answer

    async def _sign(
        self, book: Book, call: Call, outcome: Outcome, resp: bytes, charged: int, held: int, owed: int, at: int
    ) -> bytes:
        answer = Answer(
            v=1,
            chid=bytes.fromhex(book.chid),
            session=self._ledger.payee(book.chid).session or bytes(32),
            j=call.j,
            oid=call.oid,
            req=call.req,
            resp=resp,
            outcome=outcome,
            charged_florins=Florins(charged),
            held_florins=Florins(held),
            owed_florins=Florins(owed),
            height=at,
        )
        return await self._counter.signer.message(book.chid, Purpose.CHANNEL_ANSWER, answer)

    async def answer_again(self, book: Book, row: CallRow) -> bytes:
        """The answer of a call that a crash ended before it could be signed: signed and kept now."""
        state, (at, _) = self._ledger.payee(book.chid), await self._counter.at()
        call = call_of(state.calls, row.j) or row.call
        outcome = OUTCOME_OF.get(call.state)
        if outcome is None:
            raise ChannelBusy(chid=book.chid, state=state.state.value, reason=f"call {row.j} is not answered yet")
        charged = call.price_florins if call.state is CallState.OK else 0
        held, owed = state.held_florins, state.owed_florins
        answer = await self._sign(book, call, outcome, call.resp, charged, held, owed, at)
        with self._ledger.store.transaction() as tx:
            self._ledger.shelf.end_call(tx, book.chid, call, answer, row.response)
        return answer

    async def chunk(self, params: c.Chunk) -> c.ChunkVerdict:
        """May the next chunk leave? Waits for fuel as long as it is told to."""
        chid, j, price = params.call.chid, params.call.j, int(params.price_florins)
        deadline = asyncio.get_running_loop().time() + params.wait_s
        while True:
            at, _ = await self._counter.at()
            self.leftover.heard((params.call,))
            fuel = self._fuel.setdefault((chid, j), asyncio.Event())
            fuel.clear()
            taken = await self._ledger.take(chid, f.ChunkWanted(at=at, j=j, price_florins=price))
            last = taken.effects[-1]
            if isinstance(last, o.SendChunk):
                return c.ChunkVerdict(go=True, missing_florins=Florins(0))
            missing = last.missing_florins if isinstance(last, o.Refuse) else 0
            left = deadline - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    await fuel.wait()
            except TimeoutError:
                return c.ChunkVerdict(go=False, missing_florins=Florins(missing))

    def _wake(self, chid: str, j: int) -> None:
        waiting = self._fuel.pop((chid, j), None)
        if waiting is not None:
            waiting.set()


def _runs_at_once(after: Payee, effects: tuple[o.Order, ...]) -> f.Fact | None:
    """ADMITTED and RUNNING share one write where nothing has to happen between them."""
    if len(effects) == 1 and isinstance(effects[0], o.Execute):
        return f.RunStarted(at=after.used_at, j=effects[0].j)
    return None


def _refused(said: c.Admission, reason: o.Reason, held: int, owed: int, missing: int) -> c.Admission:
    return structs.replace(
        said,
        verdict="refused",
        reason=reason.value,
        held_florins=Florins(held),
        owed_florins=Florins(owed),
        missing_florins=Florins(missing),
    )
