"""Later parameter sets of a network in a file beside its profile, with the founders' signatures under each.

Promises: what `load_network` returns stands on sets that follow one another from the profile's own on and that more
than half of the profile's council has signed; a file with one set that does not fit is refused as a whole, with the
set's number and what to do about it.

A set that is loaded was judged when it was taken, so by now its signatures count by the logs that they carry: founders
may rotate, recover or end. A set that is taken is judged by what is known now, and vouches for those before it, whose
hashes it rests on. Whoever can write the file beside the profile can thus place one there that replaced keys signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from msgspec.structs import replace

from common.codec import Wire, from_plain, to_plain
from common.council import AS_CARRIED, Known, Signature, carried_logs, left_out, needed_of, signers_of
from common.errors import BadParams, BadSettings
from common.identity.purposes import Purpose
from common.network import NetworkProfile, load_profile
from common.parameters import SETS_MAX, ParameterSet, ParametersRefused, chain_problem, form_problem, set_bytes
from common.units import Did
from common.whole_file import write_whole
from common.yaml_file import read_yaml

SUFFIX = ".parameters"
WAITING = ".next"
FILE_BYTES_MAX = 8 * 1024 * 1024


class SignedSet(Wire, frozen=True):
    """A set with its founders' signatures, as it travels between them."""

    parameters: ParameterSet
    signatures: tuple[Signature, ...] = ()


def load_network(path: Path, *, now_ms: int) -> NetworkProfile:
    """The profile in a file, under the newest parameter set beside it.

    Raises:
        BadSettings: the profile cannot be used.
        ParametersRefused: a set cannot.
    """
    profile, beside = load_profile(path), parameters_file(path)
    return under(profile, read_sets(beside), path=beside, now_ms=now_ms) if beside.exists() else profile


def parameters_file(path: Path) -> Path:
    """Where a profile's later parameter sets stand: beside it."""
    return path.with_name(path.name + SUFFIX)


def waiting_file(path: Path) -> Path:
    """Where a set stands that was taken before its height: daemons begin under it when the chain is there."""
    return path.with_name(path.name + SUFFIX + WAITING)


def under(profile: NetworkProfile, signed: Sequence[SignedSet], *, path: Path, now_ms: int) -> NetworkProfile:
    """A profile under later sets, in their order.

    Raises:
        ParametersRefused: one does not follow, breaks the constitution, or is signed by too few.
    """
    sets = (profile.first_parameters, *(one.parameters for one in signed))
    version, problem = chain_problem(sets, profile.genesis, is_main=profile.is_main)
    if problem:
        raise ParametersRefused(path=str(path), version=version, reason=problem)
    for one in signed:
        problem = signing_problem(profile, one, now_ms=now_ms)
        if problem:
            raise ParametersRefused(path=str(path), version=one.parameters.version, reason=problem)
    last = sets[-1]
    return replace(profile, tax_bps=last.tax_bps, airdrop=last.airdrop, parameter_sets=sets if signed else ())


def taking_problem(
    profile: NetworkProfile,
    before: Sequence[SignedSet],
    new: Sequence[SignedSet],
    *,
    now_ms: int,
    known: Known = AS_CARRIED,
) -> str:
    """Why a node that has the sets `before` does not take the `new` ones, which follow them; or an empty string.

    The last is judged by what is known now, all logs beside the sets among it; it vouches for the others.
    """
    if not new:
        return "it holds no set"
    others = [signature for one in (*before, *new) for signature in one.signatures]
    carried = carried_logs(others, inception_bits=profile.inception_bits, now_ms=now_ms)
    all_known = Known(logs=(*known.logs, *carried), only=known.only)
    return signing_problem(profile, new[-1], now_ms=now_ms, known=all_known)


def signing_problem(profile: NetworkProfile, one: SignedSet, *, now_ms: int, known: Known = AS_CARRIED) -> str:
    """Why too few of the council have signed a set, or an empty string."""
    if not profile.council:
        return "this network has no council that could agree on another set"
    found, needed = signed_by(profile, one, now_ms=now_ms, known=known), needed_of(profile.council)
    if len(found) >= needed:
        return ""
    more = left_out(found, signed_by(profile, one, now_ms=now_ms))
    return (
        f"{len(found)} of the council's {len(profile.council)} have signed it, {needed} are needed{more}: "
        "`duxnet parameters sign` it there"
    )


def signed_by(profile: NetworkProfile, one: SignedSet, *, now_ms: int, known: Known = AS_CARRIED) -> set[Did]:
    """Those of the council who have really signed a set."""
    words, bits = set_bytes(one.parameters), profile.inception_bits
    found = signers_of(Purpose.PARAMETERS, words, one.signatures, inception_bits=bits, now_ms=now_ms, known=known)
    return found & set(profile.council)


def read_sets(path: Path) -> tuple[SignedSet, ...]:
    """The sets in a file, not judged yet.

    Raises:
        ParametersRefused: it cannot be read, or is written in a form that this program does not know.
    """
    try:
        found = read_yaml(path, max_bytes=FILE_BYTES_MAX) or []
    except BadSettings as error:
        raise ParametersRefused(path=str(path), version=0, reason=str(error.fields["detail"])) from error
    if not isinstance(found, list) or len(found) > SETS_MAX:
        raise ParametersRefused(path=str(path), version=0, reason="it holds no list of parameter sets")
    return tuple(_read(path, at + 2, plain) for at, plain in enumerate(found))


def _read(path: Path, version: int, plain: Any) -> SignedSet:
    """One set; its form is looked at before its fields, which a later form may have more of."""
    told = plain.get("parameters") if isinstance(plain, dict) else None
    problem = form_problem(told.get("form")) if isinstance(told, dict) else "it is no parameter set"
    if problem:
        raise ParametersRefused(path=str(path), version=version, reason=problem)
    try:
        return from_plain(plain, SignedSet)
    except BadParams as error:
        raise ParametersRefused(path=str(path), version=version, reason=str(error.fields["detail"])) from error


def taken_sets(path: Path) -> tuple[SignedSet, ...]:
    """The later sets of a profile's file that this node has taken: those in force, then those that wait.

    Whoever takes sets writes the file in force first: what stands in both, after a crash between them, counts once.

    Raises:
        ParametersRefused: a file cannot be read.
    """
    in_force, waiting = (read_sets(one) if one.exists() else () for one in (parameters_file(path), waiting_file(path)))
    known = [one.parameters for one in in_force]
    return (*in_force, *(one for one in waiting if one.parameters not in known))


def write_sets(path: Path, sets: Sequence[SignedSet]) -> None:
    """Write sets in their order; the file is there whole or as it was, also after a crash or on a full disk."""
    write_whole(path, yaml.safe_dump([to_plain(one) for one in sets], sort_keys=False).encode())


def add_signature(path: Path, one: Signature) -> int:
    """Put a signature under the only set of a file, in place of the same signer's earlier one; how many there are."""
    (held,) = read_sets(path)
    kept = [found for found in held.signatures if found.did != one.did]
    signatures = tuple(sorted([*kept, one], key=lambda found: found.did))
    write_sets(path, [replace(held, signatures=signatures)])
    return len(signatures)
