"""The network profile: what all nodes of one network agree on before they talk.

A YAML file that the operator gets with the network (or that `duxnet demo` makes for its own). The parameters that the
community may change later are here too; the constitution's bounds are checked when the file is read.
Source: settled.md 9, 13, 15, 19, 23; money.md §6.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
import yaml

from common.chain.heights import PROFILES
from common.codec import Wire, from_plain, to_plain
from common.errors import BadParams, BadSettings
from common.nets import may_listen_at
from common.parameters import FORM, AirdropParameters, ParameterSet, bounds_problem
from common.quality import DAY_BLOCKS
from common.units import BPS, FLOP, Did, Florins
from common.yaml_file import read_yaml

CHALLENGERS_MAX = 12  # their signed sightings fit one gossip message
HASH_BYTES, PUBKEY_BYTES = 32, 33
HOLD_S_MAX = 60.0  # of a benchmark's blocks
CUSTODIANS_MAX = 15  # what fits a P2SH script of 520 bytes


class KeyFileCosts(Wire, frozen=True):
    """Argon2id costs of sealed key files."""

    memory_kib: int = 65_536
    iterations: int = 3
    lanes: int = 1


class Custodian(Wire, frozen=True):
    """One keeper of the community fund: its node and its fund key (33 bytes, hex)."""

    did: Did
    pubkey: str


class Quorum(Wire, frozen=True):
    """Keepers of one script: `threshold` of their keys spend what lies on it."""

    threshold: int = 2
    custodians: tuple[Custodian, ...] = ()

    @property
    def pubkeys(self) -> tuple[bytes, ...]:
        """The custodians' keys (33 bytes each) in bytewise order, as scripts hold them."""
        return tuple(sorted(bytes.fromhex(custodian.pubkey) for custodian in self.custodians))


class FundParameters(Quorum, frozen=True):
    """The community fund: its custodians, the collectors that the tax is paid to, and the custodians before them.

    A collector is a script of few keys, so that small payments are cheap to spend; without one the tax is paid to the
    fund itself. What lies on collectors and on the scripts of earlier custodians is swept into the fund.
    """

    collectors: tuple[Quorum, ...] = ()  # the first takes the tax, the others are only emptied
    before: tuple[Quorum, ...] = ()


class Bootstrap(Wire, frozen=True):
    """A node to ask first: `host:port`, its DID when known, and where it is, in a word that the network has chosen."""

    address: str
    did: Did | None = None
    region: str = ""


class PresenceParameters(Wire, frozen=True):
    """How it is witnessed that a node is there: who is challenged how often, and how much of it must be seen."""

    slot_blocks: int = 10  # one round of challenges, blocks: ten minutes
    challengers: int = 10  # that are to be expected for each node and slot, of different networks
    needed: int = 4  # must have seen it
    good_day_bps: int = 8_000  # of a day's slots must be up
    apart: bool = True  # one challenger per IPv4 /24 or IPv6 /48; off for a network within one house


class BenchmarkParameters(Wire, frozen=True):
    """How declared hardware is measured: by whom, how often, how much of it."""

    period_blocks: int = DAY_BLOCKS  # one round of measurements, blocks
    challengers: int = 2  # drawn for each node and period, of its tier or above
    needed: int = 1  # results before a figure counts as verified
    valid_days: int = 30  # after which a result no longer counts
    iterations: int = 1 << 20  # hashes of one core's chain, about a second
    memory_share_bps: int = 2_500  # of declared memory is asked for
    memory_max_mb: int = 256
    disk_share_bps: int = 100
    disk_max_mb: int = 256
    hold_s: float = 2.0  # between filling and the walk
    steps: int = 65_536  # of a walk
    transfer_kib: int = 4_096  # each way
    load_max_milli: int = 1_500  # a node whose load per core is higher is not measured now


