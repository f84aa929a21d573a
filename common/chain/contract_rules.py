"""What forbids entering a contract: a list of laws, each said in words.

Pure. Whether network, fund script, tax and heights profile are *our* network's is the caller's question: it knows its
profile. Source: escrow_protocol.md §2 to §4, facts §2.
"""

from __future__ import annotations

from common.chain.address import is_p2pkh, is_p2sh
from common.chain.contract import (
    ALONE,
    CONTRACT_VERSION,
    LOTS_MAX,
    NO_ROYALTY,
    ROYALTY_BPS_MAX,
    Arbiter,
    Contract,
    LotKind,
    Party,
    arbiter_pay_for,
    is_bond,
    lot_script,
    seated,
)
from common.chain.fees import FEE_RATE_FLORINS_PER_KB, GROSS_MIN_FLORINS
from common.chain.heights import depth_for, heights_problems, heights_profile
from common.chain.script import BadScript
from common.chain.verify import is_pubkey
from common.errors import CallerMistake
from common.units import BPS, FLOP, MONEY_MAX_FLORINS

HASH_BYTES = 32
SERVICE_ID_CHARS_MAX = 128
PRICE_MAX_FLORINS = 10_000 * FLOP  # one block's subsidy, see the draw
FEE_RATE_MAX_FLORINS_PER_KB = 20 * FEE_RATE_FLORINS_PER_KB
PANEL_SIZES = ((25 * FLOP, 3), (1000 * FLOP + 1, 5))  # price below, arbiters at least
PANEL_SIZE_LARGEST = 7


class BadContract(CallerMistake):
    """This contract cannot be entered, it breaks: {reason}."""

    code = 2020
    key = "bad-contract"


def panel_size_for(price_florins: int) -> int:
    """The least number of arbiters for a lot of this price."""
    return next((size for limit, size in PANEL_SIZES if price_florins < limit), PANEL_SIZE_LARGEST)


def arbiters_needed_for(price_florins: int) -> int:
    """How many of the smallest panel for this price have to agree: more than half."""
    return (panel_size_for(price_florins) + 1) // 2


def contract_problems(contract: Contract) -> list[str]:
    """Every law that the contract breaks, in words; empty for one that may be entered."""
    profile = heights_profile(contract.heights_profile)
    laws = _form_laws(contract) | _party_laws(contract) | _money_laws(contract) | _panel_laws(contract)
    laws |= _stage_laws(contract) | _royalty_laws(contract)
    laws["the depth is the profile's for this price"] = contract.depth_blocks == depth_for(
        profile, contract.price_florins
    )
    laws["the start has the profile's blocks"] = contract.start_blocks == profile.start_blocks
    problems = [law for law, holds in laws.items() if not holds]
    problems += heights_problems(profile, contract.heights, contract.price_florins)
    return problems or _script_problems(contract)


def check_contract(contract: Contract) -> None:
    """Nothing happens for a contract that may be entered.

    Raises:
        BadContract: with every law it breaks.
        UnknownHeights: its heights profile is not known here.
    """
    problems = contract_problems(contract)
    if problems:
        raise BadContract(reason="; ".join(problems))


def _form_laws(contract: Contract) -> dict[str, bool]:
    nonces = (contract.buyer.nonce, contract.seller.nonce)
    hashes = (
        contract.job_hash,
        contract.result_salt_hash,
        *nonces,
        *([contract.result_hash] if contract.result_hash else []),
    )
    return {
        "the version is known": contract.version == CONTRACT_VERSION,
        "hashes and nonces have 32 bytes": all(len(item) == HASH_BYTES for item in hashes),
        "the service's name is short": len(contract.service_id) <= SERVICE_ID_CHARS_MAX,
    }


def _party_laws(contract: Contract) -> dict[str, bool]:
    everyone: list[Party | Arbiter] = [contract.buyer, contract.seller, *contract.arbiters]
    scripts = [person.payout_script for person in everyone]
    return {
        "parties and arbiters are different DIDs": len({person.did for person in everyone}) == len(everyone),
        "payout scripts pay a key hash or a script hash": all(is_p2pkh(item) or is_p2sh(item) for item in scripts),
        "the fund is a script hash": is_p2sh(contract.fund_script),
    }


def _money_laws(contract: Contract) -> dict[str, bool]:
    price = int(contract.price_florins)
    rate = contract.fee_rate_florins_per_kb
    pay = int(contract.arbiter_pay_florins)
    return {
        "the price is at least 0.2 FLOP": is_bond(contract) or price >= GROSS_MIN_FLORINS,
        "a bond is some arbiters' pay, and pays none by itself": not is_bond(contract)
        or (pay == 0 and price >= len(contract.arbiters) * int(arbiter_pay_for(0))),
        "the price is at most one block's subsidy": price <= PRICE_MAX_FLORINS,
        "arbiters are paid the rule's part": is_bond(contract) or pay == int(arbiter_pay_for(price)),
        "the tax is a share": 0 <= contract.tax_bps < BPS,
        "the fee rate is near the network's": FEE_RATE_FLORINS_PER_KB <= rate <= FEE_RATE_MAX_FLORINS_PER_KB,
        "the swap limit is an amount": 0 <= int(contract.swap_limit_florins) <= MONEY_MAX_FLORINS,
    }


def _panel_laws(contract: Contract) -> dict[str, bool]:
    count = len(contract.arbiters)
    keys = [contract.buyer.key, contract.seller.key, *(arbiter.key for arbiter in contract.arbiters)]
    return {
        "the panel is large enough for the price": count >= panel_size_for(contract.price_florins) or is_bond(contract),
        "k of n is a bare majority": count == 2 * contract.arbiters_needed - 1,
        "arbiters stand in the order of their keys": contract.arbiters == seated(list(contract.arbiters)),
        "keys are different points": len(set(keys)) == len(keys) and all(is_pubkey(key) for key in keys),
    }


def _stage_laws(contract: Contract) -> dict[str, bool]:
    stage, heights = contract.stage, contract.heights
    begins = heights.fund_by <= stage.begins < heights.deliver_by if stage.number else stage.begins == 0
    return {
        "a series has a name of 32 bytes": stage == ALONE or len(stage.series) == HASH_BYTES,
        "a series has one to eight lots": 1 <= stage.count <= LOTS_MAX and 0 <= stage.number < stage.count,
        "a stage begins between funding and its own delivery": begins,
        "a bond has no result and is the first of its kind": (
            stage.kind is LotKind.WORK or (not contract.result_hash and stage.number == 0)
        ),
    }


def _royalty_laws(contract: Contract) -> dict[str, bool]:
    royalty = contract.royalty
    named = royalty != NO_ROYALTY
    others = {contract.buyer.payout_script, contract.seller.payout_script, contract.fund_script}
    return {
        "a royalty is a share up to half, to a developer who is paid elsewhere": not named
        or (
            0 < royalty.bps <= ROYALTY_BPS_MAX
            and bool(royalty.did)
            and (is_p2pkh(royalty.payout_script) or is_p2sh(royalty.payout_script))
            and royalty.payout_script not in others | {arbiter.payout_script for arbiter in contract.arbiters}
        ),
        "a bond bears no royalty": not (named and is_bond(contract)),
    }


def _script_problems(contract: Contract) -> list[str]:
    try:
        lot_script(contract)
    except BadScript as error:
        return [error.message]
    return []
