"""RPC around calls: rate a paid one, count it, let a buyer in; and what other nodes may ask of the store."""

from __future__ import annotations

from common.clock import Clock
from common.codec import canonical
from common.contracts.peer_registry import SYNC_ITEMS_MAX, SyncAnswer
from common.contracts.peer_store import RatingsAsk, ServicesAsk
from common.contracts.registry import BadReceipt, ReceiptState, ReceiptView
from common.contracts.store import (
    Admission,
    AdmitBuyer,
    AlreadyRated,
    BadRating,
    NotOwnService,
    RateService,
    ReceiptNotSettled,
    ServiceView,
    TouchReceipt,
    TouchVerdict,
)
from common.errors import NotFound
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.receipts import Rating, RatingNotice, opened_receipt
from common.rpc.table import Ctx
from common.units import Did, UnixMs
from dux_stored.effects import TELL_RATING, Outside, Told
from dux_stored.follower import Follower
from dux_stored.rules import admission_fault, rating_fault, take_call
from dux_stored.service_methods import ServiceMethods
from dux_stored.store import Shelf
from dux_stored.views import service_view


class MarketMethods:
    """What callers may do around calls."""

    def __init__(
        self,
        shelf: Shelf,
        outside: Outside,
        services: ServiceMethods,
        follower: Follower,
        *,
        network: NetworkProfile,
        clock: Clock,
    ) -> None:
        self._shelf = shelf
        self._outside = outside
        self._services = services
        self._follower = follower
        self._network = network
        self._clock = clock

    async def rate(self, params: RateService, ctx: Ctx) -> ServiceView:
        """Sign the buyer's stars and words, keep them, and have them told with the receipt that they cite."""
        own = await self._outside.own_did()
        earlier = self._shelf.rating(params.cid)
        if earlier is not None:
            raise AlreadyRated(cid=bytes(params.cid).hex(), stars=earlier.stars)
        view = await self._settled(params)
        receipt = self._own_receipt(view, own, params)
        record = await self._services.known(view.service_id)
        rating = Rating(
            network=self._network.genesis,
            service_id=view.service_id,
            cid=params.cid,
            rater=own,
            stars=params.stars,
            review=params.review,
            at_ms=self._clock.unix_ms(),
        )
        fault = rating_fault(rating, opened_receipt(receipt)[1], rating.network)
        if fault:
            raise BadRating(detail=fault)
        envelope = await self._outside.signed(Purpose.RATING, rating)
        notice = RatingNotice(rating=canonical(envelope), receipt=receipt)
        statuses = await self._outside.statuses()
        with self._shelf.store.transaction() as tx:
            self._shelf.put_rating(tx, rating, notice, counted=True)
            tx.outbox(f"{TELL_RATING}/{rating.cid.hex()}", TELL_RATING, Told(signed=canonical(notice)))
            shown = service_view(self._shelf.offer(record, statuses), own=record.provider == own)
            ctx.remember(tx, shown)
        return shown

    async def _settled(self, params: RateService) -> ReceiptView:
        """The registry's word that the contract is settled; a receipt brought along is handed in first."""
        if params.receipt:
            await self._hand_in(params.receipt, f"rate/{params.request_id}")
        view = await self._outside.receipt(params.cid)
        if view is None:
            raise BadRating(detail="the registry knows no receipt of this contract: give your own with it")
        if view.state is not ReceiptState.SETTLED:
            raise ReceiptNotSettled(cid=bytes(params.cid).hex(), reason=view.reason)
        return view

    def _own_receipt(self, view: ReceiptView, own: Did, params: RateService) -> bytes:
        if own != view.buyer:
            raise BadRating(detail="this node is not the contract's buyer")
        held = dict(zip(view.signed_by, view.signed, strict=True))
        receipt = held.get(own) or params.receipt
        if not receipt:
            raise BadRating(detail="this node's own receipt of the contract is missing: give it with the rating")
        return receipt

    async def _hand_in(self, receipt: bytes, request_id: str) -> ReceiptState:
        try:
            return (await self._outside.hand_in(receipt, request_id)).state
        except BadReceipt as error:
            raise BadRating(detail=error.message) from error

    async def touch(self, params: TouchReceipt, _ctx: Ctx) -> TouchVerdict:
        """Hand a fresh receipt to the registry and count the calls anew."""
        state = await self._hand_in(params.receipt, f"touch/{params.request_id}")
        receipt = opened_receipt(params.receipt)[1]
        await self._follower.once()
        return TouchVerdict(state=state, total_calls=self._shelf.total_calls(receipt.service_id))

    async def admit(self, params: AdmitBuyer, ctx: Ctx) -> Admission:
        """Whether a buyer may call one of our services now; a yes counts against its limit."""
        record = self._shelf.service(params.service_id)
        if record is None:
            raise NotFound(what="service", name=params.service_id)
        if record.provider != await self._outside.own_did():
            raise NotOwnService(service_id=record.service_id, provider=record.provider)
        asked = record.min_buyer_reputation_bps > 0
        score_ppm = await self._outside.score_ppm(params.buyer) if asked else 0
        fault = admission_fault(record, Did(params.buyer), score_ppm)
        if fault:
            return Admission(admitted=False, reason=fault, retry_after_s=0)
        return self._within_limit(record.service_id, params.buyer, record.rate_limit, ctx)

    def _within_limit(self, service_id: str, buyer: str, rate_limit: int, ctx: Ctx) -> Admission:
        if rate_limit == 0:
            return Admission(admitted=True, reason="", retry_after_s=0)
        held = self._shelf.bucket(service_id, buyer)
        bucket, wait_s = take_call(held, rate_limit, UnixMs(self._clock.unix_ms()))
        reason = f"more than {rate_limit} calls a minute" if wait_s else ""
        answer = Admission(admitted=not wait_s, reason=reason, retry_after_s=wait_s)
        with self._shelf.store.transaction() as tx:
            self._shelf.put_bucket(tx, service_id, buyer, bucket)
            ctx.remember(tx, answer)
        return answer

    # for other nodes

    async def services_for_peer(self, ask: ServicesAsk, _sender: Did) -> SyncAnswer:
        """Services that changed here after a cursor."""
        return _page(self._shelf.services_after(ask.after, min(ask.limit, SYNC_ITEMS_MAX)), ask.after)

    async def ratings_for_peer(self, ask: RatingsAsk, _sender: Did) -> SyncAnswer:
        """Ratings that arrived here after a cursor."""
        return _page(self._shelf.ratings_after(ask.after, min(ask.limit, SYNC_ITEMS_MAX)), ask.after)


def _page(found: list[tuple[int, bytes]], after: int) -> SyncAnswer:
    return SyncAnswer(items=tuple(data for _, data in found), next_after=found[-1][0] if found else after)
