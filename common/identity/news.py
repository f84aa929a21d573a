"""What is said of a name when its log has changed: the new events, and where two branches exist, both.

News proves itself: whoever holds the events before it rebuilds each branch, reads it as any log, and merges it with
what it holds. So a proof of fault (two rotations of one event, two recoveries of one epoch) is nothing but two logs
that begin alike; who passes it on is not believed, and need not be.

Source: transport_identity.md §2.4 (duplicity).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Canon
from common.identity.errors import BadEvent
from common.identity.event_rules import RECOVERING
from common.identity.events import SEQ_MAX
from common.identity.log import Log, read_log, recovers, split_of
from common.identity.signed import Signed
from common.units import Did

NEWS_EVENTS_MAX = 12  # in each branch: 12 recoveries have 4 KB
NEWS_BYTES_MAX = 8192

_Events = Annotated[tuple[Signed, ...], Meta(max_length=NEWS_EVENTS_MAX)]


class LogNews(Canon, frozen=True):
    """[did, shared, events, twin]: `events`, and where there is one the other branch `twin`, follow `shared` events."""

    did: Annotated[Did, Meta(max_length=64)]
    shared: Annotated[int, Meta(ge=1, le=SEQ_MAX)]
    events: Annotated[_Events, Meta(min_length=1)]
    twin: _Events


def news_of(log: Log, since: int) -> LogNews | None:
    """The events of a log from number `since` on, the newest first to be left out; None when there are none."""
    events = log.envelopes[max(since, 1) :][:NEWS_EVENTS_MAX]
    return LogNews(did=log.did, shared=max(since, 1), events=events, twin=()) if events else None


def fault_between(one: Log, other: Log) -> LogNews | None:
    """The proof that two valid logs of one name cannot both be honest; None where they can, or it is too long.

    Two rotations of one event: the pair. Two recoveries of one epoch: both branches up to them.
    """
    shared = split_of(one, other)
    if one.did != other.did or shared in (len(one.events), len(other.events)) or shared == 0:
        return None
    ours, theirs = recovers(one, shared), recovers(other, shared)
    if ours != theirs:
        return None
    mine, twin = _decisive(one, shared, of_recovery=ours), _decisive(other, shared, of_recovery=ours)
    if max(len(mine), len(twin)) > NEWS_EVENTS_MAX:
        return None
    return LogNews(did=one.did, shared=shared, events=mine, twin=twin)


def _decisive(log: Log, shared: int, *, of_recovery: bool) -> tuple[Signed, ...]:
    """The branch as far as it proves something: its first event, or all up to its first recovery."""
    if not of_recovery:
        return log.envelopes[shared : shared + 1]
    first = next(seq for seq in range(shared, len(log.events)) if log.events[seq].kind in RECOVERING)
    return log.envelopes[shared : first + 1]


def read_news(news: LogNews, held: Log, *, now_ms: int) -> list[Log]:
    """The branches as logs, one or two, each fully checked.

    Raises:
        BadEvent: they do not follow the log that is held; with the sender's own log they may.
        BadParams, BadKey, BadSignature: what is wrong with them.
    """
    if news.did != held.did or news.shared > len(held.events):
        raise BadEvent(seq=news.shared, detail="events before it are not known here")
    before = held.envelopes[: news.shared]
    branches = [news.events, news.twin] if news.twin else [news.events]
    return [read_log([*before, *branch], now_ms=now_ms, inception_bits=0, known=held) for branch in branches]
