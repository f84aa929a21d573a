"""What stored promises to its callers: services published, found, shown and rated.

Field names of `ServiceView` are the thirteen of the specification's service schema (the price as `price_florins`), and
what the market needs beside them. What nodes sign is in `common/receipts.py`.
Source: settled.md 10, 29, 36; work.md §6.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.contracts.registry import NodeStatus, ReceiptState
from common.errors import CallerMistake, NotFound, NotNow
from common.receipts import REVIEW_CHARS_MAX, STARS_MAX, STARS_MIN, Count
from common.rpc.method import Empty, Method, callers_of
from common.units import Did, Florins, Hash32

SEARCH_MAX = 100  # services in one answer
REVIEWS_MAX = 50  # reviews in one answer, newest first

Stars = Annotated[int, Meta(ge=STARS_MIN, le=STARS_MAX)]
Ratio = Annotated[float, Meta(ge=0, le=1)]


class BadService(CallerMistake):
    """The service is refused: {detail}."""

    code = 6001
    key = "bad-service"


class NotOwnService(CallerMistake):
    """{service_id} was published by {provider}; only its provider updates or withdraws it."""

    code = 6002
    key = "not-own-service"
    http_status = 403


class PackageMissing(NotNow):
    """This node does not hold the package {package}: put it into p2pd first (`PUT /blob`, or `duxnet publish`)."""

    code = 6003
    key = "package-missing"


class BadRating(CallerMistake):
    """The rating is refused: {detail}."""

    code = 6004
    key = "bad-rating"


class AlreadyRated(CallerMistake):
    """Contract {cid} was rated already, {stars} of 5; a rating is given once."""

    code = 6005
    key = "already-rated"
    http_status = 409


class ReceiptNotSettled(NotNow):
    """The payment of contract {cid} is not settled on the chain yet ({reason}): rate it when it is."""

    code = 6006
    key = "receipt-not-settled"


class SortBy(StrEnum):
    """What a search puts first."""

    RELEVANCE = "relevance"
    PRICE = "price"  # cheapest
    RATING = "rating"
    NEWEST = "newest"
    CALLS = "calls"  # most used


class CallLimits(Wire, frozen=True):
    """What one call may use at the seller: `common.work.Limits` with defaults, for people."""

    fuel: Annotated[int, Meta(ge=0, le=10**15)] = 50_000_000_000
    memory_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 36)] = 256 * 1024 * 1024
    wall_s: Annotated[int, Meta(ge=1, le=86_400)] = 300
    output_bytes: Annotated[int, Meta(ge=1, le=1 << 30)] = 64 * 1024 * 1024


class PublishService(Wire, frozen=True):
    """Publish a service; the same slug again replaces what it was."""

    request_id: str
    slug: str  # short name that the service's id is made of: lower case letters, digits, hyphens
    name: str
    price_florins: Florins
    description: str = ""
    version: str = "1.0.0"
    tags: tuple[str, ...] = ()
    endpoint: str = ""  # of kind `api`; other kinds are reached as dux://<provider>/<slug>
    rate_limit: Count = 0  # calls per buyer per minute; 0: no limit
    kind: str = "wasm"
    package: str = ""  # blob id in hex; must be held by this node
    entry: str = ""
    limits: CallLimits = CallLimits()
    min_buyer_reputation: Ratio = 0.0
    developer: str = ""  # DID of who wrote it, if another than the provider
    royalty_bps: Count = 0
    result_lock: bool = True  # False: buyers by contract read the result before they pay


class UpdateService(Wire, frozen=True):
    """Change a published service; what is None stays."""

    request_id: str
    service_id: str
    name: str | None = None
    description: str | None = None
    version: str | None = None
    price_florins: Florins | None = None
    tags: tuple[str, ...] | None = None
    endpoint: str | None = None
    rate_limit: Count | None = None
    package: str | None = None
    entry: str | None = None
    limits: CallLimits | None = None
    min_buyer_reputation: Ratio | None = None
    result_lock: bool | None = None


class WithdrawService(Wire, frozen=True):
    """Take a service out of the market; its ratings stay."""

    request_id: str
    service_id: str


class ServiceName(Wire, frozen=True):
    """Which service."""

    service_id: str


class ServiceView(Wire, frozen=True):
    """One service as this node knows it."""

    id: str
    name: str
    description: str
    version: str
    provider: Did
    price_florins: Florins
    tags: tuple[str, ...]
    endpoint: str
    rate_limit: int
    reputation: float  # mean stars, 1 to 5; 0: nobody rated it yet
    total_calls: int  # settled receipts known here
    created_at: str  # ISO 8601, UTC
    updated_at: str
    slug: str
    kind: str
    package: str  # blob id in hex, or empty
    entry: str
    limits: CallLimits
    min_buyer_reputation: float
    developer: str
    royalty_bps: int
    ratings: int  # how many
    provider_status: NodeStatus | None  # None: the registry does not know the provider
    withdrawn: bool
    own: bool
    result_lock: bool = True  # contracts sell the result's key; False: the result is read before it is paid


class ReviewView(Wire, frozen=True):
    """One buyer's rating."""

    rater: Did
    stars: int
    review: str
    cid: Hash32
    at: str  # ISO 8601, UTC


