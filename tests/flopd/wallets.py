"""flopd as its callers see it, assembled in this process: the real daemon, its real store, a real coin node."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from common.chain.tx import Outpoint
from common.contracts.base import EventsSince
from common.contracts.wallet import (
    CHAIN_COINS,
    CHAIN_EVENTS,
    CHAIN_TIP,
    WALLET_BALANCE,
    WALLET_STATUS,
    Balance,
    WalletStatus,
)
from common.contracts.wallet_chain import Coins, ScriptAsked
from common.contracts.wallet_errors import NotSynced
from common.keygen import KeysMade, make_keys
from common.network import Custodian, FundParameters, KeyFileCosts, NetworkProfile
from common.randomness import SeededRandomness
from common.rpc.client import LocalClient
from common.rpc.method import Empty, Method, P, R
from common.units import Did
from dux_flopd.daemon import FlopDaemon
from dux_flopd.settings import FlopSettings
from tests.chain.contract_kit import public_key
from tests.flopd.coin_node import CoinBench
from tests.ports import free_base

READ_S = 30.0
CHEAP = KeyFileCosts(memory_kib=64, iterations=1, lanes=1)
WAIT_S = 30.0
SEEDS = itertools.count(1)  # every wallet of a run has keys of its own


def network_of(bench: CoinBench, custodians: list[bytes] | None = None) -> NetworkProfile:
    """A network on this chain, with a fund."""
    keys = custodians or [public_key(f"custodian-{number}") for number in range(3)]
    named = tuple(Custodian(did=Did(f"did:dux:custodian-{at}"), pubkey=key.hex()) for at, key in enumerate(keys))
    return NetworkProfile(
        name="tests",
        chain=bench.family.name,
        genesis=bench.genesis,
        heights="demo",
        key_file_costs=CHEAP,
        fund=FundParameters(threshold=2, custodians=named),
    )


class WalletNode:
    """One wallet on a coin node: keys are made once, the daemon can be stopped and started again."""

    def __init__(
        self,
        folder: Path,
        bench: CoinBench,
        *,
        network: NetworkProfile | None = None,
        phrase: str = "",
        birth_height: int | None = None,
    ) -> None:
        self.folder = folder
        self.bench = bench
        self.network = network or network_of(bench)
        self.made: KeysMade = make_keys(
            folder / "data",
            self.network,
            randomness=SeededRandomness(next(SEEDS)),
            made_ms=1,
            phrase=phrase,
            birth_height=bench.height if birth_height is None else birth_height,
        )
        self.changes: dict[str, Any] = {}
        self.daemon_type: type[FlopDaemon] = FlopDaemon
        self.daemon: FlopDaemon
        self.log = structlog.get_logger()

    def settings(self) -> FlopSettings:
        """Settings for tests: no egress, quick polls."""
        fields: dict[str, Any] = {
            "network_profile": "unused.yaml",
            "data_dir": str(self.folder / "data"),
            "run_dir": str(self.folder / "run"),
            "port_base": free_base(),
            "node_url": self.bench.url,
            "node_user": self.bench.user,
            "node_password_file": str(self.bench.password_file),
            "source": self.bench.source,
            "peers": (self.bench.p2p,),
            "egress": False,
            "poll_ms": 50,
            "waiting_ms": 50,
        }
        return FlopSettings(**(fields | self.changes))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WalletNode]:
        """The daemon, synced; stopped orderly at the end."""
        self.daemon = self.daemon_type(self.settings(), self.network, log=self.log)
        ready = asyncio.Event()
        task = asyncio.ensure_future(self.daemon.run(ready))
        try:
            await _unless_ended(task, ready.wait())
            await _unless_ended(task, self.synced())
            yield self
        finally:
            self.daemon.stopping.set()
            await asyncio.wait((task,))
            if not task.cancelled() and (error := task.exception()):
                raise error

    async def call(self, method: Method[P, R], params: P, caller: str = "cli") -> R:
        """Call as one of the permitted callers."""
        who = caller if caller in method.callers else method.callers[0]
        return await LocalClient(self.daemon.parts.table, who).call(method, params)

    async def status(self) -> WalletStatus:
        """wallet.status."""
        return await self.call(WALLET_STATUS, Empty())

    async def balance(self) -> Balance:
        """wallet.balance."""
        return await self.call(WALLET_BALANCE, Empty())

    async def coins(self, script: bytes) -> Coins:
        """chain.coins, once the wallet has read the script's blocks: until then it says so."""
        async with asyncio.timeout(READ_S):
            while True:
                try:
                    return await self.call(CHAIN_COINS, ScriptAsked(script=script))
                except NotSynced:
                    await asyncio.sleep(0.05)

    async def synced(self) -> None:
        """Wait until the view stands at the node's tip and has looked at what waits there."""
        best = self.bench.rpc("getbestblockhash")

        async def stands() -> bool:
            tip = await self.call(CHAIN_TIP, Empty())
            return tip.synced and tip.hash == best

        await self.until(stands)

    async def until(self, holds: Callable[[], Any], what: str = "") -> None:
        """Wait for a predicate, sync or async."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not await _asked(holds):
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise AssertionError(f"never came true: {what or holds}") from error

    async def in_node(self, txid: str) -> None:
        """Wait until the node holds this transaction waiting."""
        await self.until(lambda: txid in self.bench.rpc("getrawmempool"), f"{txid} waits at the node")

    async def events(self, kind: str) -> list[dict[str, Any]]:
        """All events of a kind so far."""
        page = await self.call(CHAIN_EVENTS, EventsSince(cursor=0, limit=500))
        return [event.body for event in page.events if event.kind == kind]

    async def lot_point(self, script: bytes) -> Outpoint:
        """The first output on a script."""
        found = await self.coins(script)
        return found.coins[0].outpoint


async def _unless_ended(task: asyncio.Future[None], wanted: Coroutine[Any, Any, Any]) -> None:
    """Wait for what is wanted, or for the end of the daemon, whose error is then raised."""
    waiter = asyncio.ensure_future(wanted)
    await asyncio.wait((task, waiter), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        waiter.cancel()
        task.result()
    await waiter


async def _asked(holds: Callable[[], Any]) -> bool:
    answer = holds()
    return bool(await answer if asyncio.iscoroutine(answer) else answer)
