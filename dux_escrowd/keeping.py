"""Has copies of own contracts kept, keeps those of others, and takes own ones back after a restore.

Promise: a copy goes out at the follower's next look after a step (20 seconds at most), to everybody named in the
contract; what is taken back is replayed before it counts, and this node says nothing in a contract that came back
before somebody told it what it had said after the copy (two statements with one number would be its own fault). With
nobody left to ask, the refund at T needs no word. What others said meanwhile is asked for in catching_up.py.

Source: escrow_protocol.md §7, §10.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from common.chain.contract import Contract
from common.codec import canonical, from_canonical
from common.contracts.escrow_restore import RecoverContracts, Restored
from common.contracts.peer_copies import CHANNEL_COPY_BYTES_MAX, COPY_KEEP, KeepCopy
from common.contracts.peer_escrow import (
    COPIES_HELD,
    COPY_GET,
    COPY_NS,
    COPY_PUT,
    STATEMENTS_GET,
    Ack,
    AskStatements,
    CopiesAsked,
    CopiesHeld,
    CopyAnswer,
    CopyGet,
    CopyPointer,
    CopyPut,
)
from common.contracts.wallet_restore import (
    CONTRACT_BLOB_KEY,
    CONTRACT_MISSING,
    CONTRACT_RESTORE,
    RestoreContract,
    Standing,
)
from common.errors import BadParams, CorruptStore, DuxError, NotFound
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.rpc.method import RECORD_TTL_S_MAX, Empty
from common.rpc.table import Ctx
from common.store import Tx
from common.units import BlockHeight, Did
from dux_escrowd import agreement as deal
from dux_escrowd.copies import GAP, NONCE_BYTES, POINTER_AGAIN_MS, Copy, Document, opened, sealed, tag_of
from dux_escrowd.desk import Desk
from dux_escrowd.facts import DeliveryMade, DisputeWanted, Fact, PartWanted, ResultGood, StartSaid
from dux_escrowd.hearing import named_in
from dux_escrowd.model import Lot, Role
from dux_escrowd.orders import Word
from dux_escrowd.records import DELIVERY
from dux_escrowd.replay import LoggedFact
from dux_escrowd.rules import decide
from dux_escrowd.statements import Heard, opened_statement
from dux_escrowd.store import Agreed
from dux_escrowd.words import SaidDelivered, SaidRelease

KEEP = "copy"
SPEAKS = b"0"  # of `silent`: what this node itself had said is known
ATTEMPTS_MAX = 3  # a later step sends a later copy
CONTRACT_BYTES_MAX = 8_192
HOLDERS_MAX = 10  # named in a pointer
KEEPERS = 8  # of a contract's copy, the parties among them
KEPT_AFTER_BLOCKS = 1_440  # beyond T: its owner may have been away
AT_ONCE = 50  # numbers looked through together; their tags fit one question
ASKED_MAX = 64  # active nodes that are asked besides those that pointers name


class Keep(msgspec.Struct, frozen=True):
    """A contract's copy has to go out."""

    contract_id: str


