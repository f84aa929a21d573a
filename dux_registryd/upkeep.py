"""What registryd does by itself: receipts follow the chain, silent nodes turn stale, what was missed is asked for.

Three loops, and what to catch up with; each survives a neighbour's absence: it logs, waits and goes on.
"""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from common.catchup import Page, Subject
from common.clock import Clock
from common.codec import from_canonical
from common.contracts.peer_registry import (
    NODES_SYNC,
    NOTES_MAX,
    RECEIPTS_SYNC,
    STANDING_SYNC,
    SYNC_ITEMS_MAX,
    NodesAsk,
    NotesAsk,
    ReceiptsAsk,
)
from common.contracts.registry import NodeStatus, RegisterNode
from common.errors import DuxError
from common.receipts import attested
from common.rpc.table import Ctx
from common.standing import NOTE_BYTES_MAX, Note
from common.units import Did
from dux_registryd.effects import Outside, TipSeen
from dux_registryd.intake import Intake
from dux_registryd.node_methods import NodeMethods
from dux_registryd.payment_rules import REORG_BLOCKS
from dux_registryd.rules import status_of
from dux_registryd.settings import RegistrydSettings
from dux_registryd.statements import Statements
from dux_registryd.store import Book

CHECKED_AT_ONCE = 500  # claims looked up in one pass; the rest in the next
START_PAUSE_S = 2.0  # between tries while p2pd or flopd is starting


class Checker:
    """Pending receipts are looked for on the chain whenever it grows; a reorganisation puts settled ones back.

    It goes round: what waits when a round begins is looked at once in it, however much of it goes on waiting, and what
    comes meanwhile in the next.
    """

    def __init__(self, book: Book, outside: Outside, intake: Intake, log: FilteringBoundLogger, check_s: float) -> None:
        self._book = book
        self._outside = outside
        self._intake = intake
        self._log = log
        self._check_s = check_s
        self._new = intake.new_receipts
        self._due = False  # the chain grew or a receipt came since the round began
        self._after = self._upto = 0  # what is left of the round: claims whose last change lies in (after, upto]

    async def run(self) -> None:
        """Check for ever."""
        while True:
            try:
                await self.once(new_words=self._new.is_set())
            except DuxError as error:
                self._log.info("receipts not checked", reason=error.message)
            await _pause(self._new, self._check_s)

    async def once(self, *, new_words: bool) -> int:
        """One pass; how many claims were looked at. Nothing to do while the chain stands still and nothing came."""
        self._due = self._due or new_words
        self._new.clear()
        tip = await self._outside.tip()
        if tip is None:
            return 0
        last = self._book.last_tip()
        self._due = self._due or last != (tip.height, tip.hash)
        if not self._due and self._after == self._upto:
            return 0
        await self._put_back(last)
        if self._after == self._upto:
            self._due, self._after, self._upto = False, 0, self._book.place("claims")
        pending = self._book.pending(self._after, self._upto, CHECKED_AT_ONCE)
        for claim in pending:
            await self._intake.check(claim.facts)
        self._after = pending[-1].cursor if len(pending) == CHECKED_AT_ONCE else self._upto
        self._remember(tip)
        return len(pending)

    async def _put_back(self, last: tuple[int, str] | None) -> None:
        """If the tip we last stood on is no longer on the best chain, settled receipts near it are open again."""
        if last is None:
            return
        self._outside.forget_hashes()
        if await self._outside.block_hash(last[0]) == last[1]:
            return
        with self._book.store.transaction() as tx:
            opened = self._book.reopen_from(tx, last[0] - REORG_BLOCKS)
        self._log.warning("chain reorganised", below=last[0], receipts_reopened=opened)

    def _remember(self, tip: TipSeen) -> None:
        with self._book.store.transaction() as tx:
            self._book.set_last_tip(tx, tip.height, tip.hash)
            self._book.thin_heartbeats(tx, tip.height)


