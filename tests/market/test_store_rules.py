"""Offers: which are well formed, which replace which, who rates, what comes first, how often a buyer calls."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.contracts.registry import NodeStatus
from common.contracts.store import SearchServices, SortBy
from common.units import Florins, UnixMs
from dux_stored.model import Bucket, Offer, Stars
from dux_stored.rules import (
    admission_fault,
    endpoint_of,
    fits,
    mean_centistars,
    ranked,
    ranking_centistars,
    rating_fault,
    replaces,
    service_fault,
    tags_of,
    take_call,
)
from dux_stored.views import service_view
from tests.market.makers import BUYER, NETWORK, NOW_MS, SELLER, STRANGER, rating, receipt, service


def offer(**changes: Any) -> Offer:
    """The seller's service, rated 4.5 by two, called ten times, its provider active; with changes to the record."""
    return Offer(record=service(**changes), stars=Stars(2, 9), total_calls=10, status=NodeStatus.ACTIVE, relevance=-1.0)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, None),
        ({"kind": "api", "package": b"", "endpoint": "https://provider:8080/upscale"}, None),
        ({"developer": STRANGER, "royalty_bps": 1_000}, None),
        ({"kind": "check", "package": b"", "endpoint": ""}, None),
        ({"network": "00" * 32}, "another network"),
        ({"slug": "Up scale"}, "slug"),
        ({"slug": "a--b"}, "slug"),
        ({"service_id": "x" * 32}, "its id"),
        ({"created_ms": UnixMs(NOW_MS + 1)}, "before it was made"),
        ({"updated_ms": UnixMs(NOW_MS + 600_001)}, "future"),
        ({"kind": "docker"}, "kind"),
        ({"name": " "}, "no name"),
        ({"version": "1\n"}, "cannot be shown"),
        ({"tags": ("b", "a")}, "sorted"),
        ({"tags": ("!",)}, "not a tag"),
        ({"price_florins": Florins(0)}, "price"),
        ({"price_florins": Florins(1_000_000_000_001)}, "price"),
        ({"developer": STRANGER}, "go together"),
        ({"developer": "alice", "royalty_bps": 1}, "did:dux"),
        ({"developer": STRANGER, "royalty_bps": 10_001}, "at most the whole"),
        ({"package": b""}, "blob of its package"),
        ({"kind": "api", "package": b"", "endpoint": ""}, "endpoint"),
    ],
)
def test_a_service_is_taken_or_told_why_not(changes: dict[str, Any], word: str | None) -> None:
    """A sound record has no fault; each wrong field has its own words."""
    fault = service_fault(service(**changes), NETWORK, NOW_MS)
    assert (fault is None) if word is None else (word in (fault or ""))


def test_nobody_can_publish_under_anothers_id() -> None:
    """A record that names another provider's service id is refused, whatever else it says."""
    stolen = service(provider=STRANGER, service_id=service().service_id)
    assert "its id" in (service_fault(stolen, NETWORK, NOW_MS) or "")


@pytest.mark.parametrize("created_ms", [-(2**63), -(2**55), -1])
def test_a_service_dated_before_any_calendar_is_shown_and_not_the_end_of_the_list(created_ms: int) -> None:
    """Its record is sound, so everybody holds it: one that could not be shown would take the others along."""
    odd = offer(created_ms=UnixMs(created_ms))
    assert service_fault(odd.record, NETWORK, NOW_MS) is None
    assert service_view(odd, own=False).created_at == "1970-01-01T00:00:00Z"


@given(st.lists(st.text(max_size=10), max_size=10))
def test_tags_have_one_form(texts: list[str]) -> None:
    """Sorted, each once, none empty; a second time changes nothing."""
    tags = tags_of(texts)
    assert list(tags) == sorted(set(tags))
    assert "" not in tags
    assert tags_of(["#AI", "ai", " Image Processing "]) == ("ai", "image-processing")


def test_only_a_later_record_of_the_same_making_replaces() -> None:
    """The same, an older, or one that claims another date of birth does not."""
    held = service()
    assert replaces(None, held)
    assert replaces(held, service(updated_ms=UnixMs(NOW_MS + 1)))
    assert not replaces(held, held)
    assert not replaces(held, service(updated_ms=UnixMs(NOW_MS + 2), created_ms=UnixMs(NOW_MS + 1)))


@pytest.mark.parametrize(
    ("rated", "paid", "word"),
    [
        ({}, {"signer": BUYER}, None),
        ({"network": "00" * 32}, {"signer": BUYER}, "another network"),
        ({"cid": b"\x02" * 32}, {"signer": BUYER}, "another contract"),
        ({"service_id": "other"}, {"signer": BUYER}, "another contract or service"),
        ({"rater": STRANGER}, {"signer": BUYER}, "buyer"),
        ({}, {"signer": SELLER}, "own receipt"),
        ({}, {"signer": BUYER, "gross_florins": Florins(0)}, "nothing was paid"),
    ],
)
def test_only_the_buyer_rates_with_its_own_receipt(
    rated: dict[str, Any], paid: dict[str, Any], word: str | None
) -> None:
    """Rating and receipt name one contract, one service and one buyer, who signed both."""
    fault = rating_fault(rating(**rated), receipt(**paid), NETWORK)
    assert (fault is None) if word is None else (word in (fault or ""))


