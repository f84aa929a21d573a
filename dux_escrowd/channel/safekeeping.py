"""Has encrypted copies of own channels kept by other nodes, and keeps those of others.

Promise: a payer's channel is copied before it is funded, a payee's before the call runs that crosses its step x; both
anew after every start and every `renew_blocks`, and an ended one's copies are withdrawn. Keepers: the other side, the
watchers that are set up, and a few active nodes that the tag itself chooses. Nobody keeping one holds nothing up: who
wants more than that sets watchers up, without one of whom no call runs. Of others, so many copies are kept, for each
owner and in all, each until its height; where the room is full, whoever takes most of it gives way to whoever takes
less, and strangers to nodes that live. Who asks for a tag gets its own copy before all others, and of those the ones
that came first, because the tag is told to everybody with the pointer. Source: channel_protocol.md §8.
"""

from __future__ import annotations

import asyncio
import hashlib

from msgspec import structs

from common.chain.channel_heights import channel_profile
from common.codec import canonical
from common.contracts.peer_channel import Kept
from common.contracts.peer_copies import (
    COPIES_AT_ONCE,
    COPIES_BYTES_MAX,
    COPY_KEEP,
    CopiesAsked,
    CopiesFound,
    KeepCopy,
    KeptCopy,
)
from common.contracts.peer_escrow import COPY_NS, CopyPointer
from common.contracts.wallet_restore import CONTRACT_BLOB_KEY
from common.errors import DuxError
from common.rpc.method import RECORD_TTL_S_MAX, Empty
from common.units import Did
from dux_escrowd.channel.copies import CallCopy, ChannelCopy, channel_tag, payee_part, payer_part, sealed_channel
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.model import Payer
from dux_escrowd.channel.room import Room
from dux_escrowd.channel.shelf import Book
from dux_escrowd.channel.wants import Wants
from dux_escrowd.copies import NONCE_BYTES, POINTER_AGAIN_MS

CHOSEN = 4  # active nodes that keep a copy besides the other side and the watchers
HOLDERS_MAX = 10  # named in a pointer
KEEP_DEADLINE_S = 3.0  # a call waits for it: who is slower gets the next copy
KEPT_AFTER_BLOCKS = 1_440  # beyond the channel's end: its payee may have been away
PER_OWNER_MAX = 512  # copies of one owner kept here
COPIES_OF_A_TAG = 4  # in one answer: a tag has one owner, all other copies under it are junk
SEALED_BYTES_MAX = 67_108_864  # 64 MiB of others' copies in all
ENDED = ("CLOSED", "LOST", "ABANDONED")


