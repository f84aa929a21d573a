"""stored whole, beside a real registryd, on a small network at the contract: real daemons, real signatures, no wire."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.codec import canonical
from common.contracts import p2p, registry
from common.contracts import store as contract
from common.contracts.base import GOSSIP_HANDLE, GossipIn
from common.contracts.peer_store import TOPIC_RATING, TOPIC_SERVICE, TagPointer
from common.contracts.registry import NodeStatus, ReceiptState, RegisterNode, SubmitReceipt
from common.contracts.store import (
    AdmitBuyer,
    AlreadyRated,
    BadRating,
    BadService,
    CallLimits,
    NotOwnService,
    PackageMissing,
    PublishService,
    RateService,
    ReceiptNotSettled,
    SearchServices,
    ServiceName,
    SortBy,
    TouchReceipt,
    UpdateService,
    WithdrawService,
)
from common.errors import NotFound
from common.identity.purposes import Purpose
from common.receipts import RatingNotice, ServiceRecord, attested, body_of, service_id_of
from common.rpc.client import LocalClient
from common.rpc.method import Empty
from common.units import Florins, Hash32, UnixMs
from dux_registryd.daemon import RegistryDaemon
from dux_stored.daemon import StoreDaemon
from tests.attacks.registry import attack
from tests.market.fakes import FakeNet, FakeNode, attest, did_number, running, until
from tests.market.makers import changed, rating, receipt, service

WALLET = "mzBc4XEFSdzCDcTxAgf6EZXgsZWpztRhef"
QUICK_REGISTRY: dict[str, Any] = {"heartbeat_s": 0.1, "check_s": 0.03, "sync_s": 0.05}
QUICK: dict[str, Any] = {"follow_s": 0.03, "sync_s": 0.05}
SLOW = QUICK | {"sync_s": 60.0}
PACKAGE = "5a" * 32
TXID = "cd" * 32
TAX = 50_000_000
CID = Hash32(receipt().cid)


@contextlib.asynccontextmanager
async def market(node: FakeNode, folder: Path, **settings: Any) -> AsyncIterator[LocalClient]:
    """A node with registryd and stored; the client is stored's."""
    node.blobs[PACKAGE] = 10_000
    async with (
        running(node, RegistryDaemon, folder, **QUICK_REGISTRY),
        running(node, StoreDaemon, folder, **QUICK | settings) as client,
    ):
        yield client


def publish(slug: str = "image-upscaler", **changes: Any) -> PublishService:
    """The specification's service."""
    fields: dict[str, Any] = {
        "request_id": f"publish-{slug}",
        "name": "Image Upscaler API",
        "description": "AI-powered image upscaling service",
        "price_florins": Florins(1_000_000_000),
        "tags": ("AI", "#image-processing", "upscaling"),
        "package": PACKAGE,
        "entry": "dux-wasm/1",
        "rate_limit": 100,
    }
    return PublishService(slug=slug, **fields | changes)


async def found(client: LocalClient, text: str = "", **wanted: Any) -> list[str]:
    """The slugs that a search finds, in order."""
    result = await client.call(contract.SERVICE_SEARCH, SearchServices(text=text, **wanted))
    return [view.slug for view in result.services]


def settled_receipt(net: FakeNet, buyer: int, seller: int, *, slug: str = "image-upscaler", **changes: Any) -> bytes:
    """A buyer's signed receipt of a paid call, whose payment stands on the chain."""
    net.chain.settle(TXID, 100, TAX)
    net.chain.height = 101
    provider = did_number(seller)
    made = receipt(
        buyer=did_number(buyer),
        seller=provider,
        signer=did_number(buyer),
        service_id=service_id_of(provider, slug),
        **changes,
    )
    return canonical(attest(buyer, Purpose.SETTLED_RECEIPT, made))


async def gossip(node: FakeNode, topic: str, payload: bytes) -> str:
    """What a node's stored answers to a gossip message."""
    message = GossipIn(topic=topic, payload=payload, sender=did_number(30), key_seq=0, seq_ms=0)
    return (await node.client("stored", "p2pd").call(GOSSIP_HANDLE, message)).verdict


