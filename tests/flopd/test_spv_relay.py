"""How many peers must refuse before an own transaction is refused."""

from __future__ import annotations

import asyncio

import pytest

from common.chain.messages import Reject, encode_reject
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, serialize, txid
from common.chain.wire import unshown
from common.clock import ManualClock
from common.units import Florins
from dux_flopd.source import Refused
from dux_flopd.spv_pool import Pool
from dux_flopd.spv_relay import Relay

PAYMENT = Tx((TxInput(Outpoint("07" * 32, 0)),), (TxOutput(Florins(5), b"\x51"),))
REFUSAL = encode_reject(Reject(message="tx", code=16, reason="dust", about=unshown(txid(PAYMENT))))


class Answers:
    """A peer that takes or refuses what it is sent."""

    def __init__(self, name: str, *, refuses: bool) -> None:
        self.address = name
        self._said = [REFUSAL] if refuses else []

    async def ask(self, _command: str, _payload: bytes, _answer: str) -> dict[str, list[bytes]]:
        return {"reject": self._said}


class NothingSpent:
    """A view in which no block spends anything."""

    def spender_in_block(self, _outpoint: Outpoint) -> None:
        return None


@pytest.mark.parametrize(
    ("refusing", "is_refused"),
    [((True,), True), ((False,), False), ((True, False), False), ((True, True), True), ((False, False), False)],
)
async def test_one_refusal_among_several_peers_is_no_verdict(refusing: tuple[bool, ...], is_refused: bool) -> None:  # noqa: FBT001
    """Two refusals are, or that of the only peer; then the pool holds it no more."""
    pool = Pool()
    relay = Relay(pool, NothingSpent(), ManualClock(), asyncio.Event(), replaces=True)  # type: ignore[arg-type]
    peers = [Answers(f"peer{at}", refuses=refuses) for at, refuses in enumerate(refusing)]
    if is_refused:
        with pytest.raises(Refused):
            await relay.broadcast(serialize(PAYMENT), b"tip", peers)  # type: ignore[arg-type]
    else:
        assert await relay.broadcast(serialize(PAYMENT), b"tip", peers)  # type: ignore[arg-type]
    assert (pool.get(txid(PAYMENT)) is None) == is_refused
