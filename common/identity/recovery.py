"""What only the holder of the phrase can do to a name: begin anew with other keys, or close it.

Pure, and used by one-shot commands only: no daemon ever sees a phrase or a recovery key. A recovery moves to the next
account of the phrase, because whoever took the machine has all later keys of the account before.

Source: transport_identity.md §2.2 and §2.3.
"""

from __future__ import annotations

from msgspec import structs

from common.errors import CallerMistake
from common.identity.branch import OperationalBranch, operational_key, plain_branch, recovery_key
from common.identity.events import ending, key_hash, recovery, sign_event
from common.identity.keys import SigningKey
from common.identity.log import Log, encode_log, read_log
from common.identity.signed import Signed


class CannotRecover(CallerMistake):
    """{did} cannot be recovered with this phrase: {reason}."""

    code = 1416
    key = "cannot-recover"


def recovered(seed: bytes, *, net: int, log: Log, now_ms: int, since: int | None = None) -> OperationalBranch:
    """The branch in the next account, with the log at whose end stands the recovery that moves there.

    The recovery names event `since` (the newest when None): what came after it was not the owner's.

    Raises:
        CannotRecover: another phrase's name, or a name that is frozen or closed.
    """
    base = _base(log, since)
    account = _recoveries(base)
    old = _recovery_key(seed, net, base, account)
    branch = plain_branch(seed, net=net, account=account + 1, made_ms=now_ms)
    seq, later = base.tip.seq + 1, bytes.fromhex(branch.recovery_key)
    key, after = operational_key(branch, seq), operational_key(branch, seq + 1)
    at_ms = max(now_ms, base.tip.at_ms)
    event = recovery(base.envelopes[-1], base.tip, (key.public, after.public), later, at_ms)
    return structs.replace(branch, log=encode_log(_longer(base, sign_event(event, key, old), at_ms)).hex())


def ended(seed: bytes, *, net: int, log: Log, now_ms: int) -> Log:
    """The log with the event that closes the name for good.

    Raises:
        CannotRecover: another phrase's name, or a name that is frozen or closed.
    """
    base = _base(log, None)
    account = _recoveries(base)
    old = _recovery_key(seed, net, base, account)
    key = operational_key(plain_branch(seed, net=net, account=account + 1, made_ms=0), base.tip.seq + 1)
    at_ms = max(now_ms, base.tip.at_ms)
    event = ending(base.envelopes[-1], base.tip, key.public, at_ms)
    return _longer(base, sign_event(event, key, old), at_ms)


def _base(log: Log, since: int | None) -> Log:
    """The log up to the event that is named."""
    if log.ended or log.frozen:
        raise CannotRecover(did=log.did, reason="it is closed for good" if log.ended else "two recoveries froze it")
    last = len(log.events) - 1 if since is None else since
    if not 0 <= last < len(log.events) or _recoveries(log, last + 1):
        raise CannotRecover(did=log.did, reason=f"event {last} is not one since its last recovery")
    return _first(log, last + 1)


def _first(log: Log, count: int) -> Log:
    """The log's first events."""
    return Log(did=log.did, events=log.events[:count], envelopes=log.envelopes[:count])


def _recoveries(log: Log, start: int = 0) -> int:
    return sum(event.kind == "rec" for event in log.events[start:])


def _recovery_key(seed: bytes, net: int, base: Log, account: int) -> SigningKey:
    key = recovery_key(seed, net=net, number=account)
    if key_hash(key.public) != base.tip.recover:
        raise CannotRecover(did=base.did, reason="its recovery key comes from another phrase")
    return key


def _longer(base: Log, envelope: Signed, now_ms: int) -> Log:
    """Read as everybody reads it, so that nothing is handed out that others refuse."""
    return read_log([*base.envelopes, envelope], now_ms=now_ms, inception_bits=0, known=base)