class AuditParameters(Wire, frozen=True):
    """Audits by hand: how large a panel, when it is drawn, how long it has, what its verdict weighs."""

    panel: int = 3
    needed: int = 2  # equal verdicts decide
    least_tier: int = 2  # of auditors, where the network has enough of them
    draw_after_blocks: int = 10
    answer_blocks: int = 3 * DAY_BLOCKS
    per_asker: int = 3  # requests of one asker
    per_asker_blocks: int = 30 * DAY_BLOCKS  # within so many blocks
    failed_florins: Florins = Florins(FLOP // 20)  # counts against Q as a lost contract's tax would
    passed_florins: Florins = Florins(FLOP // 100)  # counts for Q, at most once in thirty days


class TierRule(Wire, frozen=True):
    """What a tier above Initiate asks, by trade and by duty, and the duties that come with it."""

    standing_milli: int  # s of mechanisms.md §1.1, thousandths
    days_known: int
    good_days: int  # of the last 60, as drawn challengers saw them
    probing_bps: int  # part of the looks at others made that it owed, going by chance
    bond_florins: Florins = Florins(0)  # locked in fidelity bonds that the chain shows
    duties: tuple[str, ...] = ()
    services: dict[str, int] = msgspec.field(default_factory=dict)  # `audit`, `relay`, … -> least count of 60 days


TIERS = (
    TierRule(
        standing_milli=6_000,
        days_known=60,
        good_days=48,
        probing_bps=5_000,
        duties=("announce", "audit", "relay"),
        services={"dht": 30},  # one who keeps others' records has about four words of it a day
    ),
    TierRule(
        standing_milli=9_000,
        days_known=180,
        good_days=48,
        probing_bps=8_000,
        bond_florins=Florins(100 * FLOP),
        duties=("council",),
        services={"dht": 60},  # relays, audits and votes are not asked of anybody: few are, and only when drawn
    ),
)
TIERS_MAX = 8


class NetworkProfile(Wire, frozen=True):
    """One network."""

    name: str
    chain: str  # family in common/chain/params.py
    genesis: str  # hex of the coin chain's genesis hash: names the network in everything signed
    heights: str  # profile in common/chain/heights.py
    alpn: str = "dux-test/1"
    inception_bits: int = 0  # work to make an identity; 12 on main
    key_file_costs: KeyFileCosts = KeyFileCosts()
    fund: FundParameters = FundParameters()
    arbiters: tuple[Did, ...] = ()
    bootstrap: tuple[Bootstrap, ...] = ()
    tax_bps: int = 500
    airdrop: AirdropParameters = AirdropParameters()
    presence: PresenceParameters = PresenceParameters()
    benchmark: BenchmarkParameters = BenchmarkParameters()
    audit: AuditParameters = AuditParameters()
    tiers: tuple[TierRule, ...] = TIERS  # tier 2 first; tier 1 is every node that was ever witnessed
    may_keep_phrase: bool = True  # test networks may keep the recovery phrase on disk
    version: int = 1  # of this profile: nodes take a later one if the council of theirs has signed it
    council: tuple[Did, ...] = ()  # founders, more than half of whom must have signed the profile
    premine: tuple[tuple[str, Florins], ...] = ()  # embedded chain only: address -> amount in its first block
    parameter_sets: tuple[ParameterSet, ...] = ()  # all versions, once there is a second: never in the profile's file

    @property
    def first_parameters(self) -> ParameterSet:
        """Version 1 of the parameter set: what the profile itself says."""
        if self.parameter_sets:
            return self.parameter_sets[0]
        return ParameterSet(
            form=FORM, network=self.genesis, version=1, before="", from_height=0, tax_bps=self.tax_bps,
            airdrop=self.airdrop,
        )  # fmt: skip

    @property
    def parameters(self) -> ParameterSet:
        """The newest parameter set: what new statements are made under."""
        return self.parameter_sets[-1] if self.parameter_sets else self.first_parameters

    @property
    def as_signed(self) -> NetworkProfile:
        """The profile as its own file, and its founders' signatures, have it."""
        first = self.first_parameters
        return msgspec.structs.replace(self, tax_bps=first.tax_bps, airdrop=first.airdrop, parameter_sets=())

    @property
    def taxes_bps(self) -> frozenset[int]:
        """The rates of tax of all versions: what receipts of earlier contracts may show."""
        return frozenset(one.tax_bps for one in (*self.parameter_sets, self.parameters))

    @property
    def is_main(self) -> bool:
        """Real coins: no shortcuts."""
        return self.name == "main"


def load_profile(path: Path) -> NetworkProfile:
    """The profile in a YAML file.

    Raises:
        BadSettings: unreadable, unknown keys, or outside the constitution's bounds.
    """
    plain = read_yaml(path)
    if not isinstance(plain, dict):
        raise BadSettings(path=str(path), detail="this is no profile of a network")
    try:
        profile = from_plain(plain, NetworkProfile)
    except BadParams as error:
        raise BadSettings(path=str(path), detail=str(error.fields["detail"])) from error
    problem = first_problem(profile)
    if problem:
        raise BadSettings(path=str(path), detail=problem)
    return profile


def save_profile(profile: NetworkProfile, path: Path) -> None:
    """Write the profile as YAML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(to_plain(profile), sort_keys=False))


def first_problem(profile: NetworkProfile) -> str:
    """What no network may have, or an empty string. Bounds: mechanisms.md §3.1 (constitution)."""
    fund = profile.fund
    if not is_hex(profile.genesis, HASH_BYTES):
        return "genesis must be 64 hex digits"
    if profile.parameter_sets:
        return "later parameter sets stand in a file of their own"
    if profile.is_main and (profile.may_keep_phrase or profile.alpn != "dux/1" or profile.premine):
        return "main keeps no phrase, speaks dux/1 and has no premine"
    if profile.heights not in PROFILES:
        return f"heights must be one of {', '.join(PROFILES)}, not {profile.heights!r}"
    for one in profile.bootstrap:
        if may_listen_at(one.address) is None:
            return f"bootstrap: {one.address!r} is not host:port"
    return (
        bounds_problem(profile.tax_bps, profile.airdrop)
        or _fund_problem(fund)
        or _presence_problem(profile.presence)
        or _benchmark_problem(profile.benchmark)
        or _tiers_problem(profile.tiers)
        or _audit_problem(profile.audit)
    )


def is_hex(text: str, size: int) -> bool:
    """Whether a text is so many bytes in the one form of hex: small letters, no spaces."""
    return len(text) == 2 * size and not text.strip("0123456789abcdef")


def _fund_problem(fund: FundParameters) -> str:
    quorums = (fund, *fund.collectors, *fund.before)
    if not all(is_hex(one.pubkey, PUBKEY_BYTES) for quorum in quorums for one in quorum.custodians):
        return f"fund: a custodian's pubkey is {PUBKEY_BYTES} bytes in hex"
    for name, quorum in (("fund", fund), *(("fund.collectors", one) for one in fund.collectors)):
        if len(quorum.custodians) > CUSTODIANS_MAX:
            return f"{name}: at most {CUSTODIANS_MAX} custodians fit one script"
        if quorum.custodians and not 1 <= quorum.threshold <= len(quorum.custodians):
            return f"{name}.threshold must be between 1 and the number of custodians"
    if (fund.collectors or fund.before) and not fund.custodians:
        return "fund: collectors and earlier custodians need a fund to be swept into"
    if not all(one.custodians for one in (*fund.collectors, *fund.before)):
        return "fund: a collector has custodians"
    return ""


def _audit_problem(rules: AuditParameters) -> str:
    if not 1 <= rules.needed <= rules.panel <= CHALLENGERS_MAX or 2 * rules.needed <= rules.panel:
        return f"audit: more than half of the panel decides, and a panel has at most {CHALLENGERS_MAX}"
    if not (1 <= rules.draw_after_blocks <= DAY_BLOCKS and 1 <= rules.answer_blocks <= 30 * DAY_BLOCKS):
        return "audit: a panel is drawn within a day and answers within thirty"
    if rules.per_asker < 1 or min(rules.failed_florins, rules.passed_florins) < 0:
        return "audit: each node may ask at least once, and no verdict weighs less than nothing"
    return ""


def _benchmark_problem(rules: BenchmarkParameters) -> str:
    """Bounds on what a node may be asked for: seconds of work and some hundred megabytes a day."""
    bounds: dict[str, tuple[int, int]] = {
        "period_blocks": (10, 30 * DAY_BLOCKS),
        "challengers": (1, CHALLENGERS_MAX),
        "needed": (1, rules.challengers),
        "iterations": (1 << 10, 1 << 24),
        "memory_share_bps": (1, BPS // 2),
        "memory_max_mb": (1, 4_096),
        "disk_share_bps": (1, BPS // 2),
        "disk_max_mb": (1, 4_096),
        "steps": (1 << 10, 1 << 20),
        "transfer_kib": (512, 65_536),
    }
    for name, (low, high) in bounds.items():
        if not low <= getattr(rules, name) <= high:
            return f"benchmark.{name} must be between {low} and {high}"
    return "" if 0 <= rules.hold_s <= HOLD_S_MAX else f"benchmark.hold_s must be between 0 and {HOLD_S_MAX:g}"


def _tiers_problem(tiers: tuple[TierRule, ...]) -> str:
    if len(tiers) > TIERS_MAX:
        return f"at most {TIERS_MAX} tiers above the first"
    names = sorted({name for rule in tiers for name in rule.services})
    asked = [
        (
            *(rule.standing_milli, rule.days_known, rule.good_days, rule.probing_bps, rule.bond_florins),
            *(rule.services.get(name, 0) for name in names),
        )
        for rule in tiers
    ]
    if any(lower > higher for one, other in pairwise(asked) for lower, higher in zip(one, other, strict=True)):
        return "tiers: a higher tier asks no less than a lower one"
    return ""


def _presence_problem(presence: PresenceParameters) -> str:
    if not 1 <= presence.slot_blocks <= DAY_BLOCKS:
        return f"presence.slot_blocks must be between 1 and {DAY_BLOCKS}"
    if not 1 <= presence.needed <= presence.challengers <= CHALLENGERS_MAX:
        return f"presence: 1 <= needed <= challengers <= {CHALLENGERS_MAX}"
    if not 0 <= presence.good_day_bps <= BPS:
        return f"presence.good_day_bps must be between 0 and {BPS}"
    return ""
