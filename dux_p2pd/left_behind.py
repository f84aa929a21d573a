"""A node that is alone because others refuse it: was its name rotated or recovered elsewhere while it was off?

Who introduces itself with papers that a newer event log has replaced is refused without a word, so it cannot ask under
its own name. Promise: alone, and refused so often, it asks for its own log under a name made for that one question,
takes in what is newer, and its health says what its owner can do. It never asks while anybody is connected.

Source: transport_identity.md §2.3; docs/protocol/identity.md §3.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.errors import DuxError
from common.identity.log import Log, encode_log
from common.units import Did
from dux_p2pd.directory import Directory
from dux_p2pd.keeper import Keeper
from dux_p2pd.peers import PeerBook
from dux_p2pd.session import Address
from dux_p2pd.wire_errors import PeerUnreachable

REFUSALS_MIN = 3  # one or two may be a ban, a node that is stopping, or another network's at an old address
ASK_AGAIN_S = 300.0

Fetch = Callable[[Did, list[Address]], Awaitable[Log]]

ALONE = "no peer is connected"
REFUSED = (
    f"{ALONE}: those who are reached refuse it, so its name may have been rotated or recovered elsewhere: "
    "`duxnet identity catch-up`, or with the phrase `duxnet identity recover`"
)
NOT_BEHIND = f"{ALONE}: those who are reached refuse it, and they know no newer event log of its name; see p2pd's log"


class LeftBehind:
    """Counts refusals while alone, asks, and says how it stands."""

    def __init__(
        self,
        keeper: Keeper,
        directory: Directory,
        peers: PeerBook,
        known: Callable[[], Iterable[Address]],
        fetch: Fetch | None,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        """`known`: where nodes may be. `fetch`: asks there for a log; None: nobody here can ask under another name."""
        self._keeper = keeper
        self._directory = directory
        self._peers = peers
        self._known = known
        self._fetch = fetch
        self._clock = clock
        self._log = log
        self._refusals = 0
        self._asked_s = float("-inf")
        self._is_newest = False  # as those said who were asked
        peers.on_up.append(lambda _session: self._begin_anew())

    def _begin_anew(self) -> None:
        self._refusals, self._asked_s, self._is_newest = 0, float("-inf"), False

    def dial_failed(self, error: DuxError) -> None:
        """An address did not give a session: count it where somebody was there."""
        self._refusals += not isinstance(error, PeerUnreachable)

    @property
    def _is_refused(self) -> bool:
        return self._refusals >= REFUSALS_MIN and self._peers.is_alone()

    def problem(self) -> str:
        """Why this node is alone, and what its owner can do; empty when it is not."""
        if not self._peers.is_alone():
            return ""
        if not self._is_refused or not self._keeper.may_sign:  # then the name's own problem says what to do
            return ALONE
        return NOT_BEHIND if self._is_newest else REFUSED

    async def turn(self) -> None:
        """Ask, where it is due."""
        now_s = self._clock.monotonic()
        if self._fetch is None or not self._is_refused or not self._keeper.may_sign:
            return
        if now_s - self._asked_s < ASK_AGAIN_S:
            return
        self._asked_s = now_s
        try:
            found = await self._fetch(self._keeper.did, list(self._known()))
            before = self._keeper.log
            self._directory.learn(self._keeper.did, encode_log(found))
        except (DuxError, OSError) as error:  # OSError: no place for the keys of the other name
            self._log.info("own event log not heard", reason=str(error))
            return
        self._is_newest = self._keeper.log == before
        if not self._is_newest:
            self._log.warning("this node was left behind", key_seq=self._keeper.key_seq, standing=self._keeper.standing)
