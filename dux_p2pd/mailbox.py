"""This node's own letters: sealed and offered to the nodes near their recipient; fetched, opened and signed for.

Promise: a letter that `mail.send` has answered for is kept here until its recipient has signed for it or a week is
over, whatever crashes meanwhile; a letter that came is on disk before it is acknowledged, comes once however often it
is given, and is what its sender signed for this node. Who withholds letters is made up for by the other keepers.

Source: transport_identity.md §3.4, network.md §4.
"""

from __future__ import annotations

import asyncio

import msgspec
from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts.p2p_errors import NoMailbox, OutboxFull
from common.contracts.p2p_mail import LETTERS_MAX, DropMail, Letters, ListMail, MailSent, SendMail
from common.contracts.peer_mail import (
    MAIL_ACK,
    MAIL_COLLECT,
    MAIL_STORE,
    Acked,
    Collect,
    Deposited,
    MailNotice,
    Noticed,
    Parcel,
)
from common.errors import BadParams, DuxError
from common.identity.did import node_id_of
from common.identity.errors import BadLetter, BadSignature
from common.identity.mail import (
    BOX_CHARS_MAX,
    LETTER_PAYLOAD_BYTES_MAX,
    SUBJECT_CHARS_MAX,
    Ack,
    Letter,
    key_id_of,
    letter_id,
    parcel_id,
    seal,
    unseal,
)
from common.identity.purposes import Purpose
from common.identity.signed import sign
from common.identity.stamp import make_stamp
from common.rpc.method import DAEMONS, Done
from common.rpc.table import Ctx
from common.units import Did
from dux_p2pd.dht import Dht
from dux_p2pd.directory import Directory
from dux_p2pd.keeper import Keeper
from dux_p2pd.mail_keys import MailboxKeys
from dux_p2pd.mail_rules import AGE_MS_MAX, KEPT_MS, OUTBOX_MAX, letter_fault, retry_ms
from dux_p2pd.mail_table import MailTable, Posted
from dux_p2pd.peers import PeerBook
from dux_p2pd.postbox import Postbox, is_signed_by, key_is_missing, stamped_parcel
from dux_p2pd.resolver import Resolver
from dux_p2pd.routing import K
from dux_p2pd.session import Address, Peer
from dux_p2pd.tasks import Tasks

AT_ONCE = 8  # keepers asked at a time
ROUNDS_MAX = 16  # answers of one keeper with more to come
COLLECT_EVERY_S = 3600.0
COLLECT_SOON_S = 5.0  # after the start, while nobody is connected
IDLE_S = 60.0  # longest sleep of the outbox: keys turn and expired things go meanwhile
OFFERS_PER_TURN = 16
RECORD_AGE_S = 86_400  # a recipient's record as old as this names a key that is still kept
BOX_LETTERS_MAX = 1000  # letters of one box that nobody has dropped
COLLECT_S = 15.0
PEOPLE_BOX = "people"
REFUSED_MAX = 256  # parcels remembered that cannot be opened, so that they are not fetched again and again


