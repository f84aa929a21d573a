"""Watching for others: fully signed closes that other nodes handed in, published in time. No trust, no penalty.

A watcher can publish a close and not change it; an old one only pays its payee less. One newest close per channel is
kept, and so many in all. Source: channel_protocol.md §3, §8.
"""

from __future__ import annotations

from common.contracts import peer_channel as peer
from common.contracts import wallet_chain as chain
from common.errors import DuxError
from common.units import Did
from dux_escrowd.channel.counter import Counter

PER_PAYEE_MAX = 16


class Watch:
    """Keeps closes of others."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._store = counter.ledger.store

    async def keep(self, params: peer.KeepClose, sender: Did) -> peer.Kept:
        """Keep the newest close of a payee's channel; only that payee may replace it."""
        known = self._store.row("SELECT payee FROM watched_closes WHERE chid = ?", params.chid)
        if known is not None and known["payee"] != sender:
            return peer.Kept(kept=False)
        if known is None and not self._has_room(sender):
            return peer.Kept(kept=False)
        with self._store.transaction() as tx:
            tx.execute(
                "INSERT OR REPLACE INTO watched_closes VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
                params.chid, sender, params.raw, params.output_script, params.from_height, params.publish_at,
                params.until,
            )  # fmt: skip
        return peer.Kept(kept=True)

    def _has_room(self, sender: Did) -> bool:
        row = self._store.row(
            "SELECT count(*) AS every, coalesce(sum(payee = ?), 0) AS own FROM watched_closes", sender
        )
        every, own = (int(row["every"]), int(row["own"])) if row else (0, 0)
        return every < self._counter.desk.settings.watch_for_others and own < PER_PAYEE_MAX

    async def look(self, tip: int) -> None:
        """Publish what is due; forget what is over. A close that is not needed any more is refused by the chain."""
        due = self._store.rows(
            "SELECT chid, raw FROM watched_closes WHERE publish_at <= ? AND published = 0 ORDER BY chid", tip
        )
        for row in due:
            await self._publish(bytes(row["chid"]), bytes(row["raw"]))
        with self._store.transaction() as tx:
            tx.execute("DELETE FROM watched_closes WHERE until + 144 < ?", tip)

    async def _publish(self, chid: bytes, raw: bytes) -> None:
        wish = chain.Broadcast(request_id=f"watched/{chid.hex()}", raw=raw)
        try:
            sent = await self._counter.desk.flopd.call(chain.CHAIN_BROADCAST, wish)
        except DuxError as error:
            self._counter.desk.log.info("a watched close is not taken", chid=chid.hex(), reason=error.message)
            return
        self._counter.desk.log.info("published for another node", chid=chid.hex(), txid=sent.txid)
        with self._store.transaction() as tx:
            tx.execute("UPDATE watched_closes SET published = 1 WHERE chid = ?", chid)
