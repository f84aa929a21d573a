"""The loop of p2pd's process."""

import asyncio
import sys

from dux_p2pd.daemon import P2pDaemon
from dux_p2pd.event_loop import new_event_loop


def test_p2pd_takes_libuvs_loop_and_does_without(monkeypatch):
    """The daemon's process is the one that profits; where the library is missing it still starts."""
    assert P2pDaemon.new_loop is new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert type(runner.get_loop()).__module__ == "uvloop"
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert isinstance(runner.get_loop(), asyncio.SelectorEventLoop)
