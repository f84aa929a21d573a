"""The node's own identity: the only place that has its signing key sign.

Promise: the event log is continued only from the newest state that is known of it, and every change of it is on disk
before anything is signed with the key that it brings; the node record shown to others is unexpired, signed by the
current key, and names the transport keys in use. When the log goes on without this node's keys (the owner recovered
elsewhere, or a thief was quicker), nothing is signed any more.

Source: settled.md 1, transport_identity.md §1.4, §2.2 and §2.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts.p2p import LinkCoin
from common.contracts.p2p_errors import LogFull, RotationTooSoon
from common.errors import BadSettings, NotFound
from common.identity.branch import BRANCH_FILE
from common.identity.errors import IdentityUnsure
from common.identity.event_rules import ROTATION_GAP_MS
from common.identity.events import AT_MS_MAX, EVENT_BYTES_MAX, rotation, sign_event
from common.identity.keys import Signer
from common.identity.log import Log, decode_log, encode_log, merge, read_log
from common.identity.node_record import FUTURE_MS, REISSUE_MS, CoinLink, NodeRecord, link_coin, open_coin_link
from common.identity.purposes import Purpose
from common.identity.signed import Signed, sign
from common.units import Did, UnixMs
from dux_p2pd.key_source import KeySource
from dux_p2pd.mail_keys import MailboxKeys
from dux_p2pd.store import OwnTable
from dux_p2pd.transport_keys import RECORD_LIFE_MS, TransportKeys
from dux_p2pd.wire_limits import LOG_TAIL_BYTES

OWN_BYTES_MAX = 16_384
_LOG, _FLAGS, _STARTED, _SEQ, _LINK = "log", "log-flags", "started", "record-seq", "coin-link"


class Keeper:
    """Signs, continues the log, and issues the node record."""

    def __init__(
        self,
        keys: KeySource,
        transport: TransportKeys,
        own: OwnTable,
        *,
        clock: Clock,
        inception_bits: int,
        mailbox: MailboxKeys | None = None,
    ) -> None:
        """Continue the log that is kept, or that the keys were made for; without mailbox keys nobody writes to us.

        Raises:
            BadSettings: the keys are of another node, or the log goes on without them.
        """
        self.transport = transport
        self._mailbox = mailbox
        self._own = own
        self._clock = clock
        self._bits = inception_bits
        self._endpoints: tuple[str, ...] = ()
        self._relays: tuple[Did, ...] = ()
        self._record: NodeRecord | None = None
        self._record_bytes = b""
        self.on_change: list[Callable[[], None]] = []
        self.on_move: list[Callable[[], None]] = []  # others are told another place
        self._signer: Signer | None = None
        self._start(keys)

    def _start(self, keys: KeySource) -> None:
        log = self._load_log(keys)
        signer = _signer_at(keys, log)
        if signer is None:
            raise BadSettings(path=BRANCH_FILE, detail=_why_not_ours(log))
        self._keys, self._signer, self.log = keys, signer, log
        self._keep(log)
        if self._own.get(_STARTED) is None:
            self._own.set(_STARTED, int(self._clock.unix_ms()).to_bytes(8, "big"))

    def _load_log(self, keys: KeySource) -> Log:
        kept, now_ms = self._own.get(_LOG), AT_MS_MAX  # own papers are right, even where the clock was set back
        given = read_log(keys.first_events(self._bits), now_ms=now_ms, inception_bits=self._bits)
        if kept is None:
            return given
        flags = self._own.get(_FLAGS) or b"\0\0"
        held = decode_log(kept, now_ms=now_ms, inception_bits=self._bits)
        if held.did != given.did:
            raise BadSettings(path=BRANCH_FILE, detail="it does not hold the key that this node's event log names")
        return merge(replace(held, disputed=bool(flags[0]), frozen=bool(flags[1])), given)

    def _keep(self, log: Log) -> None:
        self._own.set(_LOG, encode_log(log))
        self._own.set(_FLAGS, bytes([log.disputed, log.frozen]))

    # what is asked of it

    @property
    def did(self) -> Did:
        """The node's name."""
        return self.log.did

    @property
    def key_seq(self) -> int:
        """The number of the event that set the current key."""
        return self.log.tip.seq

    @property
    def key_since_ms(self) -> int:
        """When the current key came into use; the first one with the node's first start."""
        return self.log.tip.at_ms if self.key_seq else int.from_bytes(self._own.get(_STARTED) or b"", "big")

    @property
    def standing(self) -> str:
        """`sound`, or what stands in the way of new business: as others see this node's name."""
        if self.log.ended:
            return "closed"
        if self._signer is None:
            return "recovered elsewhere"
        return "frozen" if self.log.frozen else "disputed" if self.log.disputed else "sound"

    @property
    def problem(self) -> str:
        """What is wrong with the name, and what its owner can do; empty when nothing is."""
        if self.standing == "recovered elsewhere":
            return (
                "this node's name was recovered elsewhere: stop the node, or take the name back with the phrase by "
                "`duxnet identity recover`"
            )
        return "" if self.standing == "sound" else f"this node's name is {self.standing}"

    @property
    def may_sign(self) -> bool:
        """Whether the current key is this node's, and the name not closed."""
        return self._signer is not None and not self.log.ended

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where others are told to find us."""
        return self._endpoints

    @property
    def relays(self) -> tuple[Did, ...]:
        """Through whom others are told to reach us."""
        return self._relays

    @property
    def signer(self) -> Signer:
        """The current key, for the overlay's own records and messages.

        Raises:
            IdentityUnsure: the name is closed, or goes on without this node's keys.
        """
        if self._signer is None or self.log.ended:
            raise IdentityUnsure(did=self.did, state=self.standing)
        return self._signer

    def sign(self, purpose: Purpose, body: bytes) -> bytes:
        """The current key's signature over the tagged body.

        Raises:
            IdentityUnsure: as `signer`.
        """
        return self.signer.sign(purpose, body)

    # the log goes on

    def rotate(self) -> None:
        """Bring the next key into use and commit to the one after it. Have the newest log heard first.

        Raises:
            RotationTooSoon, LogFull, IdentityUnsure: why not. NotFound: the token has no further keys.
        """
        now_ms, tip = self._clock.unix_ms(), self.log.tip
        wait_ms = tip.at_ms + ROTATION_GAP_MS - now_ms
        if self.signer and wait_ms > 0:
            raise RotationTooSoon(wait_s=wait_ms // 1000 + 1)
        signer, after = self._keys.signer(tip.seq + 1), self._keys.signer(tip.seq + 2)
        event = rotation(self.log.envelopes[-1], tip, signer.public, after.public, now_ms)
        events = [*self.log.envelopes, sign_event(event, signer)]
        log = read_log(events, now_ms=now_ms, inception_bits=self._bits, known=self.log)
        if len(encode_log(log)) > LOG_TAIL_BYTES - EVENT_BYTES_MAX:  # room for a recovery or an end
            raise LogFull(events=len(self.log.events))
        self._take(replace(log, disputed=self.log.disputed, frozen=self.log.frozen))

    def hear(self, log: Log) -> bool:
        """Take in a log of this node's own name that others have; whether anything changed.

        A continuation with this node's own keys (made before a backup was restored) is adopted; one with other keys
        ends this node's signing.
        """
        merged = merge(self.log, log)
        if merged == self.log:
            return False
        self._take(merged)
        return True

    def adopt(self, keys: KeySource) -> None:
        """Go on with other keys, after a recovery: from now on, and at every start.

        Raises:
            BadSettings: they are not the keys that the log ends with.
        """
        self._start(keys)
        self._changed()

    def _take(self, log: Log) -> None:
        self._keep(log)
        self.log, self._signer = log, _signer_at(self._keys, log)
        self._changed()

    def _changed(self) -> None:
        self._record = None
        for told in self.on_change:
            told()

    # the node record

    def announce(self, endpoints: tuple[str, ...]) -> None:
        """From now on the node record names these endpoints."""
        self._endpoints = endpoints
        self._moved()

    def announce_relays(self, relays: tuple[Did, ...]) -> None:
        """From now on the node record names these relays."""
        if relays != self._relays:
            self._relays = relays
            self._moved()

    def _moved(self) -> None:
        self._record = None
        for told in self.on_move:
            told()

    def record(self) -> bytes:
        """The node record as signed bytes, made anew when half its life is over.

        Raises:
            IdentityUnsure: as `signer`.
        """
        now_ms, record = self._clock.unix_ms(), self._record
        if record is None or not self._names_all(record) or not _is_fresh(record, now_ms):
            self._issue(now_ms)
        return self._record_bytes

    def _names_all(self, record: NodeRecord) -> bool:
        return record.transport_keys == self.transport.named and record.mailbox_keys == self._mailbox_keys()

    def _mailbox_keys(self) -> tuple[bytes, ...]:
        return self._mailbox.listed if self._mailbox else ()

    def now_ms(self) -> UnixMs:
        """The time, but never before this node's own papers: a clock that was set back must not refuse them here."""
        return UnixMs(max(self._clock.unix_ms(), self.log.tip.at_ms, self._last_seq_ms()))

    def clock_problem(self) -> str:
        """What is wrong with the machine's clock, as far as one's own papers tell; empty when nothing is."""
        behind_ms = self.now_ms() - self._clock.unix_ms()
        if behind_ms <= FUTURE_MS:
            return ""
        return f"the clock is {behind_ms // 1000} s behind this node's own papers, so others refuse them: set it"

    def _last_seq_ms(self) -> int:
        return int.from_bytes(self._own.get(_SEQ) or b"", "big")

    def next_seq_ms(self) -> UnixMs:
        """A number for a record: the time, but always higher than the last one given, also across restarts."""
        seq_ms = max(self._last_seq_ms() + 1, self._clock.unix_ms())
        self._own.set(_SEQ, seq_ms.to_bytes(8, "big"))
        return UnixMs(seq_ms)

    def _issue(self, now_ms: int) -> None:
        record = NodeRecord(
            v=1,
            did=self.did,
            key_seq=self.key_seq,
            seq_ms=self.next_seq_ms(),
            issued_ms=UnixMs(now_ms),
            expires_ms=UnixMs(now_ms + RECORD_LIFE_MS),
            transport_keys=self.transport.named,
            endpoints=self._endpoints,
            relays=self._relays,
            mailbox_keys=self._mailbox_keys(),
            coin_link=self._coin_link(),
        )
        self._record_bytes = canonical(sign(self.signer, Purpose.NODE_RECORD, record))
        self._record = record

    def _coin_link(self) -> Signed | None:
        """The link kept, its half of this node signed by the current key."""
        kept = self._own.get(_LINK)
        if not kept:
            return None
        signed = from_canonical(kept, Signed, max_bytes=OWN_BYTES_MAX)
        return Signed(body=signed.body, sigs=(self.sign(Purpose.COIN_LINK, signed.body), signed.sigs[1]))

    def link(self, wanted: LinkCoin) -> None:
        """Name a coin key in the node record, once its own signature has verified.

        Raises:
            BadSignature: the coin key did not sign this link.
        """
        link = CoinLink(did=self.did, coin_pubkey=wanted.coin_pubkey, at_ms=wanted.at_ms)
        signed = link_coin(self.signer, wanted.coin_signature, link)
        open_coin_link(signed, self.log, self.key_seq)
        if (self._own.get(_LINK) or b"") != canonical(signed):
            self._own.set(_LINK, canonical(signed))
            self._record = None


def _is_fresh(record: NodeRecord, now_ms: int) -> bool:
    return record.issued_ms <= now_ms < record.issued_ms + REISSUE_MS


def _signer_at(keys: KeySource, log: Log) -> Signer | None:
    """The key of the log's tip, when these keys have it."""
    try:
        signer = keys.signer(log.tip.seq)
    except NotFound:
        return None
    return signer if signer.public == log.tip.key else None


def _why_not_ours(log: Log) -> str:
    if log.ended:
        return "this name was closed for good; make a new node"
    return (
        f"it does not hold the key of event {log.tip.seq}, with which this node's log ends: another node, or the "
        "identity was recovered elsewhere; `duxnet identity recover` brings it back here"
    )
