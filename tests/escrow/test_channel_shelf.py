"""A channel of ten thousand calls costs a call no more than a channel of ten: every question has its index."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common.clock import ManualClock
from common.store import Store
from dux_escrowd.channel.shelf import ChannelShelf
from dux_escrowd.schema import MIGRATIONS

BY_OID = "channel_calls_by_oid (chid=? AND oid=?)"


def dropped(store: Store) -> None:
    with store.transaction() as tx:
        ChannelShelf.drop_responses(tx, "c", 5)


QUESTIONS: dict[str, tuple[Callable[[Store], object], str]] = {
    "by its order": (lambda store: ChannelShelf(store).call_by_oid("c", "o"), BY_OID),
    "by number or order": (lambda store: ChannelShelf(store).either("c", 1, "o"), BY_OID),
    "what waits": (lambda store: ChannelShelf(store).waiting("c", 7), "channel_calls_unanswered (chid=? AND at_ms<?)"),
    "what may be dropped": (dropped, "channel_calls_with_response (chid=? AND j<?)"),
}  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_question_about_a_call_reads_all_calls(question: str) -> None:
    """As SQLite says that it would look."""
    store = Store.open(None, list(MIGRATIONS), ManualClock())
    asked: list[str] = []
    store._connection.set_trace_callback(asked.append)
    ask, index = QUESTIONS[question]
    ask(store)
    store._connection.set_trace_callback(None)
    (statement,) = [one for one in asked if "channel_calls" in one]
    plan = " ".join(row[3] for row in store._connection.execute(f"EXPLAIN QUERY PLAN {statement}"))
    assert index in plan
    assert "PRIMARY KEY (chid=?)" not in plan
    assert "SCAN" not in plan
