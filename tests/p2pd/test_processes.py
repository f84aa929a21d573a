"""p2pds as processes, as systemd runs them: killed, restarted, spoken to over HTTP by `common.peers`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import yaml

from common.codec import canonical
from common.contracts import p2p
from common.contracts.p2p_errors import PeerAnswered
from common.contracts.peer_store import SERVICES_SYNC, TAG_NS, ServicesAsk, TagPointer
from common.errors import DuxError
from common.identity.purposes import Purpose
from common.network import Bootstrap, save_profile
from common.peers import Peers
from common.randomness import SeededRandomness
from common.rpc.client import HttpClient
from common.rpc.method import Empty
from common.units import BlockHeight
from tests.p2pd.overlay_kit import Node, profile, tagged, wait_until

pytestmark = pytest.mark.constellation


class Process:
    """One node directory and its p2pd process."""

    def __init__(self, node: Node) -> None:
        self.node = node
        config = node.folder / "config"
        config.mkdir()
        save_profile(node.profile, config / "profile.yaml")
        plain = msgspec.to_builtins(node.settings)
        shared = {key: plain.pop(key) for key in ("network_profile", "data_dir", "run_dir", "port_base")}
        (config / "common.yaml").write_text(yaml.safe_dump(shared))
        (config / "p2pd.yaml").write_text(yaml.safe_dump({key: plain[key] for key in ("listen_host", "listen_port")}))
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self._clients: list[HttpClient] = []

    async def start(self) -> None:
        with (self.node.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "dux_p2pd", "--config", str(self._config), stdout=log, stderr=log
            )
        await wait_until(self._answers, "the daemon answers")

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, (self.node.folder / "log").read_text()
        try:
            await self.client("cli").call(p2p.P2P_INFO, Empty(), deadline_s=2)
        except DuxError:
            return False
        return True

    def client(self, caller: str) -> HttpClient:
        client = self.node.http(caller)
        self._clients.append(client)
        return client

    def peers(self, caller: str) -> Peers:
        return Peers(self.client(caller))

    async def sessions(self) -> int:
        return (await self.client("cli").call(p2p.P2P_INFO, Empty())).sessions

    async def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        os.kill(self._process.pid, number)
        return await self._process.wait()

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.end(signal.SIGKILL)
        for client in self._clients:
            await client.close()


@asynccontextmanager
async def processes(count: int) -> AsyncIterator[list[Process]]:
    """`count` processes, all connected to all."""
    with tempfile.TemporaryDirectory(prefix="duxtest-") as name:
        first = Node(1, Path(name) / "1", profile())
        others = profile((Bootstrap(address=first.address, did=first.did),))
        made = [Process(first), *(Process(Node(i, Path(name) / str(i), others)) for i in range(2, count + 1))]
        try:
            await asyncio.gather(*(process.start() for process in made))
            await wait_until(lambda: _all_see(made, count - 1), "all connected")
            yield made
        finally:
            for process in made:
                await process.close()


async def _all_see(made: list[Process], sessions: int) -> bool:
    return all([await process.sessions() >= sessions for process in made])


async def test_a_daemon_does_all_its_business_with_other_nodes_through_common_peers() -> None:
    """Records, signatures, resolution, blobs and receipts over HTTP, as every daemon of a node does it."""
    async with processes(3) as (one, two, three):
        stored, other = one.peers("stored"), two.peers("stored")
        assert (await stored.info()).did == one.node.did
        assert await stored.put_record(TAG_NS, "t/upscale", TagPointer(service_ids=("s1",)), ttl_s=600) == 2
        found = await other.get_records(TAG_NS, "t/upscale")
        assert [(record.did, record.payload) for record in found] == [
            (one.node.did, canonical(TagPointer(service_ids=("s1",))))
        ]
        value = TagPointer(service_ids=("signed",))
        made = await stored.sign(Purpose.SERVICE, value)
        assert await other.is_signed(Purpose.SERVICE, canonical(value), made)
        assert not await other.is_signed(Purpose.RATING, canonical(value), made)
        assert (await other.resolve(one.node.did, max_age_s=0)).did == one.node.did
        with pytest.raises(PeerAnswered, match="owner-away"):
            await stored.call(two.node.did, SERVICES_SYNC, ServicesAsk(after=0, limit=1))
        data = SeededRandomness(1).bytes(700_000)
        blob = await one.peers("taskd").put_blob(data)
        assert await two.peers("taskd").fetch_blob(blob, [one.node.did], max_bytes=1_000_000) == data
        held = await one.peers("escrowd").hold_blob(
            p2p.BlobHold(request_id="h1", id=blob, holders=[three.node.did], until_height=BlockHeight(77), keep_s=3600)
        )
        assert [holder.did for holder in held.holders if holder.receipt] == [three.node.did]


async def test_a_killed_node_is_missed_by_nobody_and_comes_back_as_itself() -> None:
    """Kill -9 of the bootstrap node: its records are still found; restarted, it is the same DID and has them."""
    async with processes(4) as made:
        first, rest = made[0], made[1:]
        put = p2p.DhtPut(ns="tag", name="t/x", payload=tagged("1"), ttl_s=3600)
        await first.client("stored").call(p2p.DHT_PUT, put)
        assert await first.end(signal.SIGKILL) == -signal.SIGKILL
        for process in rest:
            found = await process.client("cli").call(p2p.DHT_GET, p2p.DhtGet(ns="tag", name="t/x"))
            assert [record.did for record in found.records] == [first.node.did]
        await first.start()
        await wait_until(lambda: _all_see(made, 3), "all connected again")
        info = await first.client("cli").call(p2p.P2P_INFO, Empty())
        assert info.did == first.node.did
        assert info.records >= 1


async def test_a_stopped_node_ends_in_order() -> None:
    """SIGTERM: it leaves within seconds with code 0 and the others have noticed."""
    async with processes(2) as (one, two):
        assert await asyncio.wait_for(two.end(signal.SIGTERM), 8) == 0
        await wait_until(lambda: _none_left(one), "noticed")


async def _none_left(process: Process) -> bool:
    return await process.sessions() == 0


async def test_with_every_bootstrap_node_dead_all_are_back_within_ten_seconds() -> None:
    """Once in the network: everybody stops, the only bootstrap node never returns, the others find each other."""
    async with processes(5) as made:
        first, rest = made[0], made[1:]
        for process in made:
            await process.end(signal.SIGKILL if process is first else signal.SIGTERM)
        await rest[0].start()  # alone first: it has nobody to go to
        begun = asyncio.get_running_loop().time()
        await asyncio.gather(*(process.start() for process in rest[1:]))
        await wait_until(lambda: _all_see(rest, 3), "everybody sees everybody", 10)
        taken_s = asyncio.get_running_loop().time() - begun
        print(f"\nback with the bootstrap node dead: {taken_s:.1f} s, processes' start included")  # noqa: T201