@attack(
    "registry",
    tries="changes the price of a service with a key that its owner has replaced, dated back into that key's time",
    meets="not taken: new business asks for a key in use; the owner's node signs its services anew",
)
async def test_a_replaced_key_changes_no_service(tmp_path: Path) -> None:
    """What the owner had signed with the old key is offered under the new one at the next turn."""
    net = FakeNet()
    async with (
        market(net.node(2), tmp_path, **SLOW) as buyer,
        market(net.node(1), tmp_path, **SLOW | {"announce_s": 0.05}) as seller,
    ):
        mine = await seller.call(contract.SERVICE_PUBLISH, publish())
        await until(lambda: found(buyer, "upscal", ask_network=False))
        honest = await buyer.call(contract.SERVICE_SHOW, ServiceName(service_id=mine.id))
        net.clock.advance(60)
        net.node(1).cut = True
        net.node(1).change_key(recovered=True)
        record = body_of(attested(honest.signed), ServiceRecord, 8_000)
        cheap = changed(record, price_florins=Florins(1), updated_ms=UnixMs(record.updated_ms + 1))
        net.clock.advance(1)
        assert await gossip(net.node(2), TOPIC_SERVICE.name, canonical(attest(1, Purpose.SERVICE, cheap))) == "reject"
        net.node(1).cut, name = False, ("service", mine.id)
        await until(lambda: attested(net.dht[name][did_number(1)].payload).key_seq == 1)
        renewed = body_of(attested(net.dht[name][did_number(1)].payload), ServiceRecord, 8_000)
        assert renewed == changed(record, updated_ms=renewed.updated_ms)
        assert [view.id for view in (await seller.call(contract.SERVICE_LIST_MINE, Empty())).services] == [mine.id]


async def test_what_one_node_publishes_another_finds(tmp_path: Path) -> None:
    """By gossip: every word, tag, price and the exact thirteen fields of the specification."""
    net = FakeNet()
    async with market(net.node(1), tmp_path, **SLOW) as seller, market(net.node(2), tmp_path, **SLOW) as buyer:
        mine = await seller.call(contract.SERVICE_PUBLISH, publish())
        assert mine.own
        await until(lambda: found(buyer, "upscal", ask_network=False))
        for text in ("", "image", "UPSCALER api", '"image upscaling"', "#ai", "#image-processing upscal"):
            assert await found(buyer, text, ask_network=False) == ["image-upscaler"], text
        for text in ("enlarge", '"upscaling image"', "#video", "image enlarge"):
            assert await found(buyer, text, ask_network=False) == [], text
        assert await found(buyer, max_price_florins=Florins(999_999_999)) == []
        assert await found(buyer, min_rating=1.0) == []
        view = (await buyer.call(contract.SERVICE_SEARCH, SearchServices())).services[0]
        assert (view.id, view.provider, view.price_florins) == (mine.id, did_number(1), 1_000_000_000)
        assert (view.reputation, view.total_calls, view.own) == (0.0, 0, False)
        assert view.tags == ("ai", "image-processing", "upscaling")
        assert view.endpoint == f"dux://{did_number(1)}/image-upscaler"
        assert view.created_at == view.updated_at == "2026-09-21T14:13:20Z"


async def test_a_node_that_missed_the_gossip_finds_it_in_the_dht(tmp_path: Path) -> None:
    """By tag, by word, by nothing in particular, and by its id; nonsense put beside it hides nothing."""
    net = FakeNet()
    async with market(net.node(1), tmp_path, **SLOW) as seller:
        mine = await seller.call(contract.SERVICE_PUBLISH, publish())
        await until(lambda: ("tag", "all") in net.dht and ("tag", "w/upscaler") in net.dht)
        await until(lambda: ("service", mine.id) in net.dht)
    nonsense = p2p.RecordView(did=did_number(9), key_seq=0, seq_ms=UnixMs(0), expires_ms=UnixMs(0), payload=b"\x93junk")
    for records in net.dht.values():
        records[did_number(9)] = nonsense
    for text in ("#upscaling", "upscaler", ""):
        net.node(3).cut = False
        async with market(net.node(3), tmp_path, **SLOW) as late:
            result = await late.call(contract.SERVICE_SEARCH, SearchServices(text=text))
            assert ([view.id for view in result.services], result.learnt) == ([mine.id], 1), text
    async with market(net.node(4), tmp_path, **SLOW) as other:
        assert await found(other, "upscaler", ask_network=False) == []
        detail = await other.call(contract.SERVICE_SHOW, ServiceName(service_id=mine.id))
        assert detail.service.name == "Image Upscaler API"
        assert body_of(attested(detail.signed), ServiceRecord, 2_560).slug == "image-upscaler"
        with pytest.raises(NotFound):
            await other.call(contract.SERVICE_SHOW, ServiceName(service_id="a" * 32))


