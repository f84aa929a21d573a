"""What callers are shown, made of what the store holds. Pure: no store, no clock, no neighbour."""

from __future__ import annotations

from common.contracts.store import CallLimits, ReviewView, ServiceView
from common.iso_time import iso_time
from common.units import BPS, Hash32
from common.work import Limits
from dux_stored.model import Offer
from dux_stored.rules import mean_centistars
from dux_stored.store import HeldRating


def limits_view(limits: Limits) -> CallLimits:
    """Limits as people write them."""
    return CallLimits(
        fuel=limits.fuel, memory_bytes=limits.memory_bytes, wall_s=limits.wall_s, output_bytes=limits.output_bytes
    )


def limits_of(limits: CallLimits) -> Limits:
    """Limits as they are signed."""
    return Limits(
        fuel=limits.fuel, memory_bytes=limits.memory_bytes, wall_s=limits.wall_s, output_bytes=limits.output_bytes
    )


def service_view(offer: Offer, *, own: bool) -> ServiceView:
    """A service in the specification's words."""
    record = offer.record
    return ServiceView(
        id=record.service_id,
        name=record.name,
        description=record.description,
        version=record.version,
        provider=record.provider,
        price_florins=record.price_florins,
        tags=record.tags,
        endpoint=record.endpoint,
        rate_limit=record.rate_limit,
        reputation=mean_centistars(offer.stars) / 100,
        total_calls=offer.total_calls,
        created_at=iso_time(record.created_ms),
        updated_at=iso_time(record.updated_ms),
        slug=record.slug,
        kind=record.kind,
        package=record.package.hex(),
        entry=record.entry,
        limits=limits_view(record.limits),
        min_buyer_reputation=record.min_buyer_reputation_bps / BPS,
        developer=record.developer,
        royalty_bps=record.royalty_bps,
        ratings=offer.stars.count,
        provider_status=offer.status,
        withdrawn=record.withdrawn,
        own=own,
        result_lock=record.result_lock,
    )


def review_view(rating: HeldRating) -> ReviewView:
    """One buyer's rating."""
    return ReviewView(
        rater=rating.rater,
        stars=rating.stars,
        review=rating.review,
        cid=Hash32(rating.cid),
        at=iso_time(rating.at_ms),
    )