class Monitor:
    """Marks who falls silent and who comes back, and forgets who stays away."""

    def __init__(
        self, book: Book, outside: Outside, clock: Clock, log: FilteringBoundLogger, settings: RegistrydSettings
    ) -> None:
        self._book = book
        self._outside = outside
        self._clock = clock
        self._log = log
        self._settings = settings
        self._known: dict[Did, NodeStatus] | None = None  # None: not looked yet, so nothing has changed

    def count(self, status: NodeStatus) -> int:
        """How many nodes had this status at the last look."""
        return sum(found is status for found in (self._known or {}).values())

    async def run(self) -> None:
        """Look once per heartbeat."""
        while True:
            try:
                self.once(await self._outside.own_did())
            except DuxError as error:
                self._log.info("nodes not monitored", reason=error.message)
            await asyncio.sleep(self._settings.heartbeat_s)

    def once(self, own: Did) -> dict[Did, NodeStatus]:
        """One look; whose status changed since the last one, and to what."""
        now_ms = self._clock.unix_ms()
        seen = {
            node.info.did: status_of(node.heard_ms, now_ms, self._settings.heartbeat_s) for node in self._book.nodes()
        }
        before = seen if self._known is None else self._known
        changed = {did: status for did, status in seen.items() if before.get(did) is not status}
        for did, status in changed.items():
            self._log.info("node changed", did=did, status=status.value)
        self._known = seen
        with self._book.store.transaction() as tx:
            for did, status in changed.items():
                tx.emit("NodeChanged", {"node_id": did, "status": status.value})
            self._book.thin_statements(tx, now_ms)
            for did in self._book.forget_nodes(tx, own, now_ms - int(self._settings.forget_after_s * 1000)):
                self._book.forget_presence_of(tx, did)
                tx.emit("NodeForgotten", {"node_id": did})
        return changed


def missed(outside: Outside, intake: Intake, statements: Statements) -> tuple[Subject, ...]:
    """What to ask other nodes for after an absence: descriptions of nodes, receipts, statements about standing."""

    async def nodes(peer: Did, after: int) -> Page:
        answer = await outside.ask(peer, NODES_SYNC, NodesAsk(after=after, limit=SYNC_ITEMS_MAX))
        return answer.items, answer.next_after

    async def receipts(peer: Did, after: int) -> Page:
        ask = ReceiptsAsk(after=after, from_height=0, limit=SYNC_ITEMS_MAX)
        answer = await outside.ask(peer, RECEIPTS_SYNC, ask)
        return answer.items, answer.next_after

    async def take_node(item: bytes) -> bool:
        return (await intake.node(attested(item))).word == "accept"

    async def take_receipt(item: bytes) -> bool:
        return (await intake.receipt(attested(item), tell=False)).word == "accept"

    async def notes(peer: Did, after: int) -> Page:
        answer = await outside.ask(peer, STANDING_SYNC, NotesAsk(after=after, limit=NOTES_MAX))
        return answer.items, answer.next_after

    async def take_note(item: bytes) -> bool:
        note = from_canonical(item, Note, max_bytes=NOTE_BYTES_MAX)
        return (await statements.take(note, tell=False)).word == "accept"

    return (
        Subject("nodes", nodes, take_node),
        Subject("receipts", receipts, take_receipt),
        Subject("standing", notes, take_note),
    )


class Announcer:
    """Registers a node whose settings name a wallet, and offers its description again and again."""

    def __init__(
        self,
        methods: NodeMethods,
        book: Book,
        outside: Outside,
        log: FilteringBoundLogger,
        settings: RegistrydSettings,
        network: str,
    ) -> None:
        self._network = network
        self._methods = methods
        self._book = book
        self._outside = outside
        self._log = log
        self._settings = settings

    async def run(self) -> None:
        """Announce at the start and on a timer."""
        while True:
            try:
                await self.once()
            except DuxError as error:
                self._log.info("node not announced", reason=error.message)
                await asyncio.sleep(START_PAUSE_S)
            else:
                await asyncio.sleep(self._settings.announce_s)

    async def once(self) -> None:
        """Register at the first start in a network, if it is known where to be paid; later offer again what is held."""
        own = await self._outside.own_did()
        held = self._book.node(own)
        if held is not None and held.info.network == self._network:
            await self._methods.announce_again(own)
        elif self._settings.wallet_address:
            wish = RegisterNode(
                request_id=f"first-start/{own}/{self._network[:16]}",
                wallet_address=self._settings.wallet_address,
                region=self._settings.region,
                capabilities=self._settings.capabilities,
            )
            await self._methods.register(wish, _own_wish(wish.request_id))


def _own_wish(request_id: str) -> Ctx:
    """The daemon calls its own method, as if from outside."""
    return Ctx(caller="registryd", call_id=request_id, deadline=0.0, method="node.register", request_id=request_id)


async def _pause(wake: asyncio.Event, pause_s: float) -> None:
    try:
        async with asyncio.timeout(pause_s):
            await wake.wait()
    except TimeoutError:
        return