@given(st.lists(st.integers(1, 5), max_size=30), st.integers(1, 5))
def test_stars_average(given_stars: list[int], one_more: int) -> None:
    """The mean lies between the fewest and the most stars; one more rating moves the ranking its own way."""
    stars = Stars(len(given_stars), sum(given_stars))
    more = Stars(stars.count + 1, stars.total + one_more)
    assert mean_centistars(stars) == (sum(given_stars) * 100 // len(given_stars) if given_stars else 0)
    assert 100 <= ranking_centistars(stars) <= 500
    if one_more * 100 > ranking_centistars(stars) + 1:
        assert ranking_centistars(more) >= ranking_centistars(stars)


def test_one_friend_does_not_beat_forty_buyers() -> None:
    """Five stars once rank below 4.8 of forty."""
    assert ranking_centistars(Stars(1, 5)) < ranking_centistars(Stars(40, 192))


@pytest.mark.parametrize(
    ("met", "missed"),
    [
        ({}, {"max_price_florins": Florins(999_999_999)}),
        ({"max_price_florins": Florins(1_000_000_000)}, {"min_rating": 4.51}),
        ({"min_rating": 4.5}, {"tags": ("upscaling", "ai")}),
        ({"tags": ("#Upscaling",)}, {"kind": "native"}),
        ({"kind": "wasm"}, {"provider": BUYER}),
        ({"provider": SELLER}, {"provider": STRANGER}),
    ],
)
def test_a_filter_is_met_at_its_bound_and_missed_beyond(met: dict[str, Any], missed: dict[str, Any]) -> None:
    """Every filter on its own lets the offer through at its bound and stops it one step further."""
    assert fits(offer(), SearchServices(**met))
    assert not fits(offer(), SearchServices(**missed))
    assert not fits(offer(withdrawn=True), SearchServices(**met))


def test_offline_providers_can_be_left_out() -> None:
    """`include_offline` false leaves out exactly those of offline nodes."""
    for status in (None, *NodeStatus):
        found = Offer(record=service(), stars=Stars(0, 0), total_calls=0, status=status, relevance=0.0)
        assert fits(found, SearchServices())
        assert fits(found, SearchServices(include_offline=False)) == (status is not NodeStatus.OFFLINE)


def test_each_order_puts_its_own_first_and_offline_last() -> None:
    """Cheapest, best rated, newest, most called, best fitting: each comes first in its order, the offline one last."""
    plain = {"created_ms": UnixMs(NOW_MS - 10)}
    cheap = Offer(service(slug="a", price_florins=Florins(20_000_000), **plain), Stars(1, 1), 0, None, 0.0)
    loved = Offer(service(slug="b", **plain), Stars(50, 250), 1, NodeStatus.ACTIVE, 0.0)
    fresh = Offer(service(slug="c"), Stars(1, 1), 0, NodeStatus.STALE, 0.0)
    used = Offer(service(slug="d", **plain), Stars(1, 1), 99, NodeStatus.ACTIVE, 0.0)
    exact = Offer(service(slug="e", **plain), Stars(1, 1), 0, NodeStatus.ACTIVE, -9.0)
    gone = Offer(service(slug="f", price_florins=Florins(20_000_000)), Stars(99, 495), 999, NodeStatus.OFFLINE, -99.0)
    firsts = {
        SortBy.PRICE: cheap,
        SortBy.RATING: loved,
        SortBy.NEWEST: fresh,
        SortBy.CALLS: used,
        SortBy.RELEVANCE: exact,
    }
    for sort, first in firsts.items():
        order = ranked([gone, cheap, loved, fresh, used, exact], sort)
        assert order[0] is first
        assert order[-1] is gone
        assert ranked(order[::-1], sort) == order


@given(st.integers(1, 50), st.lists(st.integers(-1_000, 30_000), min_size=1, max_size=120))
def test_a_buyer_never_calls_more_often_than_the_limit(limit: int, steps_ms: list[int]) -> None:
    """In any minute of any history at most twice the limit get in (a full bucket and a minute's refill).

    Who is told to wait gets in after that wait.
    """
    bucket: Bucket | None = None
    now, latest, entered = NOW_MS, NOW_MS, []
    for step in steps_ms:
        now += step
        bucket, wait_s = take_call(bucket, limit, now)
        latest = max(latest, now, bucket.at_ms)
        if wait_s == 0:
            entered.append(latest)
        else:
            assert take_call(bucket, limit, max(now, bucket.at_ms) + wait_s * 1000)[1] == 0
    for at in entered:
        assert sum(1 for other in entered if at <= other < at + 60_000) <= 2 * limit


def test_a_full_bucket_is_the_limit() -> None:
    """Exactly `rate_limit` calls at one moment, then a wait of a minute's share."""
    bucket: Bucket | None = None
    waits = []
    for _ in range(4):
        bucket, wait_s = take_call(bucket, 3, NOW_MS)
        waits.append(wait_s)
    assert waits == [0, 0, 0, 20]


@pytest.mark.parametrize(
    ("changes", "buyer", "score", "word"),
    [
        ({}, BUYER, 0, None),
        ({"min_buyer_reputation_bps": 5_000}, BUYER, 500_000, None),
        ({"min_buyer_reputation_bps": 5_000}, BUYER, 499_999, "0.50"),
        ({"withdrawn": True}, BUYER, 1_000_000, "withdrawn"),
        ({}, SELLER, 1_000_000, "itself"),
    ],
)
def test_who_is_let_in(changes: dict[str, Any], buyer: Any, score: int, word: str | None) -> None:
    """A service may ask a reputation of its buyers; the bound itself is enough; nobody buys from itself."""
    fault = admission_fault(service(**changes), buyer, score)
    assert (fault is None) if word is None else (word in (fault or ""))


def test_an_endpoint_names_provider_and_slug() -> None:
    """What runs in the market's own sandbox is reached under its provider's name."""
    assert endpoint_of(SELLER, "upscale") == f"dux://{SELLER}/upscale"
