"""The payer's hellos: one after every start, reconnection or doubt; no voucher leaves before it is answered.

A hello shows the payer's best voucher, signed for the coin that is there now, and its receipt; the answer shows what
the payee holds, of which only what bears this payer's own signature counts. Another carrier than p2pd may bring both.
Source: channel_protocol.md §4, §6, §8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from msgspec import structs

from common.channel_messages import (
    ANSWER_BYTES_MAX,
    HELLO_BACK_BYTES_MAX,
    VOUCHER_BYTES_MAX,
    Answer,
    Hello,
    HelloBack,
    Outcome,
    ShownCall,
    Voucher,
    open_message,
    open_voucher,
)
from common.codec import canonical, from_canonical
from common.contracts.channel_errors import BadChannelMessage
from common.contracts.escrow_base import Refused, WrongPhase
from common.errors import DuxError
from common.identity.purposes import Purpose
from common.store import Tx
from common.units import Did, Florins
from dux_escrowd.channel import facts as f
from dux_escrowd.channel import orders as o
from dux_escrowd.channel.carrying import Carrying
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.model import ENDED, Call, CallState, Payer, PayerState, call_of
from dux_escrowd.channel.shelf import Book
from dux_escrowd.channel.signing import ack_of, outpoint_of

PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # between hellos that are not answered, the last one over and over
PAGES_MAX = 1_000


class Greeting:
    """Sessions, seen from the payer."""

    def __init__(self, counter: Counter, carrying: Carrying) -> None:
        self._counter = counter
        self._carrying = carrying
        self._ledger = counter.ledger
        self._wanted: dict[str, asyncio.Event] = {}
        self._live: dict[str, asyncio.Event] = {}
        self.on_back: Callable[[str, Iterable[o.Order]], None] = lambda _chid, _effects: None

    def wanted(self, chid: str) -> None:
        """A session is wanted as soon as may be."""
        self._wanted.setdefault(chid, asyncio.Event()).set()
        self._wake.set()

    @property
    def _wake(self) -> asyncio.Event:
        return self._wanted.setdefault("", asyncio.Event())

    async def run(self) -> None:
        """Say hello wherever a session is wanted, until cancelled."""
        async with asyncio.TaskGroup() as group:
            running: dict[str, asyncio.Task[None]] = {}
            while True:
                self._wake.clear()
                for chid, event in list(self._wanted.items()):
                    if chid and event.is_set() and (chid not in running or running[chid].done()):
                        event.clear()
                        running[chid] = group.create_task(self._until_live(chid))
                await self._wake.wait()

    async def _until_live(self, chid: str) -> None:
        for attempt in range(1 << 30):
            state = self._ledger.payer(chid)
            if not state.nonce or state.session:
                break
            try:
                await self._say(chid)
            except (DuxError, WrongPhase, Refused) as error:
                self._counter.desk.log.info("hello waits", chid=chid, reason=error.message)
                await self._pause(chid, attempt)
        self._wake.set()

    async def _pause(self, chid: str, attempt: int) -> None:
        """Until it is time again, or somebody wants it now."""
        event = self._wanted.setdefault(chid, asyncio.Event())
        event.clear()
        try:
            async with asyncio.timeout(PAUSES_S[min(attempt, len(PAUSES_S) - 1)]):
                await event.wait()
        except TimeoutError:
            return

    async def _say(self, chid: str) -> None:
        other = Did(self._ledger.book(chid).other)
        await self.back(chid, await self._carrying.hello(other, await self.hello(chid)))

    async def begin(self, chid: str) -> None:
        """This side has started, or is in doubt: the session is over here until a hello is answered."""
        at, nonce = await self._counter.height(), self._counter.random.bytes(32)
        taken = await self._ledger.take(chid, f.Started(at=at, nonce=nonce))
        await self._counter.carry(chid, taken.effects)

    async def live(self, chid: str, wait_s: float) -> bool:
        """Wait until the channel has a session; whether it has."""
        event = self._live.setdefault(chid, asyncio.Event())
        if self._ledger.payer(chid).session:
            return True
        event.clear()
        self.wanted(chid)
        try:
            async with asyncio.timeout(wait_s):
                await event.wait()
        except TimeoutError:
            return bool(self._ledger.payer(chid).session)
        return True

    # --- what is said and heard ---------------------------------------------------------------------------------------

    async def hello(self, chid: str) -> bytes:
        """The signed hello for the nonce that waits."""
        book, state = self._ledger.book(chid), self._ledger.payer(chid)
        hello = Hello(
            v=1,
            chid=bytes.fromhex(chid),
            nonce=state.nonce,
            head=await self._head(book, state),
            ack=ack_of(state.receipt),
        )
        return await self._counter.signer.message(chid, Purpose.CHANNEL_HELLO, hello)

    async def _head(self, book: Book, state: Payer) -> bytes:
        """The best voucher, signed for the present coin: the newest call's body with the channel's highest amount."""
        rows = self._ledger.shelf.newest_calls(book.chid, 1)
        if not rows or state.coin is None or not state.cum_florins:
            return b""
        said = from_canonical(rows[0].voucher, Voucher, max_bytes=VOUCHER_BYTES_MAX)
        best = structs.replace(said, outpoint=outpoint_of(state.coin.outpoint), cum_florins=Florins(state.cum_florins))
        return await self._counter.signer.voucher(canonical(best))

    async def back(self, chid: str, data: bytes) -> None:
        """What the payee answered: checked, learnt, and what waited goes out again."""
        book = self._ledger.book(chid)
        purpose, limit = Purpose.CHANNEL_HELLO_BACK, HELLO_BACK_BYTES_MAX
        back, _ = open_message(data, HelloBack, pubkey=book.terms.payee_key, purpose=purpose, max_bytes=limit)
        if back.chid.hex() != chid:
            raise BadChannelMessage(chid=chid, reason="the answer to the hello is for another channel")
        head = open_voucher(back.head, book.terms.payer_key) if back.head else None
        shown = [self._shown(book, item) for item in back.calls]
        fact = f.HelloBackCame(
            at=await self._counter.height(),
            nonce=back.nonce,
            session=back.session,
            head_florins=int(head.cum_florins) if head else 0,
            head_j=head.j if head else 0,
            calls=tuple(plain for plain, _ in shown),
            more=back.more,
            next_nonce=self._counter.random.bytes(32),
        )

        def write(tx: Tx, before: Payer, after: Payer) -> None:
            self._keep(
                tx,
                before,
                after,
                [(plain, voucher, item.answer) for (plain, voucher), item in zip(shown, back.calls, strict=True)],
            )

        taken = await self._ledger.take(chid, fact, write)
        self._told(chid, taken.effects)
        await self._counter.carry(chid, taken.effects)

    def _shown(self, book: Book, item: ShownCall) -> tuple[f.Shown, Voucher]:
        """A call that the payee shows: by this payer's own voucher and the payee's own answer."""
        voucher = open_voucher(item.voucher, book.terms.payer_key)
        plain = f.Shown(
            j=voucher.j,
            oid=voucher.oid,
            req=voucher.req,
            cum_florins=int(voucher.cum_florins),
            price_max_florins=int(voucher.price_max_florins),
        )
        if not item.answer:
            return plain, voucher
        purpose, key = Purpose.CHANNEL_ANSWER, book.terms.payee_key
        answer, _ = open_message(item.answer, Answer, pubkey=key, purpose=purpose, max_bytes=ANSWER_BYTES_MAX)
        if (answer.j, answer.req) != (voucher.j, voucher.req):
            raise BadChannelMessage(chid=book.chid, reason="an answer is shown for another call than its voucher")
        charged = int(answer.charged_florins)
        return structs.replace(plain, outcome=answer.outcome, resp=answer.resp, charged_florins=charged), voucher

    def _keep(self, tx: Tx, before: Payer, after: Payer, shown: list[tuple[f.Shown, Voucher, bytes]]) -> None:
        """Rows of calls that were forgotten here or have ended meanwhile; vouchers that go out again change bodies."""
        shelf = self._ledger.shelf
        for plain, voucher, answer in shown:
            known = shelf.call(after.chid, voucher.j)
            call = call_of(after.calls, voucher.j) or _in_receipt(before, after, plain)
            if known is None and call is not None:
                shelf.put_call(tx, after.chid, call, canonical(voucher))
            if answer and call is not None and (known is None or not known.answer):
                shelf.end_call(tx, after.chid, call, answer, None)
        for call in before.in_flight:
            ended = call_of(after.calls, call.j)
            if ended is None and all(plain.j != call.j for plain, _, _ in shown):  # in the receipt already
                ended = structs.replace(call, state=CallState.REFUSED, price_florins=0)
            if ended is not None and ended.state is CallState.REFUSED:
                shelf.end_call(tx, after.chid, ended, b"", None)
        for call in after.in_flight:
            self._again(tx, after, call.j, known=call_of(before.calls, call.j) is not None)

    def _again(self, tx: Tx, after: Payer, j: int, *, known: bool) -> None:
        row, call = self._ledger.shelf.call(after.chid, j), call_of(after.calls, j)
        if row is None or call is None or not known or after.coin is None or not after.session:
            return
        said = from_canonical(row.voucher, Voucher, max_bytes=VOUCHER_BYTES_MAX)
        body = structs.replace(
            said,
            outpoint=outpoint_of(after.coin.outpoint),
            session=after.session,
            cum_florins=Florins(after.cum_florins),
            price_max_florins=Florins(call.price_max_florins),
            ack=ack_of(after.receipt),
        )
        self._ledger.shelf.put_call(tx, after.chid, call, canonical(body))

    def _told(self, chid: str, effects: Iterable[o.Order]) -> None:
        if self._ledger.payer(chid).session:
            self._live.setdefault(chid, asyncio.Event()).set()
        self.on_back(chid, effects)


def _in_receipt(before: Payer, after: Payer, shown: f.Shown) -> Call | None:
    """A call that waited, has ended as shown, and is in the receipt already, so that the state holds it no more."""
    waited = call_of(before.calls, shown.j)
    if waited is None or shown.outcome is None or waited.req != shown.req or shown.j >= after.receipt.low:
        return None
    charged = min(shown.charged_florins, waited.price_max_florins) if shown.outcome is Outcome.OK else 0
    return structs.replace(waited, state=ENDED[shown.outcome], price_florins=charged, resp=shown.resp or bytes(32))


def wants_session(state: Payer) -> bool:
    """Whether calls could go over this channel once it has a session."""
    return state.state in (PayerState.OPEN_SEEN, PayerState.OPEN, PayerState.RESYNC)
