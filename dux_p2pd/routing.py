"""The DHT's routing table: the `kademlia` package's, made 256 bits wide, with our clock, and deaf to floods of one net.

At most 2 nodes of one /24 (IPv6: /48) in a bucket and 10 in the table. A full bucket does not call anybody by itself:
it puts its longest known node on a list, which the DHT's loop asks whether it is alive.

Source: settled.md 16, transport_identity.md §3.1.
"""

from __future__ import annotations

import heapq
from collections import deque

from kademlia.node import Node
from kademlia.routing import KBucket, RoutingTable

from common.clock import Clock
from common.identity.did import node_id_of
from common.units import Did
from dux_p2pd.gate import net_of

KEY_BITS = 256
K = 20  # nodes per bucket, and copies of a record
ALPHA = 3  # calls at a time in a lookup
PER_NET_IN_BUCKET = 2
PER_NET_IN_TABLE = 10
LONELY_S = 3600.0  # a bucket nobody used for so long is refreshed
TO_PING_MAX = 64


class DuxNode(Node):  # type: ignore[misc]  # the package has no types
    """A node of the DHT: its place follows from its DID and from nothing it says."""

    def __init__(self, did: Did, host: str, port: int) -> None:
        super().__init__(node_id_of(did), host, port)
        self.did = did

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, by its own or somebody else's word."""
        return self.ip, self.port


class Place(Node):  # type: ignore[misc]
    """A key looked for: a place in the DHT where no node need be."""


class DuxBucket(KBucket):  # type: ignore[misc]
    """A bucket that tells time by our clock."""

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
        for node in [*self.nodes.values(), *self.replacement_nodes.values()]:
            halves[0 if node.long_id <= middle else 1].add_node(node)
        return halves

    def of_net(self, net: str) -> int:
        """Nodes of this net in the bucket."""
        return sum(1 for node in self.nodes.values() if net_of(node.ip) == net)


class DuxTable(RoutingTable):  # type: ignore[misc]
    """The routing table of one node."""

    def __init__(self, node: DuxNode, clock: Clock, ksize: int = K) -> None:
        self._clock = clock
        self.to_ping: deque[DuxNode] = deque(maxlen=TO_PING_MAX)
        super().__init__(None, ksize, node)

    def flush(self) -> None:
        """Begin anew with one bucket for everything."""
        self.buckets = [DuxBucket(0, 2**KEY_BITS - 1, self.ksize, self._clock)]

    def lonely_buckets(self) -> list[DuxBucket]:
        """Buckets that nobody used for an hour."""
        before_s = self._clock.monotonic() - LONELY_S
        return [bucket for bucket in self.buckets if bucket.last_updated < before_s]

    def get_bucket_for(self, node: Node) -> int:
        """The index of the bucket whose range holds the node."""
        return next(index for index, bucket in enumerate(self.buckets) if node.long_id <= bucket.range[1])

    def add_contact(self, node: DuxNode) -> None:
        """Take in a node, when its net has room; a full bucket splits where Kademlia says so, else it stays."""
        if node.id == self.node.id or not self._has_room(node):
            return
        while True:
            index = self.get_bucket_for(node)
            bucket = self.buckets[index]
            if bucket.add_node(node):
                return
            if not bucket.has_in_range(self.node) and bucket.depth() % 5 == 0:
                self.to_ping.append(bucket.head())
                return
            self.split_bucket(index)

    def _has_room(self, node: DuxNode) -> bool:
        bucket, net = self.buckets[self.get_bucket_for(node)], net_of(node.ip)
        if node.id in bucket.nodes:
            return True
        everywhere = sum(one.of_net(net) for one in self.buckets)
        return bucket.of_net(net) < PER_NET_IN_BUCKET and everywhere < PER_NET_IN_TABLE

    def nearest(self, key: bytes, count: int = K) -> list[DuxNode]:
        """The nodes we know that are nearest to a place, nearest first.

        The package walks from bucket to bucket, which is not the order of distance; a table of a few hundred is sorted.
        """
        place = Place(key)
        self.buckets[self.get_bucket_for(place)].touch_last_updated()
        others = (node for node in self.contacts() if node.id != key)
        return heapq.nsmallest(count, others, key=place.distance_to)

    def nearer_than_us(self, key: bytes) -> int:
        """How many nodes we know that are nearer to a place than we are (at most 2k are looked at)."""
        place = Place(key)
        ours = self.node.distance_to(place)
        return sum(1 for node in self.nearest(key, 2 * self.ksize) if node.distance_to(place) < ours)

    def contacts(self) -> list[DuxNode]:
        """Every node in the table."""
        return [node for bucket in self.buckets for node in bucket.nodes.values()]
