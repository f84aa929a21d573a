"""Carries out what channels' tables order: funding, closes, refunds, copies of closes, hellos and last states.

Promise: everything here may be done twice. What cannot be done now (a wallet that is locked, a peer that is away) is
told in the log and done again: the tables repeat what they want at later blocks, and `again` after every start.
Source: channel_protocol.md §3, §6, §8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from common.chain.tx import Outpoint
from common.channel_messages import FINAL_BYTES_MAX, Final
from common.codec import from_canonical
from common.contracts import peer_channel as peer
from common.contracts import wallet_chain as chain
from common.contracts import wallet_channel as purse
from common.errors import DuxError
from common.identity.signed import decode_signed
from common.units import Did, Florins
from dux_escrowd.channel import facts as f
from dux_escrowd.channel import orders as o
from dux_escrowd.channel.carrying import Carrying
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.greeting import Greeting
from dux_escrowd.channel.model import Payee, PayeeState, Payer, PayerState
from dux_escrowd.channel.safekeeping import Safekeeping
from dux_escrowd.channel.shelf import ROLLED, Book
from dux_escrowd.channel.signing import outpoint_of
from dux_escrowd.channel.watchers import Watchers, coin_part


class WalletHands:
    """Orders to wallet and peers."""

    def __init__(
        self, counter: Counter, greeting: Greeting, safe: Safekeeping, *, carrying: Carrying, watchers: Watchers
    ) -> None:
        self._counter = counter
        self._carrying = carrying
        self._watchers = watchers
        self._safe = safe
        self._ledger = counter.ledger
        self._desk = counter.desk
        self._greeting = greeting
        self._paying = asyncio.Lock()  # no funding starts between the look for one and what follows from it

    async def carry(self, chid: str, effects: Iterable[o.Order]) -> None:
        """Each in its turn; one that fails is told and keeps none of the others."""
        for order in effects:
            try:
                await self._one(chid, order)
            except DuxError as error:
                self._desk.log.info("channel order waits", chid=chid, order=type(order).__name__, reason=error.message)

    async def _one(self, chid: str, order: o.Order) -> None:
        match order:
            case o.Fund():
                await self._fund(chid)
            case o.Withdraw():
                await self._withdraw(chid)
            case o.Close():
                await self._close(chid, order)
            case o.Refund():
                await self._refund(chid, order)
            case o.SendFinal():
                await self._final(chid, order)
            case o.AskHello():
                await self._ask_hello(chid)
            case o.SendHello():
                self._greeting.wanted(chid)
            case o.Tell(news=o.News.OPENED | o.News.CLOSED | o.News.LOST):
                self._safe.want(chid)
            case _:
                return

    async def _ask_hello(self, chid: str) -> None:
        did = Did(self._ledger.book(chid).other)
        await self._desk.call(did, peer.ASK_HELLO, peer.HelloWanted(chid=bytes.fromhex(chid)))

    # --- the payee's --------------------------------------------------------------------------------------------------

    async def _close(self, chid: str, order: o.Close) -> None:
        book, state = self._ledger.book(chid), self._ledger.payee(chid)
        if state.coin is None:
            return
        wish = purse.CloseWish(
            request_id=f"{chid}/close/{order.cum_florins}/{order.step}/{state.acted_at}",
            chid=chid,
            outpoint=outpoint_of(state.coin.outpoint),
            cum_florins=Florins(order.cum_florins),
            payer_sig=self._payer_sig(book, state, order),
            next_script=order.next_script,
            step=order.step,
        )
        made = await self._desk.flopd.call(purse.PURSE_CLOSE, wish)
        self._desk.log.info("channel closing", chid=chid, txid=made.txid, how=made.how, step=order.step)

    def _payer_sig(self, book: Book, state: Payee, order: o.Close) -> bytes:
        """The payer's coin signature of this state: from its last word, or from the voucher of this amount."""
        if order.final:
            body = decode_signed(book.final, max_bytes=FINAL_BYTES_MAX).body
            return from_canonical(body, Final, max_bytes=FINAL_BYTES_MAX).coin_sig
        return coin_part(self._ledger.shelf, book.chid, state.outpoint, order.cum_florins)

    async def mirror(self, book: Book, cum_florins: int) -> bool:
        """A copy of the books to their keepers, and the whole close at this amount to the watchers that were named."""
        await self._safe.place(book.chid)
        return await self._watchers.at_step(book, cum_florins)

    async def copied(self, chid: str) -> None:
        """To every keeper that answers now."""
        await self._safe.place(chid)

    # --- the payer's --------------------------------------------------------------------------------------------------

    async def _fund(self, chid: str) -> None:
        async with self._paying:
            state = self._ledger.payer(chid)
            if state.state is PayerState.FUND_SENT and not state.closing:
                await self._desk.flopd.call(purse.PURSE_FUND, purse.FundChannel(request_id=f"{chid}/fund", chid=chid))

    async def _withdraw(self, chid: str) -> None:
        """The channel ends without a coin, unless one may still come: then its close follows the coin."""
        async with self._paying:
            if not await self._may_come(chid):
                fact = f.NotFunded(at=await self._counter.height())
                await self.carry(chid, (await self._ledger.take(chid, fact)).effects)

    async def _may_come(self, chid: str) -> bool:
        """A payment that the wallet made and nothing has undone, a close that pays it on, or a coin that waits."""
        book = self._ledger.book(chid)
        if book.opening == ROLLED and self._ledger.shelf.opens(chid):
            return True
        paid = await self._desk.flopd.call(purse.PURSE_FUNDING, purse.ChannelAsked(chid=chid))
        asked = chain.ScriptAsked(script=book.output_script)
        await self._desk.read_again(chid, book.output_script, book.created_height)
        coins = (await self._desk.flopd.call(chain.CHAIN_COINS, asked)).coins
        least = self._ledger.state(chid).rules.coin_min_florins
        return bool(paid.txid) or any(int(coin.value_florins) >= least for coin in coins)

    async def _refund(self, chid: str, order: o.Refund) -> None:
        state = self._ledger.payer(chid)
        if state.coin is None:
            return
        request_id = f"{chid}/refund/{order.step}/{state.acted_at}"
        wish = purse.RefundWish(
            request_id=request_id, chid=chid, outpoint=outpoint_of(state.coin.outpoint), step=order.step
        )
        made = await self._desk.flopd.call(purse.PURSE_REFUND, wish)
        self._desk.log.info("channel refunded", chid=chid, txid=made.txid)

    async def take_back(self, chid: str, outpoint: Outpoint, step: int) -> None:
        """An output beside the channel's coin goes back to its payer; what cannot be done now is tried again."""
        request_id = f"{chid}/{outpoint.txid[:40]}:{outpoint.vout}/{step}"  # an id has 128 characters at most
        wish = purse.RefundWish(request_id=request_id, chid=chid, outpoint=outpoint, step=step)
        try:
            made = await self._desk.flopd.call(purse.PURSE_REFUND, wish)
        except DuxError as error:
            self._desk.log.info("further output waits", chid=chid, outpoint=str(outpoint), reason=error.message)
        else:
            self._desk.log.info("further output taken back", chid=chid, outpoint=str(outpoint), txid=made.txid)

    async def _final(self, chid: str, order: o.SendFinal) -> None:
        book, state = self._ledger.book(chid), self._ledger.payer(chid)
        if state.coin is None:
            return
        wish = purse.SignFinal(
            chid=chid,
            outpoint=outpoint_of(state.coin.outpoint),
            cum_florins=Florins(order.cum_florins),
            next_chid=book.opening.decode() if order.next_script else "",
        )
        signed = await self._desk.flopd.call(purse.PURSE_FINAL, wish)
        said = await self._carrying.final(Did(book.other), signed.envelope)
        self._desk.log.info("last state said", chid=chid, taken=said.taken, state=said.state)

    # --- after a start ------------------------------------------------------------------------------------------------

    async def again(self, chid: str) -> None:
        """What the state wants and may not have been done before this daemon ended."""
        state = self._ledger.state(chid)
        if isinstance(state, Payer) and state.state is PayerState.FUND_SENT and state.coin is None:
            if state.closing:
                await self.carry(chid, (o.Withdraw(),))
            elif self._ledger.book(chid).opening != ROLLED:  # that one is funded by another channel's close
                await self.carry(chid, (o.Fund(),))
        if isinstance(state, Payer) and state.state is PayerState.REFUND_SENT:
            await self.carry(chid, (o.Refund(step=state.steps),))
        if isinstance(state, Payee) and state.state is PayeeState.CLOSE_SENT and state.closing is not None:
            closing = state.closing
            order = o.Close(
                cum_florins=closing.cum_florins, final=closing.final, next_script=closing.next_script, step=state.steps
            )
            await self.carry(chid, (order,))
