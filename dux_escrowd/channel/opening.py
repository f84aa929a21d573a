"""Opening a channel, from both sides: a wish with its work stamp, terms under the payee's key, and the funding.

The payee keeps nothing before the stamp is checked, watches nothing before the first hello, and lets one DID have four
channels and its tier open. The payer's wallet pays only the script that it rebuilt from the terms it adopted.
Source: channel_protocol.md §3; settled.md 6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from common.chain.channel import TERMS_BYTES_MAX, ChannelTerms, channel_output_script, chid
from common.chain.channel_heights import channel_profile, terms_problems
from common.chain.fees import FEE_RATE_FLORINS_PER_KB, fee_for
from common.chain.params import family_named
from common.channel_messages import is_channel_signature
from common.codec import canonical, from_canonical
from common.community_fund import fund_script_of
from common.contracts import peer_channel as peer
from common.contracts import wallet_channel as purse
from common.contracts.channel_errors import BadChannelMessage, BadChannelTerms
from common.contracts.p2p_errors import PeerAnswered
from common.contracts.registry import REPUTATION_GET, NodeName
from common.contracts.wallet import WALLET_BALANCE
from common.contracts.wallet_errors import InsufficientFunds
from common.errors import DuxError, NotFound
from common.identity.purposes import Purpose
from common.identity.signed import decode_signed
from common.identity.stamp import STAMP_BITS, has_stamp, make_stamp, stamped_part
from common.rpc.method import Empty
from common.store import Tx
from common.units import Did, Florins
from dux_escrowd.channel import facts as f
from dux_escrowd.channel.agree import offered_problem, rules_of, terms_for
from dux_escrowd.channel.carrying import Carrying
from dux_escrowd.channel.copies import payee_nonce
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.model import Payee, Payer, Rules
from dux_escrowd.channel.shelf import ROLLED, Book

OPEN_PER_DID = 4  # and its tier
WISH_BYTES_MAX = 1_024
FUNDING_BYTES_MIN = 190  # one input, one output to a script's hash


class Opening:
    """Both sides of OPEN_REQ and OPEN_OK."""

    def __init__(self, counter: Counter, carrying: Carrying) -> None:
        self._counter = counter
        self._carrying = carrying
        self._ledger = counter.ledger
        self._desk = counter.desk
        self._profile = channel_profile(counter.desk.profile.heights)

    @property
    def stamp_bits(self) -> int:
        """The work that a wish needs: none on test networks."""
        return 0 if family_named(self._desk.profile.chain).is_test else STAMP_BITS

    # --- the payer's --------------------------------------------------------------------------------------------------

    async def open(
        self,
        payee: Did,
        cap_florins: int,
        *,
        blocks: int | None = None,
        developer_script: bytes = b"",
        royalty_bps: int = 0,
        rolled: bool = False,
        opened: Callable[[Tx, str], None] = lambda _tx, _chid: None,
    ) -> str:
        """Agree, adopt, fund; the channel's id. Its hello follows when the coin is in a block.

        `opened`: what the caller writes in the decision by which the channel is there: from then on it is funded, also
        after a crash, and whoever asks once more for it must not get another.
        """
        if not rolled:
            await self._require_funds(cap_florins)
        await self._desk.require_sound(payee)
        nonce = self._counter.random.bytes(32)
        key = await self._desk.flopd.call(
            purse.PURSE_KEY, purse.NewChannelKey(request_id=f"{nonce.hex()}/key", side="payer", nonce=nonce)
        )
        wish = await self._wish(nonce, key, cap_florins, blocks, developer_script, royalty_bps)
        said = await self._carrying.open(payee, await self._stamped(wish))
        terms = await self._agreed(wish, said, payee)
        book = await self._adopted(terms, key.index, "payer", rolled=rolled)
        with self._ledger.store.transaction() as tx:
            self._ledger.open(tx, book, Payer(chid=book.chid, rules=rules_of(terms)))
            opened(tx, book.chid)
        taken = await self._ledger.take(book.chid, f.OpenOk(at=book.created_height, same=True))
        await self._counter.copied(book.chid)  # before its coin is there: the phrase alone finds it from now on
        if not rolled:
            await self._counter.carry(book.chid, taken.effects)
        return book.chid

    async def _require_funds(self, cap_florins: int) -> None:
        """No channel waits for coins that the wallet does not have at all, to take them whenever some come.

        Raises:
            InsufficientFunds: all that it holds, also what waits for a block, is less than the cap and its fee.
        """
        have = int((await self._desk.flopd.call(WALLET_BALANCE, Empty())).total_florins)
        need = cap_florins + int(fee_for(FUNDING_BYTES_MIN, FEE_RATE_FLORINS_PER_KB))
        if have < need:
            raise InsufficientFunds(have_florins=have, need_florins=need)

    async def _wish(
        self, nonce: bytes, key: purse.ChannelKey, cap: int, blocks: int | None, developer: bytes, royalty: int
    ) -> peer.OpenReq:
        tip = await self._counter.height()
        return peer.OpenReq(
            nonce=nonce,
            network=self._counter.genesis,
            payer_key=key.pubkey,
            change_script=key.script,
            fund_script=fund_script_of(self._desk.profile.fund),
            tax_bps=self._desk.profile.tax_bps,
            developer_script=developer,
            royalty_bps=royalty,
            fee_rate_florins_per_kb=FEE_RATE_FLORINS_PER_KB,
            cap_florins=Florins(cap),
            exp=tip + (self._profile.exp_default_blocks if blocks is None else blocks),
            profile=self._profile.name,
        )

    async def _stamped(self, wish: peer.OpenReq) -> peer.StampedOpen:
        body = canonical(wish)
        part = stamped_part(Did(self._counter.me), Purpose.CHANNEL_ASK, body)
        stamp = await asyncio.to_thread(make_stamp, part, self.stamp_bits) if self.stamp_bits else 0
        return peer.StampedOpen(wish=body, stamp=stamp)

    async def _agreed(self, wish: peer.OpenReq, data: bytes, payee: Did) -> ChannelTerms:
        """The payee's terms: what was wished for, under the key that stands in them."""
        signed = decode_signed(data, max_bytes=TERMS_BYTES_MAX)
        terms = from_canonical(signed.body, ChannelTerms, max_bytes=TERMS_BYTES_MAX)
        tip = await self._counter.height()
        problem = offered_problem(wish, terms, payer=self._counter.me, payee=payee, tip=tip)
        if problem:
            raise BadChannelTerms(reason=problem)
        if len(signed.sigs) != 1 or not is_channel_signature(
            terms.payee_key, Purpose.CHANNEL_TERMS, signed.body, signed.sigs[0]
        ):
            raise BadChannelMessage(chid=chid(terms).hex(), reason="the terms are not signed by the payee's key")
        return terms

    def _from_height(self, tip: int, *, lost: bool) -> int:
        """Where a channel's coin is looked for: from now on, or as far back as one can be open."""
        return max(0, tip - self._profile.exp_max_blocks) if lost else tip

    async def _adopted(
        self, terms: ChannelTerms, index: int, side: str, *, rolled: bool = False, lost: bool = False
    ) -> Book:
        """The wallet rebuilds the script; the payer's is followed from now on."""
        height, name = await self._counter.height(), chid(terms).hex()
        payer = side == "payer"
        wish = purse.AdoptChannel(
            request_id=f"{name}/lost/{height}" if lost else f"{name}/adopt",
            terms=canonical(terms),
            side="payer" if payer else "payee",
            key_index=index,
            from_height=self._from_height(height, lost=lost) if payer else None,
            lost=lost,
        )
        adopted = await self._desk.flopd.call(purse.PURSE_ADOPT, wish)
        return Book(
            chid=name,
            side=side,
            other=terms.payee if payer else terms.payer,
            terms=terms,
            key_index=index,
            output_script=channel_output_script(terms),
            address=adopted.address,
            created_ms=self._desk.clock.unix_ms(),
            created_height=height,
            follow=payer,
            reason="",
            opening=ROLLED if rolled else b"",
            final=b"",
        )

    async def recover(self, payee: Did, keys: int) -> list[str]:
        """Channels to a payee, found with the phrase alone; their coin and their hello bring back the rest."""
        nonce = self._counter.random.bytes(16).hex()
        wish = purse.LostKeys(request_id=f"{nonce}/lost", side="payer", first=0, count=keys)
        found: list[str] = []
        for key in (await self._desk.flopd.call(purse.PURSE_LOST_KEYS, wish)).keys:
            terms = await self._terms_of(payee, key)
            if terms is not None and self._ledger.shelf.book(chid(terms).hex()) is None:
                found.append(await self._recovered(terms, key.index))
        return found

    async def _terms_of(self, payee: Did, key: purse.ChannelKey) -> ChannelTerms | None:
        try:
            said = await self._desk.call(payee, peer.GET, peer.ChannelOf(payer_key=key.pubkey))
        except PeerAnswered:
            return None
        signed = decode_signed(said.terms, max_bytes=TERMS_BYTES_MAX)
        terms = from_canonical(signed.body, ChannelTerms, max_bytes=TERMS_BYTES_MAX)
        mine = (terms.payer_key, terms.change_script, terms.payer, terms.payee)
        return terms if mine == (key.pubkey, key.script, self._counter.me, payee) else None

    async def _recovered(self, terms: ChannelTerms, index: int) -> str:
        book = await self._adopted(terms, index, "payer", rolled=True, lost=True)
        with self._ledger.store.transaction() as tx:
            self._ledger.open(tx, book, Payer(chid=book.chid, rules=rules_of(terms)))
        await self._ledger.take(book.chid, f.OpenOk(at=book.created_height, same=True))
        return book.chid

    # --- the payee's --------------------------------------------------------------------------------------------------

    async def take(self, data: bytes, stamp: int, sender: Did) -> bytes:
        """A payer's wish: checked, then terms under a key made for it; the same wish gets the same terms."""
        self.require_stamp(data, stamp, sender)
        wish = from_canonical(data, peer.OpenReq, max_bytes=WISH_BYTES_MAX)
        known = self._ledger.shelf.of_payer_key(sender, wish.payer_key)
        if known is not None:
            return await self._signed(known)
        await self._check_room(sender)
        nonce = payee_nonce(sender, wish.payer_key)
        key = await self._desk.flopd.call(
            purse.PURSE_KEY, purse.NewChannelKey(request_id=f"{nonce.hex()}/key", side="payee", nonce=nonce)
        )
        terms = self._terms(wish, sender, key)
        problems = terms_problems(terms, await self._counter.height())
        if problems:
            raise BadChannelTerms(reason=f"not so: {problems[0]}")
        book = await self._adopted(terms, key.index, "payee")
        with self._ledger.store.transaction() as tx:
            self._ledger.open(tx, book, Payee(chid=book.chid, rules=self._rules(terms)))
        await self._ledger.take(book.chid, f.OpenAsked(at=book.created_height, problem=""))
        return await self._signed(book)

    def require_stamp(self, data: bytes, stamp: int, sender: Did) -> None:
        """Nothing happens for a wish that work was done for.

        Raises:
            BadChannelTerms: none was.
        """
        part = stamped_part(sender, Purpose.CHANNEL_ASK, data)
        if not has_stamp(part, stamp, self.stamp_bits):
            raise BadChannelTerms(reason=f"a wish for a channel bears {self.stamp_bits} bits of work")

    def _terms(self, wish: peer.OpenReq, sender: Did, key: purse.ChannelKey) -> ChannelTerms:
        settings = self._desk.settings
        return terms_for(
            wish,
            payer=sender,
            payee=self._counter.me,
            payee_key=key.pubkey,
            payout_script=key.script,
            window=settings.channel_window,
            mirror_florins=int(settings.channel_mirror_florins),
            limit_florins=int(settings.channel_limit_florins),
        )

    def _rules(self, terms: ChannelTerms) -> Rules:
        return rules_of(terms, rerun=self._desk.settings.channel_on_crash == "rerun")

    async def _check_room(self, sender: Did) -> None:
        limit = OPEN_PER_DID + await self._tier(sender)
        if self._ledger.shelf.open_of(sender) >= limit:
            raise BadChannelTerms(reason=f"{sender} has {limit} channels open here; close one first")

    async def _tier(self, did: Did) -> int:
        """The sender's tier; 0 where the registry cannot say."""
        try:
            return (await self._desk.registryd.call(REPUTATION_GET, NodeName(node_id=did))).tier
        except DuxError:
            return 0

    async def _signed(self, book: Book) -> bytes:
        return await self._counter.signer.message(book.chid, Purpose.CHANNEL_TERMS, book.terms)

    async def get(self, payer_key: bytes, sender: Did) -> bytes:
        """The terms of a channel, for its payer that lost them."""
        book = self._ledger.shelf.of_payer_key(sender, payer_key)
        if book is None:
            raise NotFound(what="channel of this payer key", name=payer_key.hex())
        return await self._signed(book)
