"""The payee's side of sessions and of the last state: hellos, what is shown to a payer, `final`.

A hello is answered at any time, also after the end: a payer that lost its books learns from it what it has signed.
Source: channel_protocol.md §3, §4, §8.
"""

from __future__ import annotations

from common.chain.channel import BadState, state_digest
from common.channel_messages import (
    CALLS_SHOWN_MAX,
    FINAL_BYTES_MAX,
    HELLO_BYTES_MAX,
    VOUCHER_BYTES_MAX,
    Final,
    Hello,
    HelloBack,
    ShownCall,
    Voucher,
    has_coin_part,
    open_message,
    session_of,
)
from common.codec import from_canonical
from common.contracts.channel_errors import BadChannelMessage, ChannelBusy
from common.contracts.escrow_base import Refused, WrongPhase
from common.identity.purposes import Purpose
from common.identity.signed import decode_signed
from common.store import Tx
from dux_escrowd.channel import facts as f
from dux_escrowd.channel import orders as o
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.model import OUTCOME_OF, Payee, call_of
from dux_escrowd.channel.selling import Selling
from dux_escrowd.channel.shelf import Book, CallRow
from dux_escrowd.channel.signing import fits_coin, receipt_of


class Sessions:
    """What a payee's node answers to its payers."""

    def __init__(self, counter: Counter, selling: Selling) -> None:
        self._counter = counter
        self._ledger = counter.ledger
        self._selling = selling

    async def take_hello(self, data: bytes, sender: str) -> bytes:
        """Begin a session: the payer's head and receipt are taken, what is held here is shown."""
        body = decode_signed(data, max_bytes=HELLO_BYTES_MAX).body
        chid = from_canonical(body, Hello, max_bytes=HELLO_BYTES_MAX).chid.hex()
        book = self._ledger.book(chid)
        purpose, key = Purpose.CHANNEL_HELLO, book.terms.payer_key
        hello, _ = open_message(data, Hello, pubkey=key, purpose=purpose, max_bytes=HELLO_BYTES_MAX)
        if sender and sender != book.terms.payer:
            raise BadChannelMessage(chid=chid, reason="the hello comes from another node than the channel's payer")
        await self._counter.watch(book)
        state, (at, _) = self._ledger.payee(chid), await self._counter.at()
        head, head_data = self._head_of(hello, book, state)
        session = session_of(hello.nonce, self._counter.random.bytes(32))
        fact = f.HelloCame(
            at=at,
            payer_nonce=hello.nonce,
            session=session,
            outpoint=str(head.outpoint) if head else "",
            head_florins=int(head.cum_florins) if head else 0,
            receipt=receipt_of(hello.ack),
        )

        def write(tx: Tx, before: Payee, after: Payee) -> None:
            if head is not None:
                self._keep_head(tx, before, after, head, head_data)

        taken = await self._ledger.take(chid, fact, write)
        last = taken.effects[-1]
        if not isinstance(last, o.SendHelloBack):
            raise TypeError(f"a hello led to {last!r}")
        if not last.session and not taken.next.calls and taken.next.coin is None:
            raise ChannelBusy(chid=chid, state=taken.next.state.value, reason="its coin is in no block seen here")
        return await self._hello_back(book, last)

    def _head_of(self, hello: Hello, book: Book, state: Payee) -> tuple[Voucher | None, bytes]:
        if not hello.head:
            return None, b""
        head, _ = open_message(
            hello.head, Voucher, pubkey=book.terms.payer_key, purpose=Purpose.CHANNEL_VOUCHER,
            max_bytes=VOUCHER_BYTES_MAX,
        )  # fmt: skip
        fits = state.coin is not None and fits_coin(head, book.terms, state.coin)
        return (head, hello.head) if fits else (None, b"")

    def _keep_head(self, tx: Tx, before: Payee, after: Payee, head: Voucher, data: bytes) -> None:
        cum = int(head.cum_florins)
        if cum in after.cums and cum not in before.cums:
            self._ledger.shelf.put_voucher(tx, after.chid, after.outpoint, cum, head.j, data)
            gone = set(before.cums).difference(after.cums)
            self._ledger.shelf.drop_vouchers(tx, after.chid, after.outpoint, gone)

    async def _hello_back(self, book: Book, order: o.SendHelloBack) -> bytes:
        rows = self._ledger.shelf.calls_from(book.chid, order.low, CALLS_SHOWN_MAX + 1)
        shown = [await self._shown(book, row) for row in rows[:CALLS_SHOWN_MAX]]
        back = HelloBack(
            v=1,
            chid=bytes.fromhex(book.chid),
            nonce=order.nonce,
            session=order.session or bytes(32),
            head=self._ledger.shelf.head(book.chid) or b"",
            calls=tuple(shown),
            more=len(rows) > CALLS_SHOWN_MAX,
        )
        return await self._counter.signer.message(book.chid, Purpose.CHANNEL_HELLO_BACK, back)

    async def _shown(self, book: Book, row: CallRow) -> ShownCall:
        state = self._ledger.payee(book.chid)
        call = call_of(state.calls, row.j) or row.call
        ended = call.state in OUTCOME_OF
        answer = row.answer or (await self._selling.answer_again(book, row) if ended else b"")
        return ShownCall(voucher=row.voucher, answer=answer)

    async def take_final(self, data: bytes, sender: str) -> tuple[bool, str]:
        """Close with the last state that the payer signed, if it pays what is owed."""
        body = decode_signed(data, max_bytes=FINAL_BYTES_MAX).body
        chid = from_canonical(body, Final, max_bytes=FINAL_BYTES_MAX).chid.hex()
        book, state = self._ledger.book(chid), self._ledger.payee(chid)
        key = book.terms.payer_key
        final, _ = open_message(data, Final, pubkey=key, purpose=Purpose.CHANNEL_FINAL, max_bytes=FINAL_BYTES_MAX)
        if sender and sender != book.terms.payer:
            raise BadChannelMessage(chid=chid, reason="the last state comes from another node than the payer")
        if state.coin is None or str(final.outpoint) != state.coin.outpoint:
            return False, state.state.value
        self._check_final(final, book, state.coin.value_florins)
        at, _ = await self._counter.at()
        fact = f.FinalCame(
            at=at, outpoint=str(final.outpoint), cum_florins=int(final.cum_florins), next_script=final.next_script
        )

        def write(tx: Tx, _before: Payee, _after: Payee) -> None:
            self._ledger.note(tx, chid, final=data)

        try:
            taken = await self._ledger.take(chid, fact, write)
        except (WrongPhase, Refused):
            return False, self._ledger.payee(chid).state.value
        await self._counter.carry(chid, taken.effects)
        return True, taken.next.state.value

    @staticmethod
    def _check_final(final: Final, book: Book, value_florins: int) -> None:
        try:
            cum, script = int(final.cum_florins), final.next_script
            digest = state_digest(book.terms, final.outpoint, value_florins, cum, script)
        except BadState as error:
            raise BadChannelMessage(chid=book.chid, reason=error.message) from error
        if not has_coin_part(final, book.terms.payer_key, digest):
            raise BadChannelMessage(chid=book.chid, reason="the last state's coin part does not sign that state")
