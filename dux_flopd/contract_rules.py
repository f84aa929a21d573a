"""What the wallet demands before it takes part in a contract or signs a way out of one. Pure.

The laws of a contract as such stand in `common/chain/contract_rules`; here are those that need to know whose wallet and
which network this is. Source: settled.md 6, escrow_protocol.md §3 and §8.
"""

from __future__ import annotations

from common.chain.channel import ChannelTerms
from common.chain.contract import Contract, Party
from common.chain.templates import Award, Cancel, Refund, Release, Side, Template
from common.community_fund import fund_script_of, tax_scripts_of
from common.contracts.wallet_errors import KeyNotOurs, KeyUsed, NotAgreed, TooEarly, TooLate, TooShallow
from common.network import NetworkProfile
from dux_flopd.model import ContractKeyRow
from dux_flopd.rules import confirmations

REFUND_DEPTH_BLOCKS = 1  # the buyer alone takes what is its own; only an id that may still change is waited for


def check_network(contract: Contract, network: NetworkProfile, *, back: bool = False) -> None:
    """Nothing happens for a contract of our network; of one that comes `back` the fund may have had other custodians.

    Raises:
        NotAgreed: another chain, fund, tax or table of heights.
    """
    broken = foreign(contract, contract.heights_profile, network, back=back)
    if broken:
        raise NotAgreed(reason="; ".join(broken))


def foreign(terms: Contract | ChannelTerms, heights: str, network: NetworkProfile, *, back: bool) -> list[str]:
    """Why a contract or channel is none of our network; `back`: any fund that the profile tells of will do."""
    funds = tax_scripts_of(network.fund) if back else {fund_script_of(network.fund)}
    laws = {
        "it is for another network": terms.network == network.genesis,
        "its fund script is not our network's": terms.fund_script in funds,
        "its tax is not our network's": terms.tax_bps in network.taxes_bps,
        "its heights are not our network's": heights == network.heights,
    }
    return [complaint for complaint, holds in laws.items() if not holds]


def own_party(contract: Contract, role: str) -> Party | None:
    """Buyer or seller, when this wallet is one of them."""
    return {"buyer": contract.buyer, "seller": contract.seller}.get(role)


def check_own_part(
    contract: Contract,
    role: str,
    cid: str,
    key: ContractKeyRow | None,
    pubkey: bytes,
    payout: bytes,
    result_hash: bytes,
) -> None:
    """Nothing happens when the contract holds our fresh key, nonce, payout script and (as seller) result hash.

    Raises:
        KeyNotOurs, KeyUsed: it does not, or the key serves another contract.
    """
    if key is None or key.purpose != role:
        raise KeyNotOurs(reason=f"no key of that number was made for a {role}")
    if key.cid not in ("", cid):
        raise KeyUsed(index=key.index)
    party = own_party(contract, role)
    persons = [party] if party else [arbiter for arbiter in contract.arbiters if arbiter.key == pubkey]
    if not persons or persons[0].key != pubkey or persons[0].payout_script != payout:
        raise KeyNotOurs(reason=f"the contract's {role} has another key or payout script")
    if party and party.nonce != key.nonce:
        raise KeyNotOurs(reason=f"the contract's {role} has another nonce than the key was made for")
    if role == "seller" and contract.result_hash not in (b"", result_hash):
        raise KeyNotOurs(reason="the result hash is not of this wallet's result key")


def signs(template: Template, role: str) -> bool:
    """Whether this role's signature belongs into the way out."""
    if isinstance(template, Refund):
        return role == "buyer"
    if isinstance(template, Award):
        return role in ("arbiter", template.winner.value)
    return role in (Side.BUYER.value, Side.SELLER.value)


def check_depth(contract: Contract, template: Template, outpoint: str, height: int | None, tip: int) -> None:
    """Nothing happens for an output that lies deep enough for this way out.

    Raises:
        TooShallow: it may still go away, and a signature would be for the wrong outpoint.
    """
    needed = REFUND_DEPTH_BLOCKS if isinstance(template, Refund) else contract.depth_blocks
    depth = confirmations(height, tip)
    if depth < needed:
        raise TooShallow(outpoint=outpoint, depth_blocks=depth, needed_blocks=needed)


def check_time(contract: Contract, template: Template, role: str, tip: int) -> None:
    """Nothing happens when the way out may be broadcast now.

    Raises:
        TooEarly: a refund before T. TooLate: the seller would show K inside the last margin (EP §11 d).
    """
    if isinstance(template, Refund) and tip < contract.heights.timeout:
        raise TooEarly(height=contract.heights.timeout, tip=tip)
    shows_key = isinstance(template, Release) and role == "seller" and bool(contract.result_hash)
    if shows_key and tip > contract.heights.vote_by:
        raise TooLate(height=contract.heights.vote_by)


def may_show_key(template: Template, role: str) -> bool:
    """Whether this wallet puts its own K into the spend: the seller into a release or a cancel."""
    return role == "seller" and isinstance(template, Release | Cancel)
