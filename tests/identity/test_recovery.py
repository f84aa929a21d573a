"""Laws of what only the phrase can do: recover a name, undo a thief's events, end it."""

from __future__ import annotations

import pytest

from common.identity.branch import OperationalBranch, inception_of, make_branch, operational_key
from common.identity.events import rotation, sign_event
from common.identity.log import LOG_BYTES_MAX, Log, decode_log, merge, read_log
from common.identity.recovery import CannotRecover, ended, recovered

SEED = b"phrase".ljust(64, b".")
START_MS, HOUR_MS = 1_790_000_000_000, 3_600_000
NOW_MS = START_MS + 100 * HOUR_MS
BRANCH = make_branch(SEED, net=1, account=0, made_ms=START_MS, inception_bits=0)


def rotated(log: Log, branch: OperationalBranch) -> Log:
    seq, at_ms = log.tip.seq + 1, log.tip.at_ms + HOUR_MS
    key, after = operational_key(branch, seq), operational_key(branch, seq + 1)
    event = rotation(log.envelopes[-1], log.tip, key.public, after.public, at_ms)
    return read_log([*log.envelopes, sign_event(event, key)], now_ms=at_ms, inception_bits=0)


FIRST = read_log([inception_of(BRANCH, 0)], now_ms=NOW_MS, inception_bits=0)
LATER = rotated(rotated(FIRST, BRANCH), BRANCH)


def log_in(branch: OperationalBranch) -> Log:
    assert len(branch.log) < 2 * LOG_BYTES_MAX
    return decode_log(bytes.fromhex(branch.log), now_ms=NOW_MS + 10**9, inception_bits=0)


def test_a_recovery_moves_to_keys_that_a_thief_of_the_machine_cannot_have() -> None:
    """Next account, its key at the tip, its own rotations go on from there; the old branch's do not."""
    branch = recovered(SEED, net=1, log=LATER, now_ms=NOW_MS)
    log = log_in(branch)
    assert (log.did, log.tip.kind, log.tip.seq, branch.account) == (LATER.did, "rec", 3, 1)
    assert merge(LATER, log) == log
    assert operational_key(branch, 3).public == log.tip.key
    assert rotated(log, branch).tip.seq == 4
    with pytest.raises(Exception, match="committed"):
        rotated(log, BRANCH)


def test_a_name_can_be_recovered_again_and_again() -> None:
    """Each recovery reveals one recovery key and commits to the next; none is used twice."""
    log = LATER
    for number in range(1, 4):
        branch = recovered(SEED, net=1, log=log, now_ms=NOW_MS + number * HOUR_MS)
        longer = log_in(branch)
        assert branch.account == number
        assert merge(log, longer) == longer
        log = rotated(longer, branch)
    assert log.sound


def test_a_thief_s_events_are_undone_from_where_the_owner_says() -> None:
    """The recovery names event 0: both rotations are superseded, and a verifier that held them follows."""
    log = log_in(recovered(SEED, net=1, log=LATER, now_ms=NOW_MS, since=0))
    assert [event.kind for event in log.events] == ["icp", "rec"]
    assert merge(LATER, log) == log


def test_an_end_is_final() -> None:
    """No recovery after it, no second end."""
    log = ended(SEED, net=1, log=LATER, now_ms=NOW_MS)
    assert merge(LATER, log).ended
    for act in (recovered, ended):
        with pytest.raises(CannotRecover, match="closed"):
            act(SEED, net=1, log=log, now_ms=NOW_MS)


def test_what_would_freeze_or_fail_is_not_made() -> None:
    """Another phrase, another net, an event before the last recovery or beyond the log, a frozen name."""
    log = log_in(recovered(SEED, net=1, log=LATER, now_ms=NOW_MS))
    other = log_in(recovered(SEED, net=1, log=LATER, now_ms=NOW_MS + 1))
    frozen = merge(log, other)
    for seed, net, held, since in (
        (b"other".ljust(64, b"."), 1, LATER, None), (SEED, 0, LATER, None), (SEED, 1, log, 1), (SEED, 1, log, 9),
        (SEED, 1, log, -1), (SEED, 1, frozen, None),
    ):  # fmt: skip
        with pytest.raises(CannotRecover):
            recovered(seed, net=net, log=held, now_ms=NOW_MS, since=since)
