"""The records this node holds: what is put on the shelf has been verified, and what is taken from it still counts.

Promise: no record is believed or kept without its signer's signature by a key that was valid at its time; an older
one never replaces a newer one, also not after the newer one expired. It asks nobody; who offers a record brings the
signer's event log along.

Source: transport_identity.md §3.2.
"""

from __future__ import annotations

from collections.abc import Mapping

from common.clock import Clock
from common.codec import Canon
from common.identity.errors import BadSignature
from common.identity.keys import is_signed
from common.identity.log import was_valid
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.identity.stamp import has_stamp
from common.rpc.method import Namespace
from dux_p2pd.directory import Directory
from dux_p2pd.record_table import RecordRow, RecordTable
from dux_p2pd.records import Offered, RecordBody, stamped_record
from dux_p2pd.rules import (
    DIDS_PER_KEY_MAX,
    RECORD_ROOM_BYTES,
    Shelf,
    keep_fault,
    place_is_full,
    record_fault,
    store_is_full,
)

STRANGERS_LOOKED_AT = 64  # rows among which a stranger's is looked for, to make room


class RecordShelf:
    """Verified records, own and others'."""

    def __init__(
        self,
        table: RecordTable,
        directory: Directory,
        namespaces: Mapping[str, Namespace[Canon]],
        *,
        clock: Clock,
        bytes_max: int,
        stamp_bits: int,
    ) -> None:
        """`stamp_bits`: the work that a stranger's record needs; 0 on test networks."""
        self.table = table
        self.stamp_bits = stamp_bits
        self._directory = directory
        self._namespaces = namespaces
        self._clock = clock
        self._bytes_max = bytes_max

    def namespace(self, ns: str) -> Namespace[Canon] | None:
        """The namespace of this name, where it is declared."""
        return self._namespaces.get(ns)

    def fault(self, body: RecordBody) -> str | None:
        """Why the record is not to be believed, its signature aside."""
        return record_fault(body, self._namespaces.get(body.ns), self._clock.unix_ms())

    def is_genuine(self, signed: Signed, body: RecordBody) -> bool:
        """Whether its signer's key of that time has signed it. The signer's log must be known."""
        known = self._directory.get(body.did)
        key = known.log.key_of(body.key_seq) if known else None
        if known is None or key is None or len(signed.sigs) != 1 or not was_valid(known.log, body.key_seq, body.seq_ms):
            return False
        return is_signed(key, Purpose.RECORD, signed.body, signed.sigs[0])

    def holds(self, offered: Offered) -> bool:
        """Whether this very record is here already: then nothing of it need be judged again."""
        return self.table.has(offered.body, offered.salt, offered.data, self._clock.unix_ms())

    def offer(self, offered: Offered, *, nearer_nodes: int, near_max: int) -> str | None:
        """Keep a record that somebody offers; None when it is kept, else the reason why not.

        Raises:
            BadSignature: forged.
        """
        fault = self.refusal(offered, nearer_nodes, near_max)
        if fault is not None:
            return fault
        if not self.is_genuine(offered.signed, offered.body):
            raise BadSignature(purpose=Purpose.RECORD.value)
        self._make_room(offered)
        self._put(offered, mine=False)
        return None

    def refusal(self, offered: Offered, nearer_nodes: int, near_max: int) -> str | None:
        """Why the record would not be kept, its signature aside: asked before anything is verified."""
        fault, ns = self.fault(offered.body), self._namespaces.get(offered.body.ns)
        if fault is not None or ns is None:
            return fault or "no such namespace"
        if offered.salt > ns.salted:
            return f"in {ns.name!r} there is no key {offered.salt}"
        return keep_fault(offered.body, ns, self._shelf(offered, nearer_nodes), near_max)

    def keep_own(self, body: RecordBody, data: bytes, stamp: int, salt: int = 0) -> None:
        """Keep a record that this node has just signed."""
        self._put(Offered.of(data, salt, stamp, body), mine=True)

    def _put(self, offered: Offered, *, mine: bool) -> None:
        self.table.put(
            offered.body,
            offered.key,
            offered.data,
            salt=offered.salt,
            stamp=offered.stamp,
            mine=mine,
            now_ms=self._clock.unix_ms(),
        )

    def _shelf(self, offered: Offered, nearer_nodes: int) -> Shelf:
        body = offered.body
        counts = self.table.counts(body.did, body.ns, body.name, offered.key)
        newest = self.table.newest(body.did, body.ns, body.name, offered.salt)
        known, ns = self._directory.is_known(body.did), self._namespaces[body.ns]
        wants_room = known and newest is None  # only then it matters who else is there
        crowded = wants_room and counts.dids_at_key >= min(DIDS_PER_KEY_MAX, ns.per_name_max)
        full = wants_room and counts.bytes_held + RECORD_ROOM_BYTES > self._bytes_max
        return Shelf(
            newest=newest,
            of_did=counts.of_did,
            of_did_in_ns=counts.of_did_in_ns,
            dids_at_key=counts.dids_at_key,
            bytes_held=counts.bytes_held,
            bytes_max=self._bytes_max,
            nearer_nodes=nearer_nodes,
            signer_known=known,
            strangers_at_key=crowded and self._is_stranger_at(offered.key),
            strangers_held=full and self._stranger_anywhere() is not None,
            has_stamp=known or has_stamp(stamped_record(body), offered.stamp, self.stamp_bits),
        )

    def _make_room(self, offered: Offered) -> None:
        """The record is wanted: where its place or the store is full, a stranger's goes."""
        ns, shelf = self._namespaces[offered.body.ns], self._shelf(offered, 0)
        if shelf.newest is not None:
            return
        if place_is_full(ns, shelf) and (at_key := self._stranger_at(offered.key)) is not None:
            self.table.drop(at_key)
        elif store_is_full(shelf) and (anywhere := self._stranger_anywhere()) is not None:
            self.table.drop(anywhere)

    def _is_stranger_at(self, key: bytes) -> bool:
        """Asked for each record that is offered to a full place: only names are read."""
        signers = self.table.signers_at(key, self._clock.unix_ms())
        return not all(map(self._directory.is_known, signers))

    def _stranger_at(self, key: bytes) -> RecordRow | None:
        return self._first_stranger(self.at(key))

    def _stranger_anywhere(self) -> RecordRow | None:
        return self._first_stranger(self.table.others(STRANGERS_LOOKED_AT))

    def _first_stranger(self, rows: list[RecordRow]) -> RecordRow | None:
        return next((row for row in rows if not row.mine and not self._directory.is_known(row.did)), None)

    def at(self, key: bytes) -> list[RecordRow]:
        """The records at a place that count now."""
        return self.table.at(key, self._clock.unix_ms())
