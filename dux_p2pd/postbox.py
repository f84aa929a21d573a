"""Letters kept for others: this node's part of everybody's mailbox.

Promise: a parcel is kept for its recipient only when this node is near to it and within the limits per recipient and
sender; it is given to its recipient alone, and thrown away when the recipient has signed for it, or after a week. It
cannot be read here. A stranger's parcel costs it work, looked at before anything else.

Source: transport_identity.md §3.4, network.md §4.
"""

from __future__ import annotations

import msgspec
from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts.peer_mail import (
    MAIL_NOTICE,
    MAIL_STORE,
    PARCELS_BYTES_MAX,
    PARCELS_MAX,
    Acked,
    AckTaken,
    Collect,
    Deposited,
    MailNotice,
    Parcel,
    Parcels,
)
from common.errors import BadParams
from common.identity.did import did_bytes, node_id_of
from common.identity.errors import BadSignature
from common.identity.keys import is_signed
from common.identity.log import was_valid
from common.identity.mail import Ack, check_size, open_ack, parcel_id
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.identity.stamp import has_stamp, stamped_part
from common.units import Did
from dux_p2pd.abuse import Abuse
from dux_p2pd.dht import Dht
from dux_p2pd.directory import Directory
from dux_p2pd.mail_rules import KEPT_MS, NOT_NEAR, Room, deposit_fault
from dux_p2pd.mail_table import MailTable
from dux_p2pd.peers import PeerBook
from dux_p2pd.routing import K
from dux_p2pd.session import Peer, Session
from dux_p2pd.tasks import Tasks


class Postbox:
    """Keeps, gives and throws away."""

    def __init__(
        self,
        table: MailTable,
        directory: Directory,
        dht: Dht,
        peers: PeerBook,
        tasks: Tasks,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
        bits: int,
    ) -> None:
        self._table = table
        self._directory = directory
        self._dht = dht
        self._peers = peers
        self._tasks = tasks
        self._clock = clock
        self._log = log
        self._bits = bits
        peers.on_up.append(self._came)

    async def on_store(self, parcel: Parcel, peer: Peer) -> Deposited:
        """MAIL_STORE: for others; the mailbox itself takes what is for this node."""
        check_size(parcel.sealed)
        fault = self.stamp_fault(parcel, peer.did)
        if fault is not None:
            return self._refused(fault)
        identity = parcel_id(parcel.recipient, parcel.sealed)
        held = self._table.parcel(identity)
        if held is not None:
            return Deposited(kept=True, reason="", ack=held.ack)
        data = canonical(parcel)
        fault = deposit_fault(len(data), self._room(parcel.recipient, peer.did))
        if fault is not None:
            return self._refused(fault)
        self._table.keep(identity, parcel.recipient, peer.did, data, self._clock.unix_ms() + KEPT_MS)
        if self._peers.is_connected(parcel.recipient):
            self._tasks.spawn(self._notice(parcel.recipient, 1), "tell of a letter")
        return Deposited(kept=True, reason="", ack=b"")

    def _refused(self, fault: str) -> Deposited:
        if fault != NOT_NEAR:
            self._peers.abuse.add(Abuse.LETTER_REFUSED)
        return Deposited(kept=False, reason=fault, ack=b"")

    def stamp_fault(self, parcel: Parcel, sender: Did) -> str | None:
        """Why a parcel is not even looked at, or None."""
        if self._directory.is_known(sender) or has_stamp(stamped_parcel(parcel, sender), parcel.stamp, self._bits):
            return None
        return "a stranger's letter needs work"

    def _room(self, recipient: Did, sender: Did) -> Room:
        of_recipient, of_sender, held = self._table.room(recipient, sender)
        nearer = self._dht.table.nearer_than_us(node_id_of(recipient))
        return Room(of_recipient, of_sender, held, nearer, 2 * K)

    async def on_collect(self, params: Collect, peer: Peer) -> Parcels:
        """MAIL_COLLECT: what waits for the caller, whose DID the session has proved."""
        have, room = set(params.have), PARCELS_BYTES_MAX
        chosen: list[Parcel] = []
        waiting = [kept for kept in self._table.waiting(peer.did) if kept.id not in have]
        for kept in waiting[:PARCELS_MAX]:
            data = kept.parcel or b""
            room -= len(data)
            if room < 0:
                break
            chosen.append(from_canonical(data, Parcel, max_bytes=MAIL_STORE.params_bytes_max))
        return Parcels(parcels=tuple(chosen), more=len(chosen) < len(waiting))

    async def on_ack(self, params: Acked, _peer: Peer) -> AckTaken:
        """MAIL_ACK: whoever brings it, the recipient's signature decides.

        Raises:
            BadSignature, BadParams: it is not the recipient's.
        """
        ack = self.checked_ack(params.ack)
        kept = self._table.acked(ack.ids, ack.recipient, params.ack)
        return AckTaken(count=kept + self._table.delivered(ack.ids, ack.recipient))

    def checked_ack(self, data: bytes) -> Ack:
        """The acknowledgement, signed by its recipient's key of that time.

        Raises:
            BadSignature: it is not, or its recipient's log is not known here. BadParams.
        """
        signed, ack = open_ack(data)
        if not is_signed_by(self._directory, signed, Purpose.MAIL_ACK, ack.recipient, ack.key_seq, ack.at_ms):
            raise BadSignature(purpose=Purpose.MAIL_ACK.value)
        return ack

    def _came(self, session: Session) -> None:
        """A node that came up is told what waits for it here."""
        waiting = len(self._table.waiting(session.peer.did))
        if waiting:
            self._tasks.spawn(self._notice(session.peer.did, waiting), "tell of letters")

    async def _notice(self, recipient: Did, count: int) -> None:
        await self._peers.call(recipient, MAIL_NOTICE, MailNotice(count=min(count, PARCELS_MAX)))


def stamped_parcel(parcel: Parcel, sender: Did) -> bytes:
    """What the work of a parcel is done over: who sends it, and all of it but the work."""
    return stamped_part(sender, Purpose.MAIL_PARCEL, canonical(msgspec.structs.replace(parcel, stamp=0)))


def is_signed_by(directory: Directory, signed: Signed, purpose: Purpose, did: Did, key_seq: int, at_ms: int) -> bool:
    """Whether the DID's key of that time, as far as it is known here, has signed this."""
    did_bytes(did)
    known = directory.get(did)
    key = known.log.key_of(key_seq) if known else None
    if known is None or key is None or len(signed.sigs) != 1 or not was_valid(known.log, key_seq, at_ms):
        return False
    return is_signed(key, purpose, signed.body, signed.sigs[0])


def key_is_missing(directory: Directory, did: Did, key_seq: int) -> bool:
    """Whether the DID's log, as far as it is known here, does not name the key."""
    try:
        did_bytes(did)
    except BadParams:
        return False
    known = directory.get(did)
    return known is None or known.log.key_of(key_seq) is None