class Keeping:
    """Copies, both ways."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._book = desk.book
        self._shelf = desk.book.shelf
        self._sent: dict[str, tuple[int, int]] = {}  # contract -> version and half day of what went out in this life
        self._pointed_ms: dict[str, int] = {}
        self._key = b""
        self._busy = asyncio.Lock()
        self.when_back: list[Callable[[], Awaitable[None]]] = []  # after contracts were found to be this node's

    # --- own copies go out --------------------------------------------------------------------------------------------

    def look(self, tx: Tx, row: Agreed) -> None:
        """A contract has moved since its last copy, or its pointer gets old: want the next one sent."""
        state = self._version(row.contract_id), int(self._desk.clock.unix_ms()) // POINTER_AGAIN_MS
        if not self._desk.settings.copies or row.cid is None or self._sent.get(row.contract_id) == state:
            return
        self._sent[row.contract_id] = state
        tx.outbox(
            f"{row.contract_id}/copy/{state[0]}/{state[1]}", KEEP, Keep(row.contract_id), lane=f"{row.contract_id}/copy"
        )

    def _version(self, contract_id: str) -> int:
        lots = sum(self._shelf.position(contract_id, lot.number) for lot in self._shelf.lots(contract_id))
        return lots + sum(len(chain) for chain in self._shelf.chains(contract_id).values())

    async def send(self, keep: Keep) -> None:
        """The present copy, to everybody named; who cannot be reached gets the next one."""
        row, contract = self._desk.row(keep.contract_id), self._book.records.contract(keep.contract_id)
        if contract is None or row.key_index is None:
            return
        key = await self._blob_key()
        tag = tag_of(key, row.key_index)
        body = sealed(self._copy(row, contract), key, tag, self._desk.random.bytes(NONCE_BYTES))
        put = CopyPut(bytes.fromhex(row.contract_id), tag, self._version(row.contract_id), body)
        named = [Did(did) for did in named_in(contract) if did != self._desk.me]
        kept = await asyncio.gather(*(self._put(did, put) for did in named))
        holders = tuple(did for did, is_kept in zip(named, kept, strict=True) if is_kept)
        holders += await self._strangers(contract, named, put)
        self._desk.placed[row.contract_id] = len(holders), max(KEEPERS, len(named))
        if holders and self._is_pointer_due(row.contract_id):
            await self._desk.peers.put_record(
                COPY_NS, tag.hex(), CopyPointer(holders[:HOLDERS_MAX]), ttl_s=RECORD_TTL_S_MAX
            )
            self._pointed_ms[row.contract_id] = self._desk.clock.unix_ms()

    async def _strangers(self, contract: Contract, named: Sequence[Did], put: CopyPut) -> tuple[Did, ...]:
        """Those of a few active nodes, chosen by the tag, that keep the copy beside the parties, until T and after."""
        if len(put.sealed) > CHANNEL_COPY_BYTES_MAX:
            return ()
        free = [did for did in await self._desk.active() if did not in (*named, self._desk.me)]
        order = sorted(free, key=lambda did: hashlib.sha256(put.tag + did.encode()).digest())
        chosen = order[: max(0, KEEPERS - len(named))]
        until = contract.heights.timeout + KEPT_AFTER_BLOCKS
        keep = KeepCopy(tag=put.tag, version=put.version, until=until, sealed=put.sealed)
        kept = await asyncio.gather(*(self._keep(did, keep) for did in chosen))
        return tuple(did for did, is_kept in zip(chosen, kept, strict=True) if is_kept)

    async def _keep(self, did: Did, keep: KeepCopy) -> bool:
        try:
            return (await self._desk.call(did, COPY_KEEP, keep)).kept
        except DuxError as error:
            self._desk.log.info("copy not kept", peer=did, reason=error.message)
            return False

    def _is_pointer_due(self, contract_id: str) -> bool:
        last = self._pointed_ms.get(contract_id)
        return last is None or self._desk.clock.unix_ms() - last >= POINTER_AGAIN_MS // 2

    async def _put(self, did: Did, put: CopyPut) -> bool:
        try:
            return (await self._desk.call(did, COPY_PUT, put)).kept
        except DuxError as error:
            self._desk.log.info("copy not kept", contract_id=put.contract_id.hex(), peer=did, reason=error.message)
            return False

    async def _blob_key(self) -> bytes:
        if not self._key:
            self._key = (await self._desk.flopd.call(CONTRACT_BLOB_KEY, Empty())).key
        return self._key

    def _copy(self, row: Agreed, contract: Contract) -> Copy:
        name = row.contract_id
        births = [lot for lot in self._shelf.births() if lot.contract_id == name]
        return Copy(
            highest=self._shelf.keys_beyond(0)[0],
            row=row,
            nonce=key_nonce(self._desk, row, contract),
            documents=tuple(Document(*one) for one in self._shelf.documents(name)),
            statements=tuple(
                body for signer in sorted(self._shelf.chains(name)) for body in self._shelf.said(name, signer)
            ),
            births=tuple(births),
            facts=tuple(
                LoggedFact(name, lot.number, fact, state)  # type: ignore[arg-type]
                for lot in births
                for fact, state, _at_ms in self._shelf.facts(name, lot.number)
            ),
        )

    # --- others' copies are kept --------------------------------------------------------------------------------------

    async def take(self, put: CopyPut, sender: Did) -> Ack:
        """Keep a copy for somebody named with this node in a contract, in place of its earlier one."""
        contract = self._book.records.contract(put.contract_id.hex())
        if contract is None or sender not in named_in(contract):
            raise NotFound(what="contract", name="of yours")
        name = put.contract_id.hex()
        row = self._shelf.contract(name)
        with self._book.store.transaction() as tx:
            is_over = row is None or not row.follow
            if is_over or not self._shelf.has_room_for_copy(tx, name, len(put.sealed)):
                return Ack(kept=False)
            kept = self._shelf.keep_copy(tx, put.tag, sender, name, put.version, put.sealed)
        return Ack(kept=kept)

    async def give(self, ask: CopyGet, sender: Did) -> CopyAnswer:
        """A copy, to whoever knows its tag: it opens for its owner alone."""
        found = self._shelf.copy(ask.tag, sender)
        if found is None:
            raise NotFound(what="copy", name=ask.tag.hex())
        return CopyAnswer(*found)

    # --- a restored node takes its own back ---------------------------------------------------------------------------

    async def held(self, ask: CopiesAsked, sender: Did) -> CopiesHeld:
        """Of which of these tags a copy is kept, to whoever knows them."""
        return CopiesHeld(tuple(tag for tag in ask.tags if self._shelf.copy(tag, sender) is not None))

    async def restore(self, _params: Empty, _ctx: Ctx) -> Restored:
        """Every number that the wallet and the chain know of, and on until GAP of them have no copy."""
        return await self.take_back()

    async def recover(self, params: RecoverContracts, _ctx: Ctx) -> Restored:
        """The same; a node that its owner remembers is asked first."""
        return await self.take_back((params.holder,))

    async def take_back(self, holders: tuple[Did, ...] = ()) -> Restored:
        """The same, for this node itself."""
        async with self._busy:
            return await self._restored(holders)

    async def _restored(self, holders: tuple[Did, ...]) -> Restored:
        restored, known, problems = list[str](), list[str](), list[str]()
        for copy in await self._found(holders):
            if self._shelf.contract(copy.row.contract_id) is not None:
                known.append(copy.row.contract_id)
                continue
            try:
                await self._bring_back(copy)
                restored.append(copy.row.contract_id)
            except DuxError as error:
                problems.append(f"{copy.row.contract_id}: {error.message}")
        if restored or known:
            for hook in self.when_back:
                await hook()
        return Restored(restored=tuple(restored), known=tuple(known), problems=tuple(problems))

    async def _found(self, holders: tuple[Did, ...]) -> list[Copy]:
        """Whatever anybody keeps; the wallet hands out no key again that was in use by what is found."""
        blob = await self._desk.flopd.call(CONTRACT_BLOB_KEY, Empty())
        active = [did for did in (await self._desk.active())[:ASKED_MAX] if did not in holders]
        found, number, end, highest = list[Copy](), 0, blob.numbers + GAP, -1
        while number < end:
            tags = {tag_of(blob.key, at): at for at in range(number, number + AT_ONCE)}
            copies = await self._batch(blob.key, tags, (*holders, *active))
            found += copies
            highest = max([highest, *(max(copy.highest, copy.row.key_index or 0) for copy in copies)])
            end = max(end, highest + 1 + GAP)
            number += AT_ONCE
        if highest >= blob.numbers:
            begun = min(copy.row.created_height for copy in found)
            standing = Standing(names=(), highest=highest, from_height=BlockHeight(begun))
            await self._desk.flopd.call(CONTRACT_MISSING, standing)
        return found

    async def _batch(self, key: bytes, tags: dict[bytes, int], active: Sequence[Did]) -> list[Copy]:
        """The newest copy of each number of which anybody gives one that opens."""
        named = await asyncio.gather(*(self._pointed(tag) for tag in tags))
        holders = {tag: dict.fromkeys(dids) for tag, dids in zip(tags, named, strict=True)}
        asked = [did for did in active if did != self._desk.me]
        for did, held in zip(
            asked, await asyncio.gather(*(self._held(did, tuple(tags)) for did in asked)), strict=True
        ):
            for tag in held:
                holders.get(tag, {})[did] = None
        copies = await asyncio.gather(*(self._newest(key, tag, tuple(holders[tag])) for tag in tags))
        return [copy for copy in copies if copy is not None]

    async def _pointed(self, tag: bytes) -> list[Did]:
        """Who keeps a copy, as this node itself has said; none where nobody can be asked, or the pointer is too old."""
        try:
            records = await self._desk.peers.get_records(COPY_NS, tag.hex())
        except DuxError:
            return []
        mine = [record.payload for record in records if record.did == self._desk.me]
        return [did for body in mine for did in from_canonical(body, CopyPointer, max_bytes=4_096).holders]

    async def _held(self, did: Did, tags: tuple[bytes, ...]) -> tuple[bytes, ...]:
        try:
            return (await self._desk.call(did, COPIES_HELD, CopiesAsked(tags))).tags
        except DuxError:
            return ()

    async def _newest(self, key: bytes, tag: bytes, holders: tuple[Did, ...]) -> Copy | None:
        """The copy that tells most; a holder's own word of its version is none: the other side may hold an old one."""
        found = list[Copy]()
        for answer in await asyncio.gather(*(self._ask(did, tag) for did in holders)):
            try:
                found += [opened(answer.sealed, key, tag)] if answer else []
            except BadParams as error:
                self._desk.log.warning("copy does not open", reason=error.message)
        return max(found, key=lambda copy: len(copy.facts) + len(copy.statements), default=None)

    async def _ask(self, did: Did, tag: bytes) -> CopyAnswer | None:
        try:
            return await self._desk.call(did, COPY_GET, CopyGet(tag))
        except DuxError:
            return None

    async def _bring_back(self, copy: Copy) -> None:
        """Wallet first, then the chain is read, then the book; `caught_up` finds what was said since."""
        lots = _replayed(copy)
        body = next((one.body for one in copy.documents if one.kind == "contract"), b"")
        contract = from_canonical(body, Contract, max_bytes=CONTRACT_BYTES_MAX)
        await self._desk.flopd.call(CONTRACT_RESTORE, _wish(copy.row, contract, copy.nonce))
        if copy.row.script is not None:
            await self._desk.read_again(copy.row.contract_id, copy.row.script, contract.heights.start)
        height = await self._desk.height()
        with self._book.store.transaction() as tx:
            self._shelf.restore(tx, copy.row)
            for document in copy.documents:
                self._shelf.keep(tx, copy.row.contract_id, document.kind, document.body, document.owner)
            self._book.bring_back(tx, copy.births, copy.facts, lots)
            for data in copy.statements:
                self._shelf.add_statement(tx, copy.row.contract_id, opened_statement(data), height=height, taken=True)
            self._shelf.set(tx, silent(copy.row.contract_id), b"1")
        try:
            await caught_up(self._desk, lots[0])
        except DuxError as error:  # asked again before this node says anything
            self._desk.log.info("nobody tells what was said", contract_id=copy.row.contract_id, reason=error.message)


