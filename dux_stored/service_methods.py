"""RPC of offers: publish, update, withdraw, search, show. A node publishes in its own name only."""

from __future__ import annotations

import msgspec

from common.clock import Clock
from common.codec import canonical
from common.contracts.peer_store import POINTERS_MAX
from common.contracts.store import (
    REVIEWS_MAX,
    BadService,
    CallLimits,
    MyServices,
    NotOwnService,
    PackageMissing,
    PublishService,
    SearchResult,
    SearchServices,
    ServiceDetail,
    ServiceName,
    ServiceView,
    UpdateService,
    WithdrawService,
)
from common.errors import DuxError, NotFound
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.receipts import SERVICE_BYTES_MAX, Attested, ServiceRecord, attested, form_fault, service_id_of
from common.rpc.method import Empty
from common.rpc.table import Ctx
from common.store import Tx
from common.units import BPS, Did, UnixMs
from dux_stored.effects import PUT_SERVICE, PUT_TAG, TELL_SERVICE, Outside, Told
from dux_stored.finder import Finder
from dux_stored.query_rules import dht_names, index_expression, parse_query
from dux_stored.rules import RUN_HERE, endpoint_of, fits, ranked, service_fault, tags_of
from dux_stored.store import Shelf
from dux_stored.views import limits_of, review_view, service_view


