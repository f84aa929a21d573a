"""What a buyer may ask of a contract beyond its price: who goes first, and who shall not judge. Source: EP §2, §5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import click

from common.errors import BadParams
from common.units import Did, Florins
from dux_cli.did_param import NodeDid
from dux_cli.wallet import FLOP_AMOUNT

SWAP_LIMIT_FLORINS = Florins(250_000_000)
STRIKES_MAX = 2


@dataclass(frozen=True)
class ContractTerms:
    """The buyer's wishes. `swap_limit`: most that is paid before the result is seen."""

    policy: Literal["standby", "swap"] = "standby"
    swap_limit: Florins = SWAP_LIMIT_FLORINS
    strikes: tuple[Did, ...] = ()

    @property
    def named(self) -> str:
        """The option that only a contract can keep, or an empty string."""
        return "--policy swap" if self.policy == "swap" else "--strike" if self.strikes else ""


def contract_options(command: Any) -> Any:
    """The options of `duxnet call` that say how its contract is to be."""
    for option in (
        click.option("--strike", "strikes", type=NodeDid(), multiple=True, metavar="DID",
                     help="An arbiter that shall not judge; may be given twice."),
        click.option("--swap-limit", type=FLOP_AMOUNT, help="With swap: pay so much before seeing it; else up to 2.5."),
        click.option("--policy", type=click.Choice(["standby", "swap"]), default="standby", show_default=True,
                     help="Who goes first. standby: the seller shows the result while arbiters stand by. "
                          "swap: you pay, and the result's key comes with the payment."),
    ):  # fmt: skip
        command = option(command)
    return command


def terms_of(policy: str, swap_limit: Florins | None, strikes: tuple[str, ...], pay: str) -> ContractTerms:
    """The wishes as they were written.

    Raises:
        BadParams: they do not fit together, or the call is not to have a contract.
    """
    if swap_limit is not None and policy != "swap":
        raise BadParams(detail="--swap-limit goes with --policy swap: by standby you see the result before you pay")
    if len(strikes) > STRIKES_MAX:
        raise BadParams(detail=f"{STRIKES_MAX} arbiters may be struck, not {len(strikes)}")
    found = ContractTerms(
        policy="swap" if policy == "swap" else "standby",
        swap_limit=SWAP_LIMIT_FLORINS if swap_limit is None else swap_limit,
        strikes=tuple(Did(did) for did in dict.fromkeys(strikes)),
    )
    if found.named and pay == "channel":
        raise BadParams(detail=f"{found.named} is about contracts, and --pay channel makes none")
    return found


def check_of(check: str, terms: ContractTerms, *, together: bool) -> str:
    """The second worker: `auto` is none where nobody could wait for it."""
    return "none" if check == "auto" and (together or terms.policy == "swap") else check