def key_nonce(desk: Desk, row: Agreed, contract: Contract) -> bytes:
    """What this node's contract key was made for."""
    if row.role is Role.ARBITER:
        terms = desk.book.records.terms(row.contract_id)
        digest = deal.terms_hash(terms) if terms else b""
        return bytes(tagged_hash(Purpose.ESCROW_ACCEPT, digest + desk.me.encode()))
    return contract.buyer.nonce if row.role is Role.BUYER else contract.seller.nonce


def wallet_wish(desk: Desk, row: Agreed, contract: Contract) -> RestoreContract:
    """The wallet is to know a contract again that stands in the book."""
    return _wish(row, contract, key_nonce(desk, row, contract))


def _wish(row: Agreed, contract: Contract, nonce: bytes) -> RestoreContract:
    return RestoreContract(
        request_id=f"{row.contract_id}/restore", contract=canonical(contract), role=row.role.value,
        key_index=row.key_index or 0, nonce=nonce,
    )  # fmt: skip


def _remember(desk: Desk, tx: Tx, lot: Lot, heard: Heard) -> None:
    """One more own statement that the copy did not have: kept, and what it meant for the lot is taken again."""
    desk.book.shelf.add_statement(tx, lot.contract_id, heard, height=heard.statement.height, taken=True)
    if isinstance(heard.said, SaidDelivered):
        desk.book.shelf.keep(tx, lot.contract_id, DELIVERY, heard.said)
    fact = own_fact(heard, lot)
    if fact is not None:
        desk.book.hear(tx, lot.contract_id, f"own/{heard.statement.seq}", fact)


