"""Assembly of stored: its parts meet here and nowhere else."""

from __future__ import annotations

import asyncio

from common.catchup import CatchUp, Page, Subject
from common.codec import from_canonical
from common.contracts import store as contract
from common.contracts.base import GossipIn
from common.contracts.peer_registry import SYNC_ITEMS_MAX
from common.contracts.peer_store import (
    RATINGS_SYNC,
    SERVICES_SYNC,
    TOPIC_RATING,
    TOPIC_SERVICE,
    RatingsAsk,
    ServicesAsk,
)
from common.daemon import DuxOSDaemon
from common.errors import DuxError
from common.parts import Parts
from common.receipts import Attested, RatingNotice, attested
from common.units import Did
from dux_stored.effects import NOTICE_BYTES_MAX, Outside
from dux_stored.finder import Finder
from dux_stored.follower import Follower
from dux_stored.intake import Intake
from dux_stored.market_methods import MarketMethods
from dux_stored.service_methods import ServiceMethods
from dux_stored.settings import StoredSettings
from dux_stored.store import MIGRATIONS, Shelf

START_PAUSE_S = 2.0  # between tries while p2pd is starting


class StoreDaemon(DuxOSDaemon[StoredSettings]):
    """Guards this node's offers and its index of everybody's."""

    name = "stored"
    settings_type = StoredSettings

    async def assemble(self, parts: Parts[StoredSettings]) -> None:
        """Store, neighbours, intake, methods, loops."""
        shelf = Shelf(parts.store(MIGRATIONS))
        outside = Outside(parts.neighbour("p2pd"), parts.neighbour("registryd"), parts.clock)
        intake = Intake(shelf, outside, parts.network, parts.clock, parts.settings)
        within_s = parts.settings.network_search_s
        finder = Finder(shelf, outside, intake, clock=parts.clock, log=parts.log, within_s=within_s)
        follower = Follower(shelf, outside, parts.log, parts.settings.follow_s)
        services = ServiceMethods(shelf, outside, finder, network=parts.network, clock=parts.clock)
        market = MarketMethods(shelf, outside, services, follower, network=parts.network, clock=parts.clock)
        _serve(parts, services, market)
        _serve_peers(parts, intake, market)
        parts.outbox(shelf.store, outside.perform)
        catchup = CatchUp(
            shelf,
            outside.connected,
            _missed(outside, intake),
            random=parts.random,
            log=parts.log,
            pause_s=parts.settings.sync_s,
        )
        parts.background("announce", lambda: _announce(parts, services))
        parts.background("follow receipts", follower.run)
        parts.background("catch up", catchup.run)
        parts.gauges["services"] = lambda: float(shelf.count_services())
        parts.gauges["ratings_pending"] = lambda: float(shelf.count_pending())


def _serve(parts: Parts[StoredSettings], services: ServiceMethods, market: MarketMethods) -> None:
    parts.table.serve(contract.SERVICE_PUBLISH, services.publish)
    parts.table.serve(contract.SERVICE_UPDATE, services.update)
    parts.table.serve(contract.SERVICE_WITHDRAW, services.withdraw)
    parts.table.serve(contract.SERVICE_SEARCH, services.search)
    parts.table.serve(contract.SERVICE_SHOW, services.show)
    parts.table.serve(contract.SERVICE_LIST_MINE, services.list_mine)
    parts.table.serve(contract.SERVICE_RATE, market.rate)
    parts.table.serve(contract.SERVICE_TOUCH, market.touch)
    parts.table.serve(contract.SERVICE_ADMIT, market.admit)


def _serve_peers(parts: Parts[StoredSettings], intake: Intake, market: MarketMethods) -> None:
    async def service(envelope: Attested, _message: GossipIn) -> str:
        return (await intake.service(envelope)).word

    async def rating(notice: RatingNotice, _message: GossipIn) -> str:
        return (await intake.rating(notice)).word

    parts.serve_topic(TOPIC_SERVICE, service)
    parts.serve_topic(TOPIC_RATING, rating)
    parts.serve_peer(SERVICES_SYNC, market.services_for_peer)
    parts.serve_peer(RATINGS_SYNC, market.ratings_for_peer)


def _missed(outside: Outside, intake: Intake) -> tuple[Subject, ...]:
    """What to ask other nodes for after an absence: services, and ratings."""

    async def services(peer: Did, after: int) -> Page:
        answer = await outside.ask(peer, SERVICES_SYNC, ServicesAsk(after=after, limit=SYNC_ITEMS_MAX))
        return answer.items, answer.next_after

    async def ratings(peer: Did, after: int) -> Page:
        answer = await outside.ask(peer, RATINGS_SYNC, RatingsAsk(after=after, limit=SYNC_ITEMS_MAX))
        return answer.items, answer.next_after

    async def take_service(item: bytes) -> bool:
        return (await intake.service(attested(item))).word == "accept"

    async def take_rating(item: bytes) -> bool:
        notice = from_canonical(item, RatingNotice, max_bytes=NOTICE_BYTES_MAX)
        return (await intake.rating(notice)).word == "accept"

    return Subject("services", services, take_service), Subject("ratings", ratings, take_rating)


async def _announce(parts: Parts[StoredSettings], services: ServiceMethods) -> None:
    """Offer our services again on a timer: records of the DHT live a day."""
    while True:
        try:
            await services.announce_again()
        except DuxError as error:
            parts.log.info("services not announced", reason=error.message)
            await asyncio.sleep(START_PAUSE_S)
        else:
            await asyncio.sleep(parts.settings.announce_s)