async def test_a_late_node_catches_up_from_a_peer(tmp_path: Path) -> None:
    """Services and ratings told before a node came are asked for, with the DHT empty."""
    net = FakeNet()
    async with market(net.node(1), tmp_path) as seller, market(net.node(2), tmp_path) as buyer:
        await seller.call(contract.SERVICE_PUBLISH, publish())
        paid = settled_receipt(net, 2, 1)
        await until(lambda: found(buyer, "upscal", ask_network=False))
        await buyer.call(contract.SERVICE_RATE, RateService(request_id="r", cid=CID, stars=4, receipt=paid))
        net.dht.clear()
        async with market(net.node(3), tmp_path) as late:
            await until(lambda: found(late, "upscal", ask_network=False, min_rating=4.0))


@pytest.mark.parametrize(
    ("changes", "error", "word"),
    [
        ({"slug": "Bad Slug"}, BadService, "slug"),
        ({"price_florins": Florins(0)}, BadService, "price"),
        ({"package": "zz"}, BadService, "blob's id"),
        ({"package": "00" * 32}, PackageMissing, "PUT /blob"),
        ({"kind": "docker"}, BadService, "kind"),
        ({"tags": tuple(f"tag-{n}" for n in range(13))}, BadService, "<= 12"),
        ({"description": "x" * 1_001}, BadService, "<= 1000"),
        ({"description": "ж" * 1_000, "name": "ж" * 96, "endpoint": "ж" * 128}, BadService, "bytes"),
    ],
)
async def test_what_cannot_be_published_says_why(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], word: str
) -> None:
    """Malformed, unpayable, without its package here, or too long for a record of the DHT."""
    net = FakeNet()
    async with market(net.node(1), tmp_path) as seller:
        wish = publish(**{"slug": "s"} | changes)
        with pytest.raises(error, match=word):
            await seller.call(contract.SERVICE_PUBLISH, wish)
        assert (await seller.call(contract.SERVICE_LIST_MINE, Empty())).services == ()


async def test_update_and_withdraw_reach_the_other_node(tmp_path: Path) -> None:
    """A new price and new tags replace the old ones there and in the DHT; withdrawn it is gone, and stays gone."""
    net = FakeNet()
    async with market(net.node(1), tmp_path) as seller, market(net.node(2), tmp_path) as buyer:
        mine = await seller.call(contract.SERVICE_PUBLISH, publish())
        await until(lambda: found(buyer, "#ai", ask_network=False))
        old = (await buyer.call(contract.SERVICE_SHOW, ServiceName(service_id=mine.id))).signed
        change = UpdateService(
            request_id="u", service_id=mine.id, price_florins=Florins(200_000_000), tags=("video",), rate_limit=5
        )
        changed = await seller.call(contract.SERVICE_UPDATE, change)
        assert (changed.price_florins, changed.name, changed.created_at) == (200_000_000, mine.name, mine.created_at)
        await until(lambda: found(buyer, "#video", ask_network=False, max_price_florins=Florins(200_000_000)))
        assert await found(buyer, "#ai", ask_network=False) == []
        await until(lambda: not net.dht.get(("tag", "t/ai")) and net.dht.get(("tag", "t/video")))
        with pytest.raises(NotOwnService):
            await buyer.call(contract.SERVICE_WITHDRAW, WithdrawService(request_id="w", service_id=mine.id))
        assert (
            await seller.call(contract.SERVICE_WITHDRAW, WithdrawService(request_id="w", service_id=mine.id))
        ).withdrawn
        await until(lambda: _none(buyer))
        await until(lambda: not net.dht.get(("tag", "all")))
        assert await gossip(net.node(2), TOPIC_SERVICE.name, old) == "ignore"
        assert await found(buyer, "") == []
        again = await seller.call(contract.SERVICE_PUBLISH, publish(request_id="again"))
        assert (again.id, again.created_at, again.withdrawn) == (mine.id, mine.created_at, False)


