"""The buyer's side of calls over channels: offer, voucher, call, answer, and what to do when it is not admitted.

Promise: the same call_id is the same call, paid once; nothing is paid above the stated limit. What the seller
refuses for now is tried again a few times; what it refuses for good is given up by a hello, so that it is not paid. A
run is waited for as long as the service says that one may last, in pieces that a caller's deadline bears. Work that is
paid by time is paid on period by period, each when the seller says that it has begun, so at most one lies ahead.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from common.channel_messages import VOUCHER_BYTES_MAX, Offer, Outcome, Pricing, Voucher
from common.codec import from_canonical
from common.contracts import channel as c
from common.contracts import peer_channel as peer
from common.contracts import task as contract
from common.contracts.p2p_errors import PeerAnswered
from common.contracts.store import SERVICE_SHOW, ServiceName, ServiceView
from common.contracts.task import CallNotTaken, CallRefused, CallRunning, NotForSale, PriceAbove
from common.errors import NotFound, NotNow, Unavailable
from common.identity.signed import decode_signed
from common.peers import Peers
from common.receipts import attested
from common.rpc.client import Client
from common.units import Did, Florins
from dux_taskd.developers import developer_address
from dux_taskd.paid_rules import FUEL, LEASE_OVER, call_hash, fuelled, lease_over_hash, not_for_channel, output_hash

ATTEMPTS_MAX = 8
PAUSE_S = 0.25
CALL_WITHIN_S = 30.0
RUNNING_S = 80.0  # within the deadline of `task.call`, one last ask included; whoever wants repeats it
AFTER_WALL_S = 30.0  # a run may have waited for its turn
FOR_GOOD = {
    "offer_expired": "its offer is over twice",
    "closing": "the channel is closing: the next call opens another",
    "conflict": "this id was used for another call",
    "gone": "it was answered before, and the answer was dropped",
}
RUNNING = "running"
PAUSED = ("busy", "depth")  # a moment helps: other calls end, the seller's node sees the next block, too
OFFERS_KEPT = 256
SERVICE_CHECKED = 256


@dataclass
class Patience:
    """How often one call was tried in vain, and until when a run is waited for."""

    until: float
    by_time: bool = False  # the seller has to be heard in time to be paid on
    attempt: int = 0
    asked: int = 0

    async def failed(self, *, pause_s: float = PAUSE_S) -> None:
        """One try less, after a pause that grows."""
        self.attempt += 1
        await asyncio.sleep(pause_s * self.attempt)

    async def runs(self) -> bool:
        """Whether to ask again, after a pause: that it runs is no failed try."""
        self.asked += 1
        await asyncio.sleep(PAUSE_S * (1 if self.by_time else min(self.asked, ATTEMPTS_MAX)))
        return self.lasts()

    def lasts(self) -> bool:
        """Whether it is still waited for."""
        return asyncio.get_running_loop().time() < self.until


class PaidBuying:
    """Serves `task.call`."""

    def __init__(self, *, escrowd: Client, stored: Client, registryd: Client, peers: Peers) -> None:
        self._escrowd, self._stored, self._registryd, self._peers = escrowd, stored, registryd, peers
        self._offers: dict[str, bytes] = {}
        self._services: dict[str, ServiceView] = {}
        self._own = ""

    async def call(self, params: contract.CallPaid) -> contract.CalledPaid:
        """One call, paid for over a channel."""
        service = await self._service(params)
        oid = oid_of(params.call_id)
        asked = call_hash(service.id, params.args, params.data, oid)
        patience = Patience(asyncio.get_running_loop().time() + min(RUNNING_S, service.limits.wall_s + AFTER_WALL_S))
        while patience.attempt < ATTEMPTS_MAX:
            paid, step = await self._pay(params, service, oid, asked)
            patience.by_time = step > 0
            try:
                answer = await self._ask(service, paid, params)
            except (NotNow, Unavailable):
                await patience.failed()
                continue
            if answer.answer:
                return await self._settled(paid, answer)
            if answer.reason in (RUNNING, FUEL):
                more = answer.reason == FUEL and await self._fuel(paid, step, int(params.price_limit_florins))
                if not (patience.lasts() if more else await patience.runs()):
                    raise CallRunning(service_id=service.id, call_id=params.call_id)
                continue
            await self._refused(service, paid, answer, patience)
        raise CallNotTaken(service_id=service.id, attempts=ATTEMPTS_MAX, call_id=params.call_id)

    async def _service(self, params: contract.CallPaid) -> ServiceView:
        self._own = self._own or (await self._peers.info()).did
        service = self._services.get(params.service_id)
        if service is None:
            try:
                service = (await self._stored.call(SERVICE_SHOW, ServiceName(service_id=params.service_id))).service
            except NotFound as error:
                raise NotForSale(service_id=params.service_id, reason="nobody offers it") from error
        why = not_for_channel(service, self._own, len(params.data))
        if why:
            raise NotForSale(service_id=service.id, reason=why)
        if service.price_florins > params.price_limit_florins:
            price, limit = int(service.price_florins), int(params.price_limit_florins)
            raise PriceAbove(service_id=service.id, price_florins=price, limit_florins=limit)
        if len(self._services) >= SERVICE_CHECKED:
            self._services.clear()
        self._services[service.id] = service
        return service

    async def _pay(self, params: contract.CallPaid, service: ServiceView, oid: str, asked: bytes) -> tuple[c.Paid, int]:
        """A voucher for the call, and what a period costs where it is paid by time: the voucher is for the first."""
        offer = await self._offer(service)
        said = from_canonical(attested(offer).body, Offer, max_bytes=len(offer))
        step = min(said.price_florins, params.price_limit_florins) if said.pricing is Pricing.METERED else 0
        wish = c.Pay(
            payee=service.provider,
            offer=offer,
            oid=oid,
            req=asked,
            price_max_florins=Florins(step or service.price_florins),
            open_florins=params.open_florins,
            developer=await developer_address(self._registryd, service),
            royalty_bps=service.royalty_bps,
        )
        return await self._escrowd.call(c.PAY, wish, deadline_s=CALL_WITHIN_S), step

    async def _fuel(self, paid: c.Paid, step_florins: int, limit_florins: int) -> bool:
        """Allow the call one period more, within the caller's limit; whether that was done."""
        data = decode_signed(paid.voucher, max_bytes=VOUCHER_BYTES_MAX).body
        voucher = from_canonical(data, Voucher, max_bytes=VOUCHER_BYTES_MAX)
        most = fuelled(int(voucher.price_max_florins), step_florins, limit_florins)
        if most is None:
            return False
        try:
            await self._escrowd.call(c.FUEL, c.Fuel(call=paid.call, price_max_florins=Florins(most)))
        except (NotNow, Unavailable):  # no session now, or the coin carries no more: asked again
            return False
        return True

    async def _offer(self, service: ServiceView) -> bytes:
        """The seller's signed offer, asked for once."""
        known = self._offers.get(service.id)
        if known is None:
            said = await self._peers.call(service.provider, peer.QUOTE, peer.AskQuote(service_id=service.id))
            if len(self._offers) >= OFFERS_KEPT:
                self._offers.clear()
            known = self._offers[service.id] = said.offer
        return known

    async def _ask(self, service: ServiceView, paid: c.Paid, params: contract.CallPaid) -> peer.PaidAnswer:
        call = peer.PaidCall(voucher=paid.voucher, service_id=service.id, args=params.args, data=params.data)
        try:
            return await self._peers.call(Did(service.provider), peer.CALL, call, deadline_s=CALL_WITHIN_S)
        except PeerAnswered as error:
            if error.for_later:
                raise NotNow(detail=error.message) from error
            self._forget(service)
            await self._report(paid, "gone", drop=True)
            raise

    async def _settled(self, paid: c.Paid, answer: peer.PaidAnswer) -> contract.CalledPaid:
        """The answer is checked and stored before anybody sees the output."""
        outcome = Outcome.OK if not answer.detail or answer.reason == LEASE_OVER else Outcome.FAILED
        hashed = lease_over_hash() if answer.reason == LEASE_OVER else output_hash(outcome, answer.data)
        wish = c.Settle(call=paid.call, answer=answer.answer, resp=hashed)
        ended = await self._escrowd.call(c.SETTLED, wish)
        return contract.CalledPaid(
            outcome=ended.outcome,
            output=answer.data,
            detail=answer.detail,
            charged_florins=ended.charged_florins,
            chid=paid.call.chid,
            j=paid.call.j,
            said=paid.said,
        )

    async def _refused(self, service: ServiceView, paid: c.Paid, answer: peer.PaidAnswer, patience: Patience) -> None:
        """One try less: after a wait, a hello or a new offer; or give up."""
        if answer.reason in FOR_GOOD:
            self._forget(service)
            await self._report(paid, answer.reason, drop=True)
            if answer.reason != "offer_expired" or patience.attempt:
                said = "".join(f"; {line}" for line in paid.said)
                raise CallRefused(service_id=service.id, reason=FOR_GOOD[answer.reason], said=said)
        else:
            await self._report(paid, answer.reason, drop=False)
        await patience.failed(pause_s=PAUSE_S if answer.reason in PAUSED else 0)

    async def _report(self, paid: c.Paid, reason: str, *, drop: bool) -> None:
        await self._escrowd.call(c.REFUSED, c.ReportRefusal(call=paid.call, reason=reason, drop=drop))

    def _forget(self, service: ServiceView) -> None:
        self._offers.pop(service.id, None)
        self._services.pop(service.id, None)


def oid_of(call_id: str) -> str:
    """The call's own id, from the caller's: the same request is the same call."""
    return hashlib.sha256(b"task.call\0" + call_id.encode()).hexdigest()
