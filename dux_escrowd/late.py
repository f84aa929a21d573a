"""The buyer's question LATE_OK: which coin it is about, and the one decision that asks it.

Promise: one coin is asked for, the first that is enough; question and answer to the caller are one transaction under
its request_id. Whether the coin may count says the table, on each node by itself. Source: escrow_protocol.md §6.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.contracts.escrow import ContractRef, NotYours
from common.contracts.escrow_late import LATE_OK, LateInSeries, LateOk, NoLateCoin
from common.rpc.table import Ctx, MethodTable
from dux_escrowd.desk import Desk
from dux_escrowd.facts import LateWanted
from dux_escrowd.model import Coin, Lot, Role, State


class LateMethods:
    """Handler of escrow.late_ok."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def serve(self, table: MethodTable) -> None:
        """Answer it on this table."""
        table.serve(LATE_OK, self.late_ok)

    async def late_ok(self, params: LateOk, ctx: Ctx) -> ContractRef:
        """Ask."""
        row, book = self._desk.row(params.contract_id), self._desk.book
        if row.role is not Role.BUYER:
            raise NotYours(role=row.role.value, contract_id=row.contract_id, wanted="buyer")
        if row.series:
            raise LateInSeries(contract_id=row.contract_id)
        height, ref = await self._desk.height(), ContractRef(contract_id=row.contract_id)
        with book.store.transaction() as tx:
            coin = late_coin(book.shelf.lots(row.contract_id))
            if coin is None:
                raise NoLateCoin(contract_id=row.contract_id)
            book.learn(tx, row.contract_id, LateWanted(at=height, coin=coin))
            ctx.remember(tx, ref)
        return ref


def late_coin(lots: Sequence[Lot]) -> Coin | None:
    """The late coin that may be asked for: the lot's own, or the first of A + a beside a lot that has none."""
    if not lots or lots[0].state not in (State.STRAY, State.VOID):
        return None
    deep = (lot.coin for lot in lots if lot.state is State.STRAY and lot.coin is not None)
    enough = (coin for coin in deep if coin.value_florins >= lots[0].deal.lot_florins)
    return min(enough, key=lambda coin: (coin.height or 0, coin.outpoint), default=None)
