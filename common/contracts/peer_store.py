"""What storeds tell each other: offers and ratings by gossip, what was missed by asking, places in the DHT."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Canon
from common.contracts.peer_registry import SYNC_ITEMS_MAX, SyncAnswer
from common.receipts import Attested, Count, RatingNotice
from common.rpc.method import Namespace, PeerMethod, Topic

POINTERS_MAX = 32  # services of one provider under one tag


class ServicesAsk(Canon, frozen=True):
    """Services that changed there after a cursor."""

    after: Count
    limit: Annotated[int, Meta(ge=1, le=SYNC_ITEMS_MAX)]


class RatingsAsk(Canon, frozen=True):
    """Ratings that arrived there after a cursor."""

    after: Count
    limit: Annotated[int, Meta(ge=1, le=SYNC_ITEMS_MAX)]


class TagPointer(Canon, frozen=True):
    """The signer's services under the tag or word that the record is named after, by their ids."""

    service_ids: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=POINTERS_MAX)]


_BY = ("stored",)
TOPIC_SERVICE = Topic(
    name="service", owner="stored", payload=Attested, summary="A provider's signed service."
)  # fmt: skip
TOPIC_RATING = Topic(
    name="rating", owner="stored", payload=RatingNotice, summary="A buyer's rating with the receipt that it cites."
)  # fmt: skip

SERVICES_SYNC = PeerMethod(
    name="store.services", owner="stored", params=ServicesAsk, result=SyncAnswer, callers=_BY, cost=4,
    params_bytes_max=128, summary="Services that a node which was away has missed (`Attested` bytes).",
)  # fmt: skip
RATINGS_SYNC = PeerMethod(
    name="store.ratings", owner="stored", params=RatingsAsk, result=SyncAnswer, callers=_BY, cost=4,
    params_bytes_max=128, summary="Ratings that a node which was away has missed (`RatingNotice` bytes).",
)  # fmt: skip

SERVICE_NS = Namespace(name="service", owner="stored", summary="Signed services; name = the service's id.")
TAG_NS = Namespace(
    name="tag", owner="stored", summary="Services by tag (`t/…`), by a word of their name (`w/…`), or any (`all`)."
)  # fmt: skip