class ServiceDetail(Wire, frozen=True):
    """A service, its newest reviews, and its signed record."""

    service: ServiceView
    reviews: tuple[ReviewView, ...]
    signed: bytes  # `Attested` bytes of the `ServiceRecord`


class SearchServices(Wire, frozen=True):
    """Which services; `text` may hold words, "exact phrases" and #tags. Everything that is given must fit."""

    text: str = ""
    tags: tuple[str, ...] = ()
    max_price_florins: Florins | None = None
    min_rating: Annotated[float, Meta(ge=0, le=STARS_MAX)] = 0.0
    kind: str = ""
    provider: str = ""
    sort: SortBy = SortBy.RELEVANCE
    limit: Annotated[int, Meta(ge=1, le=SEARCH_MAX)] = 20
    include_offline: bool = True  # services of nodes not heard of for an hour come last, or not at all
    ask_network: bool = True  # look into the DHT too


class SearchResult(Wire, frozen=True):
    """Matching services in the order asked for; `total` counts also those beyond the limit."""

    services: tuple[ServiceView, ...]
    total: int
    learnt: int  # how many services the network told of just now that were not known here


class MyServices(Wire, frozen=True):
    """This node's own services, also withdrawn ones."""

    services: tuple[ServiceView, ...]


class RateService(Wire, frozen=True):
    """Rate the service that a contract paid for; this node must be its buyer."""

    request_id: str
    cid: Hash32
    stars: Stars
    review: Annotated[str, Meta(max_length=REVIEW_CHARS_MAX)] = ""
    receipt: bytes = b""  # own signed receipt, when the registry may not have it yet


class TouchReceipt(Wire, frozen=True):
    """A receipt of a call that has just ended (`Attested` bytes)."""

    request_id: str
    receipt: bytes


class TouchVerdict(Wire, frozen=True):
    """What the registry says of the receipt, and the calls counted now."""

    state: ReceiptState
    total_calls: int


class AdmitBuyer(Wire, frozen=True):
    """The seller asks whether a buyer may call one of its services now; asking counts as a call."""

    request_id: str
    service_id: str
    buyer: str


class Admission(Wire, frozen=True):
    """Whether it may, and if not why and when to come again (0: not by waiting)."""

    admitted: bool
    reason: str
    retry_after_s: int


_DID = Did("did:dux:" + "a" * 52)
_BUYER = Did("did:dux:" + "b" * 52)
_CID = Hash32(b"\x01" * 32)
_ID = "mzxw6ytboi4dcmrtgq2tmnzyhe3dqojx"
_PACKAGE = "5a" * 32
_VIEW = ServiceView(
    id=_ID,
    name="Image Upscaler API",
    description="Enlarges a picture four times",
    version="1.0.0",
    provider=_DID,
    price_florins=Florins(1_000_000_000),
    tags=("image-processing", "upscaling"),
    endpoint=f"dux://{_DID}/image-upscaler",
    rate_limit=100,
    reputation=4.8,
    total_calls=1250,
    created_at="2026-11-01T00:00:00Z",
    updated_at="2026-11-15T12:30:00Z",
    slug="image-upscaler",
    kind="wasm",
    package=_PACKAGE,
    entry="run",
    limits=CallLimits(),
    min_buyer_reputation=0.0,
    developer="",
    royalty_bps=0,
    ratings=212,
    provider_status=NodeStatus.ACTIVE,
    withdrawn=False,
    own=False,
)
_REVIEW = ReviewView(rater=_BUYER, stars=5, review="sharp", cid=_CID, at="2026-11-15T12:30:00Z")
_OWN = ("cli", "module", "taskd")

