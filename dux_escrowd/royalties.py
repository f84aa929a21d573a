"""The book of royalties: what this node's finished contracts and channels paid developers, and what is owed to them.

Promise: it follows from the terms and from what the chain shows of each deal, so that nothing has to be written down
and nothing can be forgotten; only spends that are final count. Royalties below dust stay with the provider and are
owed until a payment names them. A payment is fixed here, with its amount and its name, before the owner's wallet is
asked; until it is noted as paid it is the only one for that developer, so that however often it is tried, the wallet
pays it once. Part of its name is random: books that begin anew beside an older wallet name no payment that was made
before them. It moves no coins, and payments that the owner makes without a name from here, or that lost books named,
it does not know.
Source: settled.md 29.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from common.chain.address import script_to_address
from common.chain.channel import ChannelTerms
from common.chain.contract import Contract
from common.chain.fees import DUST_FLORINS, is_dust
from common.chain.params import family_named
from common.chain.templates import royalty_of
from common.contracts.escrow_royalties import (
    NoSuchRoyaltyPayment,
    NothingOwed,
    PayRoyalty,
    RoyaltyAccount,
    RoyaltyBook,
    RoyaltyPaid,
    RoyaltyPayment,
)
from common.rpc.method import Empty
from common.rpc.table import Ctx
from common.store import Row
from common.units import BPS, Florins, tax_of
from dux_escrowd.channel.ledger import Ledger
from dux_escrowd.channel.model import Payee, PayeeState, SpendKind
from dux_escrowd.desk import Desk
from dux_escrowd.model import Lot, Role, State

NAME_BYTES = 12  # random, of a payment's name


class Share(Struct, frozen=True):
    """What one deal paid a developer's script, and what it left out."""

    script: bytes
    paid_florins: int
    owed_florins: int


def of_channel(terms: ChannelTerms, state: Payee) -> Share | None:
    """A closed channel's; None where there is nothing to share."""
    spend = state.spend if state.state is PayeeState.CLOSED else None
    if spend is None or spend.kind is not SpendKind.CLOSE or not spend.cum_florins or not terms.developer_script:
        return None
    due = (spend.cum_florins - int(tax_of(spend.cum_florins, terms.tax_bps))) * terms.royalty_bps // BPS
    return _share(terms.developer_script, due)


def of_lot(contract: Contract, lot: Lot) -> Share | None:
    """A settled lot's; None where there is nothing to share."""
    if lot.state is not State.CLOSED or lot.spend is None or not contract.royalty.bps or not lot.spend.gross_florins:
        return None
    return _share(contract.royalty.payout_script, int(royalty_of(contract, lot.spend.gross_florins)))


def _share(script: bytes, due: int) -> Share:
    return Share(script, 0, due) if is_dust(due) else Share(script, due, 0)


class RoyaltyMethods:
    """Answers `escrow.royalties`, `escrow.royalty_pay`, `escrow.royalty_paid`."""

    def __init__(self, desk: Desk, ledger: Ledger) -> None:
        self._desk, self._ledger = desk, ledger
        self._store = desk.book.store

    async def pay(self, params: PayRoyalty, _ctx: Ctx) -> RoyaltyPayment:
        """The payment that waits, or a new one of all that is owed."""
        sql = "SELECT * FROM royalty_payments WHERE address = ? AND txid = ''"
        waiting = self._store.row(sql, params.address)
        if waiting is not None:
            return _payment(waiting)
        owed = next((int(one.owed_florins) for one in self._book() if one.address == params.address), 0)
        if is_dust(owed):
            raise NothingOwed(owed_florins=owed, address=params.address, least_florins=DUST_FLORINS)
        name = f"royalty/{params.address}/{self._desk.random.bytes(NAME_BYTES).hex()}"
        with self._store.transaction() as tx:
            sql = "INSERT INTO royalty_payments (payment_id, address, amount) VALUES (?, ?, ?)"
            tx.execute(sql, name, params.address, owed)
        return RoyaltyPayment(payment_id=name, address=params.address, amount_florins=Florins(owed))

    async def paid(self, params: RoyaltyPaid, _ctx: Ctx) -> RoyaltyPayment:
        """The wallet said so; the first transaction named stays."""
        with self._store.transaction() as tx:
            sql = "UPDATE royalty_payments SET txid = ? WHERE payment_id = ? AND txid = ''"
            tx.execute(sql, params.txid, params.payment_id)
        row = self._store.row("SELECT * FROM royalty_payments WHERE payment_id = ?", params.payment_id)
        if row is None:
            raise NoSuchRoyaltyPayment(payment_id=params.payment_id)
        return _payment(row)

    async def royalties(self, _params: Empty, _ctx: Ctx) -> RoyaltyBook:
        """All of them, by address."""
        return RoyaltyBook(accounts=self._book())

    def _book(self) -> tuple[RoyaltyAccount, ...]:
        family = family_named(self._desk.profile.chain)
        sums: dict[bytes, tuple[int, int, int]] = {}
        for share in (*_channels(self._ledger), *_lots(self._desk)):
            deals, paid, owed = sums.get(share.script, (0, 0, 0))
            sums[share.script] = (deals + 1, paid + share.paid_florins, owed + share.owed_florins)
        named = {script_to_address(script, family) or script.hex(): total for script, total in sums.items()}
        rows = self._store.rows("SELECT address, sum(amount) AS sent FROM royalty_payments GROUP BY address")
        sent = {str(row["address"]): int(row["sent"]) for row in rows}
        return tuple(
            RoyaltyAccount(
                address=name, deals=deals, paid_florins=Florins(paid),
                owed_florins=Florins(max(0, owed - sent.get(name, 0))), sent_florins=Florins(sent.get(name, 0)),
            )
            for name, (deals, paid, owed) in sorted(named.items())
        )  # fmt: skip


def _payment(row: Row) -> RoyaltyPayment:
    return RoyaltyPayment(
        payment_id=row["payment_id"], address=row["address"], amount_florins=Florins(row["amount"]), txid=row["txid"]
    )


def _channels(ledger: Ledger) -> Iterable[Share]:
    for name in ledger.shelf.ended("payee"):
        share = of_channel(ledger.book(name).terms, ledger.payee(name))
        if share is not None:
            yield share


def _lots(desk: Desk) -> Iterable[Share]:
    for name in desk.book.shelf.named(Role.SELLER):
        contract = desk.book.records.contract(name)
        for lot in desk.book.shelf.lots(name) if contract is not None and contract.royalty.bps else ():
            share = of_lot(contract, lot) if contract is not None else None
            if share is not None:
                yield share
