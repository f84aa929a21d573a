"""A network of its own for each test."""

from __future__ import annotations

import pytest

from common.network import NetworkProfile


@pytest.fixture
def profile() -> NetworkProfile:
    """A test network's profile."""
    return NetworkProfile(name="test", chain="embedded", genesis="ab" * 32, heights="demo")
