"""Selective disclosure: an issuer signs many properties of a node at once, and the node shows one without the rest.

An attestation is the root of a tree of 16 leaves, each the hash of a name, a value and 16 random bytes; unused places
are filled with random leaves, so that their number tells nothing. A predicate is a leaf of its own ("tier>=2"): what is
shown is that the issuer said so, not the figure behind it. A presentation counts for one verifier at one time: it is
signed over the verifier's nonce, or it comes over a connection that has proved the subject.

What it does not hide: which issuer spoke and when, that the subject holds an attestation at all, and that two
presentations of one root belong together. Who must not be linked takes several roots. What rests on public evidence (a
registered bond) hides nothing from who looks that up.

Source: transport_identity.md §2.4 (selective disclosure).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from common.codec import Canon, canonical
from common.errors import CallerMistake, PeerMisbehaved
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.randomness import Randomness
from common.units import Did, Hash32, UnixMs

LEAVES = 16
DEPTH = 4
SALT_BYTES = 16
NONCE_BYTES = 32
TEXT_CHARS_MAX = 64

_Text = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
_Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]


class TooManyClaims(CallerMistake):
    """An attestation has {limit} leaves, {found} properties were given; issue several."""

    code = 1417
    key = "too-many-claims"


class BadDisclosure(PeerMisbehaved):
    """The presentation proves nothing: {detail}."""

    code = 1418
    key = "bad-disclosure"


class Claim(Canon, frozen=True):
    """[name, value, salt]: one leaf."""

    name: _Text
    value: _Text
    salt: Annotated[bytes, Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]


class ClaimRoot(Canon, frozen=True):
    """[v, subject, root, issued, expires]: what the issuer signs, for the purpose `claim-root`."""

    v: Annotated[int, Meta(ge=1, le=1)]
    subject: Did
    root: _Hash
    issued_ms: UnixMs
    expires_ms: UnixMs


class Disclosure(Canon, frozen=True):
    """[claim, index, path]: one leaf, its place, and the four hashes beside its way to the root."""

    claim: Claim
    index: Annotated[int, Meta(ge=0, lt=LEAVES)]
    path: Annotated[tuple[_Hash, ...], Meta(min_length=DEPTH, max_length=DEPTH)]


class ShownTo(Canon, frozen=True):
    """[root, disclosure, nonce]: what the subject signs for one verifier, for the purpose `claim-shown`."""

    root: _Hash
    disclosure: Disclosure
    nonce: Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]


def claims_of(properties: Sequence[tuple[str, str]], randomness: Randomness) -> tuple[Claim, ...]:
    """16 salted leaves in a random order; the subject keeps them, the issuer may forget them.

    Raises:
        TooManyClaims: more properties than leaves.
    """
    if len(properties) > LEAVES:
        raise TooManyClaims(limit=LEAVES, found=len(properties))
    claims = [Claim(name, value, randomness.bytes(SALT_BYTES)) for name, value in properties]
    claims += [Claim("", "", randomness.bytes(SALT_BYTES)) for _ in range(LEAVES - len(claims))]
    return tuple(randomness.sample(claims, LEAVES))


def at_least(name: str, value: int, steps: Sequence[int]) -> list[tuple[str, str]]:
    """The predicate leaves of a figure: one for each step that it reaches."""
    return [(f"{name}>={step}", "true") for step in steps if value >= step]


def root_of(claims: Sequence[Claim]) -> Hash32:
    """The root over 16 leaves."""
    return Hash32(_levels(claims)[-1][0])


def disclose(claims: Sequence[Claim], name: str) -> Disclosure | None:
    """The presentation of one property; None when there is none of this name."""
    index = next((at for at, claim in enumerate(claims) if name and claim.name == name), None)
    if index is None:
        return None
    levels = _levels(claims)
    path = tuple(levels[depth][(index >> depth) ^ 1] for depth in range(DEPTH))
    return Disclosure(claim=claims[index], index=index, path=path)


def check_disclosure(shown: Disclosure, signed: ClaimRoot, *, subject: Did, now_ms: int) -> Claim:
    """The property, when it is a leaf under the issuer's root for this subject.

    The issuer's signature, and that the subject is the one who shows it, are checked where logs are known.

    Raises:
        BadDisclosure: another subject, expired, or no leaf of this root.
    """
    if signed.subject != subject:
        raise BadDisclosure(detail="it speaks of another node")
    if not signed.issued_ms <= now_ms < signed.expires_ms:
        raise BadDisclosure(detail="it has expired, or does not count yet")
    if not shown.claim.name:
        raise BadDisclosure(detail="an empty leaf says nothing")
    node = _leaf(shown.claim)
    for depth, beside in enumerate(shown.path):
        node = _node(beside, node) if shown.index >> depth & 1 else _node(node, beside)
    if node != signed.root:
        raise BadDisclosure(detail="it is no leaf of the signed root")
    return shown.claim


def check_shown(shown: ShownTo, signed: ClaimRoot, *, subject: Did, nonce: bytes, now_ms: int) -> Claim:
    """The same for a presentation that the subject has signed over this verifier's nonce.

    Raises:
        BadDisclosure: it was made for another question, or of another root.
    """
    if shown.nonce != nonce or shown.root != signed.root:
        raise BadDisclosure(detail="it was made for another verifier, or of another root")
    return check_disclosure(shown.disclosure, signed, subject=subject, now_ms=now_ms)


def _leaf(claim: Claim) -> Hash32:
    return tagged_hash(Purpose.CLAIM_LEAF, canonical(claim))


def _node(left: bytes, right: bytes) -> Hash32:
    return tagged_hash(Purpose.CLAIM_NODE, left + right)


def _levels(claims: Sequence[Claim]) -> list[list[Hash32]]:
    """Leaves first, the root last."""
    level = [_leaf(claim) for claim in claims]
    levels = [level]
    while len(level) > 1:
        level = [_node(level[at], level[at + 1]) for at in range(0, len(level), 2)]
        levels.append(level)
    return levels