class Safekeeping:
    """Copies, both ways."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._ledger = counter.ledger
        self._desk = counter.desk
        self._key = b""
        self._wanted = Wants()
        self._placed: dict[str, int] = {}  # channel -> height of its last copy in this life
        self._holders: dict[bytes, tuple[Did, ...]] = {}  # tag -> who keeps the copy, until the pointer says so
        self._pointed: dict[bytes, tuple[tuple[Did, ...], int]] = {}  # tag -> what the pointer says, since when
        self._version = 0
        self._room = Room(counter.ledger.store, self.active)

    async def key(self) -> bytes:
        """What copies are found and opened with."""
        if not self._key:
            self._key = (await self._desk.flopd.call(CONTRACT_BLOB_KEY, Empty())).key
        return self._key

    def newer_than(self, version: int) -> None:
        """A copy of an earlier life has this version: later ones must win, whatever this machine's clock says."""
        self._version = max(self._version, version)

    # --- own copies go out --------------------------------------------------------------------------------------------

    def want(self, chid: str) -> None:
        """A copy is wanted soon; nobody waits for it."""
        self._wanted.add(chid)

    async def run(self) -> None:
        """Place what is wanted and point to what was placed, one after the other, until cancelled."""
        while True:
            await self._wanted.some()
            for chid in self._wanted.taken():
                await self.place(chid)
            while self._holders:
                await self._point(*self._holders.popitem())

    async def _point(self, tag: bytes, holders: tuple[Did, ...]) -> None:
        """Tell the network who keeps it; a pointer that says so already is renewed in time."""
        now = int(self._desk.clock.unix_ms())
        said, since = self._pointed.get(tag, ((), 0))
        if said == holders and now - since < POINTER_AGAIN_MS:
            return
        try:
            await self._desk.peers.put_record(COPY_NS, tag.hex(), CopyPointer(holders), ttl_s=RECORD_TTL_S_MAX)
            self._pointed[tag] = (holders, now)
        except DuxError as error:  # again with the next copy
            self._desk.log.info("no pointer to a copy was stored", reason=error.message)

    async def look(self, tip: int) -> None:
        """Every open channel's copy is renewed in time; others' copies that are over are dropped."""
        for chid in self._ledger.shelf.followed():
            renew = channel_profile(self._ledger.book(chid).terms.profile).renew_blocks
            if not self._is_over(chid) and tip - self._placed.get(chid, -renew) >= renew:
                self._placed[chid] = tip
                self.want(chid)
        latest = tip + channel_profile(self._desk.profile.heights).exp_max_blocks + KEPT_AFTER_BLOCKS
        with self._ledger.store.transaction() as tx:
            tx.execute("DELETE FROM kept_copies WHERE until < ?", tip)
            tx.execute("UPDATE kept_copies SET until = ? WHERE until > ?", latest, latest)  # of before a tip was known
        await self._room.look()

    async def place(self, chid: str) -> bool:
        """The present copy, to every keeper; whether one has it. What cannot be done now is done at a renewal.

        Of books that a newer copy may know better none leaves: it would take that copy's place at its keepers.
        """
        if not self._desk.settings.copies:
            return False
        try:
            return await self._place(self._ledger.book(chid))
        except DuxError as error:
            self._desk.log.info("no copy of a channel was placed", chid=chid, reason=error.message)
            return False

    async def _place(self, book: Book) -> bool:
        key = await self.key()
        if book.chid in self._ledger.unsure:
            return False
        tag = channel_tag(key, book.key_index)
        over = self._is_over(book.chid)
        copy = self._copy(book)
        sealed = b"" if over else sealed_channel(copy, key, tag, self._desk.random.bytes(NONCE_BYTES))
        put = KeepCopy(tag=tag, version=copy.version, until=book.terms.exp + KEPT_AFTER_BLOCKS, sealed=sealed)
        keepers = await self.keepers(book, tag)
        kept = await asyncio.gather(*(self._put(did, put) for did in keepers))
        holders = tuple(did for did, is_kept in zip(keepers, kept, strict=True) if is_kept)[:HOLDERS_MAX]
        self._desk.placed[book.chid] = sum(kept), len(keepers)
        if self._counter.tip is not None:
            self._placed[book.chid] = self._counter.tip
        if holders and not over:
            self._holders[tag] = holders
            self._wanted.wake()
        return bool(holders)

    def _is_over(self, chid: str) -> bool:
        return self._ledger.state(chid).state.value in ENDED

    def _copy(self, book: Book) -> ChannelCopy:
        """As the channel stands now; later copies have later versions, also after a restore.

        The version stands in the books before the copy leaves: a copy with a later one is of later books.
        """
        self._version = max(self._version + 1, book.copied + 1, int(self._desk.clock.unix_ms()))
        with self._ledger.store.transaction() as tx:
            self._ledger.note(tx, book.chid, copied=self._version)
        bare = ChannelCopy(
            version=self._version, terms=canonical(book.terms), key_index=book.key_index,
            created_height=book.created_height, highest=self._desk.book.shelf.keys_beyond(0)[0],
        )  # fmt: skip
        state = self._ledger.state(book.chid)
        if isinstance(state, Payer):
            return structs.replace(bare, payer=payer_part(state))
        shelf = self._ledger.shelf
        rows = [row for call in state.calls if (row := shelf.call(book.chid, call.j)) is not None]
        part, calls = payee_part(state, [CallCopy(row.j, row.voucher) for row in rows])
        head = shelf.voucher(book.chid, state.outpoint, state.held_florins) or b""
        return structs.replace(bare, payee=part, calls=calls, head=head)

    async def keepers(self, book: Book, tag: bytes) -> list[Did]:
        """Who is to keep a channel's copy: the other side, the watchers, and those that the tag chooses."""
        named = [Did(book.other), *self._desk.settings.channel_watchers]
        found = [did for did in await self.active() if did not in named]
        chosen = sorted(found, key=lambda did: hashlib.sha256(tag + did.encode()).digest())[:CHOSEN]
        return [did for did in dict.fromkeys((*named, *chosen)) if did != self._desk.me]

    async def active(self) -> list[Did]:
        """Nodes that are known to live; none where the registry cannot say."""
        return await self._desk.active()

    async def _put(self, did: Did, put: KeepCopy) -> bool:
        try:
            return (await self._desk.peers.call(did, COPY_KEEP, put, deadline_s=KEEP_DEADLINE_S)).kept
        except DuxError as error:
            self._desk.log.debug("copy of a channel not kept", peer=did, reason=error.message)
            return False

    # --- others' copies are kept --------------------------------------------------------------------------------------

    async def keep(self, params: KeepCopy, sender: Did) -> Kept:
        """Keep another node's copy in place of its earlier one; an empty one withdraws it."""
        known = self._ledger.store.row(
            "SELECT version, came, length(sealed) AS size FROM kept_copies WHERE tag = ? AND owner = ?",
            params.tag, sender,
        )  # fmt: skip
        if known is not None and int(known["version"]) >= params.version:
            return Kept(kept=int(known["version"]) == params.version)
        more = len(params.sealed) - (int(known["size"]) if known else 0)
        if more > 0 and not self._has_room(sender, more, is_new=known is None):
            return Kept(kept=False)
        with self._ledger.store.transaction() as tx:
            tx.execute("DELETE FROM kept_copies WHERE tag = ? AND owner = ?", params.tag, sender)
            if params.sealed:
                came = int(known["came"]) if known else self._next_place()
                values = (params.tag, sender, params.version, self._until(params.until), params.sealed, came)
                tx.execute(
                    "INSERT INTO kept_copies (tag, owner, version, until, sealed, came) VALUES (?, ?, ?, ?, ?, ?)",
                    *values,
                )
        return Kept(kept=True)

    def _next_place(self) -> int:
        """Behind everything that came before."""
        row = self._ledger.store.row("SELECT coalesce(max(came), 0) + 1 AS place FROM kept_copies")
        return int(row["place"]) if row else 1

    def _until(self, wanted: int) -> int:
        """No channel is open for longer than its network's longest, so neither is a copy kept."""
        longest = channel_profile(self._desk.profile.heights).exp_max_blocks
        return wanted if self._counter.tip is None else min(wanted, self._counter.tip + longest + KEPT_AFTER_BLOCKS)

    def _has_room(self, owner: Did, more: int, *, is_new: bool) -> bool:
        """Whether `more` bytes have room, and a new copy its place; somebody who takes more may give way."""
        row = self._ledger.store.row(
            "SELECT count(*) AS every, coalesce(sum(owner = ?), 0) AS own, coalesce(sum(length(sealed)), 0) AS bytes "
            "FROM kept_copies", owner,
        )  # fmt: skip
        every, own, size = (int(row["every"]), int(row["own"]), int(row["bytes"])) if row else (0, 0, 0)
        if is_new and own >= PER_OWNER_MAX:
            return False
        places = 1 if is_new and every >= self._desk.settings.copies_for_others else 0
        over = max(0, size + more - SEALED_BYTES_MAX)
        return not (places or over) or self._room.makes(owner, more, places=places, size=over)

    async def give(self, params: CopiesAsked, sender: Did) -> CopiesFound:
        """Copies, to whoever knows their tags: they open for their owner alone.

        The asker's own come first, then a few of each tag, those that were there first before those that came later.
        """
        marks = ", ".join("?" * len(params.tags))
        sql = (
            "SELECT tag, sealed FROM (SELECT tag, sealed, owner = ? AS own, came, "  # noqa: S608 - marks
            "row_number() OVER (PARTITION BY tag ORDER BY owner = ? DESC, came) AS place FROM kept_copies "
            f"WHERE tag IN ({marks})) WHERE place <= ? ORDER BY own DESC, came, tag"
        )
        found, room = list[KeptCopy](), COPIES_BYTES_MAX
        for row in self._ledger.store.rows(sql, sender, sender, *params.tags, COPIES_OF_A_TAG):
            room -= len(row["sealed"])
            if room < 0 or len(found) >= COPIES_AT_ONCE:
                return CopiesFound(copies=tuple(found), more=True)
            found.append(KeptCopy(tag=bytes(row["tag"]), sealed=bytes(row["sealed"])))
        return CopiesFound(copies=tuple(found), more=False)
