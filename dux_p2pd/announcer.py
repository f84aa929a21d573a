"""Newcomers: a node tells some of its peers where it is, and nodes of higher tiers tell theirs.

Promise: only what is news here is passed on (a newer record, signed by its own node, with a log that verifies), at most
to eight neighbours and twice in all, at most once in ten minutes per DID and six times a minute in all: where hundreds
begin at once, nobody needs to be told of each. What is
told is looked up in the directory as if it had come from the DHT; nobody is dialled on somebody else's word.

Source: network.md §3; the specification's hierarchical node announcements; the duty `announce` of the tiers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.contracts.peer_reach import HOPS_MAX, NODE_ANNOUNCE, Newcomer, Noted
from common.errors import DuxError
from common.identity.log import encode_log
from common.randomness import Randomness
from common.units import Did
from dux_p2pd.directory import Directory
from dux_p2pd.keeper import Keeper
from dux_p2pd.meters import TokenBucket
from dux_p2pd.peers import PeerBook
from dux_p2pd.session import Peer
from dux_p2pd.tasks import Tasks

FIRST_TOLD = 3
NEIGHBOURS_TOLD = 8
AGAIN_S = 600.0
BURST, PER_S = 2, 6 / 60
DIDS_MAX = 4096


class Announcer:
    """Tells of this node, and of others while on duty."""

    def __init__(
        self,
        keeper: Keeper,
        directory: Directory,
        peers: PeerBook,
        tasks: Tasks,
        *,
        on_duty: Callable[[], bool],
        clock: Clock,
        random: Randomness,
        log: FilteringBoundLogger,
    ) -> None:
        """`on_duty`: whether this node passes on what others tell of themselves."""
        self._keeper = keeper
        self._directory = directory
        self._peers = peers
        self._tasks = tasks
        self._on_duty = on_duty
        self._clock = clock
        self._random = random
        self._log = log
        self._passed: OrderedDict[Did, float] = OrderedDict()
        self._bucket = TokenBucket(BURST, PER_S, clock.monotonic())

    async def tell_own(self) -> None:
        """This node is new, or reached elsewhere than before."""
        if self._keeper.may_sign:
            record, log = self._keeper.record(), encode_log(self._keeper.log)
            told = Newcomer(did=self._keeper.did, log=log, node_record=record, hops=HOPS_MAX)
            await self._tell(told, FIRST_TOLD, besides=None)

    async def on_announce(self, params: Newcomer, peer: Peer) -> Noted:
        """NODE_ANNOUNCE."""
        if params.did == self._keeper.did:
            return Noted(new=False)
        held = self._directory.get(params.did)
        before = held.record.seq_ms if held is not None and held.record is not None else 0
        known = self._directory.learn(params.did, params.log, params.node_record)
        new = known.record is not None and known.record.seq_ms > before
        # who tells of itself has shown us its record in HELLO already: to its neighbours it may still be news
        if (new or params.did == peer.did) and params.hops and self._on_duty() and self._may_pass(params.did):
            onward = Newcomer(did=params.did, log=params.log, node_record=params.node_record, hops=params.hops - 1)
            self._tasks.spawn(self._tell(onward, NEIGHBOURS_TOLD, besides=peer.did), "announce")
        return Noted(new=new)

    def _may_pass(self, did: Did) -> bool:
        now = self._clock.monotonic()
        if self._passed.get(did, float("-inf")) > now - AGAIN_S or not self._bucket.take(1, now):
            return False
        self._passed[did] = now
        self._passed.move_to_end(did)
        if len(self._passed) > DIDS_MAX:
            self._passed.popitem(last=False)
        return True

    async def _tell(self, told: Newcomer, count: int, *, besides: Did | None) -> None:
        others = [s.peer.did for s in self._peers.sessions() if s.peer.did not in (besides, told.did)]
        for did in self._random.sample(others, min(count, len(others))):
            try:
                await self._peers.call(did, NODE_ANNOUNCE, told)
            except DuxError as error:
                self._log.debug("announcement not taken", did=did, reason=error.message)
