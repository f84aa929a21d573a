"""`duxnet parameters …`: the signed, versioned set of figures that a network's community may change.

A new set is proposed from the one this node has, signed at founders' nodes, and taken by every node once its height
has come. docs/protocol/fund.md says what is in it and what binds its changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from common.errors import BadParams
from dux_cli.command import DuxGroup, Session, pass_session
from dux_cli.council import founder_signs, known_of, offline_option
from dux_cli.out_files import OutFile

if TYPE_CHECKING:
    from common.network import NetworkProfile
    from common.parameters import ParameterSet


@click.group(cls=DuxGroup)
def parameters() -> None:
    """Tax, threshold, rule and the rest: one signed set of figures, in versions.

    \b
    duxnet parameters show
    duxnet parameters propose --from-height 50000 --set tax_bps=450 next.yaml
    duxnet parameters sign next.yaml --node ~/one          at more than half of the founders
    duxnet parameters publish next.yaml                    at a founder: the network is told of it
    duxnet parameters fetch next.yaml                      at every other node
    duxnet parameters apply next.yaml                      at every node; it holds from its height on
    """


@parameters.command()
@pass_session
def show(session: Session) -> None:
    """The set that this node works under, and the versions before it."""
    from common.parameters import set_id

    profile = session.node.must_exist().profile()
    held = profile.parameters
    sets = profile.parameter_sets or (held,)
    waits = _waiting(session)
    lines = [
        ("version", f"{held.version}, holds from height {held.from_height}, named {set_id(held)[:16]}…"),
        *((name, value) for name, value in _rows(held)),
        ("versions", ", ".join(f"{one.version} from {one.from_height}" for one in (*sets, *waits))),
    ]
    session.out.record({"parameters": held, "versions": len(sets)}, lines, name=str(held.version))


def _waiting(session: Session) -> tuple[ParameterSet, ...]:
    """Sets that were taken before their heights."""
    from common.parameter_file import parameters_file, read_sets, taken_sets

    path = session.node.config / session.node.settings.network_profile
    beside = parameters_file(path)
    in_force = read_sets(beside) if beside.exists() else ()
    return tuple(one.parameters for one in taken_sets(path)[len(in_force) :])


def _rows(one: ParameterSet) -> list[tuple[str, str]]:
    from common.codec import to_plain

    plain = to_plain(one)
    return _leaves("", {"tax_bps": plain["tax_bps"], "airdrop": plain["airdrop"]})


def _leaves(stem: str, plain: dict[str, Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in plain.items():
        found += _leaves(f"{stem}{name}.", value) if isinstance(value, dict) else [(f"{stem}{name}", str(value))]
    return found


@parameters.command()
@click.argument("file", type=OutFile())
@click.option("--from-height", type=click.IntRange(1), required=True, help="Height from which it holds.")
@click.option("--set", "changes", multiple=True, required=True, metavar="NAME=VALUE", help="One figure; repeatable.")
@pass_session
def propose(session: Session, *, file: Path, from_height: int, changes: tuple[str, ...]) -> None:
    """Write the set after this node's newest to FILE, for founders to sign. `duxnet parameters show` has the names."""
    from common.parameter_file import SignedSet, write_sets
    from common.parameters import set_problem, step_problem

    profile = session.node.must_exist().profile()
    held = (profile.parameters, *_waiting(session))[-1]
    made = changed(held, from_height, changes)
    problem = set_problem(made, is_main=profile.is_main) or step_problem(held, made)
    if problem:
        raise BadParams(detail=problem)
    write_sets(file, [SignedSet(parameters=made)])
    lines = [("version", str(made.version)), ("written", str(file)), ("next", f"duxnet parameters sign {file}")]
    session.out.record({"parameters": made}, lines, name=str(file))


def changed(held: ParameterSet, from_height: int, changes: tuple[str, ...]) -> ParameterSet:
    """The set after `held` with figures written as `name=value`.

    Raises:
        BadParams: no such figure, or no such value.
    """
    from common.codec import from_plain, to_plain
    from common.parameters import ParameterSet, next_set
    from common.yaml_file import yaml_in

    plain = to_plain(next_set(held, from_height=from_height))
    known = dict(_rows(held))
    for change in changes:
        name, _, text = change.partition("=")
        if name not in known:
            raise BadParams(detail=f"--set: no figure is called {name!r}; `duxnet parameters show` lists them")
        place = plain
        *stems, leaf = name.split(".")
        for stem in stems:
            place = place[stem]
        try:
            place[leaf] = text if isinstance(place[leaf], str) else yaml_in(text.encode())
        except ValueError as error:
            raise BadParams(detail=f"--set {name}: {text!r} is no value") from error
    return from_plain(plain, ParameterSet)


