"""How every story is told: played to its end, judged, and its world closed whatever happened.

Promises that a history which cannot go on is a broken law, and that one that was stopped on purpose breaks none.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from dux_sim.money.laws import Violation
from dux_sim.world.history import Until
from dux_sim.world.loop import Stuck
from dux_sim.world.world import World


def judged(world: World, play: Coroutine[Any, Any, None], judge: Callable[[], list[Violation]]) -> list[Violation]:
    """Play in this world, then judge."""
    try:
        world.run(play)
        return judge()
    except Until:
        return []
    except Stuck as stuck:
        return [Violation("progress", str(stuck))]
    finally:
        world.close()
