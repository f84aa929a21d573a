"""Who the others are: their event logs and node records, as far as they came by here, all verified.

A log that is offered is checked alone and merged with the one that is held (`common/identity/log.py`); a node record is
kept when the current key of the merged log has signed it and it is newer. Nothing is asked of the network here; that is
`resolver.py`. It also implements `Papers`: what a connection needs to know of identities.

Source: transport_identity.md §1.3, §1.4 and §2.4.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import msgspec

from common.clock import Clock
from common.codec import canonical, from_canonical
from common.errors import DuxError
from common.identity.errors import BadRecord, IdentityUnsure
from common.identity.log import Log, decode_log, encode_log, merge
from common.identity.news import NEWS_BYTES_MAX, LogNews, fault_between, read_news
from common.identity.node_record import RECORD_BYTES_MAX, NodeRecord, open_record
from common.identity.signed import decode_signed
from common.units import Did, UnixMs
from dux_p2pd.keeper import Keeper
from dux_p2pd.session import OwnPapers, Vouched
from dux_p2pd.store import NodeRow, NodeTable

CACHE_MAX = 4096  # DIDs in memory, least recently used go first


class Known(msgspec.Struct, frozen=True):
    """What is known of a DID, with the proof of a fault where there is one (LogNews). Times are Unix ms."""

    log: Log
    record: NodeRecord | None
    record_bytes: bytes
    first_ms: UnixMs
    learned_ms: UnixMs
    proof: bytes = b""


OnChange = Callable[[Known, Known | None], None]
"""Told what is known of a DID now, and what was known before; None: it was not known at all."""


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
        known = self._cache.get(did)
        if known is not None:
            self._cache.move_to_end(did)
            return known
        if did == self._keeper.did:
            return self._self()
        row = self._table.get(did)
        if row is None:
            return None
        known = self._from_row(row)
        self._remember(known)
        return known

    def _self(self) -> Known:
        now_ms, log = self._keeper.now_ms(), self._keeper.log
        data = self._keeper.record() if self._keeper.may_sign else b""
        signed = decode_signed(data, max_bytes=RECORD_BYTES_MAX) if data else None
        record = open_record(signed, log, now_ms=now_ms) if signed else None
        proof = self._table.proof(log.did)
        return Known(log=log, record=record, record_bytes=data, first_ms=UnixMs(0), learned_ms=now_ms, proof=proof)

    def _from_row(self, row: NodeRow) -> Known:
        # it was right when it was learnt: a clock set back since then does not change that
        log = decode_log(row.log, now_ms=max(self._clock.unix_ms(), row.learned_ms), inception_bits=0)
        log = replace(log, disputed=row.disputed, frozen=row.frozen)
        record = self._still_valid(log, row.record) if row.record else None
        data = row.record if record and row.record else b""
        proof = self._table.proof(log.did)
        return Known(
            log=log,
            record=record,
            record_bytes=data,
            first_ms=row.first_ms,
            learned_ms=row.learned_ms,
            proof=proof,
        )

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
        held = self.get(did)
        offered = self._offered(did, log_bytes, held)
        if did == self._keeper.did:
            return self._learn_of_self(offered)
        return self._take_in(offered, held, record_bytes)

    def hear(self, news: LogNews) -> bool:
        """Take in news of a DID that is known; whether it changed what is known.

        Raises:
            BadEvent: it follows events that are not known here. PeerMisbehaved, BadParams: it is invalid.
        """
        held = self.get(news.did)
        if held is None:
            return False
        before = held
        for branch in read_news(news, held.log, now_ms=self._clock.unix_ms()):
            held = self._learn_of_self(branch) if news.did == self.did else self._take_in(branch, held, b"")
        return (before.log, before.proof) != (held.log, held.proof)

    def _offered(self, did: Did, log_bytes: bytes, held: Known | None) -> Log:
        known = held.log if held else None
        if known is not None and log_bytes == encode_log(known):
            return known
        offered = decode_log(log_bytes, now_ms=self._clock.unix_ms(), inception_bits=self._bits, known=known)
        if offered.did != did:
            raise BadRecord(did=did, detail="the log is another's")
        return offered

    def _learn_of_self(self, offered: Log) -> Known:
        """What others say of this node's own name: the keeper decides what it means."""
        before = self._self()
        if self._keeper.hear(offered):
            self._table.put_proof(self.did, _proof(before, offered, self._keeper.log))
            for told in self.on_change:
                told(self._self(), before)
        return self._self()

    def _take_in(self, offered: Log, held: Known | None, record_bytes: bytes) -> Known:
        """A record that comes with an older log, or with another branch, is by a key that does not count: left out."""
        now_ms = self._clock.unix_ms()
        if held is not None and offered is held.log and record_bytes in (b"", held.record_bytes):
            known = msgspec.structs.replace(held, learned_ms=now_ms)  # nothing new, as at most meetings
            self._remember(known)
            return known
        log = merge(held.log, offered) if held else offered
        usable = record_bytes if offered.tip == log.tip else b""
        record, kept_bytes = self._newer_record(log, held, usable)
        known = Known(
            log=log,
            record=record,
            record_bytes=kept_bytes,
            first_ms=held.first_ms if held else now_ms,
            learned_ms=now_ms,
            proof=_proof(held, offered, log),
        )
        self._keep(known, held)
        return known

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
        changed = held is None or (held.log, held.record_bytes, held.proof) != (
            known.log,
            known.record_bytes,
            known.proof,
        )
        if changed:
            seq_ms = known.record.seq_ms if known.record else 0
            self._table.put(self._row(known), seq_ms, keep_max=self._keep_max, proof=known.proof)
            for told in self.on_change:
                told(known, held)

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

    def proof_of(self, did: Did) -> LogNews | None:
        """The proof of a fault of this DID, to be passed on."""
        known = self.get(did)
        return from_canonical(known.proof, LogNews, max_bytes=NEWS_BYTES_MAX) if known and known.proof else None

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


def _proof(held: Known | None, offered: Log, merged: Log) -> bytes:
    """What proves the fault for which the merged log is disputed or frozen; the first proof stays."""
    if held is None or not (merged.disputed or merged.frozen):
        return b""
    if held.proof and merged.frozen == held.log.frozen:
        return held.proof
    found = fault_between(held.log, offered)
    data = canonical(found) if found else b""
    return data if len(data) <= NEWS_BYTES_MAX else b""
