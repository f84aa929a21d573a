"""Pays what is owed to developers: escrowd names each payment, the owner's wallet pays it, escrowd notes it.

Promise: a payment's name is the wallet's request_id, so that whatever breaks in between, the next try pays nothing
twice. A payment that the wallet refuses (its limits, no coins) waits, and the others go on. Rounds on a
timer are the owner's program, not a daemon's: escrowd moves no coins of its owner by itself. Source: settled.md 29.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from common.contracts.escrow_royalties import (
    ROYALTIES,
    ROYALTY_PAID,
    ROYALTY_PAY,
    NothingOwed,
    PayRoyalty,
    RoyaltyBook,
    RoyaltyPaid,
    RoyaltyPayment,
)
from common.contracts.wallet import WALLET_SEND, Send
from common.errors import DuxError
from common.rpc.method import Empty
from common.units import Florins
from dux_cli.output import each, flop, note

if TYPE_CHECKING:
    from dux_cli.command import Session


def named_payments(session: Session) -> list[RoyaltyPayment]:
    """A payment for each developer to whom enough is owed, and those that were named before and not paid."""
    found = list[RoyaltyPayment]()
    for account in session.ask(ROYALTIES, Empty()).accounts:
        try:
            found.append(session.ask(ROYALTY_PAY, PayRoyalty(address=account.address)))
        except NothingOwed:
            continue
    return found


def pay_each(session: Session, payments: list[RoyaltyPayment]) -> bool:
    """One after the other; what the wallet does not pay now is told. Whether all were paid."""
    done, failed = list[RoyaltyPayment](), list[str]()
    for payment in payments:
        wish = Send(
            request_id=payment.payment_id, address=payment.address, amount_florins=payment.amount_florins,
            label="royalty",
        )  # fmt: skip
        try:
            txid = session.ask(WALLET_SEND, wish).txid
        except DuxError as error:
            failed.append(f"{payment.address} is not paid now: {error.message}")
            continue
        done.append(session.ask(ROYALTY_PAID, RoyaltyPaid(payment_id=payment.payment_id, txid=txid)))
    rows = each(done, lambda one: (one.address, flop(one.amount_florins), one.txid))
    told = session.ask(ROYALTIES, Empty())
    session.out.table(told, ("developer", "paid", "transaction"), rows, empty=_nothing(told, failed))
    for line in failed:
        note(line)
    return not failed


def within(payments: list[RoyaltyPayment], limit_florins: int) -> list[RoyaltyPayment]:
    """Those that a round's limit allows together, the smallest first: nobody waits behind one who is owed much."""
    found = list[RoyaltyPayment]()
    for payment in sorted(payments, key=lambda one: (int(one.amount_florins), one.payment_id)):
        limit_florins -= int(payment.amount_florins)
        if limit_florins < 0:
            break
        found.append(payment)
    return found


def left_out(payments: list[RoyaltyPayment], allowed: list[RoyaltyPayment], limit_florins: int) -> list[str]:
    """Who gets nothing in this round, for people; who is owed more than a round pays never does, and is named."""
    most = flop(Florins(limit_florins))
    never = [one for one in payments if int(one.amount_florins) > limit_florins]
    waiting = len(payments) - len(allowed) - len(never)
    lines = [f"{waiting} wait: a round pays {most} at most"] if waiting else []
    return lines + [
        f"{one.address} is owed {flop(one.amount_florins)}, a round pays {most} at most: no round will pay it; "
        "raise --max-amount, or pay it once without --every"
        for one in never
    ]


def keep_paying(session: Session, *, limit_florins: int, pause: Callable[[], object]) -> NoReturn:
    """Round after round, each within its limit; what goes wrong in one is told and tried in the next."""
    while True:
        try:
            payments = named_payments(session)
            allowed = within(payments, limit_florins)
            pay_each(session, allowed)
            for line in left_out(payments, allowed, limit_florins):
                note(line)
        except DuxError as error:
            note(f"this round ended early: {error.message}")
        sys.stdout.flush()
        pause()


def _nothing(told: RoyaltyBook, failed: list[str]) -> str:
    if failed:
        return "nobody was paid"
    owed = sum(int(one.owed_florins) for one in told.accounts)
    return f"nobody is owed 0.01 FLOP or more ({flop(owed)} in all)"
