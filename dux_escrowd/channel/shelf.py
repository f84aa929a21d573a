"""The SQL of channels: their terms and states, calls with vouchers and answers, offers, and others' closes.

Promise: what one decision wrote is there whole or not at all. A channel's state holds the calls that are not
acknowledged; each call also has a row of its own with the bodies, and that stays when the state forgets it. It decides
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from common.chain.channel import TERMS_BYTES_MAX, ChannelTerms
from common.codec import canonical, from_canonical
from common.store import Row, Store, Tx, Value
from dux_escrowd.channel.model import Call, Channel, Payee, Payer

FAULTS_MAX = 4  # of one channel
ROLLED = b"roll"  # in `opening`: the channel is funded by another one's close, not by the wallet


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """One channel's row beside its state."""

    chid: str
    side: str
    other: str
    terms: ChannelTerms
    key_index: int
    output_script: bytes
    address: str
    created_ms: int
    created_height: int
    follow: bool
    reason: str
    opening: bytes
    final: bytes
    copied: int = 0  # the version of its latest copy


class CallRow(msgspec.Struct, frozen=True, kw_only=True):
    """One call with its bodies. `voucher`: for the payer what the wallet is asked to sign, for the payee what came."""

    j: int
    oid: str
    call: Call
    voucher: bytes
    answer: bytes
    response: bytes | None


