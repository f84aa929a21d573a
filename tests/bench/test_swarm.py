"""The swarm that benchmarks stand on: real nodes in real processes that can be killed and frozen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.swarm import HostGone, Swarm
from common.codec import canonical
from common.contracts.peer_store import TagPointer

RECORD = canonical(TagPointer(service_ids=("a",)))


@pytest.mark.constellation
async def test_a_swarm_forms_stores_finds_and_outlives_a_frozen_and_a_killed_process(tmp_path: Path) -> None:
    """Nodes of two processes find each other; records and gossip cross; what is killed is gone and comes back."""
    async with Swarm(tmp_path, sizes=[3, 3], settings={"peers_target": 5}) as swarm:
        await swarm.start()
        await swarm.until(lambda node: node.lives and node.sessions >= 5 and node.contacts >= 5)
        taken_s, kept = await swarm.put(1, "tag", "t/n", RECORD, caller="stored")
        assert kept >= 4
        assert taken_s > 0
        assert (await swarm.get(6, "tag", "t/n"))[1] == [RECORD]
        await swarm.publish(2, "service", b"gossip", caller="stored")
        await swarm.until(lambda node: node.lives)
        heard: set[int] = set()
        for _ in range(100):
            heard |= {number for number, payload, _ in await swarm.heard() if payload == b"gossip"}
            if len(heard) == 5:
                break
            await asyncio.sleep(0.1)  # whoever is not in a mesh yet hears of it at the next offer
        assert heard == {1, 3, 4, 5, 6}
        assert swarm.freeze(0) == [1, 2, 3]
        with pytest.raises(HostGone):
            await swarm.get(1, "tag", "t/n")
        swarm.thaw(0)
        assert (await swarm.get(1, "tag", "t/n"))[1] == [RECORD]
        assert await swarm.kill(1) == [4, 5, 6]
        assert swarm.numbers() == [1, 2, 3]
        await swarm.start_host(swarm.hosts[1])
        await swarm.until(lambda node: node.sessions >= 5)
        assert (await swarm.get(4, "tag", "t/n"))[1] == [RECORD]
