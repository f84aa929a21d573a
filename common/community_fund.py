"""Where a network's community fund stands on the chain: its scripts and its address follow from the network's profile.

The tax is paid to the first collector (the fund itself, where there is none); what lies on collectors and on scripts
of earlier custodians goes to the fund and nowhere else. What may be paid out is `common.chain.fund`.
Source: money.md §6.
"""

from __future__ import annotations

from common.chain.address import script_to_address
from common.chain.fund import fund_output_script
from common.chain.params import family_named
from common.errors import CallerMistake
from common.network import FundParameters, NetworkProfile, Quorum


class NoFund(CallerMistake):
    """This network's profile names no custodians of the community fund; take a profile that does."""

    code = 2024
    key = "no-fund"


def script_of(quorum: Quorum) -> bytes:
    """The output script of one group of keepers."""
    return fund_output_script(quorum.threshold, quorum.pubkeys)


def fund_script_of(fund: FundParameters) -> bytes:
    """The output script that the tax of a network is paid to, from the network's own profile.

    Raises:
        NoFund: the network has no custodians.
    """
    if not fund.custodians:
        raise NoFund
    return script_of(fund.collectors[0] if fund.collectors else fund)


def vault_script_of(fund: FundParameters) -> bytes:
    """The output script that the fund is kept on and handed back from.

    Raises:
        NoFund: the network has no custodians.
    """
    if not fund.custodians:
        raise NoFund
    return script_of(fund)


def swept_quorums(fund: FundParameters) -> tuple[Quorum, ...]:
    """Whose scripts are emptied into the fund: collectors and earlier custodians, each script once."""
    found = {script_of(one): one for one in (*fund.collectors, *fund.before) if one.custodians}
    if fund.custodians:
        found.pop(vault_script_of(fund), None)
    return tuple(found.values())


def fund_scripts_of(fund: FundParameters) -> tuple[bytes, ...]:
    """The fund's script and those that are emptied into it; none where there is no fund."""
    if not fund.custodians:
        return ()
    return (vault_script_of(fund), *(script_of(one) for one in swept_quorums(fund)))


def tax_scripts_of(fund: FundParameters) -> frozenset[bytes]:
    """Every script that the tax of a contract may have been paid to, now or under earlier custodians."""
    return frozenset(script_of(one) for one in (*fund.collectors, fund, *fund.before) if one.custodians)


def fund_address_of(network: NetworkProfile) -> str:
    """The address that a network's tax is paid to.

    Raises:
        NoFund: the network has no custodians.
    """
    address = script_to_address(fund_script_of(network.fund), family_named(network.chain))
    if address is None:
        raise TypeError("a script hash always has an address")
    return address
