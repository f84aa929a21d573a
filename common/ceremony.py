"""The key ceremony of the fund: custodians make their keys, show that they hold them, and agree on one script.

A plan names the members, how many of them sign, and which number each one's key has in its own wallet. Every member's
wallet signs two words with the new key itself: "this key is mine, for this plan" and "these are all keys, in this
script". Promises: a roster passes `roster_problem` only if every member holds its key and has agreed to the very same
script; whoever has the roster checks that without asking anybody. Who may be a member, the profile's council says.

Source: money.md §6, facts §4(e): at most 15 keys fit one script.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.chain.fund import fund_output_script
from common.chain.verify import is_pubkey, is_signature
from common.codec import Canon, canonical
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.receipts import DidText, Hex64, Short
from common.units import Did

MEMBERS_MAX = 15
KEYS_MAX = 16  # custodian keys of one wallet: as often can one custodian be rotated
WORD_BYTES_MAX = 1_024


class CeremonyPlan(Canon, frozen=True):
    """What the members agreed on outside the network: who, how many sign, which keys."""

    network: Hex64
    name: Short
    needed: Annotated[int, Meta(ge=1, le=MEMBERS_MAX)]
    members: Annotated[tuple[DidText, ...], Meta(min_length=1, max_length=MEMBERS_MAX)]
    key_number: Annotated[int, Meta(ge=0, lt=KEYS_MAX)]  # 0 is the key that a node has from the start


class FundClaim(Canon, frozen=True):
    """What a fund key signs in a ceremony; `script` is empty in the first word."""

    ceremony_id: bytes
    did: Did
    pubkey: bytes
    script: bytes


class FundWord(Canon, frozen=True):
    """A claim with the signature by the key it names."""

    claim: FundClaim
    signature: Annotated[bytes, Meta(max_length=80)]


class Roster(Canon, frozen=True):
    """The outcome: the plan with both words of every member, in the plan's order."""

    plan: CeremonyPlan
    keys: tuple[FundWord, ...]
    agreements: tuple[FundWord, ...]


def plan_id(plan: CeremonyPlan) -> bytes:
    """The name of a ceremony: 32 bytes."""
    return tagged_hash(Purpose.FUND_CEREMONY, canonical(plan))


def plan_problem(plan: CeremonyPlan, network: str) -> str:
    """Why nobody can take part in such a ceremony, or an empty string."""
    if plan.network != network:
        return "it is of another network"
    if list(plan.members) != sorted(set(plan.members)):
        return "its members do not stand once, in the order of DIDs"
    return "" if plan.needed <= len(plan.members) else "more signatures than members"


def claim_digest(claim: FundClaim) -> bytes:
    """What the fund key signs (32 bytes); no transaction shares it."""
    return tagged_hash(Purpose.FUND_CEREMONY, canonical(claim))


def word_problem(word: FundWord, plan: CeremonyPlan, did: Did, script: bytes) -> str:
    """Why a member's word does not count, or an empty string. `script`: empty for the word about its key."""
    claim = word.claim
    if claim.ceremony_id != plan_id(plan) or claim.did != did or did not in plan.members:
        return "it is of another ceremony, or another member"
    if claim.script != script:
        return "it agrees to another script" if script else "it is no word about a key"
    if not is_pubkey(claim.pubkey):
        return "its key is none"
    return "" if is_signature(claim.pubkey, claim_digest(claim), word.signature) else "its signature is wrong"


def script_of_words(plan: CeremonyPlan, keys: dict[Did, bytes]) -> bytes:
    """The output script of all members' keys.

    Raises:
        BadScript: two members showed one key, or the keys do not fit.
    """
    return fund_output_script(plan.needed, tuple(sorted(set(keys.values()))))


def roster_problem(roster: Roster, network: str) -> str:
    """Why a roster makes no fund, or an empty string."""
    plan = roster.plan
    problem = plan_problem(plan, network)
    if problem:
        return problem
    if not len(roster.keys) == len(roster.agreements) == len(plan.members):
        return "a member's word is missing"
    found: dict[Did, bytes] = {}
    for did, word in zip(plan.members, roster.keys, strict=True):
        problem = word_problem(word, plan, did, b"")
        if problem:
            return f"{did}: {problem}"
        found[did] = word.claim.pubkey
    if len(set(found.values())) != len(found):
        return "two members show one key"
    script = script_of_words(plan, found)
    for did, word in zip(plan.members, roster.agreements, strict=True):
        problem = word_problem(word, plan, did, script)
        if problem or word.claim.pubkey != found[did]:
            return f"{did}: {problem or 'it agreed with another key'}"
    return ""
