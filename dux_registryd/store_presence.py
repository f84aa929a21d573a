"""The part of the registry's file that holds sightings, slots, duties done and latencies: SQL of these, nothing else.

Signed sightings of this node itself are kept for eight days, to be shown; those of others for a few hours, and of what
they proved the slots (eight days) and the days (as long as a tier looks back).
"""

from __future__ import annotations

from collections.abc import Mapping

from common.codec import canonical
from common.receipts import Attested, attested, body_of
from common.store import Row, Store, Tx
from common.units import Did
from common.witness import SIGHTING_BYTES_MAX, Sighting
from dux_registryd.model import Link
from dux_registryd.presence_rules import SlotView

OTHERS_SLOTS = 12  # two hours of others' signed sightings
SLOTS_KEPT = 1_152  # eight days
DAYS_KEPT = 90
MILLI = 1_000


class PresenceShelf:
    """What was seen of nodes."""

    store: Store

    def put_sighting(self, tx: Tx, sighting: Sighting, envelope: Attested) -> bool:
        """Keep a sighting, in place of one drawn by another beacon; whether it was new."""
        for held, _ in self.sightings(sighting.target, sighting.slot):
            if (held.prober, held.beacon) == (sighting.prober, sighting.beacon):
                return False
        row = (sighting.target, sighting.slot, sighting.prober, canonical(envelope))
        tx.execute("INSERT OR REPLACE INTO sightings VALUES (?, ?, ?, ?)", *row)
        return True

    def sightings(self, target: str, slot: int) -> list[tuple[Sighting, bytes]]:
        """The sightings of a node in a slot, signed."""
        sql = "SELECT body FROM sightings WHERE target = ? AND slot = ? ORDER BY prober"
        return [_sighting(row) for row in self.store.rows(sql, target, slot)]

    def slots_sighted(self, target: str, low: int, high: int, limit: int) -> list[int]:
        """The slots from `low` to `high` of which sightings of a node are held, the newest first."""
        sql = "SELECT DISTINCT slot FROM sightings WHERE target = ? AND slot BETWEEN ? AND ? ORDER BY slot DESC LIMIT ?"
        return [row["slot"] for row in self.store.rows(sql, target, low, high, limit)]

    def slot_view(self, did: str, slot: int) -> SlotView | None:
        """A slot as it was judged."""
        row = self.store.row("SELECT * FROM slots WHERE did = ? AND slot = ?", did, slot)
        return _slot(row) if row else None

    def slots(self, did: str, from_slot: int, limit: int) -> list[SlotView]:
        """Judged slots from one on, the newest first."""
        sql = "SELECT * FROM slots WHERE did = ? AND slot >= ? ORDER BY slot DESC LIMIT ?"
        return [_slot(row) for row in self.store.rows(sql, did, from_slot, limit)]

    def put_slot(self, tx: Tx, did: Did, view: SlotView, day: int) -> bool:
        """Keep a judgement; whether the slot is up for the first time (then its day counts one more)."""
        before = self.slot_view(did, view.slot)
        tx.execute(
            "INSERT OR REPLACE INTO slots (did, slot, drawn, seen, up, net) VALUES (?, ?, ?, ?, ?, ?)",
            did,
            view.slot,
            view.drawn,
            view.seen,
            int(view.up),
            view.net,
        )
        if not view.up or (before is not None and before.up):
            return False
        tx.execute("INSERT INTO days VALUES (?, ?, 1) ON CONFLICT (did, day) DO UPDATE SET up = up + 1", did, day)
        tx.execute("INSERT OR IGNORE INTO presence VALUES (?, ?)", did, day)
        return True

    def count_looks(self, tx: Tx, owed: Mapping[Did, float], done: Mapping[Did, int], day: int) -> None:
        """So many looks were to be expected of these, and so many they have shown."""
        for did, looks in owed.items():
            tx.execute(
                "INSERT INTO probing VALUES (?, ?, ?, ?) ON CONFLICT (did, day) DO UPDATE SET "
                "drawn = drawn + excluded.drawn, done = done + excluded.done",
                did,
                day,
                round(looks * MILLI),
                done.get(did, 0),
            )

    def up_in(self, slot: int) -> list[Did]:
        """The nodes that were up in a slot."""
        return [Did(row["did"]) for row in self.store.rows("SELECT did FROM slots WHERE slot = ? AND up = 1", slot)]

    def nets_seen(self, low: int, high: int) -> dict[Did, list[str]]:
        """The networks that nodes were seen in, one for each slot between that was up."""
        found: dict[Did, list[str]] = {}
        sql = "SELECT did, net FROM slots WHERE slot BETWEEN ? AND ? AND up = 1 AND net != '' ORDER BY slot"
        for row in self.store.rows(sql, low, high):
            found.setdefault(Did(row["did"]), []).append(row["net"])
        return found

    def up_days(self, did: str, from_day: int) -> list[tuple[int, int]]:
        """Days from one on, with how many slots were up."""
        rows = self.store.rows("SELECT day, up FROM days WHERE did = ? AND day >= ?", did, from_day)
        return [(row["day"], row["up"]) for row in rows]

    def probing(self, did: str, from_day: int) -> tuple[int, int]:
        """How often a node was to look at one that was up, going by chance, in thousandths; and how often it has."""
        sql = "SELECT total(drawn) AS drawn, total(done) AS done FROM probing WHERE did = ? AND day >= ?"
        row = self.store.row(sql, did, from_day)
        return (int(row["drawn"]), int(row["done"])) if row else (0, 0)

    def up_slots(self, did: str, from_slot: int, before_slot: int) -> tuple[int, int | None]:
        """How many slots were up in a window, and the first slot ever judged."""
        sql = "SELECT count(*) AS up FROM slots WHERE did = ? AND up = 1 AND slot >= ? AND slot < ?"
        row = self.store.row(sql, did, from_slot, before_slot)
        first = self.store.row("SELECT min(slot) AS first FROM slots WHERE did = ?", did)
        return (row["up"] if row else 0), (first["first"] if first else None)

    def put_latency(self, tx: Tx, sighting: Sighting) -> None:
        """One more sample of a link."""
        tx.execute(
            "INSERT INTO links VALUES (?, ?, ?, ?, 1, ?) ON CONFLICT (prober, target) DO UPDATE SET "
            "rtt_us = (rtt_us * 7 + excluded.rtt_us) / 8, least_ms = min(least_ms, excluded.least_ms), "
            "samples = samples + 1, slot = max(slot, excluded.slot)",
            sighting.prober,
            sighting.target,
            sighting.rtt_ms * 1_000,
            sighting.rtt_ms,
            sighting.slot,
        )

    def links(self, limit: int) -> list[Link]:
        """Latencies between nodes, the freshest first."""
        rows = self.store.rows("SELECT * FROM links ORDER BY slot DESC, prober, target LIMIT ?", limit)
        return [
            Link(
                prober=Did(row["prober"]),
                target=Did(row["target"]),
                rtt_ms=row["rtt_us"] // 1_000,
                least_ms=row["least_ms"],
                samples=row["samples"],
                slot=row["slot"],
            )
            for row in rows
        ]

    def thin_presence(self, tx: Tx, own: str, slot: int, day: int, links_before: int) -> None:
        """Drop what is older than it is kept."""
        tx.execute("DELETE FROM sightings WHERE slot < ? AND target != ?", slot - OTHERS_SLOTS, own)
        tx.execute("DELETE FROM sightings WHERE slot < ?", slot - SLOTS_KEPT)
        tx.execute("DELETE FROM slots WHERE slot < ?", slot - SLOTS_KEPT)
        for table in ("days", "probing"):
            tx.execute(f"DELETE FROM {table} WHERE day < ?", day - DAYS_KEPT)  # noqa: S608 - two literals
        tx.execute("DELETE FROM links WHERE slot < ?", links_before)

    def forget_presence_of(self, tx: Tx, did: str) -> None:
        """Nothing more is kept of a node that is gone for good."""
        tx.execute("DELETE FROM sightings WHERE target = ?", did)
        for table in ("slots", "days", "probing", "presence"):
            tx.execute(f"DELETE FROM {table} WHERE did = ?", did)  # noqa: S608 - four literals
        tx.execute("DELETE FROM links WHERE prober = ? OR target = ?", did, did)


def _sighting(row: Row) -> tuple[Sighting, bytes]:
    data = bytes(row["body"])
    return body_of(attested(data), Sighting, SIGHTING_BYTES_MAX), data


def _slot(row: Row) -> SlotView:
    return SlotView(row["slot"], row["drawn"], row["seen"], bool(row["up"]), row["net"])
