"""What was agreed in the world of a channel's proof, who plays how, and the heights between which time jumps.

Prices are one unit (the least first voucher), caps by depth are one, two and many units, windows are some blocks: every
inequality of a real profile holds, and every guard's edge is among `EDGES`.
"""

from __future__ import annotations

import msgspec

from common.chain.channel import FIRST_MIN_FLORINS
from common.chain.channel_heights import Cap
from dux_escrowd.channel.model import Rules
from dux_sim.proof.cast import START

UNIT = FIRST_MIN_FLORINS
FEE, EXP, ZONE, MARGIN, WATCH, DEPTH = 1, START + 30, 6, 8, 3, 2
PAYER, PAYEE = 0, 1
NAMES = ("payer", "payee")
OIDS = ("a", "b", "c", "d")
CAPS = (Cap(1, UNIT), Cap(2, 2 * UNIT), Cap(4, 100 * UNIT))
EDGES = (
    *(START, START + 1, START + 2, START + 4), *(EXP - MARGIN, EXP - ZONE, EXP - WATCH),
    *(EXP, EXP + 1, EXP + 2, EXP + 3, EXP + 7, EXP + 11),
)  # fmt: skip
OPEN_EDGE = EDGES.index(START + 4)
Left = tuple[int, int, int, int]  # accidents, copies of the payer's and of the payee's disk, whims that are left


CRASHES, NETWORK, CHAIN, LATE, AWAY = "crashes", "network", "chain", "late", "away"
ACCIDENTS = frozenset({CRASHES, NETWORK, CHAIN, LATE, AWAY})


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What stays the same through a history."""

    calls: int = 2
    rules: Rules
    price: int = UNIT
    failing: bool = False  # a handler may fail
    metered: bool = False  # calls begin at one price and may need one more
    value_florins: int = 6 * UNIT + FEE
    liars: frozenset[int] = frozenset()
    accidents: frozenset[str] = ACCIDENTS  # which kinds may happen, as many as the allowance says
    crashing: frozenset[int] = frozenset({PAYER, PAYEE})  # who may crash, where somebody may
    opening: bool = False  # from the funding on; else from an open channel on
    nonces_max: int = 4  # hellos that the payer may send


def rules_for(
    *, window: int = 2, first: int = UNIT, mirror: int = 100 * UNIT, limit: int = 100 * UNIT, rerun: bool = False
) -> Rules:  # fmt: skip
    """The numbers of a channel whose coin carries so many units."""
    return Rules(
        exp=EXP, zone=ZONE, margin=MARGIN, window=window, caps=CAPS, fee_florins=FEE, first_min_florins=first,
        coin_min_florins=UNIT, depth=DEPTH, idle=1_000, fund=10, step=1, rebroadcast=2, limit_florins=limit,
        mirror_florins=mirror, rerun=rerun, calls_kept=16,
    )  # fmt: skip


def signable(setting: Setting) -> tuple[int, ...]:
    """What a lying payer may sign at any time: every state."""
    if PAYER not in setting.liars:
        return ()
    return tuple(setting.price * units for units in range(setting.calls + 1))


def request_of(oid: str) -> bytes:
    """What is asked under this id."""
    return b"?" + oid.encode()


def response_of(oid: str) -> bytes:
    """What an honest handler answers to it."""
    return b"!" + oid.encode()
