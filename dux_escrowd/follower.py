"""Follows the chain for every contract that stands: what is on its script, and the tip, become facts.

Promise: `chain.coins` is always the whole truth of now; events only wake this loop, so nothing is lost when some are
missed, and after a restart the lots catch up with one look. A contract whose blocks the wallet has not all read hears
nothing, not even the time: its coin would look gone, and its lot void. Source: settled.md 5, escrow_protocol.md §6.
"""

from __future__ import annotations

from common.chain.contract import Contract
from common.chain.heights import heights_profile
from common.chain.spends import classify
from common.contracts import wallet_chain as chain
from common.contracts.escrow_base import Refused, WrongPhase
from common.contracts.wallet_errors import NotSynced
from common.errors import NotFound
from common.store import Tx
from common.units import BlockHeight
from dux_escrowd.case_methods import Reminders
from dux_escrowd.chain_loop import ChainLoop
from dux_escrowd.desk import Desk
from dux_escrowd.facts import Clock, Fact, KeyShown
from dux_escrowd.keeping import Keeping
from dux_escrowd.lots import Lots
from dux_escrowd.model import Coin, Exit, Lot, Role, Spend, State
from dux_escrowd.observe import OnChain, exit_of, next_fact
from dux_escrowd.parley import Parley
from dux_escrowd.records import SPEND, SpendRead
from dux_escrowd.store import Agreed

FACTS_PER_LOOK_MAX = 64  # per contract: a look that finds more goes on at the next block
SPENDS_REMEMBERED_MAX = 10_000  # of a day's contracts and more; forgotten ones are read once more
VOID_FOLLOWED_MAX = 1_000  # of others' contracts: two names make as many as they like, and each look asks for all
FOLLOWED_AFTER_END_BLOCKS = 1_440  # a reorganisation deeper than a day of main is beyond all bounds


