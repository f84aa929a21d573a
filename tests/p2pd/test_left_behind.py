"""When a node that is alone asks for its own log under another name, and what it says meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import structlog

from common.clock import ManualClock
from common.contracts.p2p_errors import PeerUnknown
from common.identity.branch import inception_of, make_branch
from common.identity.log import read_log
from common.units import Did
from dux_p2pd.left_behind import ALONE, ASK_AGAIN_S, NOT_BEHIND, REFUSALS_MIN, REFUSED, LeftBehind
from dux_p2pd.session import Address
from dux_p2pd.wire_errors import HelloRefused, PeerUnreachable

BRANCH = make_branch(b"\x07" * 64, net=1, account=0, made_ms=1_000, inception_bits=0)
LOG = read_log([inception_of(BRANCH, 0)], now_ms=2_000, inception_bits=0)
WHERE = [("127.0.0.1", 7)]


class Alone:
    """A node without peers, and what it asked."""

    def __init__(self, *, can_ask: bool = True) -> None:
        self.clock, self.asked, self.is_alone = ManualClock(), 0, True
        self.answer: Exception | None = None
        peers: Any = SimpleNamespace(on_up=[], is_alone=lambda: self.is_alone)
        keeper: Any = SimpleNamespace(did=LOG.did, log=LOG, key_seq=0, standing="sound")
        self.keeper = keeper
        directory: Any = SimpleNamespace(learn=lambda _did, _log: None)
        keeper.may_sign, self.came = True, lambda: peers.on_up[0](None)
        fetch = self._fetch if can_ask else None
        self.part = LeftBehind(
            keeper, directory, peers, lambda: WHERE, fetch, clock=self.clock, log=structlog.get_logger()
        )

    async def _fetch(self, did: Did, where: list[Address]) -> Any:
        assert (did, where) == (LOG.did, WHERE)
        self.asked += 1
        if self.answer is not None:
            raise self.answer
        return LOG

    def refused(self, times: int = REFUSALS_MIN) -> None:
        for _ in range(times):
            self.part.dial_failed(HelloRefused(reason="said nothing"))


async def test_nobody_there_is_no_refusal() -> None:
    """A network that is down, and two refusals, are no reason to ask; a third is one."""
    node = Alone()
    for _ in range(9):
        node.part.dial_failed(PeerUnreachable(address="127.0.0.1:7", detail="no answer"))
    node.refused(REFUSALS_MIN - 1)
    await node.part.turn()
    assert (node.asked, node.part.problem()) == (0, ALONE)
    node.refused(1)
    assert node.part.problem() == REFUSED
    await node.part.turn()
    assert (node.asked, node.part.problem()) == (1, NOT_BEHIND)


async def test_it_asks_rarely_and_begins_anew_after_a_connection() -> None:
    """Not again within five minutes, whatever came of it; a session makes all of it void."""
    node = Alone()
    node.refused()
    for wait_s, asked in ((0.0, 1), (ASK_AGAIN_S - 1, 1), (1.0, 2)):
        node.answer = PeerUnknown(did=LOG.did) if asked == 1 else OSError("the disk is full")
        node.clock.advance(wait_s)
        await node.part.turn()
        assert (node.asked, node.part.problem()) == (asked, REFUSED)
    node.is_alone = False
    node.came()
    assert node.part.problem() == ""
    node.is_alone = True
    await node.part.turn()
    assert (node.asked, node.part.problem()) == (2, ALONE)


async def test_who_knows_already_or_has_no_other_name_does_not_ask() -> None:
    """Recovered elsewhere: the name's own problem says what to do. The simulator's nodes have one name."""
    node = Alone()
    node.refused()
    node.keeper.may_sign = False
    await node.part.turn()
    assert (node.asked, node.part.problem()) == (0, ALONE)
    silent = Alone(can_ask=False)
    silent.refused()
    await silent.part.turn()
    assert (silent.asked, silent.part.problem()) == (0, REFUSED)
