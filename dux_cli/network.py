"""`duxnet network …`: a network of one's own, from its founders' keys to nodes that join it.

Founders make their nodes' keys first and hand out cards (no secrets); one of them writes the profile from the cards;
each signs it; everybody joins by it. The order matters, because the profile names keys and nodes agree on the profile.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.errors import BadParams, CallerMistake
from common.units import FLOP, Florins
from dux_cli.command import DuxGroup, Session, pass_session
from dux_cli.council import NoFounder, founder_signs, known_of, offline_option
from dux_cli.init import FOUNDER_FILE
from dux_cli.node_files import outside_endpoint, port_base_of
from dux_cli.wallet import FLOP_AMOUNT

if TYPE_CHECKING:
    from common.charter import Founder
    from common.council import Signature
    from common.network import NetworkProfile

FUND_SHARE = 2  # of the custodians' number: how many sign, rounded up


class OlderProfile(CallerMistake):
    """The profile is no later version of this node's network: {reason}."""

    code = 1142
    key = "older-profile"


@click.group(cls=DuxGroup)
def network() -> None:
    """A network of your own: founders, profile, signatures.

    \b
    duxnet network founder --index 1 --card one.yaml --node ~/one          at each founder
    duxnet network create --name ours --founder one.yaml --founder two.yaml --founder three.yaml ours.yaml
    duxnet network sign ours.yaml --node ~/one                             at each founder
    duxnet init --network ours.yaml --index 1 … --node ~/one               and at everybody who joins
    """


@network.command()
@click.option("--card", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Where to write the card.")
@click.option("--index", type=click.IntRange(0, 60_000), default=0, help="The node's number on its machine.")
@click.option("--endpoint", default="", help="host:port at which it will be reached; left out: its loopback address.")
@pass_session
def founder(session: Session, *, card: Path, index: int, endpoint: str) -> None:
    """Make a founder's keys, and a card with what of them is public."""
    from common.codec import to_plain
    from common.identity.branch import inception_of
    from common.identity.log import encode_log, read_log

    made = _founder_keys(session)
    branch = _branch(session)
    log = read_log([inception_of(branch, 0)], now_ms=_now_ms(), inception_bits=0)
    told: Founder = _founder_of(made.did, encode_log(log), made.address, made.fund_pubkey, endpoint, index)
    for path in (session.node.path / FOUNDER_FILE, card):
        _write_yaml(path, to_plain(told))
    lines = [("card", str(card)), ("DID", told.did), ("phrase", made.phrase)]
    lines += [("", "write the phrase down; the card holds nothing secret"), ("next", "duxnet network create …")]
    session.out.record({"card": told, "phrase": made.phrase}, lines, name=told.did)


def _founder_of(did: str, log: bytes, address: str, fund: str, endpoint: str, index: int) -> Founder:
    from common.charter import Founder
    from common.units import Did

    reached = endpoint or outside_endpoint(index, port_base_of(index))
    return Founder(did=Did(did), log=log.hex(), address=address, fund_pubkey=fund, endpoint=reached)


def _founder_keys(session: Session):  # type: ignore[no-untyped-def]  # noqa: ANN202 - imported late
    from common.clock import SystemClock
    from common.keygen import make_keys
    from common.network import NetworkProfile
    from common.randomness import SystemRandomness

    blank = NetworkProfile(name="founding", chain="embedded", genesis="00" * 32, heights="demo")
    return make_keys(session.node.data, blank, randomness=SystemRandomness(), made_ms=SystemClock().unix_ms())


def _branch(session: Session):  # type: ignore[no-untyped-def]  # noqa: ANN202 - imported late
    from common.identity.branch import BRANCH_FILE, decode_branch

    path = session.node.data / "p2pd" / BRANCH_FILE
    if not path.exists():
        raise NoFounder(path=str(session.node.path))
    return decode_branch(path.read_bytes())


def _now_ms() -> int:
    from common.clock import SystemClock

    return SystemClock().unix_ms()


def _write_yaml(path: Path, plain: object) -> None:
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(plain, sort_keys=False))


def read_founder(path: Path) -> Founder:
    """A founder's card.

    Raises:
        BadParams: it is none.
    """
    from common.charter import Founder
    from common.codec import from_plain
    from common.errors import BadSettings
    from common.yaml_file import read_yaml

    try:
        return from_plain(read_yaml(path), Founder)
    except BadSettings as error:
        raise BadParams(detail=f"{path}: {error.fields['detail']}") from error


@network.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", required=True, help="What the network is called.")
@click.option(
    "--founder",
    "cards",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    required=True,
    help="A founder's card; repeatable. Founders are council, custodians, arbiters and bootstrap.",
)
@click.option("--threshold", type=click.IntRange(1), help="How many custodians sign; left out: more than half.")
@click.option(
    "--heights", default="demo", show_default=True, help="The profile of heights, in common/chain/heights.py."
)
@click.option("--premine", type=FLOP_AMOUNT, default=Florins(1_000 * FLOP), help="FLOP to each founder in block 0.")
@click.option(
    "--parameters", type=click.Path(exists=True, path_type=Path), help="YAML with more of the profile's keys."
)
@pass_session
def create(
    session: Session, *, file: Path, name: str, cards: tuple[Path, ...], threshold: int | None, heights: str,
    premine: Florins, parameters: Path | None,
) -> None:  # fmt: skip
    """Write the profile of a new network on its own embedded chain, for its founders to sign.

    \b
    duxnet network create --name ours --founder one.yaml --founder two.yaml --founder three.yaml ours.yaml
    """
    from common.network import save_profile

    founders = [read_founder(card) for card in cards]
    profile = profile_of(name, founders, threshold=threshold, heights=heights, premine=premine, more=parameters)
    save_profile(profile, file)
    lines = [
        ("network", profile.name),
        ("genesis", profile.genesis),
        ("council", ", ".join(profile.council)),
        ("fund", f"{profile.fund.threshold} of {len(profile.fund.custodians)} custodians sign"),
        ("profile", f"{file}, version {profile.version}"),
        ("next", f"duxnet network sign {file}, at each founder's node"),
    ]
    session.out.record(profile, lines, name=str(file))


