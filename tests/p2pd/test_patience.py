"""How long a peer is waited for, and how a lookup goes on beside those that are late."""

from __future__ import annotations

import asyncio

from common.clock import ManualClock
from common.units import Did
from dux_p2pd.lookup import FLYING_MAX, Found, Manners, lookup
from dux_p2pd.patience import (
    FIRST_HARD_MIN_S,
    HARD_MAX_S,
    HARD_MIN_S,
    PEERS_MAX,
    SILENCE_FIRST_S,
    SILENCE_MAX_S,
    SOFT_MAX_S,
    SOFT_MIN_S,
    Patience,
)
from dux_p2pd.routing import ALPHA, DuxNode, K, Place
from tests.attacks.registry import attack
from tests.p2pd.dht_kit import KEY, did_number
from tests.p2pd.virtual_net import LoopClock
from tests.p2pd.wire_kit import virtually

DID = Did("did:dux:" + "a" * 52)


def test_waits_follow_what_a_peer_has_taken_within_bounds() -> None:
    """A quick peer is late after a tenth of a second, a slow one after more; nobody is waited for without end."""
    patience = Patience(ManualClock())
    assert patience.hard_s(DID) >= FIRST_HARD_MIN_S
    for _ in range(20):
        patience.answered(DID, 0.002)
    assert patience.soft_s(DID) == SOFT_MIN_S
    assert patience.hard_s(DID) == HARD_MIN_S
    for _ in range(20):
        patience.answered(DID, 0.3)
    assert 0.3 < patience.soft_s(DID) < SOFT_MAX_S
    for _ in range(20):
        patience.answered(DID, 60.0)
    assert patience.soft_s(DID) == SOFT_MAX_S
    assert patience.hard_s(DID) == HARD_MAX_S


def test_where_everybody_is_slow_a_first_call_is_given_more_time() -> None:
    """First calls of others set the measure: a loaded machine makes nobody silent."""
    patience = Patience(ManualClock())
    before = patience.soft_s(DID)
    for _ in range(20):
        patience.connected(1.5)
    assert patience.soft_s(DID) > 1.5 > before


def test_a_silent_peer_is_left_alone_for_a_growing_while_until_it_answers() -> None:
    """5 s, 10 s … a minute; an answer clears it at once.

    Planted bug noticed: without the doubling, the last silence ends too early.
    """
    clock = ManualClock()
    patience = Patience(clock)
    assert not patience.is_silent(DID)
    for times in range(8):
        patience.fell_silent(DID)
        wait_s = min(SILENCE_MAX_S, SILENCE_FIRST_S * 2**times)
        clock.advance(wait_s - 0.1)
        assert patience.is_silent(DID)
        clock.advance(0.2)
        assert not patience.is_silent(DID)
    patience.fell_silent(DID)
    patience.answered(DID, 0.01)
    assert not patience.is_silent(DID)


@attack("DHT", tries="thousands of made-up names to be remembered", meets="they push each other out, not up")
def test_the_memory_of_peers_is_bounded() -> None:
    """Thousands of made-up names push each other out, not up."""
    patience = Patience(ManualClock())
    for number in range(PEERS_MAX + 10):
        patience.answered(Did(str(number)), 0.1)
    assert len(patience._peers) == PEERS_MAX


class Crowd:
    """Nodes that know each other; some hang."""

    def __init__(self, count: int, hanging: int) -> None:
        nodes = [DuxNode(did_number(n), f"10.{n >> 8}.{n & 255}.1", 1) for n in range(count)]
        self.nodes = sorted(nodes, key=Place(KEY).distance_to)
        self.hanging = {node.id for node in self.nodes[: 2 * hanging : 2]}
        self.at_once = self.most = 0

    async def ask(self, node: DuxNode, _key: bytes) -> Found | None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await asyncio.sleep(4.0 if node.id in self.hanging else 0.01)
        finally:
            self.at_once -= 1
        return None if node.id in self.hanging else Found(records=(b"r",), nodes=tuple(self.nodes[:K]))


def manners(soft_s: float = 0.1) -> Manners:
    return Manners(soft_s=lambda _node: soft_s, is_last=lambda _node: False, clock=LoopClock())


@attack(
    "DHT",
    tries="ten of the twenty nearest hang for four seconds each",
    meets="found in the time of a few short waits",
)
@virtually
async def test_a_lookup_goes_on_beside_the_late_and_ends_without_them() -> None:
    """Ten of the twenty nearest hang for 4 s each: found all the same, in the time of a few short waits.

    Planted bug noticed: with late calls holding their places, this takes many seconds.
    """
    crowd, loop = Crowd(60, hanging=10), asyncio.get_running_loop()
    began = loop.time()
    outcome = await lookup(KEY, crowd.nodes[30:33], crowd.ask, manners=manners())
    assert loop.time() - began < 1.0
    assert len(outcome.nodes) == 13  # the ten of the twenty that live, and the three it began with
    assert not {node.id for node in outcome.nodes} & crowd.hanging
    assert crowd.most <= FLYING_MAX


@virtually
async def test_where_all_are_late_they_are_waited_for_and_not_piled_up() -> None:
    """Everybody slow, nobody dead: a bounded number of calls under way, and the answers count."""
    crowd = Crowd(12, hanging=0)
    outcome = await lookup(KEY, crowd.nodes[:3], crowd.ask, manners=manners(soft_s=0.001))
    assert len(outcome.nodes) >= ALPHA
    assert crowd.most <= FLYING_MAX


@virtually
async def test_a_lookup_whose_caller_has_enough_asks_nobody_more() -> None:
    """Four holders are enough: the rest of the twenty is not called."""
    crowd = Crowd(60, hanging=0)
    outcome = await lookup(
        KEY, crowd.nodes[:20], crowd.ask, manners=manners(), enough=lambda so_far: len(so_far.holders) >= 4
    )
    assert outcome.cut_short
    assert outcome.called <= 4 + 2 * ALPHA


@virtually
async def test_the_silent_are_asked_only_where_too_few_others_are_left() -> None:
    """Known silent nodes cost nothing in a large network, and are tried in a small one."""
    for count, tried in ((60, False), (6, True)):
        crowd, asked = Crowd(count, hanging=0), set()
        silent = {node.id for node in crowd.nodes[:4]}

        async def ask(node: DuxNode, key: bytes, crowd: Crowd = crowd, asked: set[bytes] = asked) -> Found | None:
            asked.add(node.id)
            return await crowd.ask(node, key)

        polite = Manners(soft_s=lambda _: 0.1, is_last=lambda node, silent=silent: node.id in silent, clock=LoopClock())  # type: ignore[misc]
        await lookup(KEY, crowd.nodes[:20], ask, manners=polite, paths=3)
        assert bool(asked & silent) is tried
