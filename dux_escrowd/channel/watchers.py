"""Has other nodes watch this payee's channels: each holds a fully signed close and publishes it in time.

Promise: the watchers that the owner names get a close at each step x, and no call that crosses one runs before one of
them has it. Where none is named, `channel_watchers_auto` active nodes that the channel itself chooses are asked, beside
the calls: they hold nothing up and may say no. Both get a newer close every `renew_blocks` while more has been paid.
A watcher can publish a close and not change it. Source: channel_protocol.md §3; docs/decisions/channel-watchers.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from common.chain.channel_heights import channel_profile
from common.channel_messages import VOUCHER_BYTES_MAX, Voucher
from common.codec import from_canonical
from common.contracts import peer_channel as peer
from common.contracts import wallet_channel as purse
from common.errors import DuxError
from common.identity.signed import decode_signed
from common.units import Did, Florins
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.model import Payee
from dux_escrowd.channel.safekeeping import Safekeeping
from dux_escrowd.channel.shelf import Book, ChannelShelf
from dux_escrowd.channel.signing import outpoint_of
from dux_escrowd.channel.wants import Wants

ASKED_MAX = 6  # nodes that nobody named are asked, for one channel at one time
ASK_S = 3.0


@dataclass(frozen=True)
class _Placed:
    """What lies elsewhere of one channel."""

    held_florins: int
    tip: int
    by: tuple[Did, ...]


def coin_part(shelf: ChannelShelf, chid: str, outpoint: str, cum_florins: int) -> bytes:
    """The payer's coin signature in the voucher of this amount."""
    body = decode_signed(shelf.voucher(chid, outpoint, cum_florins) or b"", max_bytes=VOUCHER_BYTES_MAX).body
    return from_canonical(body, Voucher, max_bytes=VOUCHER_BYTES_MAX).coin_sig


class Watchers:
    """Whoever publishes when this node is away."""

    def __init__(self, counter: Counter, safe: Safekeeping) -> None:
        self._counter = counter
        self._safe = safe
        self._ledger = counter.ledger
        self._desk = counter.desk
        self._placed: dict[str, _Placed] = {}
        self._wanted = Wants()

    @property
    def _named(self) -> list[Did]:
        return [did for did in self._desk.settings.channel_watchers if did != self._desk.me]

    async def at_step(self, book: Book, cum_florins: int) -> bool:
        """A step is crossed; whether the call may run."""
        if self._named:
            return await self._place(book.chid, cum_florins, self._named, len(self._named))
        self._want(book.chid)
        return True

    async def look(self, tip: int) -> None:
        """What has been paid since the last close lies elsewhere before long."""
        for chid in self._ledger.shelf.followed():
            state, book = self._ledger.state(chid), self._ledger.book(chid)
            if not isinstance(state, Payee) or state.coin is None or state.closing is not None:
                continue
            placed, renew = self._placed.get(chid), channel_profile(book.terms.profile).renew_blocks
            is_old = placed is None or (tip - placed.tip >= renew and state.held_florins > placed.held_florins)
            if state.held_florins and is_old:
                self._want(chid)

    def _want(self, chid: str) -> None:
        if self._named or self._desk.settings.channel_watchers_auto:
            self._wanted.add(chid)

    async def run(self) -> None:
        """Place what is wanted, one channel after the other, until cancelled."""
        while True:
            await self._wanted.some()
            for chid in self._wanted.taken():
                state = self._ledger.state(chid)
                if isinstance(state, Payee) and state.coin is not None and state.held_florins:
                    await self._by_whom(chid, state.held_florins)

    async def _by_whom(self, chid: str, held_florins: int) -> None:
        if self._named:
            await self._place(chid, held_florins, self._named, len(self._named))
        else:
            wanted = self._desk.settings.channel_watchers_auto
            await self._place(chid, held_florins, await self._chosen(chid), wanted)

    async def _chosen(self, chid: str) -> list[Did]:
        """Those that watch this channel already, then those that its id chooses; never the payer, who gains by it."""
        parties = (self._desk.me, self._ledger.book(chid).other)
        strangers = [did for did in await self._safe.active() if did not in parties]
        placed = self._placed.get(chid)
        known = [did for did in (placed.by if placed else ()) if did in strangers]
        others = sorted(strangers, key=lambda did: hashlib.sha256(bytes.fromhex(chid) + did.encode()).digest())
        return list(dict.fromkeys((*known, *others)))[:ASKED_MAX]

    async def _place(self, chid: str, cum_florins: int, asked: list[Did], wanted: int) -> bool:
        """Hand a close to so many of these; whether one has it."""
        book, kept = self._ledger.book(chid), list[Did]()
        try:
            keep = await self._close(book, cum_florins) if asked else None
        except DuxError as error:
            self._desk.log.warning("no copy of a close could be made", chid=chid, reason=error.message)
            return False
        for did in asked:
            if keep is not None and len(kept) < wanted and await self._kept(did, keep):
                kept.append(did)
        if self._counter.tip is not None:
            self._placed[chid] = _Placed(cum_florins, self._counter.tip, tuple(kept))
        return bool(kept)

    async def _close(self, book: Book, cum_florins: int) -> peer.KeepClose:
        state = self._ledger.payee(book.chid)
        wish = purse.CloseWish(
            request_id=f"{book.chid}/copy/{cum_florins}/{state.outpoint[:16]}",
            chid=book.chid,
            outpoint=outpoint_of(state.outpoint),
            cum_florins=Florins(cum_florins),
            payer_sig=coin_part(self._ledger.shelf, book.chid, state.outpoint, cum_florins),
            publish=False,
        )
        made = await self._desk.flopd.call(purse.PURSE_CLOSE, wish)
        profile = channel_profile(book.terms.profile)
        return peer.KeepClose(
            chid=bytes.fromhex(book.chid),
            raw=made.raw,
            publish_at=book.terms.exp - profile.watch_blocks,
        )

    async def _kept(self, did: Did, keep: peer.KeepClose) -> bool:
        try:
            return (await self._desk.peers.call(did, peer.KEEP, keep, deadline_s=ASK_S)).kept
        except DuxError as error:
            self._desk.log.info("a watcher does not answer", watcher=did, reason=error.message)
            return False
