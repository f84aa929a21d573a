"""The DHT's routing table: the `kademlia` package's, made 256 bits wide, with our clock, and deaf to floods of one net.

At most 2 nodes of one /24 (IPv6: /48) in a bucket and 10 in the table; a quarter of every bucket is for nodes known for
a week, whom nobody can make up in a day. Who waits to take a place obeys the same limits. A full bucket does not call
anybody by itself: it puts its longest known node on a list, which the DHT's loop asks whether it is alive.

Source: settled.md 16, transport_identity.md §3.1.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Callable
from functools import lru_cache

from kademlia.node import Node
from kademlia.routing import KBucket, RoutingTable

from common.clock import Clock
from common.identity.did import node_id_of
from common.nets import net_of
from common.units import Did
from dux_p2pd.session import Address

KEY_BITS = 256
K = 20  # nodes per bucket, and copies of a record
ALPHA = 3  # calls at a time in a lookup
PER_NET_IN_BUCKET = 2
PER_NET_IN_TABLE = 10
LONELY_S = 3600.0  # a bucket nobody used for so long is refreshed
TO_PING_MAX = 64
OLD_MS = 7 * 86_400_000  # known for so long: may take any place
YOUNG_PART = 0.75  # of a bucket's places; the rest is kept for old acquaintances


_node_id_of = lru_cache(16_384)(node_id_of)  # answers name the same nodes again and again


class DuxNode(Node):  # type: ignore[misc]  # the package has no types
    """A node of the DHT: its place follows from its DID and from nothing it says."""

    def __init__(
        self, did: Did, host: str, port: int, first_ms: int | None = None, also: tuple[Address, ...] = ()
    ) -> None:
        """`first_ms`: since when we know it (Unix ms); None: only by somebody's word. `also`: tried after the first."""
        super().__init__(_node_id_of(did), host, port)
        self.did, self.net, self.first_ms = did, net_of(host) if host else "", first_ms
        self.addresses: tuple[Address, ...] = ((host, port), *also)

    @property
    def address(self) -> Address:
        """Where it listens, by its own or somebody else's word: the first of `addresses`."""
        return self.addresses[0]


class Place(Node):  # type: ignore[misc]
    """A key looked for: a place in the DHT where no node need be."""


class DuxBucket(KBucket):  # type: ignore[misc]
    """A bucket that tells time by our clock and keeps places for old acquaintances."""

    def __init__(self, low: int, high: int, ksize: int, clock: Clock) -> None:
        self.clock = clock
        super().__init__(low, high, ksize)

    def touch_last_updated(self) -> None:
        """Remember that it was used now."""
        self.last_updated = self.clock.monotonic()

    def split(self) -> tuple[DuxBucket, DuxBucket]:
        """Two halves; each node goes to its own."""
        low, high = self.range
        middle = (low + high) // 2
        halves = (DuxBucket(low, middle, self.ksize, self.clock), DuxBucket(middle + 1, high, self.ksize, self.clock))
        for node in self.nodes.values():
            half = halves[0 if node.long_id <= middle else 1]
            half.nodes[node.id] = node
        for node in self.replacement_nodes.values():
            halves[0 if node.long_id <= middle else 1].replacement_nodes[node.id] = node
        return halves

    def depth(self) -> int:
        """How often the whole was halved to get here."""
        return KEY_BITS + 1 - int(self.range[1] - self.range[0] + 1).bit_length()

    def is_old(self, node: DuxNode) -> bool:
        """Whether this node is known for a week."""
        return node.first_ms is not None and node.first_ms <= self.clock.unix_ms() - OLD_MS

    def has_place_for(self, node: DuxNode) -> bool:
        """Whether it is here already, or there is a place that one known for so long may take."""
        if node.id in self.nodes:
            return True
        if len(self) >= self.ksize:
            return False
        if self.is_old(node) or len(self) < max(1, int(self.ksize * YOUNG_PART)):
            return True
        young = sum(1 for one in self.nodes.values() if not self.is_old(one))
        return young < max(1, int(self.ksize * YOUNG_PART))

    def add_node(self, node: DuxNode) -> bool:
        """Take it in, or have it wait for a place; whether it was taken in."""
        if self.has_place_for(node):
            self.nodes.pop(node.id, None)
            self.nodes[node.id] = node
            return True
        self.replacement_nodes.pop(node.id, None)
        self.replacement_nodes[node.id] = node
        while len(self.replacement_nodes) > self.max_replacement_nodes:
            self.replacement_nodes.popitem(last=False)
        return False

    def of_net(self, net: str) -> int:
        """Nodes of this net in the bucket."""
        return sum(1 for node in self.nodes.values() if node.net == net)


