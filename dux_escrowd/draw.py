"""Who arbitrates: a public ranking of the candidates that both parties signed, by the beacon of a later height.

Pure. Promise: with the same terms and beacon every node gets the same order, and a panel is right only if it is the
first of that order who accepted, with at most three passed over. Nobody can choose: the candidates are fixed and signed
before the blocks of the draw exist, and who stays away is known by name. Where there are no more candidates than seats
nothing is drawn.

Above 5,000 FLOP the beacon alone is not enough: a miner could throw away a solved block for a panel that is worth more.
There each party commits to a nonce in what both sign, and shows it once the draw block is there; the tickets hang on
both. So a miner cannot know what another block would draw, and neither party can know before the block what its nonce
will. A party that sees the draw and does not like it can let the agreement fall, by name and before a coin is locked;
it cannot have another draw for the same terms.

Source: escrow_protocol.md §5; mechanisms.md §2.4; settled.md 22, 33.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.codec import Canon, canonical
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.race import arrival
from common.units import FLOP, Did
from dux_escrowd.agreement import Terms, seats_of, terms_hash

SKIPS_MAX = 3  # names that may be passed over, with both parties' signatures
STRIKES_MAX = 2  # names that each party may strike before the draw
SHARE_MAX = 20  # one name's weight is at most a twentieth of all
WEIGHTS_APART = 2  # a candidate's part in the draw, told and known, differ by no larger factor
BASE_WEIGHT = FLOP // 20  # what somebody without bond or trade weighs


class _Commitment(Canon, frozen=True):
    """What a party's commitment to its nonce is the hash of."""

    contract_id: bytes
    party: Did
    nonce: bytes


class _Ticket(Canon, frozen=True):
    """What one candidate's ticket is the hash of."""

    seed: bytes
    did: Did


def is_drawn(terms: Terms) -> bool:
    """There are more candidates than seats, so a draw decides."""
    return terms.draw_height > 0


def commitment_to(contract_id: bytes, party: str, nonce: bytes) -> bytes:
    """What a party signs before the draw block exists (32 bytes): nobody can take over another's."""
    return bytes(tagged_hash(Purpose.ESCROW_DRAW_NONCE, canonical(_Commitment(contract_id, Did(party), nonce))))


def nonces_problem(terms: Terms, nonces: Sequence[bytes]) -> str | None:
    """Why these are not the nonces that the parties had committed to, or None."""
    parties = (terms.buyer.did, terms.seller.did)
    if len(nonces) != len(terms.draw_commitments):
        return f"the draw hangs on {len(terms.draw_commitments)} nonces, {len(nonces)} are shown"
    for party, nonce, commitment in zip(parties, nonces, terms.draw_commitments, strict=False):
        if commitment_to(terms.contract_id, party, nonce) != commitment:
            return f"{party} had committed to another nonce"
    return None


def seed_of(terms: Terms, beacon: bytes, nonces: Sequence[bytes] = ()) -> bytes:
    """What the tickets of this draw are made with (32 bytes)."""
    return bytes(tagged_hash(Purpose.ESCROW_DRAW, terms_hash(terms) + beacon + b"".join(nonces)))


def capped(weights: Sequence[int]) -> tuple[int, ...]:
    """The weights, each at most a twentieth of their sum and at least the base."""
    lifted = [weight + BASE_WEIGHT for weight in weights]
    limit = max(BASE_WEIGHT, sum(lifted) // SHARE_MAX)
    return tuple(min(weight, limit) for weight in lifted)


def weights_problem(told: Sequence[int], own: Sequence[int]) -> str | None:
    """Why weights that the buyer tells are too far from those that this node knows, or None.

    A candidate's part in the draw may differ by a factor of two, because registries learn of trade at different times;
    more would be a choice of arbiters. Who knows nothing of any of them cannot tell.
    """
    if not any(own):
        return None
    theirs, mine = capped(told), capped(own)
    for number, (said, known) in enumerate(zip(theirs, mine, strict=True)):
        part, right = said * sum(mine), known * sum(theirs)
        if part > WEIGHTS_APART * right or right > WEIGHTS_APART * part:
            return f"candidate {number}'s part in the draw is not its own: bring the registries up to date"
    return None


def ranking(terms: Terms, beacon: bytes, nonces: Sequence[bytes] = ()) -> tuple[Did, ...]:
    """The candidates in the order in which they are asked; their signed order where nothing is drawn."""
    if not is_drawn(terms):
        return terms.candidates
    seed = seed_of(terms, beacon, nonces)
    pairs = zip(terms.candidates, capped(terms.weights), strict=True)
    return tuple(did for _, did in sorted((arrival(_ticket(seed, did), weight), did) for did, weight in pairs))


def _ticket(seed: bytes, did: Did) -> bytes:
    return bytes(tagged_hash(Purpose.ESCROW_DRAW, canonical(_Ticket(seed, did))))


def panel_problem(terms: Terms, panel: Sequence[str], beacon: bytes, nonces: Sequence[bytes] = ()) -> str | None:
    """Why this panel does not follow from the draw, or None."""
    wrong = nonces_problem(terms, nonces)
    if wrong:
        return wrong
    order = ranking(terms, beacon, nonces)
    if not set(panel) <= set(order) or len(set(panel)) != seats_of(terms):
        return "the panel is not made of the candidates"
    if not is_drawn(terms):
        return None
    last = max(order.index(Did(did)) for did in panel)
    skipped = [did for did in order[:last] if did not in panel]
    return None if len(skipped) <= SKIPS_MAX else f"{len(skipped)} names were passed over, {SKIPS_MAX} may be"


def strikes_problem(strikes: Sequence[str], candidates: Sequence[str], seats: int) -> str | None:
    """Why a party may not strike these names, or None."""
    if len(strikes) > STRIKES_MAX or len(set(strikes)) != len(strikes) or not set(strikes) <= set(candidates):
        return f"each party may strike {STRIKES_MAX} of the candidates"
    return None if len(candidates) - len(strikes) >= seats else "too few candidates would be left"
