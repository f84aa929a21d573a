"""Whom this node's registry wants refused: the whole list, each name until a time. Knows no reasons.

registryd tells the list whole and again; nothing is kept here, so after a restart nobody is refused until it does.
"""

from __future__ import annotations

from collections.abc import Callable

from common.clock import Clock
from common.contracts import p2p
from common.rpc.method import Done
from common.rpc.table import Ctx, MethodTable
from common.units import Did


class Refusals:
    """The list, and the sessions that it ends."""

    def __init__(self, clock: Clock, end: Callable[[Did], None]) -> None:
        """`end`: ends the session with a node, if there is one."""
        self._clock = clock
        self._end = end
        self._until_ms: dict[Did, int] = {}

    def serve(self, table: MethodTable) -> None:
        """Answer registryd."""
        table.serve(p2p.P2P_REFUSE, self.refuse)

    async def refuse(self, params: p2p.Refuse, _ctx: Ctx) -> Done:
        """p2p.refuse: these and no others."""
        self._until_ms = {node.did: node.until_ms for node in params.nodes}
        for did in sorted(self._until_ms):
            if self.has(did):
                self._end(did)
        return Done()

    def has(self, did: Did) -> bool:
        """Whether a node is refused now."""
        until_ms = self._until_ms.get(did)
        return until_ms is not None and (until_ms == 0 or until_ms > self._clock.unix_ms())