class ChannelShelf:
    """Reads and writes channels; writing always inside the decision it is handed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # --- channels -----------------------------------------------------------------------------------------------------

    def book(self, chid: str) -> Book | None:
        """A channel's row."""
        row = self._store.row("SELECT * FROM channels WHERE chid = ?", chid)
        return _book(row) if row else None

    def state(self, chid: str) -> Channel | None:
        """A channel as it stands."""
        row = self._store.row("SELECT side, state FROM channels WHERE chid = ?", chid)
        return _state(row) if row else None

    def followed(self) -> list[str]:
        """Channels whose script is watched, oldest first."""
        rows = self._store.rows("SELECT chid FROM channels WHERE follow = 1 ORDER BY created_ms, chid")
        return [row["chid"] for row in rows]

    def listed(self, side: str, *, open_only: bool, limit: int, start: str = "") -> list[str]:
        """Newest first; those whose id begins so."""
        rows = self._store.rows(
            "SELECT chid FROM channels WHERE (?1 = 'any' OR side = ?1) AND (?2 = 0 OR phase NOT IN "
            "('CLOSED', 'ABANDONED')) AND substr(chid, 1, length(?4)) = ?4 ORDER BY created_ms DESC, chid LIMIT ?3",
            side,
            int(open_only),
            limit,
            start,
        )
        return [row["chid"] for row in rows]

    def ended(self, side: str) -> list[str]:
        """Channels of a side that a final spend has closed, oldest first."""
        rows = self._store.rows(
            "SELECT chid FROM channels WHERE side = ? AND phase = 'CLOSED' ORDER BY created_ms, chid", side
        )
        return [row["chid"] for row in rows]

    def with_payee(self, payee: str) -> list[str]:
        """Own channels to a payee that have not ended, oldest first: an older one is used up first."""
        rows = self._store.rows(
            "SELECT chid FROM channels WHERE other = ? AND side = 'payer' AND phase NOT IN ('CLOSED') "
            "ORDER BY created_ms, chid",
            payee,
        )
        return [row["chid"] for row in rows]

    def opens(self, chid: str) -> bool:
        """Whether another channel that has not ended may pay its rest into this one."""
        sql = "SELECT 1 FROM channels WHERE opening = ? AND phase <> 'CLOSED'"
        return self._store.row(sql, chid.encode()) is not None

    def open_of(self, payer: str) -> int:
        """How many channels of a payer stand open here."""
        row = self._store.row(
            "SELECT count(*) AS n FROM channels WHERE other = ? AND side = 'payee' AND phase NOT IN "
            "('CLOSED', 'ABANDONED', 'LOST')",
            payer,
        )
        return int(row["n"]) if row else 0

    def of_payer_key(self, payer: str, payer_key: bytes) -> Book | None:
        """The channel of a payer under this key."""
        rows = self._store.rows("SELECT * FROM channels WHERE other = ? AND side = 'payee'", payer)
        return next((book for book in map(_book, rows) if book.terms.payer_key == payer_key), None)

    @staticmethod
    def open(tx: Tx, book: Book, state: Channel) -> None:
        """A new channel."""
        tx.execute(
            "INSERT OR IGNORE INTO channels (chid, side, other, terms, key_index, state, phase, output_script, address,"
            " created_ms, created_height, follow, opening) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            book.chid, book.side, book.other, canonical(book.terms), book.key_index, msgspec.msgpack.encode(state),
            state.state.value, book.output_script, book.address, book.created_ms, book.created_height,
            int(book.follow), book.opening,
        )  # fmt: skip

    @staticmethod
    def put(tx: Tx, state: Channel) -> None:
        """A channel as it stands now."""
        body, phase = msgspec.msgpack.encode(state), state.state.value
        tx.execute("UPDATE channels SET state = ?, phase = ? WHERE chid = ?", body, phase, state.chid)

    @staticmethod
    def note(tx: Tx, chid: str, **values: Value) -> None:
        """Set columns of a channel."""
        names = ", ".join(f"{name} = ?" for name in values)
        tx.execute(f"UPDATE channels SET {names} WHERE chid = ?", *values.values(), chid)  # noqa: S608 - own names

    # --- calls --------------------------------------------------------------------------------------------------------

    def call(self, chid: str, j: int) -> CallRow | None:
        """A call by its number."""
        row = self._store.row("SELECT * FROM channel_calls WHERE chid = ? AND j = ?", chid, j)
        return _call(row) if row else None

    def call_by_oid(self, chid: str, oid: str) -> CallRow | None:
        """The newest call with this oid."""
        row = self._store.row(
            "SELECT * FROM channel_calls INDEXED BY channel_calls_by_oid WHERE chid = ? AND oid = ? ORDER BY j DESC",
            chid, oid,
        )  # fmt: skip
        return _call(row) if row else None

    def either(self, chid: str, j: int, oid: str) -> Call | None:
        """A call with this number or this oid, whatever has become of it."""
        row = self._store.row(
            "SELECT call FROM channel_calls WHERE chid = ?1 AND j = ?2 UNION ALL "
            "SELECT call FROM channel_calls INDEXED BY channel_calls_by_oid WHERE chid = ?1 AND oid = ?3 LIMIT 1",
            chid, j, oid,
        )  # fmt: skip
        return msgspec.msgpack.decode(row["call"], type=Call) if row else None

    def calls_from(self, chid: str, low: int, limit: int) -> list[CallRow]:
        """Calls from a number on, in order."""
        rows = self._store.rows(
            "SELECT * FROM channel_calls WHERE chid = ? AND j >= ? ORDER BY j LIMIT ?", chid, low, limit
        )
        return [_call(row) for row in rows]

    def newest_calls(self, chid: str, limit: int) -> list[CallRow]:
        """The newest calls, newest first."""
        rows = self._store.rows("SELECT * FROM channel_calls WHERE chid = ? ORDER BY j DESC LIMIT ?", chid, limit)
        return [_call(row) for row in rows]

    def waiting(self, chid: str, before_ms: int) -> list[int]:
        """Numbers of calls that were last sent before this time."""
        sql = "SELECT j FROM channel_calls WHERE chid = ? AND at_ms < ? AND answer = x''"
        rows = self._store.rows(sql, chid, before_ms)
        return [int(row["j"]) for row in rows]

    @staticmethod
    def put_call(tx: Tx, chid: str, call: Call, voucher: bytes) -> None:
        """A call's row, new or with another voucher; answer and response stay."""
        tx.execute(
            "INSERT INTO channel_calls (chid, j, oid, call, voucher, at_ms) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (chid, j) DO UPDATE SET call = excluded.call, voucher = excluded.voucher, "
            "at_ms = excluded.at_ms",
            chid, call.j, call.oid, msgspec.msgpack.encode(call), voucher, tx.now_ms(),
        )  # fmt: skip

    @staticmethod
    def end_call(tx: Tx, chid: str, call: Call, answer: bytes, response: bytes | None) -> None:
        """How a call ended, with what was answered."""
        tx.execute(
            "UPDATE channel_calls SET call = ?, answer = ?, response = ? WHERE chid = ? AND j = ?",
            msgspec.msgpack.encode(call), answer, response, chid, call.j,
        )  # fmt: skip

    @staticmethod
    def drop_responses(tx: Tx, chid: str, low: int) -> None:
        """Bodies of acknowledged calls are dropped; the receipts remain."""
        tx.execute(
            "UPDATE channel_calls INDEXED BY channel_calls_with_response SET response = NULL "
            "WHERE chid = ? AND j < ? AND response NOT NULL",
            chid, low,
        )  # fmt: skip

    # --- vouchers -----------------------------------------------------------------------------------------------------

    def voucher(self, chid: str, outpoint: str, cum_florins: int) -> bytes | None:
        """The stored voucher of an amount."""
        row = self._store.row(
            "SELECT voucher FROM channel_vouchers WHERE chid = ? AND outpoint = ? AND cum = ?",
            chid, outpoint, cum_florins,
        )  # fmt: skip
        return bytes(row["voucher"]) if row else None

    def head(self, chid: str) -> bytes | None:
        """The best voucher for any coin."""
        row = self._store.row("SELECT voucher FROM channel_vouchers WHERE chid = ? ORDER BY cum DESC LIMIT 1", chid)
        return bytes(row["voucher"]) if row else None

    @staticmethod
    def put_voucher(tx: Tx, chid: str, outpoint: str, cum_florins: int, j: int, voucher: bytes) -> None:
        """A voucher that raised W."""
        tx.execute(
            "INSERT OR IGNORE INTO channel_vouchers VALUES (?, ?, ?, ?, ?)", chid, outpoint, cum_florins, j, voucher
        )

    @staticmethod
    def drop_vouchers(tx: Tx, chid: str, outpoint: str, cums: Iterable[int]) -> None:
        """Vouchers for this coin that no close can need, or that have no room, by their amounts."""
        for cum in cums:
            tx.execute("DELETE FROM channel_vouchers WHERE chid = ? AND outpoint = ? AND cum = ?", chid, outpoint, cum)

    @staticmethod
    def keep_fault(tx: Tx, chid: str, j: int, voucher: bytes) -> None:
        """One more voucher that proves the payer's fault, while there are few: one is enough."""
        tx.execute(
            "INSERT OR IGNORE INTO channel_faults SELECT ?1, ?2, ?3 "
            "WHERE (SELECT count(*) FROM channel_faults WHERE chid = ?1) < ?4", chid, j, voucher, FAULTS_MAX,
        )  # fmt: skip

    def faults(self, chid: str) -> int:
        """How many such vouchers are kept."""
        row = self._store.row("SELECT count(*) AS n FROM channel_faults WHERE chid = ?", chid)
        return int(row["n"]) if row else 0

    # --- offers -------------------------------------------------------------------------------------------------------

    def offer(self, name: bytes) -> bytes | None:
        """An own offer by its hash."""
        row = self._store.row("SELECT offer FROM channel_offers WHERE hash = ?", name)
        return bytes(row["offer"]) if row else None

    def offers_of(self, what: str, valid_from: int) -> list[bytes]:
        """Own offers for something that are valid until this height or later, longest first."""
        rows = self._store.rows(
            "SELECT offer FROM channel_offers WHERE what = ? AND valid_to >= ? ORDER BY valid_to DESC", what, valid_from
        )
        return [bytes(row["offer"]) for row in rows]

    def door(self, payee: str) -> str:
        """Where a payee takes messages over HTTP; empty: not known."""
        row = self._store.row("SELECT url FROM channel_doors WHERE payee = ?", payee)
        return str(row["url"]) if row else ""

    @staticmethod
    def put_door(tx: Tx, payee: str, url: str) -> None:
        """It takes them there now."""
        tx.execute("INSERT OR REPLACE INTO channel_doors VALUES (?, ?)", payee, url)

    @staticmethod
    def keep_offer(tx: Tx, name: bytes, offer: bytes, what: str, valid_to: int) -> None:
        """A new offer."""
        tx.execute("INSERT OR IGNORE INTO channel_offers VALUES (?, ?, ?, ?)", name, offer, what, valid_to)


def _book(row: Row) -> Book:
    return Book(
        chid=row["chid"],
        side=row["side"],
        other=row["other"],
        terms=from_canonical(row["terms"], ChannelTerms, max_bytes=TERMS_BYTES_MAX),
        key_index=row["key_index"],
        output_script=row["output_script"],
        address=row["address"],
        created_ms=row["created_ms"],
        created_height=row["created_height"],
        follow=bool(row["follow"]),
        reason=row["reason"],
        opening=row["opening"],
        final=row["final"],
        copied=row["copied"],
    )


def _state(row: Row) -> Channel:
    if row["side"] == "payer":
        return msgspec.msgpack.decode(row["state"], type=Payer)
    return msgspec.msgpack.decode(row["state"], type=Payee)


def _call(row: Row) -> CallRow:
    return CallRow(
        j=row["j"],
        oid=row["oid"],
        call=msgspec.msgpack.decode(row["call"], type=Call),
        voucher=bytes(row["voucher"]),
        answer=bytes(row["answer"]),
        response=None if row["response"] is None else bytes(row["response"]),
    )