async def _none(client: LocalClient) -> bool:
    return not await found(client, "", ask_network=False)


@attack("registry", tries="offers under another's id or name by gossip", meets="rejected, not kept")
async def test_gossip_that_lies_is_rejected(tmp_path: Path) -> None:
    """Another's id, another's name, another purpose: rejected and not kept."""
    net = FakeNet()
    async with market(net.node(1), tmp_path) as client:
        right = service(provider=did_number(2))
        forged = (
            attest(3, Purpose.SERVICE, right),
            attest(3, Purpose.SERVICE, service(provider=did_number(3), service_id=right.service_id)),
            attest(2, Purpose.RATING, right),
            attest(2, Purpose.SERVICE, rating()),
        )
        for lie in forged:
            assert await gossip(net.node(1), TOPIC_SERVICE.name, canonical(lie)) == "reject"
        assert await found(client) == []
        assert await gossip(net.node(1), TOPIC_SERVICE.name, canonical(attest(2, Purpose.SERVICE, right))) == "accept"
        assert await found(client) == ["upscale"]


@attack("registry", tries="one provider publishes without end", meets="its share and no more; others still come in")
async def test_one_provider_cannot_fill_the_index(tmp_path: Path) -> None:
    """Above its share a provider's further services are ignored; another's are still taken."""
    net = FakeNet()
    async with market(net.node(1), tmp_path, services_per_provider_max=2) as client:
        verdicts = []
        for number, slug in ((2, "a"), (2, "b"), (2, "c"), (3, "d")):
            offer = attest(number, Purpose.SERVICE, service(provider=did_number(number), slug=slug))
            verdicts.append(await gossip(net.node(1), TOPIC_SERVICE.name, canonical(offer)))
        assert verdicts == ["accept", "accept", "ignore", "accept"]
        assert sorted(await found(client, ask_network=False)) == ["a", "b", "d"]


async def test_a_rating_needs_a_settled_receipt_and_counts_once(tmp_path: Path) -> None:
    """Before the payment: not yet. Then once, here and at the other node, with one call counted."""
    net = FakeNet()
    async with market(net.node(1), tmp_path) as seller, market(net.node(2), tmp_path) as buyer:
        mine = await seller.call(contract.SERVICE_PUBLISH, publish())
        wish = RateService(request_id="r", cid=CID, stars=5, review="sharp")
        with pytest.raises(BadRating, match="no receipt"):
            await buyer.call(contract.SERVICE_RATE, wish)
        paid = settled_receipt(net, 2, 1)
        net.chain.height = 100
        with pytest.raises(ReceiptNotSettled, match="2 blocks deep"):
            await buyer.call(contract.SERVICE_RATE, RateService(request_id="r1", cid=CID, stars=5, receipt=paid))
        net.chain.height = 101
        await until(lambda: _settled(net.node(2)))
        rated = await buyer.call(contract.SERVICE_RATE, wish)
        assert (rated.reputation, rated.ratings) == (5.0, 1)
        assert await buyer.call(contract.SERVICE_RATE, wish) == rated
        with pytest.raises(AlreadyRated, match="5 of 5"):
            await buyer.call(contract.SERVICE_RATE, RateService(request_id="r2", cid=CID, stars=1))
        await until(lambda: found(seller, min_rating=5.0, sort=SortBy.RATING))
        detail = await until(lambda: _called(seller, mine.id))
        assert [(review.rater, review.stars, review.review) for review in detail.reviews] == [
            (did_number(2), 5, "sharp")
        ]


async def _settled(node: FakeNode) -> bool:
    view = await node.client("registryd").call(registry.RECEIPT_SHOW, registry.ContractName(cid=CID))
    return view.state is ReceiptState.SETTLED


