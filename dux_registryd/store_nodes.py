"""The part of the registry's file that holds nodes, heartbeats and days of presence: SQL of these and nothing else."""

from __future__ import annotations

from common.codec import canonical
from common.quality import DAY_BLOCKS
from common.receipts import HEARTBEAT_BYTES_MAX, Attested, Heartbeat, NodeInfo, attested, described, opened
from common.store import Row, Store, Tx
from common.units import Did
from dux_registryd.model import KnownNode
from dux_registryd.reputation_rules import PRESENCE_WINDOW_DAYS

DENSE_BLOCKS = DAY_BLOCKS  # heartbeats of the last day are all kept, one per height
THIN_BLOCKS = 60  # of older ones the newest of every hour
KEPT_BLOCKS = PRESENCE_WINDOW_DAYS * DAY_BLOCKS


def next_number(tx: Tx, name: str) -> int:
    """The next number of a series, for cursors that readers follow."""
    tx.execute("INSERT INTO counter VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1", name)
    row = tx.row("SELECT value FROM counter WHERE name = ?", name)
    return int(row["value"]) if row else 1


class NodeShelf:
    """Nodes as this registry holds them."""

    store: Store

    def node(self, did: str) -> KnownNode | None:
        """A node's newest description, withdrawn or not."""
        row = self.store.row("SELECT * FROM nodes WHERE did = ?", did)
        return _known(row) if row else None

    def nodes(self) -> list[KnownNode]:
        """Every node that is registered."""
        return [_known(row) for row in self.store.rows("SELECT * FROM nodes WHERE withdrawn = 0 ORDER BY did")]

    def signed_node(self, did: str) -> bytes | None:
        """A node's description as signed."""
        row = self.store.row("SELECT body FROM nodes WHERE did = ?", did)
        return bytes(row["body"]) if row else None

    def nodes_after(self, cursor: int, limit: int) -> list[tuple[int, bytes]]:
        """Signed descriptions that changed after a cursor, oldest change first."""
        rows = self.store.rows("SELECT cursor, body FROM nodes WHERE cursor > ? ORDER BY cursor LIMIT ?", cursor, limit)
        return [(row["cursor"], bytes(row["body"])) for row in rows]

    def count_nodes(self) -> int:
        """How many descriptions are kept."""
        row = self.store.row("SELECT count(*) AS n FROM nodes")
        return int(row["n"]) if row else 0

    def put_node(self, tx: Tx, info: NodeInfo, envelope: Attested, look_key: bytes = b"", height: int = 0) -> None:
        """Keep a description; when it was last heard of stays. Whoever comes or goes by it is told in an event.

        `height`: of the tip; since then its look key is known, if it was not before.
        """
        row = self.store.row("SELECT withdrawn FROM nodes WHERE did = ?", info.did)
        was_here = row is not None and not row["withdrawn"]
        if was_here is info.withdrawn:
            tx.emit("NodeWithdrawn" if was_here else "NodeRegistered", {"node_id": info.did})
        tx.execute(
            "INSERT INTO nodes (did, at_ms, withdrawn, body, heard_ms, cursor, look_key, look_since) "
            "VALUES (?, ?, ?, ?, 0, ?, ?, ?) ON CONFLICT (did) DO UPDATE SET at_ms = excluded.at_ms, "
            "withdrawn = excluded.withdrawn, body = excluded.body, cursor = excluded.cursor, "
            "look_since = iif(look_key = excluded.look_key, look_since, excluded.look_since), "
            "look_key = excluded.look_key",
            info.did,
            info.at_ms,
            int(info.withdrawn),
            canonical(envelope),
            next_number(tx, "nodes"),
            look_key,
            height,
        )

    def look_keys(self) -> dict[Did, tuple[bytes, int]]:
        """The look key of each registered node that has one, and the height since which it is known here."""
        sql = "SELECT did, look_key, look_since FROM nodes WHERE withdrawn = 0 AND look_key != x''"
        return {Did(row["did"]): (bytes(row["look_key"]), row["look_since"]) for row in self.store.rows(sql)}

    def forget_nodes(self, tx: Tx, own: str, before_ms: int) -> list[Did]:
        """Drop nodes not heard of and not described since; never this node itself. Whom it dropped."""
        silent = "FROM nodes WHERE did != ? AND heard_ms < ? AND at_ms < ?"
        gone = [Did(row["did"]) for row in self.store.rows(f"SELECT did {silent}", own, before_ms, before_ms)]
        tx.execute(f"DELETE {silent}", own, before_ms, before_ms)
        return gone

    def heartbeat(self, did: str) -> Heartbeat | None:
        """A registered node's newest heartbeat."""
        row = self.store.row("SELECT beat FROM nodes WHERE did = ?", did)
        return _beat(row["beat"]) if row and row["beat"] else None

    def put_heartbeat(self, tx: Tx, beat: Heartbeat, envelope: Attested, *, heard_ms: int, witnessed: bool) -> None:
        """Keep a heartbeat; `witnessed`: it came at the height it names, so it is evidence of presence."""
        data = canonical(envelope)
        tx.execute("UPDATE nodes SET heard_ms = ?, beat = ? WHERE did = ?", heard_ms, data, beat.did)
        if witnessed:
            tx.execute("INSERT OR REPLACE INTO heartbeats VALUES (?, ?, ?)", beat.did, beat.height, data)
            tx.execute("INSERT OR IGNORE INTO presence VALUES (?, ?)", beat.did, beat.height // DAY_BLOCKS)

    def first_heights(self) -> dict[Did, int]:
        """The lowest height of the heartbeats kept of each node that has any."""
        sql = "SELECT did, (SELECT min(height) FROM heartbeats WHERE heartbeats.did = nodes.did) AS since FROM nodes"
        return {Did(row["did"]): row["since"] for row in self.store.rows(sql) if row["since"] is not None}

    def presence_days(self, did: str) -> list[int]:
        """The days of blocks on which a node was witnessed."""
        return [row["day"] for row in self.store.rows("SELECT day FROM presence WHERE did = ?", did)]

    def heartbeats_between(self, low: int, high: int) -> list[tuple[Did, bytes]]:
        """The newest signed heartbeat of each node whose height lies in the window."""
        rows = self.store.rows(
            "SELECT did, max(height) AS height, body FROM heartbeats WHERE height BETWEEN ? AND ? GROUP BY did",
            low,
            high,
        )
        return [(Did(row["did"]), bytes(row["body"])) for row in rows]

    def thin_heartbeats(self, tx: Tx, tip: int) -> None:
        """Keep all of the last day, one an hour of the last sixty, none older."""
        tx.execute("DELETE FROM heartbeats WHERE height < ?", tip - KEPT_BLOCKS)
        tx.execute(
            "DELETE FROM heartbeats WHERE height < ? AND EXISTS (SELECT 1 FROM heartbeats AS later WHERE later.did = "
            "heartbeats.did AND later.height > heartbeats.height AND later.height / ? = heartbeats.height / ?)",
            tip - DENSE_BLOCKS,
            THIN_BLOCKS,
            THIN_BLOCKS,
        )


def _known(row: Row) -> KnownNode:
    told = described(attested(row["body"]))
    beat = _beat(row["beat"]) if row["beat"] else None
    return KnownNode(info=told.info, heartbeat=beat, heard_ms=row["heard_ms"], hardware=told.hardware)


def _beat(data: bytes) -> Heartbeat:
    return opened(data, Heartbeat, body_bytes_max=HEARTBEAT_BYTES_MAX)[1]