class DuxTable(RoutingTable):  # type: ignore[misc]
    """The routing table of one node."""

    def __init__(self, node: DuxNode, clock: Clock, ksize: int = K) -> None:
        self._clock = clock
        self.to_ping: deque[DuxNode] = deque(maxlen=TO_PING_MAX)
        self._nets: Counter[str] = Counter()
        self._by_place: dict[int, DuxNode] = {}  # every node: asked for at each question of another one
        self._places: list[int] = []  # the same places, in order
        self._highest: list[int] = []  # the last place of each bucket
        self.on_gone: Callable[[DuxNode], None] = lambda _node: None
        super().__init__(None, ksize, node)

    def flush(self) -> None:
        """Begin anew with one bucket for everything."""
        self.buckets = [DuxBucket(0, 2**KEY_BITS - 1, self.ksize, self._clock)]
        self._nets, self._by_place, self._places, self._highest = Counter(), {}, [], []

    def lonely_buckets(self) -> list[DuxBucket]:
        """Buckets that nobody used for an hour."""
        before_s = self._clock.monotonic() - LONELY_S
        return [bucket for bucket in self.buckets if bucket.last_updated < before_s]

    def get_bucket_for(self, node: Node) -> int:
        """The index of the bucket whose range holds the node."""
        return self._bucket_at(node.long_id)

    def _bucket_at(self, place: int) -> int:
        if len(self._highest) != len(self.buckets):  # one was split
            self._highest = [int(bucket.range[1]) for bucket in self.buckets]
        return bisect_left(self._highest, place)

    def is_new_node(self, node: DuxNode) -> bool:
        """Whether it is not in the table."""
        return node.long_id not in self._by_place

    def add_contact(self, node: DuxNode) -> None:
        """Take in a node, when its net has room; a full bucket splits where Kademlia says so, else it stays."""
        if node.id == self.node.id:
            return
        while True:
            index = self.get_bucket_for(node)
            bucket = self.buckets[index]
            if not self._has_room(bucket, node):
                return
            if self._put(bucket, node):
                return
            if not bucket.has_in_range(self.node) and bucket.depth() % 5 == 0:
                self._doubt(bucket)
                return
            self.split_bucket(index)
            self._fill(self.buckets[index])
            self._fill(self.buckets[index + 1])

    def saw(self, node: DuxNode) -> None:
        """It lives: others of its bucket are doubted before it."""
        bucket = self.buckets[self.get_bucket_for(node)]
        if node.id in bucket.nodes:
            bucket.nodes.move_to_end(node.id)

    def remove_contact(self, node: DuxNode) -> None:
        """Let a node go; one that waits for a place, and whose net has room, takes it."""
        bucket = self.buckets[self.get_bucket_for(node)]
        bucket.replacement_nodes.pop(node.id, None)
        gone = bucket.nodes.pop(node.id, None)
        if gone is not None:
            del self._by_place[gone.long_id]
            del self._places[bisect_left(self._places, gone.long_id)]
            self._nets[gone.net] -= 1
            self._fill(bucket)
            self.on_gone(gone)

    def _put(self, bucket: DuxBucket, node: DuxNode) -> bool:
        before = bucket.nodes.get(node.id)
        if not bucket.add_node(node):
            return False
        if before is not None:
            self._nets[before.net] -= 1
        self._nets[node.net] += 1
        if node.long_id not in self._by_place:
            insort(self._places, node.long_id)
        self._by_place[node.long_id] = node
        return True

    def _fill(self, bucket: DuxBucket) -> None:
        """Those that wait take what is free, who came last first."""
        for node in reversed(list(bucket.replacement_nodes.values())):
            if bucket.has_place_for(node) and self._has_room(bucket, node):
                del bucket.replacement_nodes[node.id]
                self._put(bucket, node)

    def _doubt(self, bucket: DuxBucket) -> None:
        """Have the longest known be called, unless that is under way."""
        if len(bucket) and all(one.id != bucket.head().id for one in self.to_ping):
            self.to_ping.append(bucket.head())

    def _has_room(self, bucket: DuxBucket, node: DuxNode) -> bool:
        """Whether the net of this node may have one more in the bucket and in the table."""
        before = bucket.nodes.get(node.id)
        if before is not None and before.net == node.net:
            return True
        return bucket.of_net(node.net) < PER_NET_IN_BUCKET and self._nets[node.net] < PER_NET_IN_TABLE

    def nearest(self, key: bytes, count: int = K) -> list[DuxNode]:
        """The nodes we know that are nearest to a place, nearest first.

        The package walks from bucket to bucket, which is not the order of distance. Those that share most leading bits
        with the place are its nearest, and stand beside each other in the order of places: only they are sorted.
        """
        place = int.from_bytes(key, "big")
        self.buckets[self._bucket_at(place)].touch_last_updated()
        begin, end = self._around(place, count + 1)
        nodes, near = self._by_place, sorted(self._places[begin:end], key=place.__xor__)
        return [nodes[one] for one in near[: count + 1] if one != place][:count]

    def _around(self, place: int, least: int) -> tuple[int, int]:
        """The range of at least so many that share more leading bits with a place than all others; or of all."""
        whole = len(self._places)
        free_bits = max(0, KEY_BITS - (whole // least).bit_length())
        begin, end = self._sharing(place, free_bits)
        while end - begin < least and end - begin < whole:
            free_bits += 1
            begin, end = self._sharing(place, free_bits)
        return begin, end

    def _sharing(self, place: int, free_bits: int) -> tuple[int, int]:
        """The range of the nodes that share with a place all but the last bits."""
        first = place >> free_bits << free_bits
        begin = bisect_left(self._places, first)
        return begin, bisect_left(self._places, first + (1 << free_bits), begin)

    def nearer_than_us(self, key: bytes, count_max: int = 2 * K) -> int:
        """How many nodes we know that are nearer to a place than we are; counted up to `count_max`.

        Those are: whoever differs from us in the first bit in which the place does, and of those that share more with
        us than the place does, the ones that are nearer.
        """
        place, own = int.from_bytes(key, "big"), self.node.long_id
        ours: int = own ^ place
        if not ours:
            return 0
        free_bits = ours.bit_length() - 1
        begin, end = self._sharing(place, free_bits)
        if end - begin >= count_max:
            return count_max
        first, last = self._sharing(own, free_bits)
        nearer = sum(1 for one in self._places[first:last] if one ^ place < ours)
        return min(count_max, end - begin + nearer)

    def ours(self, most: int) -> tuple[bytes, bytes]:
        """The first and the last of the places around us; at every other one at least so many are nearer than we are.

        Where that many share with a place the first bit in which it differs from us, they are.
        """
        own, free_bits = int(self.node.long_id), KEY_BITS
        while free_bits:
            begin, end = self._sharing(own ^ 1 << free_bits - 1, free_bits - 1)
            if end - begin < most:
                break
            free_bits -= 1
        first = own >> free_bits << free_bits
        return first.to_bytes(KEY_BITS // 8), (first + (1 << free_bits) - 1).to_bytes(KEY_BITS // 8)

    def contacts(self) -> list[DuxNode]:
        """Every node in the table."""
        return list(self._by_place.values())