class Follower(ChainLoop):
    """Looks at the chain and tells the book."""

    def __init__(self, desk: Desk, parley: Parley, keeping: Keeping) -> None:
        super().__init__(desk)
        self._keeping = keeping
        self._parley = parley
        self._series = Lots(desk.book)
        self._reminders = Reminders(desk)
        self._spends: dict[tuple[str, str], tuple[Exit, int]] = {}  # outpoint and txid -> how it was read

    async def _look(self) -> None:
        tip = await self._desk.tip()
        if not tip.synced:
            return
        self._drop_old_drafts(int(tip.height))
        self._drop_old_voids()
        unread: NotSynced | None = None
        for row in self._desk.book.shelf.followed():
            try:
                outputs = await self._outputs(row)
            except NotSynced as error:
                unread = error
            else:
                self._learn(row, outputs, int(tip.height), fresh=self._desk.is_fresh(tip))
        if unread is not None:
            raise unread

    def _drop_old_drafts(self, height: int) -> None:
        limit = heights_profile(self._desk.profile.heights).fund_blocks
        for row in self._desk.book.shelf.drafts():
            if height > row.created_height + limit:
                self._parley.refuse(row, "no agreement came about in time")

    def _drop_old_voids(self) -> None:
        """A late payment to one of these is its buyer's alone to take back, as where nobody else is there."""
        shelf = self._desk.book.shelf
        for name in shelf.void_beyond(VOID_FOLLOWED_MAX):
            with self._desk.book.store.transaction() as tx:
                shelf.note(tx, name, follow=0)
                shelf.drop_copies(tx, name)

    async def _outputs(self, row: Agreed) -> list[OnChain] | None:
        """What is on the contract's script; None before there is one.

        Raises:
            NotSynced: the wallet has not read all of its blocks.
        """
        contract = self._desk.book.records.contract(row.contract_id)
        if row.script is None or contract is None:
            return None
        asked = chain.ScriptAsked(script=row.script)
        try:
            coins = await self._desk.flopd.call(chain.CHAIN_COINS, asked)
        except NotFound:
            await self._watch(row.contract_id, row.script, contract)
            coins = await self._desk.flopd.call(chain.CHAIN_COINS, asked)
        return [self._on_chain(row, contract, coin) for coin in coins.coins]

    async def _watch(self, contract_id: str, script: bytes, contract: Contract) -> None:
        from_height = BlockHeight(contract.heights.start)
        watch = chain.WatchScripts(request_id=f"{contract_id}/again", scripts=[script], from_height=from_height)
        await self._desk.flopd.call(chain.CHAIN_WATCH, watch)

    def _on_chain(self, row: Agreed, contract: Contract, coin: chain.CoinView) -> OnChain:
        found = Coin(str(coin.outpoint), int(coin.value_florins), _height(coin.height))
        if coin.spend is None:
            return OnChain(found, None)
        way, gross = self._read_spend(row, contract, coin, coin.spend)
        return OnChain(found, Spend(way, coin.spend.txid, gross, _height(coin.spend.height)))

    def _read_spend(
        self, row: Agreed, contract: Contract, coin: chain.CoinView, spend: chain.SpendView
    ) -> tuple[Exit, int]:
        """The way out and its gross: read and written down once, not at every block of the day that follows."""
        known = self._spends.get((str(coin.outpoint), spend.txid))
        if known is not None:
            return known
        spent = classify(contract, spend.raw, coin.outpoint, int(coin.value_florins))
        gross = spent.gross_florins
        read = SpendRead(gross, spent.seller_florins, spent.fund_florins, spent.fee_florins)
        with self._desk.book.store.transaction() as tx:
            self._desk.book.shelf.keep(tx, row.contract_id, SPEND, read, spend.txid)
            if spent.preimage is not None and row.preimage is None:
                self._desk.book.shelf.note(tx, row.contract_id, preimage=spent.preimage)
        found = exit_of(spent.kind, gross), int(gross)
        if len(self._spends) >= SPENDS_REMEMBERED_MAX:
            self._spends.clear()
        self._spends[str(coin.outpoint), spend.txid] = found
        return found

    def _learn(self, row: Agreed, outputs: list[OnChain] | None, height: int, *, fresh: bool) -> None:
        book = self._desk.book
        with book.store.transaction() as tx:
            self._learn_outputs(tx, row.contract_id, outputs, height)
            self._learn_key(tx, row.contract_id, height)
            for lot in book.shelf.lots(row.contract_id):
                book.learn(tx, row.contract_id, Clock(at=height, fresh=fresh), lot.number)
            self._series.learn(tx, row, height)
            self._reminders.look(tx, row, height)
            self._keeping.look(tx, row)
            if self._is_over(book.shelf.lots(row.contract_id), height):
                book.shelf.note(tx, row.contract_id, follow=0)
                book.shelf.drop_copies(tx, row.contract_id)

    def _learn_outputs(self, tx: Tx, contract_id: str, outputs: list[OnChain] | None, height: int) -> None:
        book, passed = self._desk.book, set[tuple[int, Fact]]()
        for _ in range(FACTS_PER_LOOK_MAX if outputs is not None else 0):
            found = next_fact(book.shelf.lots(contract_id), outputs or [], height, passed)
            if found is None:
                return
            passed.add(found)
            try:
                book.learn(tx, contract_id, found[1], found[0])
            except (WrongPhase, Refused) as error:
                self._desk.log.debug("chain fact not taken", contract_id=contract_id, reason=error.message)

    def _learn_key(self, tx: Tx, contract_id: str, height: int) -> None:
        """K became public with a spend: the buyer has it, too."""
        row, lot = self._desk.row(contract_id), self._desk.book.shelf.lot(contract_id)
        spent = lot is not None and lot.spend is not None and not lot.revealed
        if row.role is Role.BUYER and row.preimage is not None and spent:
            self._desk.book.hear(tx, contract_id, "key", KeyShown(at=height, by=row.seller))

    @staticmethod
    def _is_over(lots: list[Lot], height: int) -> bool:
        return bool(lots) and all(_lot_over(lot, height) for lot in lots)


def _lot_over(lot: Lot, height: int) -> bool:
    if lot.state is State.VOID:
        return height > lot.deal.heights.timeout + FOLLOWED_AFTER_END_BLOCKS
    rests_on = lot.spend.height if lot.spend else None
    return lot.state is State.CLOSED and rests_on is not None and height > rests_on + FOLLOWED_AFTER_END_BLOCKS


def _height(height: BlockHeight | None) -> int | None:
    return None if height is None else int(height)
