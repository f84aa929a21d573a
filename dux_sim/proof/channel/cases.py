"""Which worlds of a channel are walked: who lies, what may fail, which disks are old, and the allowance of each."""

from __future__ import annotations

from typing import Any

import msgspec

from dux_sim.proof.channel.cast import (
    ACCIDENTS,
    AWAY,
    CHAIN,
    CRASHES,
    NAMES,
    PAYEE,
    PAYER,
    UNIT,
    Left,
    Setting,
    rules_for,
)

STATES_MAX = 400_000  # per case; what is cut off is told
LIAR_HELLOS = 2
NOTHING: Left = (0, 0, 0, 0)
ONE: Left = (1, 0, 0, 0)
TWO: Left = (2, 0, 0, 0)
WHIM: Left = (0, 0, 0, 1)
OLD_PAYER: Left = (0, 1, 0, 0)
OLD_PAYEE: Left = (0, 0, 1, 0)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One world to walk."""

    name: str
    setting: Setting
    left: Left = NOTHING
    states_max: int = STATES_MAX


def case_of(name: str, left: Left = NOTHING, *, states_max: int = STATES_MAX, rules: Any = None, **how: Any) -> Case:
    """A case by its parts; `rules`: what differs from the usual numbers."""
    setting = Setting(rules=rules_for(**(rules or {})), **how)
    told = ", ".join(f"{count} {what}" for count, what in zip(left, KINDS, strict=True) if count)
    return Case(name=f"{name}; {told or 'no accident'}", setting=setting, left=left, states_max=states_max)


KINDS = ("accidents", "old copies of the payer", "old copies of the payee", "whims")
LYING_PAYER: dict[str, Any] = {"liars": frozenset({PAYER}), "nonces_max": LIAR_HELLOS}
LYING_PAYEE: dict[str, Any] = {"liars": frozenset({PAYEE})}


OF_CHAIN = frozenset({CHAIN})
OF_CRASHES = frozenset({CRASHES})
CRASHES_OR_AWAY = frozenset({CRASHES, AWAY})
SOME: dict[str, Any] = {"nonces_max": 3}  # hellos of the payer; the first one is before the walk begins
FEW: dict[str, Any] = {"nonces_max": 2}
AGAIN: dict[str, Any] = {"calls": 1, "rules": {"rerun": True}, **SOME}
MOVED: dict[str, Any] = {"calls": 1, "opening": True, "accidents": OF_CHAIN, "nonces_max": LIAR_HELLOS}


def quick_cases() -> list[Case]:
    """The short form: each kind of world, so small that it is walked to its end."""
    return [
        case_of("both honest, 1 call", OLD_PAYER, calls=1),
        case_of("both honest, 1 call", OLD_PAYEE, calls=1),
        case_of("both honest, 2 calls that may fail", calls=2, failing=True),
        case_of("both honest, 3 calls in a window of 2", calls=3),
        case_of("both honest, 1 call", ONE, calls=1, failing=True),
        case_of("both honest, 1 call", WHIM, calls=1, failing=True),
        case_of("from the funding on, 2 calls", calls=2, opening=True),
        case_of("from the funding on, 1 call, of the chain", ONE, **MOVED),
        case_of("first voucher above the price, 2 calls", calls=2, rules={"first": 2 * UNIT}),
        case_of("metered, 1 call", calls=1, metered=True),
        case_of("what a crash found running is run again, 1 call, by crashes", ONE, accidents=OF_CRASHES, **AGAIN),
        case_of("payer lies, 1 call, of the chain", ONE, calls=1, accidents=OF_CHAIN, **LYING_PAYER),
        case_of("payer lies from the funding on, 1 call", calls=1, opening=True, **LYING_PAYER),
        case_of("payee lies, 2 calls, by crashes", ONE, calls=2, accidents=OF_CRASHES, **LYING_PAYEE),
    ]


def by_kind(name: str, kinds: frozenset[str] = ACCIDENTS, **how: Any) -> list[Case]:
    """One accident of any kind: a case of each kind, and of each side's crashes, which together are the whole."""
    others = [
        case_of(f"{name}, {kind}", ONE, accidents=frozenset({kind}), **how) for kind in sorted(kinds - OF_CRASHES)
    ]
    crashes = [
        case_of(f"{name}, the {NAMES[side]} crashes", ONE, accidents=OF_CRASHES, crashing=frozenset({side}), **how)
        for side in (PAYER, PAYEE)
    ]
    return [*crashes, *others]


def full_cases() -> list[Case]:
    """Everything; the largest first, so that two processes end together. Few hellos, where else it had no end."""
    return [
        case_of("payer lies, 2 calls", calls=2, **LYING_PAYER),
        case_of("payee lies, 4 calls in a window of 3", calls=4, rules={"window": 3}, **LYING_PAYEE),
        case_of("payer lies, 1 call", TWO, calls=1, states_max=600_000, **LYING_PAYER),
        case_of("both honest, 4 calls in a window of 3", calls=4, rules={"window": 3}),
        case_of("both honest, 2 calls, by crashes", TWO, calls=2, accidents=OF_CRASHES, **FEW),
        case_of("both honest, 2 calls", OLD_PAYER, calls=2, **FEW),
        case_of("both honest, 2 calls", OLD_PAYEE, calls=2, **FEW),
        case_of("both honest, 2 calls", (0, 1, 1, 0), calls=2, **FEW),
        case_of("both honest, 1 call", (0, 1, 1, 0), calls=1, **SOME),
        case_of("both honest, 1 call", TWO, calls=1, **SOME),
        case_of("both honest, 1 call, old copies and a crash", (1, 1, 1, 0), calls=1, accidents=OF_CRASHES, **FEW),
        case_of("both honest, 1 call", (1, 0, 0, 1), calls=1, failing=True, **SOME),
        case_of("both honest, 2 calls", WHIM, calls=2, **SOME),
        *by_kind("both honest, 2 calls that may fail", calls=2, failing=True, **FEW),
        *by_kind(
            "both honest, 2 calls and a copy at each step", CRASHES_OR_AWAY, calls=2, rules={"mirror": UNIT}, **FEW
        ),
        case_of("from the funding on, 1 call, of the chain", TWO, calls=1, opening=True, accidents=OF_CHAIN),
        case_of("from the funding on, 1 call", ONE, calls=1, opening=True),
        case_of("from the funding on, 2 calls, of the chain", ONE, calls=2, opening=True, accidents=OF_CHAIN, **SOME),
        case_of("what a crash found running is run again, 1 call", TWO, **AGAIN),
        case_of("metered, 1 call", ONE, calls=1, metered=True),
        case_of("payer lies, 1 call", OLD_PAYEE, calls=1, **LYING_PAYER),
        *by_kind("payer lies from the funding on, 1 call", calls=1, opening=True, **LYING_PAYER)[1:],
        case_of("payee lies, 2 calls", TWO, calls=2, **SOME, **LYING_PAYEE),
        case_of("payee lies, 2 calls", OLD_PAYER, calls=2, **SOME, **LYING_PAYEE),
        case_of("payee lies, 3 calls", calls=3, **LYING_PAYEE),
        *quick_cases(),
    ]
