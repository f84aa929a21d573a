"""Who the others are: their event logs and node records, as far as they came by here, all verified.

A log that is offered is checked alone and merged with the one that is held (`common/identity/log.py`); a node record is
kept when the current key of the merged log has signed it and it is newer. Nothing is asked of the network here; that is
`resolver.py`. It also implements `Papers`: what a connection needs to know of identities.

Source: transport_identity.md §1.3, §1.4 and §2.4.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from common.clock import Clock
from common.errors import DuxError
from common.identity.errors import BadRecord, IdentityUnsure
from common.identity.log import Log, decode_log, encode_log, merge
from common.identity.node_record import RECORD_BYTES_MAX, NodeRecord, open_record
from common.identity.signed import decode_signed
from common.units import Did, UnixMs
from dux_p2pd.keeper import Keeper
from dux_p2pd.session import OwnPapers, Vouched
from dux_p2pd.store import NodeRow, NodeTable

CACHE_MAX = 4096  # DIDs in memory, least recently used go first


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a DID. Times are Unix ms; `met_ms` is 0 when we never reached it ourselves."""

    log: Log
    record: NodeRecord | None
    record_bytes: bytes
    first_ms: UnixMs
    learned_ms: UnixMs


OnChange = Callable[[Known], None]


class Directory:
    """The DIDs of others."""

    def __init__(
        self,
        table: NodeTable,
        keeper: Keeper,
        *,
        clock: Clock,
        inception_bits: int,
        known_after_s: int,
        keep_max: int,
        trusted: frozenset[Did],
    ) -> None:
        self._table = table
        self._keeper = keeper
        self._clock = clock
        self._bits = inception_bits
        self._known_after_ms = known_after_s * 1000
        self._keep_max = keep_max
        self._trusted = set(trusted)
        self._cache: OrderedDict[Did, Known] = OrderedDict()
        self._by_transport_key: OrderedDict[bytes, Did] = OrderedDict()
        self.on_change: list[OnChange] = []

    # what others ask

    def get(self, did: Did) -> Known | None:
        """What is known of this DID, ourselves included."""
        if did == self._keeper.did:
            return self._self()
        if did not in self._cache:
            row = self._table.get(did)
            if row is None:
                return None
            self._remember(self._from_row(row))
        self._cache.move_to_end(did)
        return self._cache[did]

    def _self(self) -> Known:
        data = self._keeper.record()
        now_ms = self._keeper.now_ms()
        record = open_record(decode_signed(data, max_bytes=RECORD_BYTES_MAX), self._keeper.log, now_ms=now_ms)
        return Known(log=self._keeper.log, record=record, record_bytes=data, first_ms=UnixMs(0), learned_ms=now_ms)

    def _from_row(self, row: NodeRow) -> Known:
        # it was right when it was learnt: a clock set back since then does not change that
        log = decode_log(row.log, now_ms=max(self._clock.unix_ms(), row.learned_ms), inception_bits=0)
        log = replace(log, disputed=row.disputed, frozen=row.frozen)
        record = self._still_valid(log, row.record) if row.record else None
        data = row.record if record and row.record else b""
        return Known(log=log, record=record, record_bytes=data, first_ms=row.first_ms, learned_ms=row.learned_ms)

    def _still_valid(self, log: Log, data: bytes) -> NodeRecord | None:
        try:
            signed = decode_signed(data, max_bytes=RECORD_BYTES_MAX)
            return open_record(signed, log, now_ms=self._clock.unix_ms())
        except DuxError:
            return None

    def _remember(self, known: Known) -> None:
        self._cache[known.log.did] = known
        if len(self._cache) > CACHE_MAX:
            self._cache.popitem(last=False)
        for key in known.record.transport_keys if known.record else ():
            self._by_transport_key[key] = known.log.did
        while len(self._by_transport_key) > CACHE_MAX:
            self._by_transport_key.popitem(last=False)

    # what comes in

    def learn(self, did: Did, log_bytes: bytes, record_bytes: bytes = b"") -> Known:
        """Take in a log, and a node record where there is one; the union of what was held and what is offered.

        Raises:
            PeerMisbehaved, BadParams: the log is invalid or another's, or the record is not its owner's.
        """
        now_ms, held = self._clock.unix_ms(), self.get(did)
        if did == self._keeper.did and held is not None:
            return held
        log = self._merged(did, log_bytes, held)
        record, kept_bytes = self._newer_record(log, held, record_bytes)
        known = Known(
            log=log,
            record=record,
            record_bytes=kept_bytes,
            first_ms=held.first_ms if held else now_ms,
            learned_ms=now_ms,
        )
        self._keep(known, held)
        return known

    def _merged(self, did: Did, log_bytes: bytes, held: Known | None) -> Log:
        if held is not None and log_bytes == encode_log(held.log):
            return held.log
        offered = decode_log(log_bytes, now_ms=self._clock.unix_ms(), inception_bits=self._bits)
        if offered.did != did:
            raise BadRecord(did=did, detail="the log is another's")
        return merge(held.log, offered) if held else offered

    def _newer_record(self, log: Log, held: Known | None, data: bytes) -> tuple[NodeRecord | None, bytes]:
        """The newer of both; a record that is held counts no more once its key is not the current one."""
        kept, kept_bytes = (held.record, held.record_bytes) if held and held.log.tip == log.tip else (None, b"")
        if not data or (kept is not None and data == kept_bytes):
            return kept, kept_bytes
        offered = open_record(decode_signed(data, max_bytes=RECORD_BYTES_MAX), log, now_ms=self._clock.unix_ms())
        if kept is not None and kept.seq_ms >= offered.seq_ms:
            return kept, kept_bytes
        return offered, data

    def _keep(self, known: Known, held: Known | None) -> None:
        self._remember(known)
        changed = held is None or (held.log, held.record_bytes) != (known.log, known.record_bytes)
        if changed:
            self._table.put(self._row(known), known.record.seq_ms if known.record else 0, keep_max=self._keep_max)
            for told in self.on_change:
                told(known)

    def _row(self, known: Known) -> NodeRow:
        return NodeRow(
            did=known.log.did,
            log=encode_log(known.log),
            disputed=known.log.disputed,
            frozen=known.log.frozen,
            record=known.record_bytes or None,
            first_ms=known.first_ms,
            learned_ms=known.learned_ms,
            met_ms=UnixMs(0),
            address="",
        )

    def trust(self, did: Did) -> None:
        """This DID was chosen by us (dialled for a call, named in the network profile): it is no stranger."""
        if len(self._trusted) < CACHE_MAX:
            self._trusted.add(did)

    # Papers

    @property
    def did(self) -> Did:
        """The node's own DID."""
        return self._keeper.did

    def own(self) -> OwnPapers:
        """The papers to show now."""
        return OwnPapers(log_tail=encode_log(self._keeper.log), node_record=self._keeper.record())

    def judge(self, did: Did, log_tail: bytes, node_record: bytes) -> Vouched:
        """What a peer's papers prove; the newest record that we hold of it counts, and must be valid now.

        Raises:
            PeerMisbehaved, BadParams: they prove nothing.
            IdentityUnsure: the DID was closed or is frozen.
        """
        known = self.learn(did, log_tail, node_record)
        if known.log.ended or known.log.frozen:
            raise IdentityUnsure(did=did, state="closed" if known.log.ended else "frozen")
        if known.record is None:
            raise BadRecord(did=did, detail="it is missing")
        if known.record.expires_ms <= self._clock.unix_ms():
            raise BadRecord(did=did, detail="it has expired")
        return Vouched(
            did=did,
            transport_keys=known.record.transport_keys,
            node_record=known.record_bytes,
            expires_ms=known.record.expires_ms,
        )

    def is_known(self, did: Did) -> bool:
        """No stranger: named or chosen by us, or first seen long enough ago."""
        if did in self._trusted or did == self._keeper.did:
            return True
        known = self.get(did)
        return known is not None and self._clock.unix_ms() - known.first_ms >= self._known_after_ms

    def did_of_key(self, transport_key: bytes) -> Did | None:
        """Whose transport key this is by the records held."""
        return self._by_transport_key.get(transport_key)
