"""The signatures in a contract's file, which is history: each by a key that its signer has, or had then.

A statement names no time, and a day after its signer's rotation its key counts no more for what is new. So a key that
does not count now is asked about for the moment from which it held, and one that a recovery took out of the log by the
log that the file brings: it counts if it came before the recovery, and its owner is named in `stopped`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.contracts.p2p import DID_RESOLVE, IDENTITY_VERIFY, Resolve, Verdict, Verify
from common.errors import DuxError
from common.identity.log import Log
from common.identity.purposes import Purpose
from common.peers import log_in
from common.units import Did, UnixMs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from common.receipts import Attested
    from dux_cli.command import Session


class CaseSignatures:
    """Asked of this node's p2pd, which knows the network's keys."""

    def __init__(self, session: Session, kept: Mapping[str, bytes]) -> None:
        self._session = session
        self._kept = kept
        self._logs: dict[Did, Log | None] = {}
        self.stopped: set[Did] = set()  # who has recovered or closed its name since it signed

    def is_right(self, purpose: Purpose, one: Attested) -> bool:
        """Whether its signer has made it, with a key that counts now or counted once."""
        found = self._asked(purpose, one, None)
        if not found.valid:
            since_ms = self._held_since(Did(one.did), one.key_seq)
            found = self._asked(purpose, one, since_ms) if since_ms is not None else found
        if not found.valid and one.did in self._kept:
            found = self._by_log_of_then(purpose, one, found)
        if found.valid and found.stopped:
            self.stopped.add(Did(one.did))
        return found.valid

    def _asked(self, purpose: Purpose, one: Attested, at_ms: UnixMs | None, kept: bytes | None = None) -> Verdict:
        ask = Verify(
            did=Did(one.did), purpose=purpose.value, body=one.body, key_seq=one.key_seq, signature=one.signature,
            at_ms=at_ms, kept=kept, ever=kept is not None,
        )  # fmt: skip
        return self._session.ask(IDENTITY_VERIFY, ask)

    def _by_log_of_then(self, purpose: Purpose, one: Attested, found: Verdict) -> Verdict:
        try:
            return self._asked(purpose, one, None, self._kept[one.did])
        except DuxError:
            return found  # anybody makes such files: a log that is none says nothing

    def _held_since(self, did: Did, key_seq: int) -> UnixMs | None:
        """When the signer's log brought this key, where it did."""
        if did not in self._logs:
            self._logs[did] = self._log_of(did)
        log = self._logs[did]
        return log.events[key_seq].at_ms if log is not None and key_seq < len(log.events) else None

    def _log_of(self, did: Did) -> Log | None:
        try:
            return log_in(self._session.ask(DID_RESOLVE, Resolve(did=did)))
        except DuxError:
            return None  # the signature is wrong as far as can be told
