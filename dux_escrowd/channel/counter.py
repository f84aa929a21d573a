"""What both sides of channels share in this daemon: books, signer, wallet, other nodes, and the chain's tip.

The tip is the follower's: a call over a channel asks no other daemon for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from common.chain.address import address_to_script
from common.chain.params import family_named
from common.codec import Canon, canonical
from common.contracts import wallet_channel as purse
from common.contracts.channel_errors import ChannelBusy
from common.identity.purposes import Purpose
from common.randomness import Randomness
from common.receipts import Attested
from dux_escrowd.channel.ledger import Ledger
from dux_escrowd.channel.orders import Order
from dux_escrowd.channel.shelf import Book
from dux_escrowd.channel.signing import Signer
from dux_escrowd.desk import Desk

TIP_WITHIN_S = 20.0


class Hands(Protocol):
    """Who carries out what tables order."""

    async def carry(self, chid: str, effects: Iterable[Order]) -> None:
        """Perform these orders; what cannot be done now is done again at the next block."""

    async def mirror(self, book: Book, cum_florins: int) -> bool:
        """Place a copy of the close at this amount elsewhere; whether one lies there, or none is wanted."""

    async def copied(self, chid: str) -> None:
        """Have an encrypted copy of a channel kept by others now."""


@dataclass(kw_only=True)
class Counter:
    """The parts."""

    desk: Desk
    ledger: Ledger
    signer: Signer
    hands: Hands = field(init=False)
    tip: int | None = None
    fresh: bool = True
    seen: asyncio.Event = field(default_factory=asyncio.Event)  # the follower has looked once

    @property
    def me(self) -> str:
        """This node's DID."""
        return self.desk.me

    @property
    def genesis(self) -> str:
        """The network's name in everything that is signed."""
        return self.desk.profile.genesis

    @property
    def random(self) -> Randomness:
        """Randomness."""
        return self.desk.random

    async def at(self) -> tuple[int, bool]:
        """The tip, and whether it is young enough to admit calls on.

        Raises:
            ChannelBusy: the chain has not been read yet.
        """
        if self.tip is None:
            try:
                async with asyncio.timeout(TIP_WITHIN_S):
                    await self.seen.wait()
            except TimeoutError as error:
                raise ChannelBusy(chid="", state="not read", reason="the wallet still reads the chain") from error
        return self.tip or 0, self.fresh

    async def height(self) -> int:
        """The tip."""
        return (await self.at())[0]

    def royalty(self, developer: str, bps: int) -> tuple[bytes, int]:
        """The terms' form of a royalty: the script of the developer's address and its share; or nobody and nothing.

        Raises:
            BadParams: the address is none of this chain.
        """
        if not developer or not bps:
            return b"", 0
        return address_to_script(developer, family_named(self.desk.profile.chain)), bps

    async def key_seq(self) -> int:
        """The number of the key that this node signs with now."""
        return (await self.desk.peers.info()).key_seq

    async def attest(self, purpose: Purpose, value: Canon) -> Attested:
        """The value under this node's DID."""
        return await self.desk.attest(purpose, value)

    async def carry(self, chid: str, effects: Iterable[Order]) -> None:
        """Perform orders."""
        await self.hands.carry(chid, effects)

    async def mirror(self, book: Book, cum_florins: int) -> bool:
        """Place a copy."""
        return await self.hands.mirror(book, cum_florins)

    async def copied(self, chid: str) -> None:
        """Have a copy kept."""
        await self.hands.copied(chid)

    async def watch(self, book: Book) -> None:
        """Follow the channel's script, from the first hello on: nothing is watched for who never came back."""
        if book.follow:
            return
        wish = purse.AdoptChannel(
            request_id=f"{book.chid}/watch",
            terms=canonical(book.terms),
            side="payee",
            key_index=book.key_index,
            from_height=max(0, book.created_height - 1),
        )
        await self.desk.flopd.call(purse.PURSE_ADOPT, wish)
        with self.ledger.store.transaction() as tx:
            self.ledger.note(tx, book.chid, follow=1)