async def _called(client: LocalClient, service_id: str) -> Any:
    detail = await client.call(contract.SERVICE_SHOW, ServiceName(service_id=service_id))
    return detail if detail.service.total_calls == 1 else None


@attack("registry", tries="a seller rates itself, with its own or its buyer's receipt", meets="refused")
async def test_the_seller_cannot_rate_itself(tmp_path: Path) -> None:
    """Neither with the buyer's receipt nor with its own, nor by gossip in the buyer's name."""
    net = FakeNet()
    async with market(net.node(1), tmp_path) as seller:
        mine = await seller.call(contract.SERVICE_PUBLISH, publish())
        paid = settled_receipt(net, 2, 1)
        with pytest.raises(BadRating, match="not the contract's buyer"):
            await seller.call(contract.SERVICE_RATE, RateService(request_id="r", cid=CID, stars=5, receipt=paid))
        own = canonical(attest(1, Purpose.RATING, rating(rater=did_number(1), service_id=mine.id)))
        named = canonical(attest(1, Purpose.RATING, rating(rater=did_number(2), service_id=mine.id)))
        for given in (own, named, b"junk"):
            notice = canonical(RatingNotice(rating=given, receipt=paid))
            assert await gossip(net.node(1), TOPIC_RATING.name, notice) == "reject"
        shown = await seller.call(contract.SERVICE_SHOW, ServiceName(service_id=mine.id))
        assert (shown.service.ratings, shown.reviews) == (0, ())


async def test_a_rating_that_came_before_its_payment_counts_when_the_chain_shows_it(tmp_path: Path) -> None:
    """Kept waiting, counted at settlement, uncounted by a reorganisation, gone when its payment proves false."""
    net = FakeNet()
    async with market(net.node(1), tmp_path) as client:
        mine = await client.call(contract.SERVICE_PUBLISH, publish())
        paid = settled_receipt(net, 2, 1)
        net.chain.txs.clear()
        given = canonical(attest(2, Purpose.RATING, rating(rater=did_number(2), service_id=mine.id, stars=3)))
        notice = canonical(RatingNotice(rating=given, receipt=paid))
        assert await gossip(net.node(1), TOPIC_RATING.name, notice) == "accept"
        assert await gossip(net.node(1), TOPIC_RATING.name, notice) == "ignore"
        assert await _stars(client, mine.id) == 0.0
        net.chain.settle(TXID, 100, TAX)
        net.chain.height = 102
        await until(lambda: _has_stars(client, mine.id, 3.0))
        net.chain.branch, net.chain.height = 1, 103
        net.chain.txs.clear()
        await until(lambda: _has_stars(client, mine.id, 0.0))
        net.chain.settle(TXID, 100, 0)
        net.chain.height = 104
        await until(lambda: _forgotten(net.node(1)))


async def test_a_rating_outlives_an_absent_registry(tmp_path: Path) -> None:
    """It is kept while the registry is away, handed to it with its receipt when it is back, and counted."""
    net = FakeNet()
    node = net.node(1)
    async with running(node, StoreDaemon, tmp_path, **QUICK) as client:
        async with running(node, RegistryDaemon, tmp_path, **QUICK_REGISTRY):
            node.blobs[PACKAGE] = 1
            mine = await client.call(contract.SERVICE_PUBLISH, publish())
        paid = settled_receipt(net, 2, 1)
        given = canonical(attest(2, Purpose.RATING, rating(rater=did_number(2), service_id=mine.id)))
        notice = canonical(RatingNotice(rating=given, receipt=paid))
        assert await gossip(node, TOPIC_RATING.name, notice) == "accept"
        assert await _stars(client, mine.id) == 0.0
        async with running(node, RegistryDaemon, tmp_path, **QUICK_REGISTRY):
            await until(lambda: _has_stars(client, mine.id, 5.0))


