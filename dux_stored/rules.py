"""Decisions about offers: which are well formed, which come first, who may rate, and how often a buyer may call.

Pure: records, figures and times come in; reasons, orders and new figures come out. Search texts are read in
`query_rules.py`. Source: settled.md 10, 29, 36; work.md §6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from common.contracts.registry import NodeStatus
from common.contracts.store import SearchServices, SortBy
from common.receipts import Rating, ServiceRecord, SettledReceipt, service_id_of
from common.units import BPS, Did
from dux_stored.model import Bucket, Offer, Stars

FUTURE_MS = 600_000  # a clock this far ahead is still believed (TI §2.2)
PRICE_MIN_FLORINS = 1  # below 0.2 FLOP a call is paid over a channel, where a step may be one florin
PRICE_MAX_FLORINS = 1_000_000_000_000  # 10,000 FLOP: one block's subsidy, the largest lot (EP §2)
PACKAGE_BYTES = 32
MINUTE_MS = 60_000
CALL_MILLI = 1_000
PRIOR_STARS = Stars(count=2, total=6)  # ranking treats every service as if two buyers had given it three stars
OFFERED_KINDS = ("wasm", "native", "check", "api")  # check: runs a buyer's job anew and compares (settled.md 20)
RUN_HERE = ("wasm", "native")  # kinds that need a package

_SLUG = re.compile(r"[a-z0-9](-?[a-z0-9])*")
_TAG = re.compile(r"[a-z0-9][a-z0-9._+-]{0,31}")
_DID = re.compile(r"did:dux:[a-z2-7]{52}")


def tag_of(text: str) -> str:
    """A tag in its one form: lower case, no leading #, spaces as hyphens."""
    return re.sub(r"\s+", "-", text.strip().lstrip("#").lower())


def tags_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Tags in their one form, sorted, each once."""
    return tuple(sorted({tag_of(text) for text in texts} - {""}))


def endpoint_of(provider: Did, slug: str) -> str:
    """Where a service that runs in the market's own sandbox is reached."""
    return f"dux://{provider}/{slug}"


def service_fault(record: ServiceRecord, network: str, now_ms: int) -> str | None:
    """Why a service record is refused, or None. The first fault found is told."""
    checks: tuple[tuple[bool, str], ...] = (
        (record.network == network, "it belongs to another network"),
        (bool(_SLUG.fullmatch(record.slug)), "its slug is not lower case letters, digits and single hyphens"),
        (record.service_id == service_id_of(record.provider, record.slug), "its id is not its provider's and slug's"),
        (record.created_ms <= record.updated_ms, "it was updated before it was made"),
        (record.updated_ms <= now_ms + FUTURE_MS, "it comes from the future"),
        (record.kind in OFFERED_KINDS, f"its kind is none of {', '.join(OFFERED_KINDS)}"),
    )
    fault = next((text for good, text in checks if not good), None)
    return fault or _text_fault(record) or _price_fault(record) or _package_fault(record)


def _text_fault(record: ServiceRecord) -> str | None:
    if not record.name.strip():
        return "it has no name"
    if not (record.name + record.version + record.entry + record.endpoint).isprintable():
        return "its name, version, entry or endpoint has characters that cannot be shown"
    if record.tags != tags_of(record.tags):
        return "its tags are not lower case, sorted, each once"
    odd = [tag for tag in record.tags if not _TAG.fullmatch(tag)]
    return f"{odd[0]!r} is not a tag: letters, digits and . _ + -" if odd else None


def _price_fault(record: ServiceRecord) -> str | None:
    if not PRICE_MIN_FLORINS <= record.price_florins <= PRICE_MAX_FLORINS:
        return "its price is not between one florin and 10,000 FLOP, which is what channels and contracts can carry"
    if bool(record.developer) != bool(record.royalty_bps):
        return "a developer and a royalty go together"
    if record.developer and not _DID.fullmatch(record.developer):
        return "its developer is not a did:dux name"
    return "a royalty is at most the whole" if record.royalty_bps > BPS else None


def _package_fault(record: ServiceRecord) -> str | None:
    if record.kind in RUN_HERE and len(record.package) != PACKAGE_BYTES:
        return f"a {record.kind} service names the blob of its package (32 bytes)"
    if record.kind == "api" and not record.endpoint:
        return "an api service names its endpoint"
    return None


