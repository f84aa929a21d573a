"""What storeds tell each other: offers and ratings by gossip, what was missed by asking, places in the DHT."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Canon
from common.contracts.peer_registry import SYNC_ITEMS_MAX, SyncAnswer
from common.receipts import Attested, Count, RatingNotice
from common.rpc.method import Names, Namespace, PeerMethod, Topic

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
    name="store.services", repeated="read",
    owner="stored", params=ServicesAsk, result=SyncAnswer, callers=_BY, cost=4,
    params_bytes_max=128, summary="Services that a node which was away has missed (`Attested` bytes).",
)  # fmt: skip
RATINGS_SYNC = PeerMethod(
    name="store.ratings", repeated="read",
    owner="stored", params=RatingsAsk, result=SyncAnswer, callers=_BY, cost=4,
    params_bytes_max=128, summary="Ratings that a node which was away has missed (`RatingNotice` bytes).",
)  # fmt: skip


def _is_providers(did: str, _name: str, service: Attested) -> str | None:
    return None if service.did == did else "the service is another node's"


SERVICE_NS = Namespace(
    name="service", owner="stored", payload=Attested, summary="A provider's signed service, under the service's id.",
    names=Names(pattern="[a-z2-7]{32}", says="a service's id: 32 letters and digits", example="a" * 32),
    per_name_max=4, belongs=_is_providers,
)  # fmt: skip
TAG_NS = Namespace(
    name="tag", owner="stored", payload=TagPointer,
    summary="Services by tag (`t/…`), by a word of their name (`w/…`), or any (`all`).",
    names=Names(pattern=r"all|[tw]/\S{1,62}", says="`all`, or `t/` and a tag, or `w/` and a word", example="t/image"),
)  # fmt: skip
