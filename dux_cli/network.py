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

from common.errors import BadParams, CallerMistake, DuxError
from common.nets import may_listen_at
from common.node_ports import INDEX_MAX
from common.units import FLOP, Florins
from dux_cli.command import DuxGroup, Session, pass_session
from dux_cli.council import NoFounder, founder_signs, known_of, offline_option
from dux_cli.init import FOUNDER_FILE, strong_passphrase
from dux_cli.node_files import outside_endpoint, port_base_of
from dux_cli.out_files import OutFile, try_out, write_out
from dux_cli.wallet import FLOP_AMOUNT

if TYPE_CHECKING:
    from common.charter import Founder
    from common.council import Signature
    from common.keygen import KeysMade
    from common.network import NetworkProfile

FIXED = {"name", "genesis", "version", "council", "arbiters", "fund", "bootstrap", "premine"}  # by cards and options
FUND_SHARE = 2  # of the custodians' number: how many sign, rounded up


class OlderProfile(CallerMistake):
    """The profile is no later version of this node's network: {reason}."""

    code = 1142
    key = "older-profile"


class ProfileExists(CallerMistake):
    """{path} is there already, and founders may have signed it: name another file, or write over it with --force."""

    code = 1149
    key = "profile-exists"


class FounderExists(CallerMistake):
    """This founder's keys are made: {path} is the card, copy it; `duxnet phrase show` has the words till erased."""

    code = 1156
    key = "founder-exists"


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
@click.option("--card", type=OutFile(), required=True, help="Where to write the card.")
@click.option("--index", type=click.IntRange(0, INDEX_MAX), default=0, help="The node's number on its machine.")
@click.option("--endpoint", default="", help="host:port at which it will be reached; left out: its loopback address.")
@click.option("--region", default="", help="Where it stands, in a word that the network has chosen.")
@click.option("--phrase-file", type=click.Path(exists=True, path_type=Path), help="Restore the keys of this phrase.")
@click.option(
    "--passphrase-file", type=click.Path(exists=True, path_type=Path), help="Seal the keys with what it holds."
)
@pass_session
def founder(
    session: Session, *, card: Path, index: int, endpoint: str, region: str, phrase_file: Path | None,
    passphrase_file: Path | None,
) -> None:  # fmt: skip
    """Make a founder's keys, and a card with what of them is public."""
    from msgspec.structs import replace

    from common.codec import to_plain
    from common.identity.branch import inception_of
    from common.identity.log import encode_log, read_log

    if endpoint and may_listen_at(endpoint) is None:
        raise BadParams(detail=f"--endpoint: {endpoint!r} is not host:port")
    if (session.node.path / FOUNDER_FILE).exists():
        raise FounderExists(path=str(session.node.path / FOUNDER_FILE))
    is_new = try_out(card)  # keys whose phrase was not shown must not be left
    try:
        made = _founder_keys(session, phrase_file, passphrase_file)
    except DuxError:
        if is_new:
            card.unlink()
        raise
    branch = _branch(session)
    log = read_log([inception_of(branch, 0)], now_ms=_now_ms(), inception_bits=0)
    told: Founder = replace(
        _founder_of(made.did, encode_log(log), made.address, made.fund_pubkey, endpoint, index), region=region
    )
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


def _founder_keys(session: Session, phrase: Path | None, passphrase: Path | None) -> KeysMade:
    from common.clock import SystemClock
    from common.keygen import make_keys
    from common.network import NetworkProfile
    from common.randomness import SystemRandomness

    blank = NetworkProfile(name="founding", chain="embedded", genesis="00" * 32, heights="demo")
    return make_keys(
        session.node.data,
        blank,
        randomness=SystemRandomness(),
        made_ms=SystemClock().unix_ms(),
        phrase=phrase.read_text().strip() if phrase else "",
        passphrase=strong_passphrase(passphrase),
    )


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

    write_out(path, yaml.safe_dump(plain, sort_keys=False).encode())


