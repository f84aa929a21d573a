"""Has copies of own contracts kept, keeps those of others, and takes own ones back after a restore.

Promise: a copy goes out at the follower's next look after a step (20 seconds at most), to everybody named in the
contract; what is taken back is replayed before it counts, and this node says nothing in a contract that came back
before somebody told it what it had said after the copy (two statements with one number would be its own fault). With
nobody left to ask, the refund at T needs no word. What others said meanwhile is asked for in catching_up.py.

Source: escrow_protocol.md §7, §10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from common.chain.contract import Contract
from common.codec import canonical, from_canonical
from common.contracts.escrow_restore import Restored
from common.contracts.peer_escrow import (
    COPY_GET,
    COPY_NS,
    COPY_PUT,
    STATEMENTS_GET,
    Ack,
    AskStatements,
    CopyAnswer,
    CopyGet,
    CopyPointer,
    CopyPut,
)
from common.contracts.wallet_restore import CONTRACT_BLOB_KEY, CONTRACT_RESTORE, RestoreContract
from common.errors import BadParams, CorruptStore, DuxError, NotFound
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.rpc.method import RECORD_TTL_S_MAX, Empty
from common.rpc.table import Ctx
from common.store import Tx
from common.units import Did
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


class Keep(msgspec.Struct, frozen=True):
    """A contract's copy has to go out."""

    contract_id: str


class Keeping:
    """Copies, both ways."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._book = desk.book
        self._shelf = desk.book.shelf
        self._sent: dict[str, int] = {}  # contract -> version that went out in this life
        self._pointed_ms: dict[str, int] = {}
        self._key = b""
        self._busy = asyncio.Lock()
        self.when_back: list[Callable[[], Awaitable[None]]] = []  # after contracts were found to be this node's

    # --- own copies go out --------------------------------------------------------------------------------------------

    def look(self, tx: Tx, row: Agreed) -> None:
        """A contract has moved since its last copy: want the next one sent."""
        version = self._version(row.contract_id)
        if not self._desk.settings.copies or row.cid is None or self._sent.get(row.contract_id, -1) >= version:
            return
        self._sent[row.contract_id] = version
        tx.outbox(f"{row.contract_id}/copy/{version}", KEEP, Keep(row.contract_id), lane=f"{row.contract_id}/copy")

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
        if holders and self._is_pointer_due(row.contract_id):
            await self._desk.peers.put_record(COPY_NS, tag.hex(), CopyPointer(holders), ttl_s=RECORD_TTL_S_MAX)
            self._pointed_ms[row.contract_id] = self._desk.clock.unix_ms()

    def _is_pointer_due(self, contract_id: str) -> bool:
        last = self._pointed_ms.get(contract_id)
        return last is None or self._desk.clock.unix_ms() - last >= POINTER_AGAIN_MS

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
        """Keep a copy for somebody named with this node in a contract."""
        contract = self._book.records.contract(put.contract_id.hex())
        if contract is None or sender not in named_in(contract):
            raise NotFound(what="contract", name="of yours")
        with self._book.store.transaction() as tx:
            self._shelf.keep_copy(tx, put.tag, sender, put.contract_id.hex(), put.version, put.sealed)
        return Ack(kept=True)

    async def give(self, ask: CopyGet, _sender: Did) -> CopyAnswer:
        """A copy, to whoever knows its tag: it opens for its owner alone."""
        found = self._shelf.copy(ask.tag)
        if found is None:
            raise NotFound(what="copy", name=ask.tag.hex())
        return CopyAnswer(*found)

    # --- a restored node takes its own back ---------------------------------------------------------------------------

    async def restore(self, _params: Empty, _ctx: Ctx) -> Restored:
        """Every number that the wallet and the chain know of, and on until GAP of them have no copy."""
        return await self.take_back()

    async def take_back(self) -> Restored:
        """The same, for this node itself."""
        async with self._busy:
            return await self._restored()

    async def _restored(self) -> Restored:
        blob = await self._desk.flopd.call(CONTRACT_BLOB_KEY, Empty())
        restored, known, problems = list[str](), list[str](), list[str]()
        number, end = 0, max(blob.numbers, GAP)
        while number < end:
            batch = range(number, number + GAP)
            copies = await asyncio.gather(*(self._found(blob.key, at) for at in batch))
            end = max([end, *(at + 1 + GAP for at, copy in zip(batch, copies, strict=True) if copy)])
            number += GAP
            for copy in (one for one in copies if one is not None):
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

    async def _found(self, key: bytes, number: int) -> Copy | None:
        """The newest copy of a number that anybody gives and that opens."""
        tag = tag_of(key, number)
        records = await self._desk.peers.get_records(COPY_NS, tag.hex())
        mine = [record.payload for record in records if record.did == self._desk.me]
        holders = [did for body in mine for did in from_canonical(body, CopyPointer, max_bytes=4_096).holders]
        answers = await asyncio.gather(*(self._ask(did, tag) for did in dict.fromkeys(holders)))
        for answer in sorted((one for one in answers if one), key=lambda one: -one.version):
            try:
                return opened(answer.sealed, key, tag)
            except BadParams as error:
                self._desk.log.warning("copy does not open", number=number, reason=error.message)
        return None

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