SERVICE_PUBLISH = Method(
    name="service.publish",
    params=PublishService,
    result=ServiceView,
    summary="Publish a service of this node, signed, to the whole network.",
    callers=_OWN,
    example=(
        PublishService(
            request_id="pub-1",
            slug="image-upscaler",
            name="Image Upscaler API",
            price_florins=Florins(1_000_000_000),
            package=_PACKAGE,
            tags=("upscaling",),
        ),
        _VIEW,
    ),
    raises=(BadService, PackageMissing),
    once=True,
)
SERVICE_UPDATE = Method(
    name="service.update",
    params=UpdateService,
    result=ServiceView,
    summary="Change a service of this node.",
    callers=_OWN,
    example=(
        UpdateService(request_id="upd-1", service_id=_ID, price_florins=Florins(900_000_000)),
        _VIEW,
    ),
    raises=(BadService, NotOwnService, PackageMissing, NotFound),
    once=True,
)
SERVICE_WITHDRAW = Method(
    name="service.withdraw",
    params=WithdrawService,
    result=ServiceView,
    summary="Take a service of this node out of the market.",
    callers=_OWN,
    example=(WithdrawService(request_id="wd-1", service_id=_ID), _VIEW),
    raises=(NotOwnService, NotFound),
    once=True,
)
SERVICE_SEARCH = Method(
    name="service.search",
    params=SearchServices,
    result=SearchResult,
    summary="Find services by words, tags, price and rating.",
    callers=callers_of("stored"),
    example=(
        SearchServices(text="upscale #image", max_price_florins=Florins(2_000_000_000), min_rating=4.0),
        SearchResult(services=(_VIEW,), total=1, learnt=0),
    ),
)
SERVICE_SHOW = Method(
    name="service.show",
    params=ServiceName,
    result=ServiceDetail,
    summary="One service with its reviews; asked for in the DHT when it is not known here.",
    callers=callers_of("stored"),
    example=(ServiceName(service_id=_ID), ServiceDetail(service=_VIEW, reviews=(_REVIEW,), signed=b"\x94")),
    raises=(NotFound,),
)
SERVICE_LIST_MINE = Method(
    name="service.list_mine",
    params=Empty,
    result=MyServices,
    summary="This node's own services.",
    callers=callers_of("stored"),
    example=(Empty(), MyServices(services=(_VIEW,))),
)
SERVICE_RATE = Method(
    name="service.rate",
    params=RateService,
    result=ServiceView,
    summary="Rate the service that a settled contract paid for, once.",
    callers=_OWN,
    example=(RateService(request_id="rate-1", cid=_CID, stars=5, review="sharp"), _VIEW),
    raises=(BadRating, AlreadyRated, ReceiptNotSettled),
    once=True,
)
SERVICE_TOUCH = Method(
    name="service.touch",
    params=TouchReceipt,
    result=TouchVerdict,
    summary="Tell that a call has been settled: the receipt goes to the registry, the calls are counted anew.",
    callers=_OWN,
    example=(
        TouchReceipt(request_id="touch-1", receipt=b"\x94"),
        TouchVerdict(state=ReceiptState.SETTLED, total_calls=1251),
    ),
    raises=(BadRating,),
    once=True,
)
SERVICE_ADMIT = Method(
    name="service.admit",
    params=AdmitBuyer,
    result=Admission,
    summary="May this buyer call this service of ours now? Enforces rate_limit and min_buyer_reputation.",
    callers=("taskd",),
    example=(
        AdmitBuyer(request_id="admit-1", service_id=_ID, buyer=_BUYER),
        Admission(admitted=True, reason="", retry_after_s=0),
    ),
    raises=(NotFound, NotOwnService),
    once=True,
)
