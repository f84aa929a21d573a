"""Open channels come back, on either side, to a node that has nothing but its phrase.

Promise: numbers of channel keys are looked through as far as the wallet and the chain know of any, and a gap beyond;
everybody who may keep a copy is asked, and of what opens the latest counts. The wallet takes the channel back first and
has read its script from the channel's beginning before the tables hear of the chain, so that nothing is decided on a
coin not yet seen. Then all goes its way: a hello brings both sides to the newest that either holds, a payee whose
payer is gone closes in time at the best voucher of its copy, a payer whose payee is gone takes all back at EXP.

Source: channel_protocol.md §1, §8.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence

from common.chain.channel import ChannelTerms, channel_output_script, chid
from common.codec import canonical, from_canonical
from common.contracts import wallet_chain as chain
from common.contracts.channel_restore import ChannelsRestored
from common.contracts.escrow_base import Refused, WrongPhase
from common.contracts.peer_copies import COPIES_GET, TAGS_AT_ONCE, CopiesAsked, CopiesFound
from common.contracts.peer_escrow import COPY_NS, CopyPointer
from common.contracts.wallet_restore import (
    CONTRACT_BLOB_KEY,
    CONTRACT_MISSING,
    PURSE_RESTORE,
    RestoreChannel,
    Standing,
)
from common.errors import BadParams, DuxError
from common.rpc.method import Empty
from common.rpc.table import Ctx
from common.store import Tx
from common.units import BlockHeight, Did
from dux_escrowd.channel import facts as f
from dux_escrowd.channel import payee
from dux_escrowd.channel.copies import (
    ChannelCopy,
    channel_tag,
    opened_channel,
    payee_again,
    payee_nonce,
    payer_again,
)
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.follower import FACTS_PER_LOOK_MAX, next_fact
from dux_escrowd.channel.model import Payee, Payer, the_call
from dux_escrowd.channel.safekeeping import Safekeeping
from dux_escrowd.channel.shelf import ROLLED, Book, ChannelShelf
from dux_escrowd.copies import GAP

AT_ONCE = 32  # numbers looked through together; their tags fit one question
ANSWERS_MAX = 16  # to one question, page by page
ASKED_MAX = 64  # active nodes that are asked besides those that pointers name
POINTER_BYTES_MAX = 4_096
ASK_DEADLINE_S = 10.0


class Restoring:
    """The way back."""

    def __init__(self, counter: Counter, safe: Safekeeping) -> None:
        self._counter = counter
        self._ledger = counter.ledger
        self._desk = counter.desk
        self._safe = safe
        self._busy = asyncio.Lock()
        self.when_back: list[Callable[[], Awaitable[None]]] = []  # after channels were taken back

    async def restore(self, _params: Empty, _ctx: Ctx) -> ChannelsRestored:
        """Every channel of which somebody keeps a copy; twice is the same as once."""
        return await self.look()

    async def look(self) -> ChannelsRestored:
        """The same, for this node itself."""
        async with self._busy:
            return await self._restored()

    async def _restored(self) -> ChannelsRestored:
        restored, known, problems = list[str](), list[str](), list[str]()
        for copy in await self._found():
            name = chid(copy.agreed).hex()
            if self._ledger.shelf.book(name) is not None:
                known.append(name)
                continue
            try:
                await self._bring_back(name, copy)
                restored.append(name)
            except DuxError as error:
                problems.append(f"{name}: {error.message}")
        if restored:
            for hook in self.when_back:
                await hook()
        return ChannelsRestored(restored=tuple(restored), known=tuple(known), problems=tuple(problems))

    # --- copies are found ---------------------------------------------------------------------------------------------

    async def _found(self) -> list[ChannelCopy]:
        blob = await self._desk.flopd.call(CONTRACT_BLOB_KEY, Empty())
        active = (await self._safe.active())[:ASKED_MAX]
        found, number, end, highest = list[ChannelCopy](), 0, max(blob.numbers, GAP), -1
        while number < end:
            batch = range(number, number + AT_ONCE)
            copies = await self._batch(blob.key, {channel_tag(blob.key, at): at for at in batch}, active)
            found += [copies[at] for at in sorted(copies)]
            self._safe.newer_than(max((copy.version for copy in copies.values()), default=0))
            highest = max([highest, *(max(at, copy.highest) for at, copy in copies.items())])
            end = max(end, highest + 1 + GAP)
            number += AT_ONCE
        if highest >= blob.numbers:  # no key in use is handed out again
            begun = min(copy.created_height for copy in found)
            standing = Standing(names=(), highest=highest, from_height=BlockHeight(begun))
            await self._desk.flopd.call(CONTRACT_MISSING, standing)
        return found

    async def _batch(self, key: bytes, tags: dict[bytes, int], active: Sequence[Did]) -> dict[int, ChannelCopy]:
        """The latest copy of each number of which anybody gives one that opens."""
        named = await asyncio.gather(*(self._pointed(tag) for tag in tags))
        asked = dict.fromkeys([*(did for dids in named for did in dids), *active])
        answers = await asyncio.gather(*(self.ask(did, tuple(tags), key) for did in asked if did != self._desk.me))
        newest: dict[int, ChannelCopy] = {}
        for tag, copy in (item for answer in answers for item in answer or ()):
            at = tags[tag]
            if copy.key_index != at:
                continue
            if at not in newest or newest[at].version < copy.version:
                newest[at] = copy
        return newest

    def _opened(self, answer: CopiesFound, key: bytes, tags: Sequence[bytes]) -> list[tuple[bytes, ChannelCopy]]:
        """Those of an answer that are this node's, under tags that were asked for."""
        found, foreign = list[tuple[bytes, ChannelCopy]](), 0
        for item in answer.copies:
            try:
                found += [(item.tag, opened_channel(item.sealed, key, item.tag))] if item.tag in tags else []
            except BadParams:
                foreign += 1
        if foreign:
            self._desk.log.warning("copies of channels do not open", count=foreign)
        return found

    async def _pointed(self, tag: bytes) -> Iterable[Did]:
        try:
            records = await self._desk.peers.get_records(COPY_NS, tag.hex())
        except DuxError:
            return ()
        mine = [record.payload for record in records if record.did == self._desk.me]
        return [did for body in mine for did in from_canonical(body, CopyPointer, max_bytes=POINTER_BYTES_MAX).holders]

    async def ask(self, did: Did, tags: tuple[bytes, ...], key: bytes) -> list[tuple[bytes, ChannelCopy]] | None:
        """Tags, and own copies under them, that a node gives; None when it does not answer.

        Anybody may have junk kept under a tag: one is asked for until a copy opens, or nothing of a whole answer did.
        """
        found, left = list[tuple[bytes, ChannelCopy]](), tags[:TAGS_AT_ONCE]
        for turn in range(ANSWERS_MAX):
            try:
                answer = await self._desk.peers.call(did, COPIES_GET, CopiesAsked(left), deadline_s=ASK_DEADLINE_S)
            except DuxError:
                return found if turn else None
            opened = self._opened(answer, key, left)
            found += opened
            got = {tag for tag, _copy in opened} or {item.tag for item in answer.copies}
            left, before = tuple(tag for tag in left if tag not in got), left
            if not answer.more or not left or left == before:
                break
        return found

    # --- and taken back -----------------------------------------------------------------------------------------------

    async def _bring_back(self, name: str, copy: ChannelCopy) -> None:
        """The wallet first, then the chain, then the book and its tables."""
        book = await self._adopted(name, copy)
        await self._desk.read_again(name, book.output_script, copy.created_height)
        if copy.payee is not None:
            await self._as_payee(book, copy.payee, copy)
        elif copy.payer is not None:
            await self._as_payer(book, copy.payer)

    async def _as_payer(self, book: Book, part: Payer) -> None:
        """It was funded in an earlier life, or never: nothing is ordered, the coin will be seen or not."""
        with self._ledger.store.transaction() as tx:
            self._ledger.open(tx, book, payer_again(part, book.terms))
            self._ledger.note(tx, book.chid, copied=book.copied)
        await self._ledger.take(book.chid, f.OpenOk(at=await self._counter.height(), same=True))

    async def _as_payee(self, book: Book, part: Payee, copy: ChannelCopy) -> None:
        """Its books as they were; a start ends what was at work and asks the payer for a hello."""
        rerun, shelf = self._desk.settings.channel_on_crash == "rerun", self._ledger.shelf
        state = await self._with_coin(book, payee_again(part, book.terms, rerun=rerun))
        with self._ledger.store.transaction() as tx:
            self._ledger.open(tx, book, state)
            self._ledger.note(tx, book.chid, copied=book.copied)
            bodies_back(shelf, tx, state, copy)
        at = await self._counter.height()
        taken = await self._ledger.take(book.chid, f.Started(at=at, nonce=self._counter.random.bytes(32)))
        await self._counter.carry(book.chid, taken.effects)

    async def _with_coin(self, book: Book, state: Payee) -> Payee:
        """What the chain shows is taken before anybody's hello is: a payer's head counts for a coin that is known."""
        found = await self._desk.flopd.call(chain.CHAIN_COINS, chain.ScriptAsked(script=book.output_script))
        for _ in range(FACTS_PER_LOOK_MAX):
            fact = next_fact(state, book.terms, found.coins, int(found.tip))
            if fact is None:
                break
            try:
                state = payee.decide(state, fact).next
            except (WrongPhase, Refused):
                break
        return state

    async def adopted_again(self, book: Book) -> None:
        """The wallet is to know a channel again that stands in the book."""
        wish = _wish(book.terms, key_index=book.key_index, payer=book.side == "payer", height=book.created_height)
        await self._desk.flopd.call(PURSE_RESTORE, wish)

    async def _adopted(self, name: str, copy: ChannelCopy) -> Book:
        terms, payer = copy.agreed, copy.payer is not None
        wish = _wish(terms, key_index=copy.key_index, payer=payer, height=copy.created_height)
        adopted = await self._desk.flopd.call(PURSE_RESTORE, wish)
        return Book(
            chid=name,
            side=wish.side,
            other=terms.payee if payer else terms.payer,
            terms=terms,
            key_index=copy.key_index,
            output_script=channel_output_script(terms),
            address=adopted.address,
            created_ms=self._desk.clock.unix_ms(),
            created_height=copy.created_height,
            follow=True,
            reason="",
            opening=ROLLED if payer else b"",  # the wallet is not to fund it again
            final=b"",
            copied=copy.version,
        )


def _wish(terms: ChannelTerms, *, key_index: int, payer: bool, height: int) -> RestoreChannel:
    return RestoreChannel(
        request_id=f"{chid(terms).hex()}/restore",
        terms=canonical(terms),
        side="payer" if payer else "payee",
        key_index=key_index,
        nonce=hashlib.sha256(terms.payer_key).digest() if payer else payee_nonce(terms.payer, terms.payer_key),
        from_height=max(0, height - 1),
    )


def bodies_back(shelf: ChannelShelf, tx: Tx, state: Payee, copy: ChannelCopy) -> None:
    """The vouchers of a payee's copy: of its calls, and the best one, where it is signed for the coin that is there."""
    for item in copy.calls:
        shelf.put_call(tx, state.chid, the_call(state.calls, item.j), item.voucher)
    if state.cums:
        j = max((item.j for item in copy.calls), default=0)
        shelf.put_voucher(tx, state.chid, state.outpoint, state.held_florins, j, copy.head)