def read_founder(path: Path) -> Founder:
    """A founder's card; its name is the one that its event log makes, its address one that can be dialled.

    Raises:
        BadParams: it is none.
    """
    from common.charter import Founder
    from common.codec import from_plain
    from common.errors import BadSettings, DuxError
    from common.identity.log import decode_log
    from common.yaml_file import read_yaml

    try:
        told = from_plain(read_yaml(path), Founder)
        log = decode_log(bytes.fromhex(told.log), now_ms=_now_ms(), inception_bits=0)
    except (BadParams, BadSettings) as error:
        raise BadParams(detail=f"{path}: {error.fields['detail']}") from error
    except (DuxError, ValueError) as error:
        raise BadParams(detail=f"{path}: its log is none: {error}") from error
    if log.did != told.did:
        raise BadParams(detail=f"{path}: its log is that of {log.did}, not of {told.did}")
    if may_listen_at(told.endpoint) is None:
        raise BadParams(detail=f"{path}: endpoint {told.endpoint!r} is not host:port")
    return told


@network.command()
@click.argument("file", type=OutFile())
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
@click.option("--force", is_flag=True, help="Write over FILE and its signatures, if they are there.")
@pass_session
def create(
    session: Session, *, file: Path, name: str, cards: tuple[Path, ...], threshold: int | None, heights: str,
    premine: Florins, parameters: Path | None, force: bool,
) -> None:  # fmt: skip
    """Write the profile of a new network on its own embedded chain, for its founders to sign.

    \b
    duxnet network create --name ours --founder one.yaml --founder two.yaml --founder three.yaml ours.yaml
    """
    from common.charter import signatures_file
    from common.network import save_profile

    if file.exists() and not force:
        raise ProfileExists(path=str(file))
    founders = [read_founder(card) for card in cards]
    profile = profile_of(name, founders, threshold=threshold, heights=heights, premine=premine, more=parameters)
    save_profile(profile, file)
    signatures_file(file).unlink(missing_ok=True)  # they were under other words
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
    from msgspec.structs import replace

    from common.codec import from_plain
    from common.network import Bootstrap, Custodian, FundParameters, NetworkProfile, first_problem
    from dux_sim.chain.profile import chain_of, genesis_hash

    if len({one.did for one in founders}) != len(founders):
        raise BadParams(detail="--founder: one card stands twice")
    plain: dict[str, object] = {"name": name, "chain": "embedded", "genesis": "00" * 32, "heights": heights}
    plain |= _more_of(more) if more else {}
    profile = replace(
        from_plain(plain, NetworkProfile),
        version=1,
        council=tuple(sorted(one.did for one in founders)),
        arbiters=tuple(one.did for one in founders),
        fund=FundParameters(
            threshold=threshold or len(founders) // FUND_SHARE + 1,
            custodians=tuple(Custodian(did=one.did, pubkey=one.fund_pubkey) for one in founders),
        ),
        bootstrap=tuple(Bootstrap(address=one.endpoint, did=one.did, region=one.region) for one in founders),
        premine=tuple((one.address, premine) for one in founders),
    )
    problem = first_problem(profile)
    if problem:
        raise BadParams(detail=problem)
    return replace(profile, genesis=genesis_hash(chain_of(profile)))


def _more_of(path: Path) -> dict[str, object]:
    """More keys of a profile, from a file that may not say what the founders' cards say.

    Raises:
        BadParams: it is no mapping, or names such a key. BadSettings: it is no YAML.
    """
    from common.yaml_file import read_yaml

    plain = read_yaml(path)
    if not isinstance(plain, dict):
        raise BadParams(detail=f"{path}: it is no mapping of the profile's keys to values")
    fixed = sorted(FIXED & plain.keys())
    if fixed:
        raise BadParams(detail=f"{path}: {', '.join(fixed)}: the command line and the founders' cards say that")
    return plain


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
        *(("bootstrap", " ".join(filter(None, (one.address, one.did, one.region)))) for one in profile.bootstrap),
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
