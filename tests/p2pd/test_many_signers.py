"""A name with many signers is read in the time of a few questions, whoever of their givers is slow or silent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from common.contracts.peer_p2p import DID_LOG, AskLog, LogAnswer
from common.identity.branch import operational_key
from common.units import Did
from dux_p2pd.records import Offered, RecordBody, sign_record
from dux_p2pd.session import Peer
from tests.p2pd.dht_kit import NAME, DhtNode, branch, dht_net, did_number, log_bytes, pointer
from tests.p2pd.wire_kit import virtually

pytestmark = pytest.mark.patient

SIGNERS, FIRST = 48, 2000
SLOW_S = 0.3  # still within what a node waits for


def fill(holder: DhtNode, now_ms: int) -> None:
    """Many signers' records stand at one holder, which knows their logs; nobody else does."""
    for number in range(FIRST, FIRST + SIGNERS):
        body = RecordBody(
            v=1, ns="tag", name=NAME, did=did_number(number), key_seq=0, seq_ms=now_ms, ttl_s=3600,
            payload=pointer(str(number)),
        )  # fmt: skip
        data = sign_record(body, operational_key(branch(number), 0))
        holder.directory.learn(body.did, log_bytes(number))
        assert holder.overlay.dht.shelf.offer(Offered.of(data, 0, 0, body), nearer_nodes=0, near_max=40) is None


@virtually
async def test_logs_are_asked_for_side_by_side() -> None:
    """Planted bug noticed: one after the other they take 14 s, and a buyer finds no worker in its minute."""
    async with dht_net(4) as (good, _):
        holder, reader, loop = good[0], good[-1], asyncio.get_running_loop()
        fill(holder, holder.keeper.now_ms())

        async def slow(params: AskLog, peer: Peer) -> LogAnswer:
            await asyncio.sleep(SLOW_S)
            return holder.overlay.dht.on_log(params, peer)

        holder.overlay.router.answer(DID_LOG, slow)
        began_s = loop.time()
        assert len(await reader.get()) == SIGNERS
        assert loop.time() - began_s < 5
        began_s = loop.time()
        assert len(await reader.get()) == SIGNERS
        assert loop.time() - began_s < 1, "the logs are known by now"


@virtually
async def test_a_log_that_does_not_come_holds_up_nobody_for_longer_than_all_may_take() -> None:
    """What is known is given; the others are left out this time."""
    async with dht_net(4) as (good, _):
        holder, reader, loop = good[0], good[-1], asyncio.get_running_loop()
        fill(holder, holder.keeper.now_ms())
        for number in range(FIRST, FIRST + 5):
            reader.directory.learn(did_number(number), log_bytes(number))
        calls: Any = reader.overlay.dht.calls
        calls.log_of = lambda *_: asyncio.sleep(1e6)
        began_s = loop.time()
        assert len(await reader.get()) == 5
        assert 9 < loop.time() - began_s < 13


def asked_of(*holders: DhtNode) -> list[Did]:
    """Whose logs these are asked for from now on; each answer takes a while."""
    found: list[Did] = []

    def slowly(holder: DhtNode) -> None:
        async def slow(params: AskLog, peer: Peer) -> LogAnswer:
            found.append(params.did)
            await asyncio.sleep(SLOW_S)
            return holder.overlay.dht.on_log(params, peer)

        holder.overlay.router.answer(DID_LOG, slow)

    for holder in holders:
        slowly(holder)
    return found


@virtually
async def test_a_signer_under_many_names_is_asked_for_once() -> None:
    """Planted bug noticed: each name that is read at once, and each salted key of one, asks for the log itself."""
    async with dht_net(4) as (good, _):
        reader, signer = good[-1], did_number(FIRST)
        now_ms, names = reader.keeper.now_ms(), ("t/one", "t/two", "t/three")
        for holder, name in zip(good, names, strict=False):
            body = RecordBody(
                v=1, ns="tag", name=name, did=signer, key_seq=0, seq_ms=now_ms, ttl_s=3600, payload=pointer("7"),
            )  # fmt: skip
            data = sign_record(body, operational_key(branch(FIRST), 0))
            holder.directory.learn(signer, log_bytes(FIRST))
            assert holder.overlay.dht.shelf.offer(Offered.of(data, 0, 0, body), nearer_nodes=0, near_max=40) is None
        asked = asked_of(*good[:-1])
        found = await asyncio.gather(*(reader.overlay.dht.get("tag", name) for name in names))
        assert [len(bodies) for bodies in found] == [1, 1, 1]
        assert asked == [signer]


@virtually
async def test_one_question_serves_all_who_ask_it_and_outlives_who_asked_first() -> None:
    """Planted bug noticed: who was told to stop takes the answer of the others with it."""
    async with dht_net(4) as (good, _):
        holder, reader = good[0], good[-1]
        holder.directory.learn(did_number(FIRST), log_bytes(FIRST))
        asked, calls = asked_of(holder), reader.overlay.dht.calls
        both = await asyncio.gather(*(calls.log_of(holder.did, did_number(FIRST)) for _ in range(2)))
        assert [known.log.did for known in both if known] == [did_number(FIRST)] * 2
        assert len(asked) == 1
        first = asyncio.ensure_future(calls.log_of(holder.did, did_number(FIRST)))
        await asyncio.sleep(SLOW_S / 2)
        second = asyncio.ensure_future(calls.log_of(holder.did, did_number(FIRST)))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second) is not None
        assert len(asked) == 3
        assert await calls.log_of(holder.did, did_number(FIRST + 1)) is None