@parameters.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path, dir_okay=False))
@click.option("--profile", type=click.Path(exists=True, path_type=Path), help="Left out: this node's own.")
@pass_session
def sign(session: Session, *, file: Path, profile: Path | None) -> None:
    """Sign the set in FILE with this founder's node key of now, in place of an older signature."""
    from common.council import needed_of
    from common.identity.purposes import Purpose
    from common.network import load_profile
    from common.parameter_file import add_signature, read_sets
    from common.parameters import set_bytes

    network: NetworkProfile = load_profile(profile) if profile else session.node.must_exist().profile()
    sets = read_sets(file)
    if len(sets) != 1:
        raise BadParams(detail=f"{file} holds {len(sets)} sets: one at a time is signed")
    words, bits = set_bytes(sets[0].parameters), network.inception_bits
    one = founder_signs(session, network.council, Purpose.PARAMETERS, words, inception_bits=bits)
    count = add_signature(file, one)
    told = f"{count} of {len(network.council)}, {needed_of(network.council)} are needed"
    session.out.record({"signatures": count}, [("signed", str(file)), ("signatures", told)], name=one.did)


@parameters.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path, dir_okay=False))
@pass_session
def publish(session: Session, *, file: Path) -> None:
    """Tell the network of the signed set in FILE, so that every node can fetch it; this node goes on telling it."""
    from common.codec import json_bytes
    from common.contracts.airdrop_parameters import PARAMETERS_PUBLISH, PublishSet
    from common.parameter_file import read_sets
    from common.randomness import SystemRandomness, new_id

    sets = read_sets(file)
    if len(sets) != 1:
        raise BadParams(detail=f"{file} holds {len(sets)} sets: one at a time is told")
    wish = PublishSet(request_id=new_id(SystemRandomness(), "set"), signed=json_bytes(sets[0]))
    told = session.ask(PARAMETERS_PUBLISH, wish, deadline_s=60.0)
    lines = [("version", str(told.version)), ("kept by", f"{told.kept_at} nodes so far"), ("blob", told.blob)]
    session.out.record(told, lines, name=str(told.version))


@parameters.command()
@click.argument("file", type=OutFile())
@pass_session
def fetch(session: Session, *, file: Path) -> None:
    """Write the signed set after this node's to FILE, as the network has it; `apply` judges it once more."""
    from common.codec import from_json
    from common.contracts.airdrop_parameters import PARAMETERS_FIND
    from common.parameter_file import SignedSet, write_sets
    from common.rpc.method import Empty

    found = session.ask(PARAMETERS_FIND, Empty(), deadline_s=60.0)
    write_sets(file, [from_json(found.signed, SignedSet)])
    lines = [
        ("version", f"{found.version}, holds from height {found.from_height}"),
        ("written", str(file)),
        ("next", f"duxnet parameters apply {file}"),
    ]
    session.out.record(
        {"version": found.version, "from_height": found.from_height, "file": str(file)}, lines, name=str(file)
    )


@parameters.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path, dir_okay=False))
@click.option("--tip", type=click.IntRange(0), help="The chain's height; left out: this node's wallet is asked.")
@offline_option
@pass_session
def apply(session: Session, *, file: Path, tip: int | None, offline: bool) -> None:
    """Take the set in FILE for this node, when it follows those it has; running daemons begin at its height."""
    from common.clock import SystemClock
    from common.parameter_file import (
        parameters_file,
        read_sets,
        taken_sets,
        taking_problem,
        under,
        waiting_file,
        write_sets,
    )
    from common.parameters import ParametersRefused

    node, now_ms = session.node.must_exist(), SystemClock().unix_ms()
    path = node.config / node.settings.network_profile
    held, beside, waiting = node.profile(), parameters_file(path), waiting_file(path)
    before = taken_sets(path)
    own, new = held.as_signed, read_sets(file)
    sets = (*before, *new)
    made = under(own, sets, path=file, now_ms=now_ms)
    known = known_of(session, own.council, offline=offline)
    problem = taking_problem(own, before, new, now_ms=now_ms, known=known)
    if problem:
        raise ParametersRefused(path=str(file), version=made.parameters.version, reason=problem)
    height = _tip(session) if tip is None else tip
    due = tuple(one for one in sets if one.parameters.from_height <= height)
    later = sets[len(due) :]
    if due:
        write_sets(beside, due)
    if later:
        write_sets(waiting, later)
    else:
        waiting.unlink(missing_ok=True)
    version, from_height = made.parameters.version, made.parameters.from_height
    begins = "now" if not later else f"at height {from_height}, the chain is at {height}"
    lines = [("version", f"{held.parameters.version} -> {version}"), ("running daemons begin", begins)]
    session.out.record({"version": version, "from_height": from_height}, lines, name=str(version))


def _tip(session: Session) -> int:
    from common.contracts.wallet_chain import CHAIN_TIP
    from common.rpc.method import Empty

    return session.ask(CHAIN_TIP, Empty()).height