class Mailbox:
    """Sends and fetches."""

    def __init__(
        self,
        table: MailTable,
        keys: MailboxKeys,
        keeper: Keeper,
        postbox: Postbox,
        resolver: Resolver,
        dht: Dht,
        peers: PeerBook,
        *,
        directory: Directory,
        tasks: Tasks,
        clock: Clock,
        log: FilteringBoundLogger,
        bits: int,
    ) -> None:
        self._table = table
        self._keys = keys
        self._keeper = keeper
        self._postbox = postbox
        self._resolver = resolver
        self._directory = directory
        self._dht = dht
        self._peers = peers
        self._tasks = tasks
        self._clock = clock
        self._log = log
        self._bits = bits
        self._wake = asyncio.Event()
        self._refused: dict[bytes, None] = {}

    # what the node's daemons ask

    async def send(self, params: SendMail, ctx: Ctx) -> MailSent:
        """mail.send.

        Raises:
            NoMailbox, OutboxFull, PeerUnknown, BadLetter, BadParams, IdentityUnsure.
        """
        if len(params.payload) > LETTER_PAYLOAD_BYTES_MAX or len(params.subject) > SUBJECT_CHARS_MAX:
            raise BadParams(
                detail=f"payload: at most {LETTER_PAYLOAD_BYTES_MAX} bytes; subject: {SUBJECT_CHARS_MAX} characters"
            )
        waiting = self._table.undelivered()
        if waiting >= OUTBOX_MAX:
            raise OutboxFull(waiting=waiting, limit=OUTBOX_MAX)
        letter = Letter(
            v=1,
            sender=self._keeper.did,
            key_seq=self._keeper.key_seq,
            recipient=params.to,
            at_ms=self._clock.unix_ms(),
            box=box_of(ctx.caller),
            subject=params.subject,
            payload=params.payload,
        )
        parcel = await self._parcel(letter)
        identity, there = letter_id(letter), parcel_id(params.to, parcel.sealed)
        self._table.post(letter, identity, there, canonical(parcel), letter.at_ms + KEPT_MS, ctx)
        self._wake.set()
        return MailSent(id=identity.hex())

    async def _parcel(self, letter: Letter) -> Parcel:
        """Sealed to the key that the recipient names first; stamped, because some keeper may not know this node."""
        known = await self._resolver.resolve(letter.recipient, RECORD_AGE_S)
        if known.record is None or not known.record.mailbox_keys:
            raise NoMailbox(did=letter.recipient)
        public = known.record.mailbox_keys[0]
        sealed = seal(letter, self._keeper.signer, public)
        parcel = Parcel(recipient=letter.recipient, key_id=key_id_of(public), sealed=sealed, stamp=0)
        if not self._bits:
            return parcel
        stamp = await asyncio.to_thread(make_stamp, stamped_parcel(parcel, self._keeper.did), self._bits)
        return msgspec.structs.replace(parcel, stamp=stamp)

    async def letters(self, params: ListMail, ctx: Ctx) -> Letters:
        """mail.list."""
        box, limit = box_of(ctx.caller), min(max(params.limit, 0), LETTERS_MAX)
        if params.sent:
            return Letters(letters=self._table.sent_letters(box, self._keeper.did, params.after, limit))
        return Letters(letters=self._table.letters(box, params.after, limit))

    async def drop(self, params: DropMail, ctx: Ctx) -> Done:
        """mail.drop."""
        try:
            ids = [bytes.fromhex(text) for text in params.ids[:LETTERS_MAX]]
        except ValueError as error:
            raise BadParams(detail="ids: letters' ids have 64 hex digits") from error
        self._table.drop(box_of(ctx.caller), ids)
        return Done()

    # sending

    async def run_outbox(self) -> None:
        """Offer what is due to the nodes near its recipient, for ever; turn the keys when that is due."""
        while True:
            now_ms = self._clock.unix_ms()
            if self._keys.turn(now_ms):
                self._log.info("mailbox key changed")
            self._table.sweep(now_ms)
            for posted in self._table.due(now_ms, OFFERS_PER_TURN):
                await self._offer(posted)
            await self._rest()

    async def _rest(self) -> None:
        due_ms, now_ms = self._table.next_due_ms(), self._clock.unix_ms()
        wait_s = IDLE_S if due_ms is None else min(IDLE_S, max(0.5, (due_ms - now_ms) / 1000))
        self._wake.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _offer(self, posted: Posted) -> None:
        """Offer one letter to its recipient, and where that is away to the k nodes nearest to it."""
        parcel = from_canonical(posted.parcel, Parcel, max_bytes=MAIL_STORE.params_bytes_max)
        if self._peers.is_connected(posted.recipient) and await self._hand_over(posted, parcel):
            return
        slots, answers = asyncio.Semaphore(AT_ONCE), list[Deposited]()

        async def deposit(did: Did, at: tuple[Address, ...]) -> None:
            async with slots:
                try:
                    answers.append(await self._peers.call(did, MAIL_STORE, parcel, hints=at))
                except DuxError as error:
                    self._log.debug("letter not kept", did=did, reason=error.message)

        async with asyncio.TaskGroup() as group:
            for did, at in (await self._keepers(posted.recipient)).items():
                group.create_task(deposit(did, at))
        for answer in answers:
            if answer.ack and self._heard(answer.ack, posted):
                return
        copies = sum(answer.kept for answer in answers)
        self._table.offered(posted.id, copies, self._clock.unix_ms() + retry_ms(posted.tries, copies))

    async def _hand_over(self, posted: Posted, parcel: Parcel) -> bool:
        """Give a letter to its recipient itself; whether it signed for it."""
        try:
            answer = await self._peers.call(posted.recipient, MAIL_STORE, parcel)
        except DuxError as error:
            self._log.debug("letter not handed over", did=posted.recipient, reason=error.message)
            return False
        return bool(answer.ack) and self._heard(answer.ack, posted)

    async def _keepers(self, recipient: Did) -> dict[Did, tuple[Address, ...]]:
        """The nodes nearest to a recipient's place."""
        near = await self._dht.find(node_id_of(recipient))
        return {node.did: node.addresses for node in near.nodes[:K] if node.did != self._keeper.did}

    def _heard(self, data: bytes, posted: Posted) -> bool:
        """Whether a keeper's word that the letter was fetched is the recipient's."""
        try:
            ack = self._postbox.checked_ack(data)
        except DuxError as error:
            self._log.info("acknowledgement not believed", recipient=posted.recipient, reason=error.message)
            return False
        return ack.recipient == posted.recipient and self._table.delivered(ack.ids, ack.recipient) > 0

    # fetching

    async def run_collection(self) -> None:
        """Fetch what waits for this node: at the start, and each hour."""
        while True:
            connected = bool(self._peers.sessions())
            if connected:
                await self.collect()
            await asyncio.sleep(COLLECT_EVERY_S if connected else COLLECT_SOON_S)

    async def collect(self) -> None:
        """Ask every node near the own place, which are those around this node; what one withholds another gives."""
        keepers = {node.did: node.addresses for node in self._dht.table.nearest(self._dht.table.node.id)}
        slots = asyncio.Semaphore(AT_ONCE)

        async def ask(did: Did, at: tuple[Address, ...]) -> None:
            async with slots:
                await self._collect_from(did, at)

        async with asyncio.TaskGroup() as group:
            for did, at in keepers.items():
                group.create_task(ask(did, at))

    async def on_notice(self, _params: MailNotice, peer: Peer) -> Noticed:
        """MAIL_NOTICE: the caller keeps letters for us."""
        heard = self._tasks.spawn(self._collect_from(peer.did, ()), "fetch letters") is not None
        return Noticed(heard=heard)

    async def _collect_from(self, did: Did, at: tuple[Address, ...]) -> None:
        """Fetch, open, keep, then sign for what came from one keeper."""
        try:
            for _ in range(ROUNDS_MAX):
                answer = await self._peers.call(did, MAIL_COLLECT, self._wish(), deadline_s=COLLECT_S, hints=at)
                taken = [identity for parcel in answer.parcels if (identity := await self._take(parcel, did))]
                if taken:
                    await self._acknowledge(tuple(taken), did)
                if not answer.more or not answer.parcels:
                    return
        except DuxError as error:
            self._log.debug("letters not had", did=did, reason=error.message)

    def _wish(self) -> Collect:
        return Collect(have=tuple(self._refused))

    async def on_store(self, parcel: Parcel, peer: Peer) -> Deposited:
        """MAIL_STORE: what is for this node is opened at once, all else is the postbox's."""
        if parcel.recipient != self._keeper.did:
            return await self._postbox.on_store(parcel, peer)
        fault = self._postbox.stamp_fault(parcel, peer.did)
        if fault is not None:
            return Deposited(kept=False, reason=fault, ack=b"")
        identity = await self._take(parcel, peer.did)
        if identity is None:
            return Deposited(kept=False, reason="it cannot be opened or was not signed by its sender", ack=b"")
        return Deposited(kept=True, reason="", ack=self._signed_ack((identity,)))

    async def _take(self, parcel: Parcel, giver: Did) -> bytes | None:
        """Open a parcel and keep its letter; the parcel's id when the letter is here now, None when it is no good."""
        identity = parcel_id(parcel.recipient, parcel.sealed)
        try:
            letter = await self._opened(parcel, giver)
        except DuxError as error:
            self._log.info("letter refused", giver=giver, reason=error.message)
            self._refused[identity] = None
            while len(self._refused) > REFUSED_MAX:
                del self._refused[next(iter(self._refused))]
            return None
        known = letter_id(letter)
        if not self._table.has_letter(known) and self._table.count(letter.box) < BOX_LETTERS_MAX:
            self._table.take_in(known, letter, letter.at_ms + AGE_MS_MAX + KEPT_MS)
        return identity if self._table.has_letter(known) else None

    async def _opened(self, parcel: Parcel, giver: Did) -> Letter:
        """The letter inside, written for this node and signed by its sender.

        Raises:
            BadLetter, BadSignature, BadParams.
        """
        seed = self._keys.seed_of(parcel.key_id)
        if seed is None:
            raise BadLetter(detail="it is sealed to a key that was thrown away, or to none of ours")
        signed, letter = unseal(parcel.sealed, seed, self._keeper.did)
        if fault := letter_fault(letter, self._clock.unix_ms()):
            raise BadLetter(detail=fault)
        if key_is_missing(self._directory, letter.sender, letter.key_seq):
            await self._dht.ask_log(giver, letter.sender)
        if key_is_missing(self._directory, letter.sender, letter.key_seq):
            await self._resolver.resolve(letter.sender, 0)
        if not is_signed_by(self._directory, signed, Purpose.MAIL, letter.sender, letter.key_seq, letter.at_ms):
            raise BadSignature(purpose=Purpose.MAIL.value)
        return letter

    async def _acknowledge(self, ids: tuple[bytes, ...], keeper: Did) -> None:
        """Tell who gave them; the other keepers hear of it when the sender or this node asks them next."""
        await self._peers.call(keeper, MAIL_ACK, Acked(ack=self._signed_ack(ids)))

    def _signed_ack(self, ids: tuple[bytes, ...]) -> bytes:
        ack = Ack(v=1, recipient=self._keeper.did, key_seq=self._keeper.key_seq, at_ms=self._clock.unix_ms(), ids=ids)
        return canonical(sign(self._keeper.signer, Purpose.MAIL_ACK, ack))


def box_of(caller: str) -> str:
    """Whose letters a caller sees: a daemon its own, people and other programs those of people."""
    return caller[:BOX_CHARS_MAX] if caller in DAEMONS else PEOPLE_BOX
