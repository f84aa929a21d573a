"""A node made from its phrase takes its open contracts and channels back by itself, as soon as its wallet has looked.

Promise: nothing is asked of anybody by a node whose keys were made here. A restored one looks when the wallet has found
its coins, and then a few times more, because those who keep copies may come later than it does; how that went the owner
reads by `duxnet restore`, which looks again. Source: money.md §3; escrow_protocol.md §10; channel_protocol.md §8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from common.contracts.channel_restore import ChannelsRestored
from common.contracts.escrow_restore import Restored
from common.contracts.wallet_recovery import WALLET_RECOVERY
from common.contracts.wallet_restore import CONTRACT_BLOB_KEY
from common.errors import DuxError
from common.rpc.method import Empty
from dux_escrowd.desk import Desk

PAUSES_S = (2.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0)  # before each look
WALLET_PAUSE_S = 0.5  # while the wallet looks
LOCKED_PAUSE_S = 5.0  # while it is locked, or away
LOOKED = "looked for copies"  # the setting that says that all looks are over

Look = Callable[[], Awaitable[Restored | ChannelsRestored]]


class Restorer:
    """The loop."""

    def __init__(self, desk: Desk, *looks: Look) -> None:
        self._desk = desk
        self._looks = looks

    async def run(self) -> None:
        """All looks, once in this node's life."""
        store, shelf = self._desk.book.store, self._desk.book.shelf
        if shelf.setting(LOOKED) is not None or not await self._is_restored():
            return
        await self._wallet_done()
        for pause_s in PAUSES_S:
            await self._look()
            await asyncio.sleep(pause_s)
        await self._look()
        with store.transaction() as tx:
            shelf.set(tx, LOOKED, b"1")

    async def _is_restored(self) -> bool:
        """Whether the wallet's keys came from a phrase; a locked wallet says it once it is unlocked."""
        while True:
            try:
                return (await self._desk.flopd.call(CONTRACT_BLOB_KEY, Empty())).restored
            except DuxError:
                await asyncio.sleep(LOCKED_PAUSE_S)

    async def _wallet_done(self) -> None:
        while True:
            try:
                if (await self._desk.flopd.call(WALLET_RECOVERY, Empty())).state == "done":
                    return
                await asyncio.sleep(WALLET_PAUSE_S)
            except DuxError:
                await asyncio.sleep(LOCKED_PAUSE_S)

    async def _look(self) -> None:
        for look in self._looks:
            try:
                found = await look()
            except DuxError as error:
                self._desk.log.info("copies cannot be looked for now", reason=error.message)
                continue
            if found.restored or found.problems:
                self._desk.log.info("taken back from copies", restored=found.restored, problems=found.problems)
