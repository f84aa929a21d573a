"""The records this node holds: what is put on the shelf has been verified, and what is taken from it still counts.

Promise: no record is believed or kept without its signer's signature by a key that was valid at its time; an older
one never replaces a newer one, also not after the newer one expired. It asks nobody; who offers a record brings the
signer's event log along.

Source: transport_identity.md §3.2.
"""

from __future__ import annotations

from collections.abc import Mapping

from common.clock import Clock
from common.identity.errors import BadSignature
from common.identity.keys import is_signed
from common.identity.log import was_valid
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.rpc.method import Namespace
from dux_p2pd.directory import Directory
from dux_p2pd.records import RecordBody, record_key, split_record
from dux_p2pd.rules import Shelf, keep_fault, record_fault
from dux_p2pd.store import RecordRow, RecordTable


class RecordShelf:
    """Verified records, own and others'."""

    def __init__(
        self,
        table: RecordTable,
        directory: Directory,
        namespaces: Mapping[str, Namespace],
        *,
        clock: Clock,
        bytes_max: int,
    ) -> None:
        self.table = table
        self._directory = directory
        self._namespaces = namespaces
        self._clock = clock
        self._bytes_max = bytes_max

    def namespace(self, ns: str) -> Namespace | None:
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

    def offer(self, data: bytes, *, nearer_nodes: int, near_max: int) -> str | None:
        """Keep a record that somebody offers; None when it is kept, else the reason why not.

        Raises:
            BadParams: not canonical. BadSignature: forged.
        """
        signed, body = split_record(data)
        fault = self.refusal(body, nearer_nodes, near_max)
        if fault is not None:
            self.table.offered_by_other(body.did, body.ns, body.name, data, self._clock.unix_ms())
            return fault
        if not self.is_genuine(signed, body):
            raise BadSignature(purpose=Purpose.RECORD.value)
        self._put(body, data, mine=False)
        return None

    def refusal(self, body: RecordBody, nearer_nodes: int, near_max: int) -> str | None:
        """Why the record would not be kept, its signature aside: asked before anything is verified."""
        return self.fault(body) or keep_fault(body, self._shelf(body, nearer_nodes), near_max)

    def keep_own(self, body: RecordBody, data: bytes) -> None:
        """Keep a record that this node has just signed."""
        self._put(body, data, mine=True)

    def _put(self, body: RecordBody, data: bytes, *, mine: bool) -> None:
        key = record_key(body.ns, body.name)
        self.table.put(body, key, data, mine=mine, now_ms=self._clock.unix_ms())

    def _shelf(self, body: RecordBody, nearer_nodes: int) -> Shelf:
        of_did, at_key, held = self.table.counts(body.did, record_key(body.ns, body.name))
        return Shelf(
            newest=self.table.newest(body.did, body.ns, body.name),
            of_did=of_did,
            dids_at_key=at_key,
            bytes_held=held,
            bytes_max=self._bytes_max,
            nearer_nodes=nearer_nodes,
        )

    def at(self, key: bytes) -> list[RecordRow]:
        """The records at a place that count now."""
        return self.table.at(key, self._clock.unix_ms())
