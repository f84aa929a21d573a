"""A network's profile with its council's signatures: who founded it, and that they agreed on these words.

The profile's bytes (JSON with sorted keys) are signed by each founder's node key under a purpose of its own; a
signature carries its signer's event log, so that it can be checked before there is a network to ask. More than half of
the council that the profile names must have signed. A later version must be signed by more than half of the council
before it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from common.codec import Wire, from_plain, to_plain
from common.errors import BadParams, BadSettings, CallerMistake, DuxError
from common.identity.keys import Signer, is_signed
from common.identity.log import decode_log
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.units import Did
from common.yaml_file import read_yaml

SUFFIX = ".signed"
SIGNATURES_MAX = 64
LOG_BYTES_MAX = 65_536


class NotSigned(CallerMistake):
    """{path} is signed by {found} of its council's {council}, {needed} are needed: `duxnet network sign` it there."""

    code = 1145
    key = "not-signed"


class Founder(Wire, frozen=True):
    """What a founder's node tells before there is a network: its name and keys, and where it will be reached."""

    did: Did
    log: str  # hex of its event log
    address: str  # of its wallet
    fund_pubkey: str  # hex: its key in the community fund's script
    endpoint: str


class Signature(Wire, frozen=True):
    """One founder's signature over a profile."""

    did: Did
    key_seq: int
    log: str
    signature: str


def profile_bytes(profile: NetworkProfile) -> bytes:
    """What is signed: the same for every spelling of the same file."""
    return json.dumps(to_plain(profile), sort_keys=True, separators=(",", ":")).encode()


def signed_words(purpose: Purpose, words: bytes, did: Did, log: bytes, key: Signer, key_seq: int = 0) -> Signature:
    """A founder's signature under what the council signs: a profile, a parameter set."""
    return Signature(did=did, key_seq=key_seq, log=log.hex(), signature=key.sign(purpose, words).hex())


def signers(profile: NetworkProfile, signatures: Sequence[Signature], *, now_ms: int) -> set[Did]:
    """Who has really signed this profile."""
    words, bits = profile_bytes(profile), profile.inception_bits
    return signers_of(Purpose.NETWORK_PROFILE, words, signatures, inception_bits=bits, now_ms=now_ms)


def signers_of(
    purpose: Purpose, words: bytes, signatures: Sequence[Signature], *, inception_bits: int, now_ms: int
) -> set[Did]:
    """Who has really signed these words for this purpose."""
    found = set[Did]()
    for one in signatures[:SIGNATURES_MAX]:
        key = _key_of(one, inception_bits, now_ms)
        if key is not None and is_signed(key, purpose, words, bytes.fromhex(one.signature)):
            found.add(one.did)
    return found


def _key_of(one: Signature, inception_bits: int, now_ms: int) -> bytes | None:
    """The key that a signature names, by the log that it carries."""
    try:
        data, _ = bytes.fromhex(one.log), bytes.fromhex(one.signature)
        if len(data) > LOG_BYTES_MAX:
            return None
        log = decode_log(data, now_ms=now_ms, inception_bits=inception_bits)
    except (DuxError, ValueError):
        return None
    return log.key_of(one.key_seq) if log.did == one.did else None


def needed_of(council: Sequence[Did]) -> int:
    """More than half."""
    return len(council) // 2 + 1


def check_signed(path: Path, profile: NetworkProfile, *, now_ms: int, council: Sequence[Did] = ()) -> None:
    """A profile that names a council is signed by it. `council`: the one before, for a later version.

    Raises:
        NotSigned: by too few.
    """
    asked = tuple(council) or profile.council
    found = len(signers(profile, read_signatures(path), now_ms=now_ms) & set(asked))
    if asked and found < needed_of(asked):
        raise NotSigned(path=str(path), found=found, council=len(asked), needed=needed_of(asked))


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
