"""The seller's side of calls over channels: offers, and runs between `channel.admit` and `channel.finish`.

Promise: nothing runs that was not admitted; what was admitted runs once and is finished, whoever has stopped waiting,
and a repetition gets the stored answer. What an earlier life of this daemon left running has failed. The service is
looked up at most every ten seconds, its package is kept while it is called.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, TypeAlias

from msgspec import structs
from structlog.typing import FilteringBoundLogger

from common.calls_at_work import say_at_work
from common.channel_messages import VOUCHER_BYTES_MAX, Answer, Outcome, Pricing, Voucher
from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts import channel as c
from common.contracts import peer_channel as peer
from common.contracts.store import SERVICE_SHOW, ServiceName, ServiceView
from common.contracts.task import NotForSale
from common.errors import DuxError, NotFound
from common.identity.signed import decode_signed
from common.peers import Peers
from common.rpc.client import Client
from common.rpc.patience import patiently
from common.units import Did, Florins
from common.work import JobKind
from dux_taskd.considering import limits_of
from dux_taskd.developers import developer_address
from dux_taskd.executor import Executor
from dux_taskd.lease import Gauge, LeaseOver, Watchdog
from dux_taskd.lease_rules import Rate
from dux_taskd.materials import PACKAGE_BYTES_MAX
from dux_taskd.paid_rules import FUEL, LEASE_OVER, OVER_CHANNEL, call_hash, lease_over_hash, output_hash, what_of
from dux_taskd.paid_work import Work, Works, fed, within
from dux_taskd.sandbox.model import Ended, Run
from dux_taskd.sandbox.model import Outcome as RunOutcome
from dux_taskd.store import TaskStore

LOOK_UP_AGAIN_S = 10.0
SERVICES_KEPT = 64
DETAIL_CHARS = 300
WAIT_S = 25.0  # a caller is told «running» then, before its own deadline
FINISH_TRIES, FINISH_PAUSE_S = 20, 0.5
WORKER = "taskd"  # there is one of a node: what it does not hold, no process works at
RUNNING, BUSY = "running", "busy"
FED_S = 0.5  # fuel that came with a request has reached the work by then, or nothing has come
NOTHING = Florins(0)
GRACE_S = 5.0  # a lease may be overdrawn so long, or for one period where that is shorter

Said: TypeAlias = peer.PaidAnswer | Work[Any]  # the answer, or the work that will bring it


class PaidSelling:
    """Serves `channel.quote` and `channel.call`."""

    def __init__(
        self,
        *,
        escrowd: Client,
        stored: Client,
        registryd: Client,
        peers: Peers,
        store: TaskStore,
        executor: Executor,
        clock: Clock,
        lease_s: int = 0,
        wait_s: float = WAIT_S,
        grace_s: float = 0.0,
        log: FilteringBoundLogger,
    ) -> None:
        self._escrowd, self._stored, self._registryd, self._peers = escrowd, stored, registryd, peers
        self._store, self._executor, self._clock, self._log = store, executor, clock, log
        self._lease_s, self._watchdog, self._wait_s = lease_s, Watchdog(escrowd, clock), wait_s
        self._grace_s = grace_s or min(GRACE_S, float(lease_s))
        self._works: Works[Said] = Works()
        self._services: dict[str, tuple[float, ServiceView, bytes]] = {}
        self._looking = asyncio.Lock()

    async def quote(self, params: peer.AskQuote, _sender: Did) -> peer.QuoteSaid:
        """What one call costs."""
        service, _ = await self._service(params.service_id)
        pricing = Pricing.METERED if self._lease_s else Pricing.FIXED
        wish = c.MakeOffer(what=what_of(service.id), price_florins=service.price_florins, pricing=pricing)
        return peer.QuoteSaid(offer=(await self._escrowd.call(c.MAKE_OFFER, wish)).offer)

    async def call(self, params: peer.PaidCall, sender: Did) -> peer.PaidAnswer:
        """One call: admitted, run, answered; or the word that it still runs."""
        until = asyncio.get_running_loop().time() + self._wait_s
        asked = hashlib.sha256(canonical(params)).digest()
        work = self._works.get(asked)
        if work is None:
            voucher = _voucher_of(params.voucher)
            work = self._works.begin(
                asked, (voucher.chid.hex(), voucher.j), lambda own: self._whole(own, params, voucher.oid, sender)
            )
        if work is None:
            return _refused(BUSY)
        said = await within(work, until)
        while isinstance(said, Work):  # the call runs already, begun by an earlier voucher of it
            work = said
            await fed(work, FED_S)
            said = await within(work, until)
        return said or _refused(FUEL if work.gauge.short.is_set() else RUNNING)

    async def _whole(self, own: Work[Said], params: peer.PaidCall, oid: str, sender: Did) -> Said:
        service, package = await self._service(params.service_id)
        wish = c.Admit(
            voucher=params.voucher, req=call_hash(params.service_id, params.args, params.data, oid),
            what=what_of(service.id), worker=WORKER,
            developer=await developer_address(self._registryd, service), royalty_bps=service.royalty_bps,
        )  # fmt: skip
        admission = await self._escrowd.call(c.ADMIT, wish)
        if admission.reason == RUNNING:
            others = self._works.others(own)
            if others or admission.worker != WORKER:
                return next((work for work in others if work.admitted), _refused(RUNNING))
            await self._left_over(admission.call)
            admission = await self._escrowd.call(c.ADMIT, wish)
        if admission.verdict == "stored":
            return _stored(admission)
        if admission.verdict == "refused":
            return _refused(admission.reason, admission.missing_florins)
        own.admitted = True
        if admission.payer != sender:
            self._log.warning("a voucher came from another node than its payer", payer=admission.payer, sender=sender)
        return await self._run(own, admission, service, package, params)

    async def _left_over(self, call: c.CallRef) -> None:
        """An earlier life of this daemon was at work at it: the payer gets its credit back (§5, at most once)."""
        self._log.warning("a call was left running and has failed", chid=call.chid, j=call.j)
        done = c.Finish(call=call, outcome=Outcome.FAILED, resp=output_hash(Outcome.FAILED, b""), response=b"")
        await self._escrowd.call(c.FINISH, done)

    async def _run(
        self, own: Work[Said], admission: c.Admission, service: ServiceView, package: bytes, params: peer.PaidCall
    ) -> peer.PaidAnswer:
        run = Run(package=package, entry=service.entry, args=params.args, input=params.data,
                  limits=limits_of(service.limits), owner=str(admission.payer))  # fmt: skip
        outcome, data, detail, reason = Outcome.FAILED, b"", "the run broke", ""
        charged: Florins | None = None
        try:
            ended, charged = await self._work(own.gauge, admission, service, run)
            outcome, data, detail = _outcome(ended)
        except LeaseOver as error:  # the time that was covered is charged; what it was for was not finished
            outcome, detail, reason = Outcome.OK, error.message, LEASE_OVER
            charged = Florins(int(error.fields["covered_florins"] or 0))
        except DuxError as error:
            detail = error.message
        except asyncio.CancelledError:  # only `stop` does that, and then waits for the end to be stored
            detail = "the seller's node stopped"
        except Exception:  # noqa: BLE001 - our own bug or the machine's fault: the payer does not pay for it
            self._log.exception("a paid run broke", service=service.id)
        own.ending = True
        hashed = lease_over_hash() if reason == LEASE_OVER else output_hash(outcome, data)
        done = c.Finish(call=admission.call, outcome=outcome, resp=hashed, response=data, charged_florins=charged)
        return structs.replace(_said(await self._finish(done), data, detail), reason=reason)

    async def _finish(self, done: c.Finish) -> bytes:
        """The signed answer; an escrowd that is starting anew is waited for, because the work is done."""
        ended = await patiently(lambda: self._escrowd.call(c.FINISH, done), tries=FINISH_TRIES, pause_s=FINISH_PAUSE_S)
        return ended.answer

    async def say(self) -> None:
        """Tell escrowd which calls are at work here, as long as they are; what is not told of has failed."""
        while True:
            await asyncio.sleep(c.SAY_EVERY_S)
            calls = [c.CallRef(chid=chid, j=j) for chid, j in self._works.admitted()]
            await say_at_work(self._escrowd, calls, self._log)

    async def stop(self) -> None:
        """What is at work is finished as failed."""
        await self._works.stop()

    async def _work(
        self, gauge: Gauge, admission: c.Admission, service: ServiceView, run: Run
    ) -> tuple[RunOutcome, Florins | None]:
        """The run, and what its time costs where that is metered."""

        async def work() -> RunOutcome:
            return await self._executor.run(JobKind(service.kind).runtime, run, lambda _: None)

        if not self._lease_s:
            return await work(), None
        period_s = float(self._lease_s)
        rate = Rate(florins_per_period=admission.price_florins, period_s=period_s, grace_s=self._grace_s)
        return await self._watchdog.run(admission.call, rate, work, gauge)

    async def _service(self, service_id: str) -> tuple[ServiceView, bytes]:
        """An own service that is served, with its package."""
        known = self._services.get(service_id)
        if known is not None and self._clock.monotonic() - known[0] < LOOK_UP_AGAIN_S:
            return known[1], known[2]
        async with self._looking:
            known = self._services.get(service_id)
            if known is not None and self._clock.monotonic() - known[0] < LOOK_UP_AGAIN_S:
                return known[1], known[2]
            return await self._look_up(service_id)

    async def _look_up(self, service_id: str) -> tuple[ServiceView, bytes]:
        try:
            service = (await self._stored.call(SERVICE_SHOW, ServiceName(service_id=service_id))).service
        except NotFound as error:
            raise NotForSale(service_id=service_id, reason="nobody offers it") from error
        served = service.own and not service.withdrawn and service_id in self._store.serving()
        if not served or service.kind not in OVER_CHANNEL:
            raise NotForSale(service_id=service_id, reason="it is not served here")
        package = await self._peers.fetch_blob(service.package, [], max_bytes=PACKAGE_BYTES_MAX)
        if len(self._services) >= SERVICES_KEPT:
            self._services.clear()
        self._services[service_id] = (self._clock.monotonic(), service, package)
        return service, package


def _voucher_of(data: bytes) -> Voucher:
    """A voucher as it says of itself; escrowd checks it."""
    return from_canonical(decode_signed(data, max_bytes=VOUCHER_BYTES_MAX).body, Voucher, max_bytes=VOUCHER_BYTES_MAX)


def _outcome(ended: RunOutcome) -> tuple[Outcome, bytes, str]:
    if ended.ended is not Ended.DONE:
        return Outcome.FAILED, b"", f"the run ended with «{ended.ended.value}»: {ended.detail}"[:DETAIL_CHARS]
    if len(ended.output) > peer.OUTPUT_BYTES_MAX:
        return Outcome.FAILED, b"", f"its output has {len(ended.output)} bytes; such calls go by escrow"
    return Outcome.OK, ended.output, ""


def _said(answer: bytes, data: bytes, detail: str) -> peer.PaidAnswer:
    return peer.PaidAnswer(answer=answer, data=data, detail=detail, reason="", missing_florins=NOTHING)


def _stored(admission: c.Admission) -> peer.PaidAnswer:
    """What was answered then; that a lease had ended is known by the hash in the answer."""
    body = decode_signed(admission.answer, max_bytes=len(admission.answer)).body
    answer = from_canonical(body, Answer, max_bytes=len(body))
    if answer.resp != lease_over_hash():
        return _said(admission.answer, admission.response or b"", "")
    over = LeaseOver(j=answer.j, covered_florins=int(answer.charged_florins))
    return structs.replace(_said(admission.answer, b"", over.message), reason=LEASE_OVER)


def _refused(reason: str, missing: Florins = NOTHING) -> peer.PaidAnswer:
    return peer.PaidAnswer(answer=b"", data=b"", detail="", reason=reason, missing_florins=missing)