def replaces(held: ServiceRecord | None, new: ServiceRecord) -> bool:
    """Whether a record replaces the one held: only a later one of the same making."""
    if held is None:
        return True
    return new.updated_ms > held.updated_ms and new.created_ms == held.created_ms


def rating_fault(rating: Rating, receipt: SettledReceipt, network: str) -> str | None:
    """Why a rating and the receipt it cites do not belong together, or None."""
    if rating.network != network or receipt.network != network:
        return "it belongs to another network"
    if rating.cid != receipt.cid or rating.service_id != receipt.service_id:
        return "its receipt is of another contract or service"
    if not rating.rater == receipt.buyer == receipt.signer:
        return "only the contract's buyer rates, with its own receipt"
    if receipt.gross_florins == 0:
        return "nothing was paid, and only who has paid rates"
    return None


def mean_centistars(stars: Stars) -> int:
    """The mean in hundredths of a star, rounded down; 0 when nobody rated."""
    return stars.total * 100 // stars.count if stars.count else 0


def ranking_centistars(stars: Stars) -> int:
    """The mean with two middling ratings added: one friend's five stars do not beat forty buyers' 4.8."""
    return mean_centistars(Stars(stars.count + PRIOR_STARS.count, stars.total + PRIOR_STARS.total))


def fits(offer: Offer, wanted: SearchServices) -> bool:
    """Whether an offer meets every filter but the words; an unset filter is met by all."""
    record = offer.record
    return (
        not record.withdrawn
        and (wanted.max_price_florins is None or record.price_florins <= wanted.max_price_florins)
        and mean_centistars(offer.stars) >= round(wanted.min_rating * 100)
        and set(tags_of(wanted.tags)) <= set(record.tags)
        and (not wanted.kind or record.kind == wanted.kind)
        and (not wanted.provider or record.provider == wanted.provider)
        and (wanted.include_offline or offer.status is not NodeStatus.OFFLINE)
    )


_ORDERS: dict[SortBy, Callable[[Offer], tuple[float, ...]]] = {
    SortBy.RELEVANCE: lambda offer: (offer.relevance, -ranking_centistars(offer.stars), -offer.total_calls),
    SortBy.PRICE: lambda offer: (offer.record.price_florins, -ranking_centistars(offer.stars)),
    SortBy.RATING: lambda offer: (-ranking_centistars(offer.stars), -offer.stars.count),
    SortBy.NEWEST: lambda offer: (-offer.record.created_ms,),
    SortBy.CALLS: lambda offer: (-offer.total_calls, -ranking_centistars(offer.stars)),
}


def ranked(offers: Iterable[Offer], sort: SortBy) -> list[Offer]:
    """Offers in the order asked for; those of offline providers after all others; ties by id."""

    def place(offer: Offer) -> tuple[object, ...]:
        return (offer.status is NodeStatus.OFFLINE, *_ORDERS[sort](offer), offer.record.service_id)

    return sorted(offers, key=place)


def take_call(bucket: Bucket | None, rate_limit: int, now_ms: int) -> tuple[Bucket, int]:
    """The bucket after one call, and 0; or the bucket unchanged in room, and the seconds until a call fits.

    At most `rate_limit` calls at once, and `rate_limit` more per minute, evenly. A clock set back adds no room.
    """
    full = rate_limit * CALL_MILLI
    held = bucket or Bucket(room_milli=full, at_ms=now_ms)
    passed_ms = max(0, now_ms - held.at_ms)
    room = min(full, held.room_milli + passed_ms * full // MINUTE_MS)
    if room >= CALL_MILLI:
        return Bucket(room_milli=room - CALL_MILLI, at_ms=now_ms), 0
    wait_ms = -(-(CALL_MILLI - room) * MINUTE_MS // full)
    return Bucket(room_milli=room, at_ms=max(now_ms, held.at_ms)), max(1, -(-wait_ms // 1000))


def admission_fault(record: ServiceRecord, buyer: Did, buyer_score_ppm: int) -> str | None:
    """Why a buyer is not let in however long it waits, or None."""
    if record.withdrawn:
        return "the service was withdrawn"
    if buyer == record.provider:
        return "a provider does not buy from itself"
    if buyer_score_ppm * BPS < record.min_buyer_reputation_bps * 1_000_000:
        return (
            f"it asks buyers for a reputation of {record.min_buyer_reputation_bps / BPS:.2f}, "
            f"and yours is {buyer_score_ppm / 1_000_000:.2f}"
        )
    return None
