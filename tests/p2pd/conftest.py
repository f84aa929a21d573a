"""Tests over real sockets run on both loops that a p2pd may meet."""

import asyncio

import pytest

from dux_p2pd.event_loop import new_event_loop


def pytest_asyncio_loop_factories(item: pytest.Item):
    """One loop for all tests; those of sockets also run on the one that p2pd's process has."""
    loops = {"asyncio": asyncio.new_event_loop}
    return loops | {"libuv": new_event_loop} if item.path.name == "test_tls_transport.py" else loops
