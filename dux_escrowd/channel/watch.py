"""Watching for others: fully signed closes that other nodes handed in, published in time. No trust, no penalty.

A watcher can publish a close and not change it; an old one only pays its payee less. Promise: what is kept is a close
that both parties of its channel signed, of a channel that ends within this network's longest; nobody's close stands in
the way of another's of the same channel; each place publishes once, near its channel's end; where the room is full,
whoever takes most of it gives way to whoever takes less, and strangers to nodes that live. Whether a close's coin is
there only the chain can say. Source: channel_protocol.md §3, §8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from common.chain.channel import BadState
from common.chain.channel_close import read_close
from common.chain.channel_heights import channel_profile
from common.contracts import peer_channel as peer
from common.contracts import wallet_chain as chain
from common.errors import DuxError, may_repeat
from common.room_rules import who_gives_way
from common.units import Did
from dux_escrowd.channel.counter import Counter

PER_PAYEE_MAX = 16
KEPT_AFTER_BLOCKS = 144
REFUSED = peer.Kept(kept=False)


class Watch:
    """Keeps closes of others."""

    def __init__(self, counter: Counter, active: Callable[[], Awaitable[list[Did]]]) -> None:
        self._counter = counter
        self._store = counter.ledger.store
        self._active = active
        self._known: frozenset[str] = frozenset()  # who lived at the last block

    async def keep(self, params: peer.KeepClose, sender: Did) -> peer.Kept:
        """Keep the newest close that a node hands in for a channel, published in the closing zone whatever it asks for.

        What was published is not replaced, and nothing is kept before the tip is known that bounds how long.
        """
        tip, profile = self._counter.tip, channel_profile(self._counter.desk.profile.heights)
        try:
            shown = read_close(params.raw, self._counter.genesis)
        except BadState as error:
            self._counter.desk.log.info("a close to watch is none", peer=sender, reason=error.message)
            return REFUSED
        is_bounded = tip is not None and shown.exp <= tip + profile.exp_max_blocks
        if shown.chid != params.chid or not is_bounded or not self._makes_room(shown.chid, sender):
            return REFUSED
        publish_at = min(max(params.publish_at, shown.exp - profile.zone_blocks), shown.exp - 1)
        with self._store.transaction() as tx:
            tx.execute(
                "INSERT OR REPLACE INTO watched_closes VALUES (?, ?, ?, ?, ?, 0)",
                shown.chid, sender, params.raw, publish_at, shown.exp,
            )  # fmt: skip
        return peer.Kept(kept=True)

    def _makes_room(self, chid: bytes, sender: Did) -> bool:
        """Whether there is a place for one more of this node's; somebody with more of them may lose one for it."""
        own = self._store.row("SELECT published FROM watched_closes WHERE chid = ? AND payee = ?", chid, sender)
        if own is not None:
            return not own["published"]
        rows = self._store.rows("SELECT payee, count(*) AS held FROM watched_closes GROUP BY payee ORDER BY payee")
        held = {str(row["payee"]): int(row["held"]) for row in rows}
        if held.get(sender, 0) >= PER_PAYEE_MAX:
            return False
        if sum(held.values()) < self._counter.desk.settings.watch_for_others:
            return True
        most = who_gives_way(held, sender, 1, self._known)
        if most is None:
            return False
        with self._store.transaction() as tx:
            tx.execute(
                "DELETE FROM watched_closes WHERE (chid, payee) IN (SELECT chid, payee FROM watched_closes "
                "WHERE payee = ? ORDER BY until DESC, chid LIMIT 1)", most,
            )  # fmt: skip
        return True

    async def look(self, tip: int) -> None:
        """Publish what is due; forget what is over. A close that is not needed any more is refused by the chain.

        Who lives is asked at each block while anything is kept: a close that comes waits for no registry.
        """
        due = self._store.rows(
            "SELECT chid, payee, raw FROM watched_closes WHERE publish_at <= ? AND published = 0 ORDER BY chid, payee",
            tip,
        )
        for row in due:
            await self._publish(bytes(row["chid"]), str(row["payee"]), bytes(row["raw"]))
        with self._store.transaction() as tx:
            tx.execute("DELETE FROM watched_closes WHERE until + ? < ?", KEPT_AFTER_BLOCKS, tip)
        if self._store.row("SELECT 1 FROM watched_closes LIMIT 1") is not None:
            self._known = frozenset(await self._active())

    async def _publish(self, chid: bytes, payee: str, raw: bytes) -> None:
        wish = chain.Broadcast(request_id=f"watched/{hashlib.sha256(raw).hexdigest()}", raw=raw)
        try:
            sent = await self._counter.desk.flopd.call(chain.CHAIN_BROADCAST, wish)
        except DuxError as error:
            self._counter.desk.log.info("a watched close is not taken", chid=chid.hex(), reason=error.message)
            if may_repeat(error):
                return
        else:
            self._counter.desk.log.info("published for another node", chid=chid.hex(), txid=sent.txid)
        with self._store.transaction() as tx:
            tx.execute("UPDATE watched_closes SET published = 1 WHERE chid = ? AND payee = ?", chid, payee)