def profile_of(
    name: str, founders: list[Founder], *, threshold: int | None, heights: str, premine: Florins, more: Path | None
) -> NetworkProfile:
    """The profile of a network of these founders; its genesis follows from its premine and its name.

    Raises:
        BadParams, BadSettings: the cards or the parameters do not fit together.
    """
    import yaml
    from msgspec.structs import replace

    from common.codec import from_plain
    from common.network import Bootstrap, Custodian, FundParameters, NetworkProfile, first_problem
    from dux_sim.chain.profile import chain_of, genesis_hash

    if len({one.did for one in founders}) != len(founders):
        raise BadParams(detail="--founder: one card stands twice")
    extra = yaml.safe_load(more.read_text()) if more else {}
    plain: dict[str, object] = {"name": name, "chain": "embedded", "genesis": "00" * 32, "heights": heights} | extra
    profile = replace(
        from_plain(plain, NetworkProfile),
        version=1,
        council=tuple(sorted(one.did for one in founders)),
        arbiters=tuple(one.did for one in founders),
        fund=FundParameters(
            threshold=threshold or len(founders) // FUND_SHARE + 1,
            custodians=tuple(Custodian(did=one.did, pubkey=one.fund_pubkey) for one in founders),
        ),
        bootstrap=tuple(Bootstrap(address=one.endpoint, did=one.did) for one in founders),
        premine=tuple((one.address, premine) for one in founders),
    )
    profile = replace(profile, genesis=genesis_hash(chain_of(profile)))
    problem = first_problem(profile)
    if problem:
        raise BadParams(detail=problem)
    return profile


@network.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path, dir_okay=False))
@pass_session
def sign(session: Session, *, file: Path) -> None:
    """Sign a profile with this founder's node key of now; the signature is written beside it, over an older one."""
    from common.charter import add_signature
    from common.council import needed_of
    from common.network import load_profile

    profile = load_profile(file)
    one = _signature(session, profile)
    count = add_signature(file, one)
    told = f"{count} of {len(profile.council)}, {needed_of(profile.council)} are needed"
    session.out.record({"signatures": count}, [("signed", str(file)), ("signatures", told)], name=one.did)


def _signature(session: Session, profile: NetworkProfile) -> Signature:
    from common.charter import profile_bytes
    from common.identity.purposes import Purpose

    held = session.node.profile().council if session.node.exists() else ()
    return founder_signs(
        session,
        (*profile.council, *held),  # who leaves the council has a say in it, too
        Purpose.NETWORK_PROFILE,
        profile_bytes(profile),
        inception_bits=profile.inception_bits,
    )


@network.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path, dir_okay=False))
@pass_session
def show(session: Session, *, file: Path) -> None:
    """What a profile says, and who has signed it."""
    from common.charter import read_signatures, signers
    from common.council import needed_of
    from common.network import load_profile

    profile = load_profile(file)
    found = signers(profile, read_signatures(file), now_ms=_now_ms())
    council = profile.council
    lines = [
        ("network", f"{profile.name}, version {profile.version}, chain {profile.chain}"),
        ("genesis", profile.genesis),
        *(("council", f"{did}: {'signed' if did in found else 'not signed'}") for did in council),
        ("needed", f"{needed_of(council)} of {len(council)}" if council else "no council is named"),
        *(("bootstrap", f"{one.address} {one.did or ''}") for one in profile.bootstrap),
    ]
    session.out.record({"profile": profile, "signed_by": sorted(found)}, lines, name=profile.genesis)


@network.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path, dir_okay=False))
@offline_option
@pass_session
def update(session: Session, *, file: Path, offline: bool) -> None:
    """Take a later version of this node's network, signed by the council of the version it has; then restart it."""
    from common.charter import check_signed
    from common.network import load_profile, save_profile
    from dux_cli.node_files import PROFILE_FILE

    held, new = session.node.must_exist().profile(), load_profile(file)
    if new.genesis != held.genesis or new.version <= held.version:
        reason = f"it is version {new.version} of {new.genesis[:16]}…, here is {held.version} of {held.genesis[:16]}…"
        raise OlderProfile(reason=reason)
    if not held.council:
        raise OlderProfile(reason="this network has no council that could agree on another version")
    known = known_of(session, held.council, offline=offline)
    check_signed(file, new, now_ms=_now_ms(), council=held.council, known=known)
    save_profile(new, session.node.config / PROFILE_FILE)
    lines = [("version", f"{held.version} -> {new.version}"), ("next", "duxnet down && duxnet up --detach")]
    session.out.record({"version": new.version}, lines, name=str(new.version))


@network.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path, dir_okay=False))
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where blocks are kept.")
@click.option("--listen", default="127.0.0.1:21550", show_default=True, help="Loopback address and port of its RPC.")
@click.option("--mine-every", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds between blocks.")
@pass_session
def chain(session: Session, *, file: Path, data: Path, listen: str, mine_every: float) -> None:
    """Run the network's embedded chain until SIGTERM; DATA/rpc.auth holds user:password for the nodes."""
    session.out.step(f"the chain listens on {listen}; its login is in {data / 'rpc.auth'}")
    words = ["--profile", str(file), "--listen", listen, "--data", str(data), "--mine-every", str(mine_every)]
    os.execv(sys.executable, [sys.executable, "-P", "-m", "dux_sim.chaind", *words])  # noqa: S606 - becomes the chain