async def test_an_update_changes_what_it_names_and_keeps_the_rest(tmp_path: Path) -> None:
    """Every field that can be changed, in the form that is signed; a package must be here, too."""
    net = FakeNet()
    async with market(net.node(1), tmp_path) as client:
        mine = await client.call(contract.SERVICE_PUBLISH, publish())
        net.node(1).blobs["6b" * 32] = 1
        limits = CallLimits(fuel=1, memory_bytes=1 << 20, wall_s=1, output_bytes=1)
        wish = UpdateService(
            request_id="u", service_id=mine.id, package="6b" * 32, limits=limits, min_buyer_reputation=0.25, version="2"
        )
        view = await client.call(contract.SERVICE_UPDATE, wish)
        assert (view.package, view.limits, view.min_buyer_reputation) == ("6b" * 32, limits, 0.25)
        assert (view.version, view.name, view.tags, view.price_florins) == (
            "2",
            mine.name,
            mine.tags,
            mine.price_florins,
        )
        with pytest.raises(PackageMissing):
            await client.call(
                contract.SERVICE_UPDATE, UpdateService(request_id="v", service_id=mine.id, package="00" * 32)
            )


async def _stars(client: LocalClient, service_id: str) -> float:
    return (await client.call(contract.SERVICE_SHOW, ServiceName(service_id=service_id))).service.reputation


async def _has_stars(client: LocalClient, service_id: str, stars: float) -> bool:
    return await _stars(client, service_id) == stars


def _followed(node: FakeNode) -> bool:
    told, read = node.daemons["registryd"].parts.table.store, node.daemons["stored"].parts.table.store
    newest = told.row("SELECT max(cursor) AS n FROM claims") if told else None
    place = read.row("SELECT value AS n FROM counter WHERE name = 'receipts'") if read else None
    return newest is not None and place is not None and place["n"] == newest["n"]


def _forgotten(node: FakeNode) -> bool:
    store = node.daemons["stored"].parts.table.store
    row = store.row("SELECT count(*) AS n FROM ratings") if store else None
    return row is not None and row["n"] == 0


@attack(
    "registry", tries="a second claim about a settled contract", meets="refused, and the contract's call stays counted"
)
async def test_a_refused_claim_takes_no_call_away(tmp_path: Path) -> None:
    """The registry tells of the thief's claim, too: the market goes by the one that counts."""
    net = FakeNet()
    async with market(net.node(1), tmp_path) as client:
        mine = await client.call(contract.SERVICE_PUBLISH, publish())
        taskd = LocalClient(client._table, "taskd")
        paid = TouchReceipt(request_id="t", receipt=settled_receipt(net, 2, 1))
        assert (await taskd.call(contract.SERVICE_TOUCH, paid)).total_calls == 1
        stolen = SubmitReceipt(request_id="s", receipt=settled_receipt(net, 4, 3))
        registryd = net.node(1).client("registryd", "taskd")
        assert (await registryd.call(registry.REPUTATION_SUBMIT, stolen)).state is ReceiptState.REFUSED
        await until(lambda: _followed(net.node(1)))
        assert (await client.call(contract.SERVICE_SHOW, ServiceName(service_id=mine.id))).service.total_calls == 1


async def test_touch_counts_a_call_at_once(tmp_path: Path) -> None:
    """Taskd hands in the receipt of the call that has just ended; nonsense is refused."""
    net = FakeNet()
    async with market(net.node(1), tmp_path) as client:
        mine = await client.call(contract.SERVICE_PUBLISH, publish())
        paid = settled_receipt(net, 2, 1)
        taskd = LocalClient(client._table, "taskd")
        told = await taskd.call(contract.SERVICE_TOUCH, TouchReceipt(request_id="t", receipt=paid))
        assert (told.state, told.total_calls) == (ReceiptState.SETTLED, 1)
        assert (await client.call(contract.SERVICE_SHOW, ServiceName(service_id=mine.id))).service.total_calls == 1
        with pytest.raises(BadRating):
            await taskd.call(contract.SERVICE_TOUCH, TouchReceipt(request_id="t2", receipt=b"junk"))


