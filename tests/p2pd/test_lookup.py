"""The routing table and lookups in a made-up network of nodes that answer as real ones do."""

from __future__ import annotations

from common.clock import ManualClock, SystemClock
from common.identity.did import did_of
from common.randomness import SeededRandomness
from dux_p2pd.lookup import CALLED_MAX, PATH_WIDTH, Found, Manners, lookup, one_per_net
from dux_p2pd.routing import OLD_MS, PER_NET_IN_BUCKET, PER_NET_IN_TABLE, DuxBucket, DuxNode, DuxTable, K, Place
from tests.attacks.registry import attack

RANDOM = SeededRandomness(7)
PLAIN = Manners(soft_s=lambda _node: 1.0, is_last=lambda _node: False, clock=SystemClock())
ME = DuxNode(did_of(bytes(32)), "127.9.9.9", 1)


def node(number: int, host: str = "") -> DuxNode:
    """Node `number`, in a /24 of its own unless said otherwise."""
    did = did_of(SeededRandomness(number).bytes(32))
    return DuxNode(did, host or f"10.{number >> 8}.{number & 255}.1", 1000)


class Crowd:
    """Nodes that each know the whole crowd, except that the dead do not answer."""

    def __init__(self, count: int, dead: int = 0) -> None:
        self.nodes = [node(number) for number in range(count)]
        self.dead = {one.id for one in self.nodes[:dead]}
        self.called: list[bytes] = []

    def near(self, key: bytes) -> list[DuxNode]:
        return sorted(self.nodes, key=Place(key).distance_to)[:K]

    async def ask(self, asked: DuxNode, key: bytes) -> Found | None:
        self.called.append(asked.id)
        if asked.id in self.dead:
            return None
        return Found(records=(asked.id[:4],), nodes=tuple(self.near(key)))


async def test_a_lookup_ends_with_the_nearest_living_nodes() -> None:
    """From three arbitrary nodes to the k nearest that answer, each asked once, dead ones left out."""
    crowd, key = Crowd(120, dead=30), RANDOM.bytes(32)
    outcome = await lookup(key, crowd.nodes[60:63], crowd.ask, manners=PLAIN)
    alive = [one for one in crowd.near(key) if one.id not in crowd.dead]
    assert {one.id for one in alive} <= {one.id for one in outcome.nodes}
    assert not {one.id for one in outcome.nodes} & crowd.dead
    assert len(crowd.called) == len(set(crowd.called)) <= CALLED_MAX
    assert {record for record, _ in outcome.records} >= {one.id[:4] for one in alive}
    assert outcome.nodes == sorted(outcome.nodes, key=Place(key).distance_to)


async def test_disjoint_paths_share_no_node() -> None:
    """With three paths no node is asked twice, and together they find what one path finds."""
    crowd, key = Crowd(90), RANDOM.bytes(32)
    outcome = await lookup(key, crowd.nodes[:6], crowd.ask, paths=3, manners=PLAIN)
    assert len(crowd.called) == len(set(crowd.called))
    assert {one.id for one in outcome.nodes} == {one.id for one in crowd.near(key)}


@attack("DHT", tries="names thousands of nodes, to keep a lookup going", meets="the number of calls is bounded")
async def test_a_liar_who_names_thousands_of_nodes_cannot_keep_a_lookup_going() -> None:
    """The number of calls is bounded, whatever the answers say."""
    made = iter(range(1000, 10**6))
    called: list[bytes] = []

    async def ask(asked: DuxNode, _key: bytes) -> Found:
        called.append(asked.id)
        return Found(nodes=tuple(node(next(made)) for _ in range(200)))

    await lookup(bytes(32), [node(1), node(2)], ask, manners=PLAIN)
    assert len(called) <= CALLED_MAX


async def test_a_lookup_without_anybody_ends_at_once() -> None:
    """No start, no result, no error."""
    assert (await lookup(bytes(32), [], Crowd(0).ask, manners=PLAIN)).nodes == []


@attack("DHT", tries="one /24 full of nodes", meets="2 places in a bucket, 10 in the table, 1 in a result")
def test_one_net_fills_neither_a_bucket_nor_the_table_nor_a_result() -> None:
    """2 per bucket, 10 per table, 1 per result, for one /24; other nets are not touched by that."""
    table = DuxTable(ME, ManualClock())
    for number in range(400):
        table.add_contact(node(number, f"10.0.0.{number % 250 + 1}"))
    of_net = [bucket.of_net("10.0.0.0/24") for bucket in table.buckets]
    assert sum(of_net) <= PER_NET_IN_TABLE
    assert max(of_net) <= PER_NET_IN_BUCKET
    assert len(one_per_net(table.contacts())) == 1
    table.add_contact(node(1))
    assert len(one_per_net(table.contacts())) == 2


