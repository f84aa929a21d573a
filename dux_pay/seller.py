"""One paid call at the seller, whatever server it came through: 402, admission, the handler's time, the answer.

Promises: nothing of a body is read before a voucher's form was looked at, and never more than the limit or for longer
than the deadline; a handler runs once per admitted call; what it answered is on the disk, with the channel's books,
before anybody sees it; a repeat gets the same bytes. Knows no server: `aiohttp_paid`, `asgi` and `proxy` bring requests
here. Source: channel_protocol.md §5 to §7.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from common.channel_messages import Outcome, request_hash
from common.clock import Clock
from common.contracts.channel import (
    ADMIT,
    FINISH,
    RESPONSE_BYTES_MAX,
    Admission,
    Admit,
    CallRef,
    Finish,
)
from common.contracts.wallet_jws import WALLET_SIGN_RECEIPT, ReceiptToSign
from common.errors import DuxError
from common.network import NetworkProfile
from common.rpc.client import Client
from common.rpc.patience import patiently
from common.units import Florins
from dux_pay.answers import Answered, Headers, Shelf, kept_of, packed, typed, unpacked
from dux_pay.calls import Asked, BodyTooSlow, OtherPayload, Payment, Reply, reason_of
from dux_pay.headers import (
    RECEIPTS,
    REQUIRED,
    RESPONSE,
    SCHEME,
    Settlement,
    answer_in,
    decode_payload,
    encode,
    network_name,
    open_shown_voucher,
    show_answer,
)
from dux_pay.holding import Holding
from dux_pay.messages import Door
from dux_pay.offering import Offering, Wish
from dux_pay.price import Price
from dux_pay.statuses import RETRY_AFTER_S, Facts, Reason, body_of, status_of
from dux_pay.workers import Worker

BODY_BYTES_MAX = 1024 * 1024
BODY_S_MAX = 30.0
FINISH_TRIES, FINISH_PAUSE_S = 20, 0.5
URL_CHARS_MAX = 1_024
FAILED, LEFT_OVER = 500, b"the handler did not come to its end; nothing was charged"
CHARGED_BELOW = 400  # a handler's answer from here on is an error, which costs nothing


class Seller:
    """Sells what one node is paid for. `shelf` keeps answers too large for the node's books."""

    def __init__(
        self,
        *,
        escrowd: Client,
        flopd: Client,
        network: NetworkProfile,
        clock: Clock,
        shelf: Shelf,
        worker: Worker | None = None,
        body_bytes_max: int = BODY_BYTES_MAX,
        body_s_max: float = BODY_S_MAX,
    ) -> None:
        self._escrowd = escrowd
        self._flopd = flopd
        self._network = network
        self.clock = clock
        self._shelf = shelf
        self._worker = worker
        self.body_bytes_max = body_bytes_max
        self.body_s_max = body_s_max
        self._log: FilteringBoundLogger = structlog.get_logger("seller")
        self.door = Door(escrowd)
        self._holding = Holding(escrowd)
        self._offering = Offering(escrowd, flopd, clock, body_bytes_max)

    async def enter(self, asked: Asked, what: str, price: Price) -> Payment | Reply:
        """The call, which has to be run now and given to `leave`; or the answer to send instead."""
        if asked.payment is None:
            return await self._refusal(Reason.NO_VOUCHER, asked, what, price)
        try:
            said, body = await self._admission(asked, asked.payment, what)
        except DuxError as error:
            return await self._refusal(reason_of(error), asked, what, price, detail=self._outside(error))
        return await self._admitted(said, asked, body, what, price)

    def _outside(self, error: DuxError) -> str:
        """What a stranger is told: its own mistakes; what ails this node stays in the log."""
        if reason_of(error) is not Reason.NODE_DOWN:
            return error.message
        self._cannot_sell(error)
        return ""

    def _cannot_sell(self, error: DuxError) -> None:
        self._log.warning("no call can be sold now", key=error.key, reason=error.message)

    async def _admission(self, asked: Asked, payment: str, what: str) -> tuple[Admission, bytes]:
        """The node's word on the voucher, which is for this very request."""
        envelope, voucher = open_shown_voucher(decode_payload(payment))
        body = await self._body(asked)
        body_hash = hashlib.sha256(body).digest()
        req = request_hash(
            method=asked.method, path=asked.path, query=asked.query, body_hash=body_hash, oid=voucher.oid
        )
        if req != voucher.req:
            raise OtherPayload(oid=voucher.oid)
        wish = Admit(voucher=envelope, req=req, what=what, worker=self._worker.name if self._worker else "")
        said = await self._escrowd.call(ADMIT, wish)
        if said.reason == Reason.RUNNING and self._worker and self._worker.is_dead(said.worker):
            await self._left_over(said.call)
            said = await self._escrowd.call(ADMIT, wish)
        return said, body

    async def _left_over(self, call: CallRef) -> None:
        """The program that was at work at it has died: the payer gets its credit back (§5, at most once)."""
        self._log.warning("a call was left running and has failed", chid=call.chid, j=call.j)
        answered = Answered(status=FAILED, headers=typed(()), body=LEFT_OVER, at_s=self._now_s())
        done = Finish(call=call, outcome=Outcome.FAILED, resp=answered.resp, response=packed(answered))
        await self._finish(done)

    async def _body(self, asked: Asked) -> bytes:
        try:
            async with asyncio.timeout(self.body_s_max):
                return await asked.read_body(self.body_bytes_max)
        except TimeoutError as error:
            raise BodyTooSlow(limit_s=self.body_s_max) from error

    async def _admitted(self, said: Admission, asked: Asked, body: bytes, what: str, price: Price) -> Payment | Reply:
        if said.verdict == "stored":
            return await self._repeat(said, asked)
        if said.verdict == "refused":
            facts = Facts(
                held_florins=said.held_florins, owed_florins=said.owed_florins, missing_florins=said.missing_florins
            )
            refusal = await self._refusal(Reason(said.reason), asked, what, price, facts=facts)
            running = said.reason == Reason.RUNNING
            return replace(refusal, at_work=self._holding.of(said.call)) if running else refusal
        payment = Payment(
            call=said.call,
            oid=said.oid,
            payer=said.payer,
            price=price,
            price_max_florins=said.price_max_florins,
            body=body,
            url=asked.url,
            _escrowd=self._escrowd,
        )
        self._holding.begins(said.call, payment.parts)
        return payment

    async def leave(self, payment: Payment, status: int, headers: Headers, body: bytes) -> Reply:
        """The handler's answer, once it is in the books: with what was charged."""
        answered = Answered(status=status, headers=typed(kept_of(headers)), body=body, at_s=self._now_s())
        data = packed(answered)
        if len(data) > RESPONSE_BYTES_MAX:
            await asyncio.to_thread(self._shelf.put, answered)
        ok = status < CHARGED_BELOW
        finish = Finish(
            call=payment.call,
            outcome=Outcome.OK if ok else Outcome.FAILED,
            resp=answered.resp,
            response=data if len(data) <= RESPONSE_BYTES_MAX else None,
            charged_florins=payment.charged_florins if ok else Florins(0),
        )
        payment.done = True
        return await self._reply(answered, await self._finish(finish), payment.url)

    async def _finish(self, finish: Finish) -> bytes:
        """The signed answer; a node that is starting anew is waited for, because the work is done and paid."""
        ended = await patiently(lambda: self._escrowd.call(FINISH, finish), tries=FINISH_TRIES, pause_s=FINISH_PAUSE_S)
        return ended.answer

    async def _reply(self, answered: Answered, answer: bytes, url: str) -> Reply:
        settled = await self._settlement(answer, url, answered.at_s)
        return Reply(answered.status, (*answered.headers, *_paid_headers(settled)), answered.body)

    async def _repeat(self, said: Admission, asked: Asked) -> Reply:
        """What was answered then, header included; 410 with the receipt when the body is gone."""
        answered = self._kept(said)
        if answered is not None:
            return await self._reply(answered, said.answer, asked.url)
        gone = status_of(Reason.GONE)
        settled = await self._settlement(said.answer, asked.url, None)
        body = msgspec.json.encode(body_of(Reason.GONE, Facts()))
        return Reply(gone.code, (("content-type", "application/json"), *_paid_headers(settled)), body)

    def _kept(self, said: Admission) -> Answered | None:
        if said.response is not None:
            return unpacked(said.response)
        return self._shelf.get(answer_in(said.answer).resp)

    async def _settlement(self, envelope: bytes, url: str, at_s: int | None) -> Settlement:
        answer = answer_in(envelope)
        network = network_name(self._network.genesis)
        extensions: dict[str, Any] = {SCHEME: {"info": show_answer(envelope)}}
        if at_s is not None:
            receipt = ReceiptToSign(
                resource_url=url[:URL_CHARS_MAX],
                network=network,
                payer=answer.chid.hex(),
                issued_at_s=at_s,
                amount_florins=answer.charged_florins,
                outcome=answer.outcome,
                call=answer.j,
                answer=hashlib.sha256(envelope).hexdigest(),
            )
            extensions[RECEIPTS] = {"info": {"receipt": await self._receipt(receipt)}}
        return Settlement(
            success=answer.outcome is Outcome.OK,
            transaction="",
            network=network,
            payer=answer.chid.hex(),
            amount=str(int(answer.charged_florins)),
            error_reason="" if answer.outcome is Outcome.OK else "handler_failed",
            extensions=extensions,
        )

    async def _receipt(self, receipt: ReceiptToSign) -> dict[str, str]:
        return {"format": "jws", "signature": (await self._flopd.call(WALLET_SIGN_RECEIPT, receipt)).jws}

    async def _refusal(
        self, reason: Reason, asked: Asked, what: str, price: Price, *, facts: Facts | None = None, detail: str = ""
    ) -> Reply:
        status, wish = status_of(reason), Wish(asked.url[:URL_CHARS_MAX], what, price, asked.messages_at)
        headers = [("content-type", "application/json"), ("cache-control", "no-store")]
        try:
            if reason is Reason.OFFER_EXPIRED:
                self._offering.forget(wish)
            if status.asks:
                wanted = await self._offering.required(wish)
                headers.append((REQUIRED.lower(), encode(msgspec.structs.replace(wanted, error=reason.value))))
        except DuxError as error:  # then nothing can be asked: the node is down or locked
            self._cannot_sell(error)
            reason, status, detail = Reason.NODE_DOWN, status_of(Reason.NODE_DOWN), ""
        if status.later:
            headers.append(("retry-after", str(RETRY_AFTER_S)))
        return Reply(status.code, tuple(headers), msgspec.json.encode(body_of(reason, facts or Facts(), detail)))

    def _now_s(self) -> int:
        return self.clock.unix_ms() // 1_000


def _paid_headers(settled: Settlement) -> Headers:
    """Nobody on the way may keep or change what one caller has paid for."""
    return ((RESPONSE.lower(), encode(settled)), ("cache-control", "no-store, no-transform"))
