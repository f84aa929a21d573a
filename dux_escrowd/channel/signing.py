"""What is signed for channels and how it is checked: the wallet signs many at a time, this module makes the bodies.

Promise: while one batch is at the wallet the next one gathers, so that thirty calls in flight cost a few round trips
and a single call waits for nobody. No key is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from common.chain.channel import BadState, ChannelTerms, state_digest
from common.chain.tx import Outpoint
from common.channel_messages import Ack, Voucher, has_coin_part
from common.codec import Canon, canonical
from common.contracts import wallet_channel as purse
from common.errors import DuxError
from common.identity.purposes import Purpose
from common.rpc.client import Client
from common.units import Florins
from dux_escrowd.channel.model import Coin, Receipt

T = TypeVar("T")
NO_SIG = bytes(8)  # stands in a voucher's body until the wallet has filled its coin part in


class Batcher(Generic[T]):
    """Collects single wishes into calls of many."""

    def __init__(self, ask: Callable[[list[T]], Awaitable[Sequence[bytes]]], limit: int) -> None:
        self._ask, self._limit = ask, limit
        self._waiting: list[tuple[T, asyncio.Future[bytes]]] = []
        self._running: asyncio.Future[None] | None = None

    async def one(self, wish: T) -> bytes:
        """The answer to one wish; what the call raises is raised to everybody in it."""
        waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append((wish, waiter))
        if self._running is None:
            self._running = asyncio.ensure_future(self._run())
        return await waiter

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                await self._answer(batch)
        finally:
            self._running = None

    async def _answer(self, batch: list[tuple[T, asyncio.Future[bytes]]]) -> None:
        try:
            answers: Sequence[bytes | Exception] = await self._ask([wish for wish, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever wished is told
            answers = [error] * len(batch)
        for (_, waiter), answer in zip(batch, answers, strict=True):
            if waiter.done():
                continue
            if isinstance(answer, Exception):
                waiter.set_exception(answer)
            else:
                waiter.set_result(answer)


class Signer:
    """Signatures of the channels' keys, by flopd."""

    def __init__(self, flopd: Client) -> None:
        self._flopd = flopd
        self._vouchers = Batcher(self._sign_vouchers, purse.SIGNED_AT_ONCE)
        self._messages = Batcher(self._sign_messages, purse.SIGNED_AT_ONCE)

    async def voucher(self, body: bytes) -> bytes:
        """The envelope of a voucher's body, coin part filled in."""
        try:
            return await self._vouchers.one(body)
        except DuxError:  # one bad voucher spoils its batch: alone, each is told its own fault
            return (await self._sign_vouchers([body]))[0]

    async def message(self, chid: str, purpose: Purpose, value: Canon) -> bytes:
        """The envelope of a message."""
        return await self._messages.one(purse.ToSign(chid=chid, purpose=purpose.value, body=canonical(value)))

    async def _sign_vouchers(self, bodies: list[bytes]) -> Sequence[bytes]:
        answer = await self._flopd.call(purse.PURSE_VOUCHERS, purse.SignVouchers(vouchers=bodies))
        return answer.envelopes

    async def _sign_messages(self, messages: list[purse.ToSign]) -> Sequence[bytes]:
        answer = await self._flopd.call(purse.PURSE_MESSAGES, purse.SignMessages(messages=messages))
        return answer.envelopes


def ack_of(receipt: Receipt) -> Ack:
    """The receipt as it travels."""
    return Ack(low=receipt.low, root=receipt.root, bits=receipt.bits, paid_florins=Florins(receipt.paid_florins))


def receipt_of(ack: Ack) -> Receipt:
    """The receipt that came."""
    return Receipt(low=ack.low, root=ack.root, bits=ack.bits, paid_florins=int(ack.paid_florins))


def outpoint_of(text: str) -> Outpoint:
    """The outpoint in `txid:n`."""
    txid, _, vout = text.rpartition(":")
    return Outpoint(txid, int(vout))


def fits_coin(voucher: Voucher, terms: ChannelTerms, coin: Coin) -> bool:
    """Whether a voucher's coin part is the payer's signature of that state of this coin; False for another coin."""
    if str(voucher.outpoint) != coin.outpoint:
        return False
    cum = int(voucher.cum_florins)
    try:
        digest = state_digest(terms, voucher.outpoint, coin.value_florins, cum)
    except BadState:
        return False
    return has_coin_part(voucher, terms.payer_key, digest)
