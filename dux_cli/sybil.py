"""What `duxnet sim --story sybil` prints: the profit of faking nodes, by rule, honest nodes, and yearly rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.units import FLOP

if TYPE_CHECKING:
    from dux_cli.command import Session
    from dux_sim.sybil.story import Findings

HONEST = (50, 300, 1_000)
HEADINGS = ("rule", "honest", "law", "bond", "fakes", "share", "paid out", "r = 0 %", "r = 5 %", "r = 10 %", "per fake")


def run_sybil(session: Session, seed: int) -> bool:
    """Attack both rules, print every step of the ladder; whether it came out as it has to."""
    import msgspec

    from dux_sim.sybil.story import attacks

    found: list[Findings] = []
    for rule in ("full", "bonded"):
        for honest in HONEST:
            for law in ("lognormal", "pareto"):
                session.out.step(f"rule {rule}, {honest} honest nodes, {law} …")
                found.append(attacks(rule, honest, seed=seed, law=law))
    holds = all(one.worth_faking == (one.rule == "full") for one in found)
    told = {"attacks": [msgspec.to_builtins(one, str_keys=True) for one in found], "holds": holds, "seed": seed}
    session.out.table(told, HEADINGS, [row for one in found for row in _rows(one)], empty="no attack was made")
    return holds


def _rows(one: Findings) -> list[tuple[str, ...]]:
    from dux_sim.sybil.story import RATES_BPS

    return [
        (
            one.rule, str(one.honest), one.law, f"{one.bond_florins / FLOP:.0f}", str(tried.fakes),
            f"{tried.share_florins / FLOP:.3f}", f"{tried.paid_bps / 100:.0f} %",
            *(f"{tried.profit_florins[rate] / FLOP:+.2f}" for rate in RATES_BPS),
            f"{tried.each(RATES_BPS[1]) / FLOP:+.4f}",
        )
        for tried in one.attacks
    ]  # fmt: skip