def own_fact(heard: Heard, lot: Lot) -> Fact | None:
    """What this node had decided when it said so; votes are left: their salts are gone with the disk."""
    said, at, word = heard.said, heard.statement.height, heard.statement.kind
    if isinstance(said, SaidRelease):
        gross = int(said.gross_florins)
        is_all = gross == lot.deal.price_florins
        return ResultGood(at=at) if is_all else PartWanted(at=at, gross_florins=gross)
    decided: dict[Word, Fact] = {
        Word.START: StartSaid(at=at, by=lot.me),
        Word.DELIVERED: DeliveryMade(at=at),
        Word.DISPUTE: DisputeWanted(at=at),
    }
    return decided.get(word)


def silent(contract_id: str) -> str:
    """The setting that keeps this node from speaking in a contract that came back."""
    return f"restored/{contract_id}"


def _replayed(copy: Copy) -> dict[int, Lot]:
    """The lots that follow from the copy's facts.

    Raises:
        CorruptStore: they do not follow.
    """
    lots = {lot.number: lot for lot in copy.births}
    for line in copy.facts:
        lots[line.number], _orders = decide(lots[line.number], line.fact)
        if lots[line.number].state is not line.state:
            raise CorruptStore(path="a copy", detail=f"contract {copy.row.contract_id} does not follow from its facts")
    return lots


async def caught_up(desk: Desk, lot: Lot) -> None:
    """What this node itself had said after the copy was made, from anybody named who holds it.

    Raises:
        PeerNotReady, Unavailable: nobody can be asked now; nothing may be said before.
    """
    shelf = desk.book.shelf
    if shelf.setting(silent(lot.contract_id)) != b"1":
        return
    named = [Did(did) for did in (lot.deal.buyer, lot.deal.seller, *lot.panel) if did != lot.me]
    held = len(shelf.chain(lot.contract_id, lot.me))
    ask = AskStatements(bytes.fromhex(lot.contract_id), desk.me, held)
    errors: list[DuxError] = []
    for did in named:
        try:
            answer = await desk.call(did, STATEMENTS_GET, ask)
        except DuxError as error:
            errors.append(error)
            continue
        with desk.book.store.transaction() as tx:
            for data in answer.statements:
                heard = opened_statement(data)
                if heard.statement.seq == len(shelf.chain(lot.contract_id, lot.me)):
                    _remember(desk, tx, lot, heard)
    if len(errors) == len(named):
        raise errors[0]
    with desk.book.store.transaction() as tx:
        shelf.set(tx, silent(lot.contract_id), SPEAKS)
