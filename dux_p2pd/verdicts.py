"""The owners' word on gossip: which daemon judges a message, asked with bounded waits and bounded queues.

Promise: nothing is passed on that its owner has not accepted. While an owner is away its messages wait here, and are
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
from dux_p2pd.gossip_limits import ASKED_AT_ONCE, AWAY_PAUSE_S, QUEUE_VERDICTS
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
                message = queue.popleft()
                if gossip_fault(message.body, self._clock.unix_ms()) is not None:
                    continue
                verdict = await self._judge(message)
                if verdict != "away":
                    self._on_verdict(message, verdict)
                    continue
                queue.appendleft(message)
                if self._asking[owner] > 1:
                    return
                await asyncio.sleep(AWAY_PAUSE_S)
        finally:
            self._asking[owner] -= 1

    async def _judge(self, message: Message) -> str:
        body = message.body
        told = GossipIn(
            topic=body.topic, payload=body.payload, sender=body.did, key_seq=body.key_seq, seq_ms=body.seq_ms
        )
        try:
            return await self._router.judge(message.topic.owner, told)
        except DuxError as error:
            self._log.info("no verdict on gossip", topic=body.topic, reason=error.message)
            return "ignore"
