"""A network's profile with its council's signatures: who founded it, and that they agreed on these words.

The profile's bytes (JSON with sorted keys) are signed by each founder's node key under a purpose of its own; whose
signature counts is judged in `council.py`. More than half of the council that the profile names must have signed. A
later version must be signed by more than half of the council before it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from common.codec import Wire, from_plain, to_plain
from common.council import (
    AS_CARRIED,
    LOG_BYTES_MAX,
    SIGNATURES_MAX,
    Known,
    Signature,
    left_out,
    needed_of,
    signers_of,
)
from common.errors import BadParams, BadSettings, CallerMistake
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.units import Did
from common.yaml_file import read_yaml

SUFFIX = ".signed"


class NotSigned(CallerMistake):
    """{path} is signed by {found} of its council's {council}, {needed} are needed{more}: `duxnet network sign`."""

    code = 1145
    key = "not-signed"


class Founder(Wire, frozen=True):
    """What a founder's node tells before there is a network: its name and keys, and where it will be reached."""

    did: Did
    log: str  # hex of its event log
    address: str  # of its wallet
    fund_pubkey: str  # hex: its key in the community fund's script
    endpoint: str
    region: str = ""


def profile_bytes(profile: NetworkProfile) -> bytes:
    """What is signed: the same for every spelling of the same file."""
    return json.dumps(to_plain(profile), sort_keys=True, separators=(",", ":")).encode()


def signers(
    profile: NetworkProfile, signatures: Sequence[Signature], *, now_ms: int, known: Known = AS_CARRIED
) -> set[Did]:
    """Who has really signed this profile."""
    words, bits = profile_bytes(profile), profile.inception_bits
    return signers_of(Purpose.NETWORK_PROFILE, words, signatures, inception_bits=bits, now_ms=now_ms, known=known)


def check_signed(
    path: Path, profile: NetworkProfile, *, now_ms: int, council: Sequence[Did] = (), known: Known = AS_CARRIED
) -> None:
    """A profile that names a council is signed by it. `council`: the one before, for a later version.

    Raises:
        NotSigned: by too few.
    """
    asked, signatures = tuple(council) or profile.council, read_signatures(path)
    found = signers(profile, signatures, now_ms=now_ms, known=known) & set(asked)
    if asked and len(found) < needed_of(asked):
        more = left_out(found, signers(profile, signatures, now_ms=now_ms) & set(asked))
        raise NotSigned(path=str(path), found=len(found), council=len(asked), needed=needed_of(asked), more=more)


def signatures_file(path: Path) -> Path:
    """Where a profile's signatures stand: beside it."""
    return path.with_name(path.name + SUFFIX)


def read_signatures(path: Path) -> tuple[Signature, ...]:
    """The signatures beside a profile; none where there is no file.

    Raises:
        BadSettings: it cannot be read.
    """
    beside = signatures_file(path)
    if not beside.exists():
        return ()
    plain = read_yaml(beside, max_bytes=SIGNATURES_MAX * 3 * LOG_BYTES_MAX) or []
    try:
        return from_plain(plain, tuple[Signature, ...])
    except BadParams as error:
        raise BadSettings(path=str(beside), detail=str(error).replace("\n", " ")) from error


def add_signature(path: Path, one: Signature) -> int:
    """Write a signature beside a profile, in place of the same signer's earlier one; how many there are."""
    kept = [held for held in read_signatures(path) if held.did != one.did]
    found = sorted([*kept, one], key=lambda held: held.did)
    signatures_file(path).write_text(yaml.safe_dump(to_plain(found), sort_keys=False))
    return len(found)
