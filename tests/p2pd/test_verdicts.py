"""Owners judge what came together in one call, and one bad message or a slow owner holds nothing else up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog

from common.clock import SystemClock
from common.codec import canonical
from common.contracts.base import GOSSIP_HANDLE_ALL, GossipBatch, GossipIn, Verdicts
from common.contracts.peer import topics
from common.errors import BadParams, NeighbourDown
from common.parts import Parts
from common.randomness import SeededRandomness
from common.receipts import Attested
from common.rpc.client import LocalClient
from common.rpc.table import MethodTable
from common.units import Did
from dux_p2pd.gossip_flow import framed
from dux_p2pd.gossip_limits import JUDGED_AT_ONCE
from dux_p2pd.settings import P2pdSettings
from tests.p2pd.gossip_kit import QUIET, TOPIC, all_heard, gossip_net, profile, said
from tests.p2pd.wire_kit import virtually

NOBODY = Did("did:dux:" + "a" * 52)


def payload(number: int) -> bytes:
    return canonical(Attested(body=number.to_bytes(8), key_seq=0, signature=bytes(64), did=NOBODY))


class Counted:
    """In front of an owner: how many messages each of its calls brought."""

    def __init__(self, owner: Any, *, slow_s: float = 0.0) -> None:
        self.owner, self.slow_s, self.sizes = owner, slow_s, list[int]()

    async def call(self, method: Any, params: Any, *, deadline_s: float = 15.0) -> Any:
        size = len(params.messages) if isinstance(params, GossipBatch) else 1
        self.sizes.append(size)
        if size * self.slow_s > deadline_s:
            raise NeighbourDown(daemon="owner", address="nowhere", detail="not in time")
        return await self.owner.call(method, params, deadline_s=deadline_s)


@virtually
@pytest.mark.parametrize("slow_s", [0.0, 0.4])
async def test_messages_of_one_frame_are_one_call_to_their_owner(tmp_path: Path, slow_s: float) -> None:
    """Twenty messages in a frame, one call; an owner that is too slow for them is asked about fewer at a time.

    Planted bug noticed: a call for each message; a batch that stays as large as it was.
    """
    async with gossip_net(tmp_path, 2) as nodes:
        owner = nodes[1].owner
        counted = Counted(owner, slow_s=slow_s)
        nodes[1].overlay.router._clients = lambda _: counted  # type: ignore[assignment, return-value]
        sent = [payload(number) for number in range(20)]
        stream = await nodes[0].flow_to(nodes[1])
        await stream.write(framed(said(*(nodes[0].message(one) for one in sent))))
        await all_heard([nodes[1]], sent[-1], within_s=20)
        assert sorted(owner.payloads()) == sorted(sent)
        assert max(counted.sizes) == 20 <= JUDGED_AT_ONCE
        assert (len(counted.sizes) == 1) == (slow_s == 0.0)


async def test_one_message_that_cannot_be_judged_is_ignored_and_the_others_are_judged(tmp_path: Path) -> None:
    """Each message of a batch has a word of its own, in the order of the batch."""
    log: Any = QUIET
    clock, random = SystemClock(), SeededRandomness(1)
    parts: Parts[P2pdSettings] = Parts(
        name="stored", settings=P2pdSettings(network_profile="none", data_dir="none", run_dir="none"),
        network=profile(), clock=clock, random=random, log=log, stack=None,  # type: ignore[arg-type]
        table=MethodTable(log=structlog.get_logger(), clock=clock, randomness=random), neighbours=lambda _: None,  # type: ignore[arg-type, return-value]
        data_dir=tmp_path, run_dir=tmp_path, store_in_memory=True,
    )  # fmt: skip

    async def judge(attested: Any, _message: GossipIn) -> str:
        await asyncio.sleep(0)
        if attested.body[-1] == 1:
            raise BadParams(detail="on purpose")
        return "reject" if attested.body[-1] == 2 else "accept"

    parts.serve_topic(topics()[TOPIC.name], judge)
    asked = [GossipIn(topic=TOPIC.name, payload=payload(n), sender=NOBODY, key_seq=0, seq_ms=1) for n in range(4)]
    asked.append(GossipIn(topic="none", payload=b"", sender=NOBODY, key_seq=0, seq_ms=1))
    found = await LocalClient(parts.table, "p2pd").call(GOSSIP_HANDLE_ALL, GossipBatch(messages=asked))
    assert found == Verdicts(verdicts=["accept", "ignore", "reject", "accept", "ignore"])
