"""Laws of news: what is said when a log has changed, and the proof that a name has two branches."""

from __future__ import annotations

import pytest

from common.codec import canonical
from common.errors import BadParams
from common.identity.errors import BadEvent, BadSignature
from common.identity.events import key_hash, sign_event
from common.identity.news import NEWS_BYTES_MAX, NEWS_EVENTS_MAX, LogNews, fault_between, news_of, read_news
from common.identity.signed import Signed
from tests.identity.log_kit import END, ICP, LATER_MS, R1, REC, ROT1, ROT2, key, log, next_event

TWIN = sign_event(next_event(ICP, "rot", key("a1"), "x2"), key("a1"))


def test_news_brings_a_held_log_up_to_date() -> None:
    """The new events on top of what is held give the whole log."""
    news = news_of(log(ICP, ROT1, ROT2), since=1)
    assert news is not None
    assert read_news(news, log(ICP), now_ms=LATER_MS) == [log(ICP, ROT1, ROT2)]
    assert read_news(news, log(ICP, ROT1), now_ms=LATER_MS) == [log(ICP, ROT1, ROT2)]
    assert news_of(log(ICP), since=1) is None
    assert len(canonical(news)) < NEWS_BYTES_MAX


def test_news_that_does_not_follow_what_is_held_is_refused() -> None:
    """Another name, events before it unknown, a bent signature, or a chain broken at the seam."""
    news = news_of(log(ICP, ROT1, ROT2), since=2)
    assert news is not None
    with pytest.raises(BadEvent):
        read_news(news, log(ICP), now_ms=LATER_MS)
    with pytest.raises(BadEvent):
        read_news(news, log(ICP, TWIN), now_ms=LATER_MS)
    with pytest.raises(BadEvent):
        read_news(LogNews("did:dux:" + "a" * 52, 1, (ROT1,), ()), log(ICP), now_ms=LATER_MS)
    with pytest.raises(BadSignature):
        read_news(LogNews(news.did, 1, (Signed(ROT1.body, (bytes(64),)),), ()), log(ICP), now_ms=LATER_MS)
    with pytest.raises(BadParams):
        read_news(LogNews(news.did, 1, (Signed(b"\x90", ()),), ()), log(ICP), now_ms=LATER_MS)


def test_two_rotations_or_two_recoveries_are_a_proof_and_nothing_else_is() -> None:
    """A longer log, a recovery against rotations, and the same log twice are honest."""
    other = sign_event(next_event(ROT1, "rec", key("c0"), "c1", recover=R1), key("c0"), key("R0"))
    assert fault_between(log(ICP, ROT1), log(ICP, TWIN)) == LogNews(log(ICP).did, 1, (ROT1,), (TWIN,))
    assert fault_between(log(ICP, REC), log(ICP, ROT1, other)) == LogNews(log(ICP).did, 1, (REC,), (ROT1, other))
    assert fault_between(log(ICP, END), log(ICP, REC)) is not None
    for one, two in (((ICP,), (ICP, ROT1)), ((ICP, ROT1), (ICP, REC)), ((ICP, REC), (ICP, ROT1)), ((ICP,), (ICP,))):
        assert fault_between(log(*one), log(*two)) is None


def test_a_proof_that_would_not_fit_a_message_is_not_made() -> None:
    """A recovery after more rotations than news carries: the two logs themselves must be shown."""
    events, before = [ICP], ICP
    for seq in range(1, NEWS_EVENTS_MAX + 2):
        before = sign_event(next_event(before, "rot", key(f"a{seq}"), f"a{seq + 1}"), key(f"a{seq}"))
        events.append(before)
    late = sign_event(next_event(before, "rec", key("c0"), "c1", recover=key_hash(b"r" * 32)), key("c0"), key("R0"))
    assert fault_between(log(ICP, REC), log(*events, late)) is None
