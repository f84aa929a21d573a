"""Where a network's community fund stands on the chain: its script and its address follow from the network's profile.

What may be paid out of it is `common.chain.fund`. Source: money.md §6.
"""

from __future__ import annotations

from common.chain.address import script_to_address
from common.chain.fund import fund_output_script
from common.chain.params import family_named
from common.errors import CallerMistake
from common.network import FundParameters, NetworkProfile


class NoFund(CallerMistake):
    """This network's profile names no custodians of the community fund; take a profile that does."""

    code = 2024
    key = "no-fund"


def fund_script_of(fund: FundParameters) -> bytes:
    """The output script of a network's community fund, from the network's own profile.

    Raises:
        NoFund: the network has no custodians.
    """
    if not fund.custodians:
        raise NoFund
    return fund_output_script(fund.threshold, fund.pubkeys)


def fund_address_of(network: NetworkProfile) -> str:
    """The address of a network's community fund.

    Raises:
        NoFund: the network has no custodians.
    """
    address = script_to_address(fund_script_of(network.fund), family_named(network.chain))
    if address is None:
        raise TypeError("a script hash always has an address")
    return address
