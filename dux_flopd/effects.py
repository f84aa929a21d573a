"""Hands transactions to the coin node, and again until they are in a block.

A transaction whose inputs are missing or taken just now is not refused: a block or a reorganisation may bring them
back, so it stays open and is tried again at every new tip. Source: escrow_protocol.md §4 (rebroadcast), facts §2.
"""

from __future__ import annotations

import asyncio

import msgspec
from structlog.typing import FilteringBoundLogger

from common.contracts.wallet_errors import ChainUnavailable, NodeRefused
from common.errors import DuxError
from common.store import Effect, Tx
from dux_flopd.model import BroadcastEffect
from dux_flopd.scanner import Scanner
from dux_flopd.source import ChainSource, Refused
from dux_flopd.store import WalletStore
from dux_flopd.view import ChainView

REBROADCAST_S = 60.0  # also without a new block: a node may have been restarted
ALREADY = ("already", "txn-already-known")
LATER = ("missing", "conflict", "spent", "non-final", "mempool", "replacement", "insufficient", "too-long")
ALREADY_IN_CHAIN = -27
JUDGEMENTS = (-22, -25, -26)  # of the transaction itself; every other code tells of the node (-28: it is starting)


def verdict(code: int, message: str) -> str:
    """What a node's refusal means for a transaction that we judged ourselves: taken, later or refused."""
    text = message.lower()
    if code == ALREADY_IN_CHAIN or any(word in text for word in ALREADY):
        return "taken"
    return "refused" if code in JUDGEMENTS and not any(word in text for word in LATER) else "later"


class Broadcaster:
    """The way of payments to the node."""

    def __init__(
        self, node: ChainSource, store: WalletStore, view: ChainView, scanner: Scanner, log: FilteringBoundLogger
    ) -> None:
        self._node = node
        self._store = store
        self._view = view
        self._scanner = scanner
        self._log = log

    async def perform(self, effect: Effect) -> None:
        """One effect of the outbox.

        Raises:
            ChainUnavailable: try again later.
            NodeRefused: the node will never take it.
        """
        payment = self._store.payment(msgspec.json.decode(effect.body, type=BroadcastEffect).txid)
        if payment is not None and not payment.refused:
            await self._hand_over(payment.txid, payment.raw)

    def refused(self, tx: Tx, effect: Effect, error: DuxError) -> None:
        """The node refused it for good: its coins are free again."""
        txid = msgspec.json.decode(effect.body, type=BroadcastEffect).txid
        self._store.refuse(tx, txid, error.message)
        tx.audit("payment refused", {"txid": txid, "reason": error.message})

    async def keep_alive(self) -> None:
        """Hand every open payment over again at each new tip, and now and then without one. Runs until cancelled."""
        seen = ""
        while True:
            await self._wait_for_tip(seen)
            seen = self._view.hash
            for payment in self._store.open_payments():
                try:
                    await self._hand_over(payment.txid, payment.raw)
                except (ChainUnavailable, NodeRefused) as error:
                    self._log.info("payment not taken yet", txid=payment.txid, reason=error.message)

    async def _wait_for_tip(self, seen: str) -> None:
        try:
            async with asyncio.timeout(REBROADCAST_S), self._scanner.changed:
                await self._scanner.changed.wait_for(lambda: self._scanner.is_synced and self._view.hash != seen)
        except TimeoutError:
            return

    async def _hand_over(self, txid: str, raw: bytes) -> None:
        try:
            await self._node.broadcast(raw)
        except Refused as error:
            outcome = verdict(error.code, error.message)
            if outcome == "refused":
                raise NodeRefused(method="sendrawtransaction", detail=str(error)) from error
            self._log.info("payment at the node", txid=txid, outcome=outcome, reason=str(error))
        else:
            self._log.info("payment handed over", txid=txid)