class ServiceMethods:
    """What callers may do with offers."""

    def __init__(
        self, shelf: Shelf, outside: Outside, finder: Finder, *, network: NetworkProfile, clock: Clock
    ) -> None:
        self._shelf = shelf
        self._outside = outside
        self._finder = finder
        self._network = network
        self._clock = clock

    async def publish(self, params: PublishService, ctx: Ctx) -> ServiceView:
        """Make, check, sign and keep an offer, and have it told to the network."""
        own = await self._outside.own_did()
        held = self._shelf.service(service_id_of(own, params.slug))
        return await self._publish(self._made(own, params, held), held, ctx)

    def _made(self, own: Did, params: PublishService, held: ServiceRecord | None) -> ServiceRecord:
        now_ms = self._now_after(held)
        return ServiceRecord(
            network=self._network.genesis,
            service_id=service_id_of(own, params.slug),
            slug=params.slug,
            provider=own,
            name=params.name,
            description=params.description,
            version=params.version,
            price_florins=params.price_florins,
            tags=tags_of(params.tags),
            endpoint=params.endpoint or ("" if params.kind == "api" else endpoint_of(own, params.slug)),
            rate_limit=params.rate_limit,
            kind=params.kind,
            package=_package(params.package),
            entry=params.entry,
            limits=limits_of(params.limits),
            min_buyer_reputation_bps=round(params.min_buyer_reputation * BPS),
            developer=params.developer,
            royalty_bps=params.royalty_bps,
            result_lock=params.result_lock,
            created_ms=held.created_ms if held else now_ms,
            updated_ms=now_ms,
            withdrawn=False,
        )

    async def update(self, params: UpdateService, ctx: Ctx) -> ServiceView:
        """Change what is given, keep the rest."""
        held = await self._own_service(params.service_id)
        changes = {name: value for name, value in msgspec.structs.asdict(params).items() if value is not None}
        del changes["request_id"], changes["service_id"]
        record = msgspec.structs.replace(
            held, **_signed_form(changes), updated_ms=self._now_after(held), withdrawn=False
        )
        return await self._publish(record, held, ctx)

    async def withdraw(self, params: WithdrawService, ctx: Ctx) -> ServiceView:
        """Take an offer out of the market; its ratings stay."""
        held = await self._own_service(params.service_id)
        record = msgspec.structs.replace(held, updated_ms=self._now_after(held), withdrawn=True)
        return await self._keep(record, held, ctx)

    async def _publish(self, record: ServiceRecord, held: ServiceRecord | None, ctx: Ctx) -> ServiceView:
        fault = service_fault(record, self._network.genesis, self._clock.unix_ms()) or form_fault(
            record, SERVICE_BYTES_MAX
        )
        if fault:
            raise BadService(detail=fault)
        if record.kind in RUN_HERE and not await self._outside.holds_blob(record.package.hex()):
            raise PackageMissing(package=record.package.hex())
        return await self._keep(record, held, ctx)

    async def _keep(self, record: ServiceRecord, held: ServiceRecord | None, ctx: Ctx) -> ServiceView:
        envelope = await self._outside.signed(Purpose.SERVICE, record)
        statuses = await self._outside.statuses()
        with self._shelf.store.transaction() as tx:
            self._shelf.put_service(tx, record, envelope)
            self._announce(tx, record, envelope, held)
            view = service_view(self._shelf.offer(record, statuses), own=True)
            ctx.remember(tx, view)
        return view

    def _announce(self, tx: Tx, record: ServiceRecord, envelope: Attested, held: ServiceRecord | None) -> None:
        """Tell it, put it under its id, and mend every name that it stands or stood under."""
        stamp, signed = f"{record.service_id}/{record.updated_ms}/{tx.now_ms()}", canonical(envelope)
        tx.outbox(f"{TELL_SERVICE}/{stamp}", TELL_SERVICE, Told(signed=signed))
        tx.outbox(f"{PUT_SERVICE}/{stamp}", PUT_SERVICE, Told(signed=signed, name=record.service_id))
        under = self._names(record.provider)
        touched = {*dht_names(record.name, record.tags), *(dht_names(held.name, held.tags) if held else ())}
        for name in sorted(touched):
            told = Told(name=name, service_ids=under.get(name, ()))
            tx.outbox(f"{PUT_TAG}/{name}/{stamp}", PUT_TAG, told, lane=f"{PUT_TAG}/{name}")

    def _names(self, own: Did) -> dict[str, tuple[str, ...]]:
        """Our live services under each name of the DHT, the newest first."""
        live = [record for record in self._shelf.services_of(own) if not record.withdrawn]
        names: dict[str, tuple[str, ...]] = {}
        for record in sorted(live, key=lambda record: (-record.updated_ms, record.service_id)):
            for name in dht_names(record.name, record.tags):
                names[name] = (*names.get(name, ()), record.service_id)[:POINTERS_MAX]
        return names

    async def announce_again(self) -> int:
        """Offer all our live services once more: records live a day, and new nodes have come.

        What an earlier key signed is signed anew: who has not seen it yet takes it from a key in use alone.
        """
        own, key_seq = await self._outside.own_did(), await self._outside.own_key_seq()
        live = [record for record in self._shelf.services_of(own) if not record.withdrawn]
        for record in live:
            signed = self._shelf.signed_service(record.service_id)
            if signed is not None:
                await self._offer_again(record, attested(signed), key_seq)
        return len(live)

    async def _offer_again(self, record: ServiceRecord, envelope: Attested, key_seq: int) -> None:
        if envelope.key_seq == key_seq:
            with self._shelf.store.transaction() as tx:
                self._announce(tx, record, envelope, None)
            return
        renewed = msgspec.structs.replace(record, updated_ms=self._now_after(record))
        envelope = await self._outside.signed(Purpose.SERVICE, renewed)
        with self._shelf.store.transaction() as tx:
            self._shelf.put_service(tx, renewed, envelope)
            self._announce(tx, renewed, envelope, record)

    async def search(self, params: SearchServices, _ctx: Ctx) -> SearchResult:
        """What fits, from the index and (when asked) from the network, in the order asked for."""
        query, own = parse_query(params.text), await self._outside.own_did()
        tags = tags_of((*params.tags, *query.tags))
        learnt = await self._finder.search(query, tags) if params.ask_network else 0
        wanted = msgspec.structs.replace(params, tags=tags)
        offers = self._shelf.candidates(index_expression(query), await self._outside.statuses())
        found = ranked((offer for offer in offers if fits(offer, wanted)), params.sort)
        views = (service_view(offer, own=offer.record.provider == own) for offer in found[: params.limit])
        return SearchResult(services=tuple(views), total=len(found), learnt=learnt)

    async def show(self, params: ServiceName, _ctx: Ctx) -> ServiceDetail:
        """One service with its reviews and its signed record."""
        record, own = await self.known(params.service_id), await self._outside.own_did()
        offer = self._shelf.offer(record, await self._outside.statuses())
        reviews = self._shelf.reviews(record.service_id, REVIEWS_MAX)
        return ServiceDetail(
            service=service_view(offer, own=record.provider == own),
            reviews=tuple(review_view(review) for review in reviews),
            signed=self._shelf.signed_service(record.service_id) or b"",
        )

    async def list_mine(self, _params: Empty, _ctx: Ctx) -> MyServices:
        """This node's own services, withdrawn ones too."""
        own, statuses = await self._outside.own_did(), await self._outside.statuses()
        offers = (self._shelf.offer(record, statuses) for record in self._shelf.services_of(own))
        return MyServices(services=tuple(service_view(offer, own=True) for offer in offers))

    async def known(self, service_id: str) -> ServiceRecord:
        """A service's record, looked for in the DHT when it is not here.

        Raises:
            NotFound: it is nowhere.
        """
        held = self._shelf.service(service_id)
        if held is None:
            try:
                await self._finder.fetch(service_id)
            except DuxError as error:
                raise NotFound(what="service", name=service_id) from error
            held = self._shelf.service(service_id)
        if held is None:
            raise NotFound(what="service", name=service_id)
        return held

    async def _own_service(self, service_id: str) -> ServiceRecord:
        held = self._shelf.service(service_id)
        if held is None:
            raise NotFound(what="service", name=service_id)
        if held.provider != await self._outside.own_did():
            raise NotOwnService(service_id=service_id, provider=held.provider)
        return held

    def _now_after(self, held: ServiceRecord | None) -> UnixMs:
        return UnixMs(max(self._clock.unix_ms(), held.updated_ms + 1 if held else 0))


def _package(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise BadService(
            detail=f"package {text!r} is not a blob's id: 64 hex digits, as `PUT /blob` answers"
        ) from error


def _signed_form(changes: dict[str, object]) -> dict[str, object]:
    """Changes as callers write them in the form of the signed record."""
    signed: dict[str, object] = {}
    for name, value in changes.items():
        if name == "package":
            signed[name] = _package(str(value))
        elif name == "tags" and isinstance(value, tuple):
            signed[name] = tags_of(value)
        elif name == "limits" and isinstance(value, CallLimits):
            signed[name] = limits_of(value)
        elif name == "min_buyer_reputation" and isinstance(value, float):
            signed["min_buyer_reputation_bps"] = round(value * BPS)
        else:
            signed[name] = value
    return signed
