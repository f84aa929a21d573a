"""The owners' word on gossip: which daemon judges a message, asked with bounded waits and bounded queues.

Promise: nothing is passed on that its owner has not accepted; messages that came together are judged in one call.
While an owner is away its messages wait here, and are
asked again each second until they are too old; a queue that is full drops what has waited longest.

Source: network.md §5.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.contracts.base import GossipIn
from common.errors import DuxError
from dux_p2pd.gossip_intake import Message
from dux_p2pd.gossip_limits import ASKED_AT_ONCE, AWAY_PAUSE_S, JUDGED_AT_ONCE, QUEUE_VERDICTS
from dux_p2pd.router import Router
from dux_p2pd.rules import gossip_fault
from dux_p2pd.tasks import Tasks

OnVerdict = Callable[[Message, str], None]


class Verdicts:
    """Asks owners, and tells what they said: accept, ignore or reject."""

    def __init__(
        self, router: Router, tasks: Tasks, on_verdict: OnVerdict, *, clock: Clock, log: FilteringBoundLogger
    ) -> None:
        self._router = router
        self._tasks = tasks
        self._on_verdict = on_verdict
        self._clock = clock
        self._log = log
        self._waiting: dict[str, deque[Message]] = {}
        self._asking: dict[str, int] = {}
        self._at_once: dict[str, int] = {}  # messages in one call, by owner
        self.dropped = 0

    def waiting(self) -> int:
        """Messages without a verdict."""
        return sum(len(queue) for queue in self._waiting.values())

    def ask(self, message: Message) -> None:
        """Have the owner judge a message that is genuine."""
        owner = message.topic.owner
        queue = self._waiting.setdefault(owner, deque())
        queue.append(message)
        if len(queue) > QUEUE_VERDICTS:
            queue.popleft()
            self.dropped += 1
        if self._asking.get(owner, 0) < ASKED_AT_ONCE:
            self._asking[owner] = self._asking.get(owner, 0) + 1
            if self._tasks.spawn(self._work(owner, queue), "gossip verdicts") is None:
                self._asking[owner] -= 1

    async def _work(self, owner: str, queue: deque[Message]) -> None:
        """Until the queue is empty; while the owner is away one of these is enough."""
        try:
            while queue:
                batch = self._next_batch(owner, queue)
                words = await self._judge(owner, batch) if batch else []
                for message, word in zip(batch, words, strict=False):
                    self._on_verdict(message, word)
                if words or not batch:
                    self._at_once[owner] = min(JUDGED_AT_ONCE, 2 * self._at_once[owner])
                    continue
                self._at_once[owner] = max(1, len(batch) // 2)  # it may be slow rather than away
                queue.extendleft(reversed(batch))
                if self._asking[owner] > 1:
                    return
                await asyncio.sleep(AWAY_PAUSE_S)
        finally:
            self._asking[owner] -= 1

    def _next_batch(self, owner: str, queue: deque[Message]) -> list[Message]:
        """What came together is judged together; what has become too old is left out."""
        now_ms, size = self._clock.unix_ms(), self._at_once.setdefault(owner, JUDGED_AT_ONCE)
        taken = [queue.popleft() for _ in range(min(size, len(queue)))]
        return [message for message in taken if gossip_fault(message.body, now_ms) is None]

    async def _judge(self, owner: str, batch: list[Message]) -> list[str]:
        """One word for each; none while the owner is away."""
        bodies = [message.body for message in batch]
        told = [
            GossipIn(topic=one.topic, payload=one.payload, sender=one.did, key_seq=one.key_seq, seq_ms=one.seq_ms)
            for one in bodies
        ]
        try:
            return await self._router.judge(owner, told)
        except DuxError as error:
            self._log.info("no verdict on gossip", owner=owner, reason=error.message)
            return ["ignore"] * len(batch)