def test_the_table_keeps_256_bit_places_apart_and_finds_the_nearest() -> None:
    """Every node of a few hundred lies in the range of its bucket; buckets split near us; nearest is nearest."""
    table, nodes = DuxTable(ME, ManualClock()), [node(number) for number in range(300)]
    for one in nodes:
        table.add_contact(one)
    assert len(table.buckets) > 2
    for bucket in table.buckets:
        assert all(bucket.range[0] <= one.long_id <= bucket.range[1] for one in bucket.get_nodes())
    assert table.buckets[0].range[0] == 0
    assert table.buckets[-1].range[1] == 2**256 - 1
    held, key = table.contacts(), RANDOM.bytes(32)
    for place in (ME, Place(key)):
        assert table.nearest(place.id, 30) == sorted(held, key=place.distance_to)[:30]
    ours = ME.distance_to(Place(key))
    nearer = sum(1 for one in held if one.distance_to(Place(key)) < ours)
    assert table.nearer_than_us(key) <= min(nearer, 2 * K)


def test_a_full_bucket_asks_for_its_oldest_node_to_be_called() -> None:
    """Nobody is thrown out for a newcomer; who is known longest is put on the list to be called."""
    table = DuxTable(ME, ManualClock(), ksize=2)
    for number in range(300):
        table.add_contact(node(number))
    assert len(table.to_ping) > 0
    assert all(one in table.contacts() for one in table.to_ping)
    assert all(len(bucket) <= 2 for bucket in table.buckets)


def test_buckets_tell_lonely_by_our_clock() -> None:
    """An hour without use makes a bucket lonely, a lookup in it ends that."""
    clock = ManualClock()
    table = DuxTable(ME, clock)
    table.add_contact(node(1))
    assert table.lonely_buckets() == []
    clock.advance(3601)
    assert len(table.lonely_buckets()) == len(table.buckets)
    table.nearest(bytes(32))
    assert table.lonely_buckets() == []


def test_we_are_never_our_own_contact() -> None:
    """A lookup never sends us to ourselves."""
    table = DuxTable(ME, ManualClock())
    table.add_contact(ME)
    assert table.contacts() == []


def test_a_quarter_of_a_bucket_is_for_old_acquaintances() -> None:
    """Young nodes fill three quarters; those known for a week take the rest, whoever came first.

    Planted bug noticed: with all places free for the young, no place is left for the old ones.
    """
    clock = ManualClock()
    bucket = DuxBucket(0, 2**256 - 1, 20, clock)
    week_ago = clock.unix_ms() - OLD_MS
    young = [bucket.add_node(DuxNode(node(n).did, f"10.0.{n}.1", 1, first_ms=clock.unix_ms())) for n in range(20)]
    assert sum(young) == 15
    old = [bucket.add_node(DuxNode(node(n).did, f"10.1.{n}.1", 1, first_ms=week_ago)) for n in range(100, 106)]
    assert sum(old) == 5
    assert len(bucket) == 20


def test_who_waits_for_a_place_obeys_the_limits_of_its_net() -> None:
    """A place that falls free goes to the one that waits and whose net has room.

    Planted bug noticed: the package gives it to whoever came last, be it the third of one net.
    """
    table = DuxTable(ME, ManualClock(), ksize=4)
    far = [node(n, f"10.{n >> 8}.{n & 255}.1") for n in range(400) if node(n).long_id >> 255 != ME.long_id >> 255]
    for one in far[:40]:
        table.add_contact(one)
    crowded = [bucket for bucket in table.buckets if bucket.replacement_nodes]
    assert crowded
    for bucket in crowded:
        first, second, *_, last = bucket.nodes.values()
        for one in (second, *bucket.replacement_nodes.values()):
            one.net = first.net
        before = len(bucket)
        table.remove_contact(last)
        assert bucket.of_net(first.net) == PER_NET_IN_BUCKET
        assert len(bucket) == before - 1


async def test_three_narrow_paths_ask_hardly_more_than_there_are_copies() -> None:
    """In a crowd of 300 a lookup for a put asks fewer than 1.5 k nodes, and ends with the k nearest.

    Planted bugs noticed: paths as wide as k ask sixty; without those near beyond a path some of the k are missed.
    """
    crowd = Crowd(300)
    for number in range(10):
        key = SeededRandomness(number).bytes(32)
        crowd.called.clear()
        outcome = await lookup(key, crowd.nodes[:20], crowd.ask, paths=3, width=PATH_WIDTH, manners=PLAIN)
        assert {one.id for one in outcome.nodes} == {one.id for one in crowd.near(key)}
        assert len(crowd.called) < 1.5 * K + 3
