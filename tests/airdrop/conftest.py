"""Worlds of nodes with a fund, for the tests of this folder."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.airdrop.world import World

Made = Callable[..., Awaitable[World]]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Made]:
    """Worlds of this test, stopped at its end."""
    worlds: list[World] = []

    async def made(**options: object) -> World:
        world = World(tmp_path / str(len(worlds)), **options)  # type: ignore[arg-type]
        worlds.append(world)
        await world.start()
        return world

    yield made
    for world in worlds:
        await world.stop()
