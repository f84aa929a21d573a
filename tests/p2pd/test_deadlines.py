"""One timer for all streams of a session: each that is still there at its time is told of, once."""

import asyncio
from math import inf
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from dux_p2pd.deadlines import TICK_S, Deadlines
from tests.p2pd.wire_kit import VirtualLoop

STREAMS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50), st.integers(1, 60)), max_size=12)


@given(STREAMS)
def test_whoever_is_there_at_its_time_is_told_of_and_nobody_else(plan):
    """Streams begin, have so long, and end after so long: overdue are those whose end comes after their time.

    Planted bugs noticed: a shorter time set later does not bring the bell forward; the bell is not set again.
    """
    streams, told = {}, {}

    async def main():
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop, streams, lambda stream: told.setdefault(stream.id, []).append(loop.time()))

        def begin(number, has_s, lives_s):
            stream = streams[number] = SimpleNamespace(id=number, ends=inf)
            deadlines.set(stream, loop.time() + has_s)
            loop.call_later(lives_s + 0.5, streams.pop, number)

        for number, (begins_s, has_s, lives_s) in enumerate(plan):
            loop.call_later(begins_s, begin, number, has_s, lives_s)
        await asyncio.sleep(200)
        assert not loop._scheduled  # nothing is left behind that would hold a stream

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    due = {number: begins_s + has_s for number, (begins_s, has_s, lives_s) in enumerate(plan) if has_s <= lives_s}
    assert told.keys() == due.keys()
    assert all(len(told[number]) == 1 and abs(told[number][0] - due[number]) <= TICK_S for number in due)


def test_a_thousand_short_calls_set_one_timer_and_a_session_that_ends_cancels_it():
    """What a call costs is a comparison.

    Planted bug noticed: a timer is set for each.
    """
    streams = {}

    async def main():
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop, streams, lambda _stream: None)
        for number in range(1000):
            stream = streams[number] = SimpleNamespace(ends=inf)
            deadlines.set(stream, loop.time() + 20 + number / 1000)
            del streams[number]
        assert len(loop._scheduled) == 1
        deadlines.cancel()
        assert all(handle.cancelled() for handle in loop._scheduled)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
