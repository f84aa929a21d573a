"""A wallet with older books than escrowd's is handed what it has forgotten: contracts, channels, and numbers of keys.

Promise: after every start the wallet is asked which of the contracts and channels that stand here it does not know; it
takes those part in again, from what stands in escrowd's own books, and hands out no key that is in use by them. It is
done when the wallet has read the blocks of everything that it was handed, in however many rounds: what it refuses
meanwhile because it knows no such contract waits (`done`). A wallet that knows all is asked once.

Source: escrow_protocol.md §5 (a key is used once), §10; docs/wallet.md §7.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from common.contracts.wallet_errors import NotSynced
from common.contracts.wallet_restore import (
    CONTRACT_BLOB_KEY,
    CONTRACT_MISSING,
    CONTRACT_RESTORE,
    NAMES_MAX,
    Standing,
)
from common.errors import DuxError, may_repeat
from common.rpc.method import Empty
from common.units import BlockHeight
from dux_escrowd.channel.restoring import Restoring
from dux_escrowd.channel.shelf import ChannelShelf
from dux_escrowd.desk import Desk
from dux_escrowd.keeping import wallet_wish
from dux_escrowd.store import Agreed

PAUSE_S = 5.0  # while the wallet is locked, away or reading
READS_MAX = 30  # waits for a script's blocks, of some seconds each, before the next round
CHANNELS_MAX = 10_000


class Adopting:
    """Once in every life of this daemon."""

    def __init__(self, desk: Desk, channels: ChannelShelf, restoring: Restoring, *looking: asyncio.Lock) -> None:
        """`looking`: held while a script's coins are not to be believed."""
        self._desk = desk
        self._channels = channels
        self._restoring = restoring
        self._looking = looking
        self._unread: dict[str, tuple[bytes, int]] = {}  # handed over -> script, and the height to read it from
        self._back: dict[str, None] = {}  # channels handed over whose hooks were not called yet
        self.done = False
        self.when_back: list[Callable[[str], Awaitable[None]]] = []  # for each channel that the wallet knows again
        self.then: list[Callable[[], Awaitable[None]]] = []  # after all of them

    async def run(self) -> None:
        """Until the wallet has answered, and has read what it was handed."""
        while not self.done:
            try:
                await self.look()
                self.done = True
            except DuxError as error:
                self._desk.log.info("the wallet cannot be asked what it knows", reason=error.message)
                await asyncio.sleep(PAUSE_S)

    async def look(self) -> None:
        """Ask, and hand over what is missing.

        Raises:
            DuxError: the wallet cannot say or take it now.
        """
        shelf = self._desk.book.shelf
        contracts = {row.cid: row for row in shelf.followed() if row.cid and row.script and row.key_index is not None}
        names = [*self._channels.listed("any", open_only=True, limit=CHANNELS_MAX), *self._channels.followed()]
        numbers = (await self._desk.flopd.call(CONTRACT_BLOB_KEY, Empty())).numbers
        highest, from_height = shelf.keys_beyond(numbers)
        missing = list[str]()
        every = tuple(dict.fromkeys([*contracts, *names]))
        for first in range(0, max(1, len(every)), NAMES_MAX):
            part = every[first : first + NAMES_MAX]
            asked = Standing(names=part, highest=highest, from_height=BlockHeight(from_height))
            missing += (await self._desk.flopd.call(CONTRACT_MISSING, asked)).names
        if missing or self._unread or self._back:
            await self._hand_over([row for cid, row in contracts.items() if cid in missing], set(names) & set(missing))

    async def _hand_over(self, contracts: list[Agreed], channels: set[str]) -> None:
        async with AsyncExitStack() as stack:
            for lock in self._looking:
                await stack.enter_async_context(lock)
            for row in contracts:
                await self._tried(row.contract_id, self._contract(row))
            for chid in sorted(channels):
                await self._tried(chid, self._channel(chid))
            for name, (script, from_height) in tuple(self._unread.items()):
                await self._tried(name, self._read(name, script, from_height))
        for chid in tuple(self._back):
            for hook in self.when_back:
                await hook(chid)
            del self._back[chid]
        for last in self.then:
            await last()

    async def _tried(self, name: str, work: Awaitable[None]) -> None:
        """One that the wallet refuses keeps none of the others; one that it cannot take now is tried again."""
        try:
            await work
        except DuxError as error:
            if may_repeat(error):
                raise
            self._desk.log.warning("the wallet does not take it again", name=name, reason=error.message)

    async def _contract(self, row: Agreed) -> None:
        contract = self._desk.book.records.contract(row.contract_id)
        if contract is None or row.script is None:
            return
        await self._desk.flopd.call(CONTRACT_RESTORE, wallet_wish(self._desk, row, contract))
        self._unread[row.contract_id] = row.script, contract.heights.start

    async def _channel(self, chid: str) -> None:
        book = self._channels.book(chid)
        if book is None:
            return
        await self._restoring.adopted_again(book)
        self._unread[chid] = book.output_script, book.created_height
        self._back[chid] = None

    async def _read(self, name: str, script: bytes, from_height: int) -> None:
        for turn in range(READS_MAX):
            try:
                await self._desk.read_again(name, script, from_height)
                break
            except NotSynced:
                if turn == READS_MAX - 1:
                    raise
        del self._unread[name]
        self._desk.log.info("the wallet knows it again", name=name)
