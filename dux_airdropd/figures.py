"""The rule's figures at a height, from the network's profile and its parameter sets; the map from networks to ASNs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from common.chain.heights import heights_profile
from common.community_fund import vault_script_of
from common.contracts.airdrop import RuleRefused
from common.network import NetworkProfile
from common.parameters import ParameterSet, in_force
from common.quality import PPM
from dux_airdropd.model import Figures

ASN_LINES_MAX = 2_000_000


def figures_of(network: NetworkProfile, parameters: ParameterSet | None = None) -> Figures:
    """The fund and the rule's parameters, as every node of the network has them under this set."""
    held = parameters or network.parameters
    fund, airdrop = network.fund, held.airdrop
    return Figures(
        network=network.genesis,
        needed=fund.threshold,
        pubkeys=fund.pubkeys,
        fund_script=vault_script_of(fund) if fund.custodians else b"",
        family=network.chain,
        threshold_florins=int(airdrop.threshold_florins),
        carry_below_florins=int(airdrop.carry_below_florins),
        min_quality_ppm=round(airdrop.min_reputation * PPM),
        max_nodes=airdrop.max_nodes,
        evidence_blocks=airdrop.evidence_blocks,
        depth_blocks=heights_profile(network.heights).depth_blocks,
        tax_bps=held.tax_bps,
        rule=airdrop.rule,
        parameters=held.version,
        custodians=frozenset(one.did for one in fund.custodians),
        bonded=airdrop.bonded,
    )


def figures_by_height(network: NetworkProfile) -> Callable[[int], Figures]:
    """The figures of the parameter set that holds at a height."""
    made: dict[int, Figures] = {}

    def at(height: int) -> Figures:
        held = in_force(network.parameter_sets or (network.first_parameters,), height)
        if held.version not in made:
            made[held.version] = figures_of(network, held)
        return made[held.version]

    return at


def renew(figures: Figures, network: NetworkProfile) -> None:
    """A later set holds: whoever holds these figures, the newest ones, sees them change."""
    newest = figures_of(network)
    for name in Figures.__struct_fields__:
        msgspec.structs.force_setattr(figures, name, getattr(newest, name))


def read_asns(network: NetworkProfile, path: str) -> dict[str, int]:
    """The map from networks (/24, /48) to ASNs whose hash the parameter set names.

    Raises:
        RuleRefused: the set names a map, and this node has another one or none.
    """
    wanted = network.airdrop.bonded.asn_map
    if not wanted:
        return {}
    data = Path(path).read_bytes() if path and Path(path).exists() else b""
    if hashlib.sha256(data).hexdigest() != wanted:
        reason = f"its parameter set names the ASN map {wanted[:16]}…: set `asn_map` in airdropd.yaml to that file"
        raise RuleRefused(rule=network.airdrop.rule, network=network.name, reason=reason)
    pairs = (line.split() for line in data.decode().splitlines()[:ASN_LINES_MAX] if line.strip())
    return {pair[0]: int(pair[1]) for pair in pairs}