async def test_a_seller_lets_in_whom_it_wants_as_often_as_it_wants(tmp_path: Path) -> None:
    """The limit per buyer and minute, the asked reputation, only own services; a repeated question counts once."""
    net = FakeNet()
    async with market(net.node(1), tmp_path) as client:
        mine = await client.call(contract.SERVICE_PUBLISH, publish(rate_limit=2))
        picky = await client.call(contract.SERVICE_PUBLISH, publish("picky", min_buyer_reputation=0.9))
        free = await client.call(contract.SERVICE_PUBLISH, publish("free", rate_limit=0))
        taskd = LocalClient(client._table, "taskd")

        async def admit(request_id: str, service_id: str, buyer: int) -> tuple[bool, int]:
            wish = AdmitBuyer(request_id=request_id, service_id=service_id, buyer=did_number(buyer))
            answer = await taskd.call(contract.SERVICE_ADMIT, wish)
            return answer.admitted, answer.retry_after_s

        assert [await admit(name, mine.id, 2) for name in ("a", "a", "b", "c")] == [
            (True, 0),
            (True, 0),
            (True, 0),
            (False, 30),
        ]
        assert await admit("d", mine.id, 3) == (True, 0)
        net.clock.advance(30)
        assert await admit("e", mine.id, 2) == (True, 0)
        assert await admit("f", picky.id, 2) == (False, 0)
        assert await admit("g", free.id, 2) == (True, 0)
        assert await admit("h", free.id, 1) == (False, 0)
        with pytest.raises(NotFound):
            await admit("i", "a" * 32, 2)
        await gossip(
            net.node(1), TOPIC_SERVICE.name, canonical(attest(2, Purpose.SERVICE, service(provider=did_number(2))))
        )
        with pytest.raises(NotOwnService):
            await admit("j", service_id_of(did_number(2), "upscale"), 3)


async def test_services_of_silent_providers_come_last_or_not_at_all(tmp_path: Path) -> None:
    """The registry's status of the provider stands at each service and decides its place."""
    net = FakeNet()
    async with market(net.node(1), tmp_path) as client:
        async with market(net.node(2), tmp_path) as other:
            wish = RegisterNode(request_id="r", wallet_address=WALLET)
            await net.node(2).client("registryd").call(registry.NODE_REGISTER, wish)
            await other.call(contract.SERVICE_PUBLISH, publish("theirs", price_florins=Florins(20_000_000)))
            await client.call(contract.SERVICE_PUBLISH, publish("mine"))
            await until(lambda: _order(client, ["theirs", "mine"]))
            net.clock.advance(6)
            await until(lambda: _listed(net.node(1), NodeStatus.ACTIVE))
            assert await _status(client, "theirs", NodeStatus.ACTIVE)
        net.clock.advance(3_700)
        await until(lambda: _status(client, "theirs", NodeStatus.OFFLINE))
        assert await found(client, sort=SortBy.PRICE) == ["mine", "theirs"]
        assert await found(client, sort=SortBy.PRICE, include_offline=False) == ["mine"]


async def _listed(node: FakeNode, status: NodeStatus) -> bool:
    nodes = await node.client("registryd").call(registry.NODE_LIST, registry.ListNodes(status=status))
    return nodes.total == 1


async def _order(client: LocalClient, slugs: list[str]) -> bool:
    return await found(client, sort=SortBy.PRICE, ask_network=False) == slugs


async def _status(client: LocalClient, slug: str, status: NodeStatus) -> bool:
    result = await client.call(contract.SERVICE_SEARCH, SearchServices(ask_network=False))
    return any(view.slug == slug and view.provider_status is status for view in result.services)


async def test_a_search_does_not_wait_for_a_slow_network(tmp_path: Path) -> None:
    """A DHT that answers nothing in time costs the stated wait, and the index answers alone."""
    net = FakeNet()
    async with market(net.node(1), tmp_path, network_search_s=0.05) as client:
        await client.call(contract.SERVICE_PUBLISH, publish())
        net.dht_waits_s = 30.0
        result = await client.call(contract.SERVICE_SEARCH, SearchServices(text="upscal"))
        assert (len(result.services), result.learnt) == (1, 0)


def test_a_pointer_fits_a_record() -> None:
    """As many services as stand under one name fit the DHT's 3 KiB."""
    pointer = TagPointer(service_ids=("a" * 32,) * 32)
    assert len(canonical(pointer)) <= 3_072
