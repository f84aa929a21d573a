"""The node's own identity: the only place that holds its signing key.

Promise: the operational branch is read once and its secret never leaves this object; the inception event is made at
first start and never again; the node record shown to others is unexpired and names the transport key in use. Transport
keys are random, belong to this device and are kept in a file of their own, mode 0600.

Source: settled.md 1, transport_identity.md §1.4 and §2.3.
"""

from __future__ import annotations

import os
from pathlib import Path

from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts.p2p import LinkCoin
from common.errors import BadParams, BadSettings
from common.identity.branch import BRANCH_FILE, OperationalBranch, decode_branch, inception_of, operational_key
from common.identity.keys import SigningKey
from common.identity.log import Log, decode_log, encode_log, read_log
from common.identity.node_record import FUTURE_MS, REISSUE_MS, CoinLink, NodeRecord, link_coin, open_coin_link
from common.identity.purposes import Purpose
from common.identity.signed import Signed, sign
from common.randomness import Randomness
from common.units import Did, UnixMs
from dux_p2pd.store import OwnTable

RECORD_LIFE_MS = 2 * REISSUE_MS
TRANSPORT_FILE = "transport.key"
OWN_BYTES_MAX = 16_384
_LOG, _SEQ, _LINK = "log", "record-seq", "coin-link"


def load_branch(folder: Path) -> OperationalBranch:
    """The branch file that key making left in p2pd's data directory.

    Raises:
        BadSettings: absent, unreadable or of another form.
    """
    path = folder / BRANCH_FILE
    try:
        return decode_branch(path.read_bytes())
    except OSError as error:
        raise BadSettings(path=str(path), detail=f"{error.strerror}; `duxnet init` makes the node's keys") from error
    except BadParams as error:
        raise BadSettings(path=str(path), detail=str(error.fields["detail"])) from error


def load_transport_seed(folder: Path, randomness: Randomness) -> bytes:
    """The seed of the transport key; made when there is none yet."""
    path = folder / TRANSPORT_FILE
    if path.exists() and len(seed := path.read_bytes()) == 32:  # noqa: PLR2004 - bytes of a seed
        return seed
    seed = randomness.bytes(32)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(seed)
        file.flush()
        os.fsync(file.fileno())
    return seed


class Keeper:
    """Signs, and issues the node record."""

    def __init__(
        self, branch: OperationalBranch, transport_seed: bytes, own: OwnTable, *, clock: Clock, inception_bits: int
    ) -> None:
        self._own = own
        self._clock = clock
        self._bits = inception_bits
        self.log = self._load_log(branch)
        self._key = operational_key(branch, self.log.tip.seq)
        if self._key.public != self.log.tip.key:
            raise BadSettings(path=BRANCH_FILE, detail="it does not hold the key that this node's event log names")
        self.transport_seed = transport_seed
        self.transport_key = SigningKey(transport_seed).public
        self._endpoints: tuple[str, ...] = ()
        self._record: NodeRecord | None = None
        self._record_bytes = b""

    @property
    def did(self) -> Did:
        """The node's name."""
        return self.log.did

    @property
    def key_seq(self) -> int:
        """The number of the event that set the current key."""
        return self.log.tip.seq

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where others are told to find us."""
        return self._endpoints

    @property
    def signing_key(self) -> SigningKey:
        """For the overlay's own records and messages."""
        return self._key

    def _load_log(self, branch: OperationalBranch) -> Log:
        kept, now_ms = self._own.get(_LOG), max(self._clock.unix_ms(), branch.made_ms)
        if kept is not None:
            return decode_log(kept, now_ms=now_ms, inception_bits=self._bits)
        log = read_log([inception_of(branch, self._bits)], now_ms=now_ms, inception_bits=self._bits)
        self._own.set(_LOG, encode_log(log))
        return log

    def sign(self, purpose: Purpose, body: bytes) -> bytes:
        """The current key's signature over the tagged body."""
        return self._key.sign(purpose, body)

    def announce(self, endpoints: tuple[str, ...]) -> None:
        """From now on the node record names these endpoints."""
        self._endpoints = endpoints
        self._record = None

    def record(self) -> bytes:
        """The node record as signed bytes, made anew when half its life is over."""
        now_ms = self._clock.unix_ms()
        if self._record is None or now_ms >= self._record.issued_ms + REISSUE_MS or now_ms < self._record.issued_ms:
            self._issue(now_ms)
        return self._record_bytes

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
            transport_keys=(self.transport_key,),
            endpoints=self._endpoints,
            relays=(),
            mailbox_keys=(),
            coin_link=self._coin_link(),
        )
        self._record = record
        self._record_bytes = canonical(sign(self._key, Purpose.NODE_RECORD, record))

    def _coin_link(self) -> Signed | None:
        kept = self._own.get(_LINK)
        return from_canonical(kept, Signed, max_bytes=OWN_BYTES_MAX) if kept else None

    def link(self, wanted: LinkCoin) -> None:
        """Name a coin key in the node record, once its own signature has verified.

        Raises:
            BadSignature: the coin key did not sign this link.
        """
        link = CoinLink(did=self.did, coin_pubkey=wanted.coin_pubkey, at_ms=wanted.at_ms)
        signed = link_coin(self._key, wanted.coin_signature, link)
        open_coin_link(signed, self.log, self.key_seq)
        self._own.set(_LINK, canonical(signed))
        self._record = None
