"""How a contract comes about: from offer and quote to terms, from terms and acceptances to the contract itself.

Pure. Promise: two nodes with the same offer and quote build the same terms, and with the same acceptances the same
contract; what this node's own network profile does not know is refused before anything is signed.

Source: escrow_protocol.md §5; settled.md 2, 15, 29. Who of the candidates sits is drawn: `draw`.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.chain.address import is_p2pkh, is_p2sh
from common.chain.bond_award import MARGINS
from common.chain.contract import (
    CONTRACT_VERSION,
    NO_ROYALTY,
    ROYALTY_BPS_MAX,
    Arbiter,
    Contract,
    LotKind,
    Party,
    Policy,
    Royalty,
    Stage,
    arbiter_pay_for,
    bond_value,
    seated,
)
from common.chain.contract_rules import PRICE_MAX_FLORINS, panel_size_for
from common.chain.fees import FEE_RATE_FLORINS_PER_KB, GROSS_MIN_FLORINS
from common.chain.heights import DELIVER_BLOCKS_MAX, Heights, depth_for, heights_problems, heights_profile, plan
from common.chain.verify import is_pubkey
from common.codec import Canon, canonical
from common.community_fund import fund_script_of
from common.contracts.peer_escrow import ARBITERS_MAX, Offer, Quote
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.network import NetworkProfile
from common.parameters import version_problem
from common.units import FLOP, Did, Florins, format_flop
from dux_escrowd.model import Deal

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
TERMS_BYTES_MAX = 6_144
HASH_BYTES = 32
ACCEPT_BYTES_MAX = 512
FEE_RATE_SPARE = 2  # an offer's fee rate is at most twice the usual
START_LAG_BLOCKS = 2  # how far two honest tips may differ
DRAWN_MAX_FLORINS = 5_000 * FLOP
DRAW_AFTER_BLOCKS = 3  # the draw block is that of t0 + 3: nobody can know its work when the terms are signed


class ContractName(Canon, frozen=True):
    """What names a contract from the offer on."""

    network: str
    buyer: Did
    nonce: Bytes32


class Terms(Canon, frozen=True):
    """TERMS: all of the contract but the panel's keys; both parties sign it before arbiters are asked."""

    contract_id: Bytes32
    network: str
    buyer: Party
    seller: Party
    service_id: str
    job_hash: Bytes32
    price_florins: Florins
    arbiter_pay_florins: Florins
    arbiters_needed: int
    candidates: Annotated[tuple[Did, ...], Meta(max_length=ARBITERS_MAX)]
    result_hash: bytes
    result_salt_hash: Bytes32
    fund_script: bytes
    tax_bps: int
    fee_rate_florins_per_kb: int
    depth_blocks: int
    start_blocks: int
    heights_profile: str
    heights: Heights
    policy: Policy
    swap_limit_florins: Florins
    stage: Stage
    royalty: Royalty
    weights: Annotated[tuple[int, ...], Meta(max_length=ARBITERS_MAX)]
    draw_height: int  # 0: as many candidates as seats, nothing is drawn
    draw_commitments: Annotated[
        tuple[Bytes32, ...], Meta(max_length=2)
    ] = ()  # buyer's and seller's, if much is drawn for


class Accept(Canon, frozen=True):
    """ROLE_ACCEPT: an arbiter's fresh key and payout script for these terms."""

    terms_hash: Bytes32
    arbiter: Arbiter


def contract_id_of(network: str, buyer: str, nonce: bytes) -> bytes:
    """The name of a contract on every node (32 bytes)."""
    return bytes(tagged_hash(Purpose.ESCROW_OFFER, canonical(ContractName(network, Did(buyer), nonce))))


def salt_hash(salt: bytes) -> bytes:
    """What commits to r (32 bytes)."""
    return bytes(tagged_hash(Purpose.ESCROW_SALT, salt))


def terms_hash(terms: Terms) -> bytes:
    """What arbiters accept (32 bytes)."""
    return bytes(tagged_hash(Purpose.ESCROW_TERMS, canonical(terms)))


def offer_problem(offer: Offer, buyer: str, me: str, profile: NetworkProfile) -> str | None:
    """Why this node cannot enter such an offer, or None."""
    apart = version_problem(offer.parameters, profile.parameters.version)
    laws = {
        "it is for another network": offer.network == profile.genesis,
        apart: not apart,
        "its name does not follow from its nonce": (
            offer.contract_id == contract_id_of(offer.network, buyer, offer.buyer_nonce)
        ),
        "it is for another seller": offer.seller == me and buyer != me,
        "the fund is not the one this node knows": offer.fund_script == fund_script_of(profile.fund),
        "the tax is not the network's": offer.tax_bps == profile.tax_bps,
        "the heights are of another profile": offer.heights_profile == profile.heights,
        "the job does not hash to its name": offer.job_hash == bytes(tagged_hash(Purpose.JOB, offer.job)),
        "the policy is unknown": offer.policy in tuple(Policy),
        "the job has no time, or more than any may have": (
            1 <= offer.deliver_blocks <= deliver_blocks_max(offer.stage.kind, offer.heights_profile)
        ),
        "its fee rate is not the usual one": _is_usual(offer.fee_rate_florins_per_kb),
        "its stage is none": _is_stage(offer),
        "its royalty is none": _is_royalty(offer.royalty),
        "it names arbiters that the network's parameters do not": _are_known(offer.arbiters, profile.arbiters),
        "it weighs other names than it lists": _is_weighed(offer.weights, offer.arbiters),
        "above 5,000 FLOP a draw needs a nonce of each party": (
            bool(offer.draw_commitment) == is_committed(offer) and len(offer.draw_commitment) in (0, HASH_BYTES)
        ),
    }
    broken = next((law for law, holds in laws.items() if not holds), None)
    return broken or wish_problem(
        price_florins=offer.price_florins,
        arbiters=offer.arbiters,
        needed=offer.arbiters_needed,
        parties=(buyer, offer.seller),
        kind=offer.stage.kind,
    )


def bond_blocks(deliver_blocks: int, heights: str) -> int:
    """How long a bond waits for a job of so many blocks: its T lies so far behind that both can be awarded."""
    return deliver_blocks + MARGINS * heights_profile(heights).vote_before_blocks + START_LAG_BLOCKS


def deliver_blocks_max(kind: LotKind, heights: str) -> int:
    """The longest job; who asks for a longer one wants somebody's bond or attention locked."""
    return bond_blocks(DELIVER_BLOCKS_MAX, heights) if kind is LotKind.BOND else DELIVER_BLOCKS_MAX


def _is_planned(terms: Terms) -> bool:
    """The heights are those that both sides plan from start and job: nobody else's would end in time."""
    blocks, profile = terms.heights.deliver_by - terms.heights.fund_by, heights_profile(terms.heights_profile)
    is_short = blocks <= deliver_blocks_max(terms.stage.kind, terms.heights_profile)
    return is_short and terms.heights == plan(profile, terms.heights.start, blocks, terms.price_florins)


def _is_weighed(weights: tuple[int, ...], candidates: tuple[Did, ...]) -> bool:
    return len(weights) == len(candidates) and all(weight >= 0 for weight in weights)


def is_committed(offer: Offer) -> bool:
    """More is drawn for than a solved block is worth to its miner, who could throw it away for another draw.

    A panel decides about all lots of a series, so that their sum counts.
    """
    return _is_much(offer) and len(offer.arbiters) > 2 * offer.arbiters_needed - 1


def _is_much(deal: Offer | Terms) -> bool:
    return int(deal.price_florins) * deal.stage.count > DRAWN_MAX_FLORINS


def _is_stage(offer: Offer) -> bool:
    stage = offer.stage
    named = len(stage.series) == HASH_BYTES
    if stage.kind is LotKind.BOND:
        return named and stage.number == 0 and not offer.result_lock and not stage.bonded
    later = 0 < stage.begins_blocks < offer.deliver_blocks if stage.number else stage.begins_blocks == 0
    return later and stage.number < stage.count and (named or (stage.series == b"" and not stage.bonded))


def _are_known(arbiters: tuple[Did, ...], known: tuple[Did, ...]) -> bool:
    """A buyer that chose the panel's candidates freely would choose its own; a network that names none leaves it so."""
    return not known or set(arbiters) <= set(known)


def _is_royalty(royalty: Royalty) -> bool:
    pays = is_p2pkh(royalty.payout_script) or is_p2sh(royalty.payout_script)
    return royalty == NO_ROYALTY or (0 < royalty.bps <= ROYALTY_BPS_MAX and bool(royalty.did) and pays)


def _is_usual(fee_rate: int) -> bool:
    """A release pays its fee from the seller's part: a buyer must not burn that part by a rate of its own."""
    return FEE_RATE_FLORINS_PER_KB <= fee_rate <= FEE_RATE_SPARE * FEE_RATE_FLORINS_PER_KB


def wish_problem(
    *,
    price_florins: int,
    arbiters: tuple[Did, ...],
    needed: int,
    parties: tuple[str, str],
    kind: LotKind = LotKind.WORK,
) -> str | None:
    """Why no contract of this price and panel can be made, or None. A bond's price is what a dispute costs."""
    seats = 2 * needed - 1
    least = GROSS_MIN_FLORINS if kind is LotKind.WORK else int(bond_value(0, seats))
    if not least <= price_florins <= PRICE_MAX_FLORINS:
        return f"a price is from {format_flop(least)} to {format_flop(PRICE_MAX_FLORINS)} FLOP"
    if kind is LotKind.WORK and seats < panel_size_for(price_florins):
        return f"this price wants {panel_size_for(price_florins)} arbiters, {seats} seats are asked for"
    if len(set(arbiters)) != len(arbiters) or not seats <= len(arbiters) <= ARBITERS_MAX:
        return f"{seats} different arbiters or more have to be named, at most {ARBITERS_MAX}"
    if set(parties) & set(arbiters) or len(set(parties)) != len(parties):
        return "buyer, seller and arbiters are different nodes"
    return None


def terms_of(offer: Offer, quote: Quote, buyer: str) -> Terms:
    """The terms that follow from an offer and its quote."""
    profile = heights_profile(offer.heights_profile)
    price = int(offer.price_florins)
    heights = plan(profile, quote.start, offer.deliver_blocks, price)
    weight_of = dict(zip(offer.arbiters, offer.weights, strict=True))
    candidates = tuple(did for did in offer.arbiters if did not in quote.strikes)
    drawn = len(candidates) > 2 * offer.arbiters_needed - 1  # the draw block lies ahead of both signatures
    return Terms(
        contract_id=offer.contract_id,
        network=offer.network,
        buyer=Party(buyer, offer.buyer_nonce, offer.buyer_key, offer.buyer_payout_script),
        seller=Party(offer.seller, quote.seller_nonce, quote.seller_key, quote.seller_payout_script),
        service_id=offer.service_id,
        job_hash=offer.job_hash,
        price_florins=offer.price_florins,
        arbiter_pay_florins=Florins(0) if offer.stage.kind is LotKind.BOND else arbiter_pay_for(price),
        arbiters_needed=offer.arbiters_needed,
        candidates=candidates,
        result_hash=quote.result_hash,
        result_salt_hash=offer.result_salt_hash,
        fund_script=offer.fund_script,
        tax_bps=offer.tax_bps,
        fee_rate_florins_per_kb=offer.fee_rate_florins_per_kb,
        depth_blocks=depth_for(profile, price),
        start_blocks=profile.start_blocks,
        heights_profile=offer.heights_profile,
        heights=heights,
        policy=Policy(offer.policy),
        swap_limit_florins=offer.swap_limit_florins,
        stage=_stage_of(offer, heights),
        royalty=offer.royalty,
        weights=tuple(weight_of[did] for did in candidates),
        draw_height=quote.start + DRAW_AFTER_BLOCKS if drawn else 0,
        draw_commitments=(offer.draw_commitment, quote.draw_commitment) if drawn and offer.draw_commitment else (),
    )


def _stage_of(offer: Offer, heights: Heights) -> Stage:
    asked = offer.stage
    begins = heights.fund_by + asked.begins_blocks if asked.number else 0
    return Stage(series=asked.series, number=asked.number, count=asked.count, begins=begins, kind=asked.kind)


def quote_problem(offer: Offer, quote: Quote, tip: int) -> str | None:
    """Why the buyer cannot sign terms with this quote, or None."""
    if bool(quote.result_hash) != offer.result_lock:
        return "the result lock is not the one asked for"
    if len(quote.draw_commitment) != len(offer.draw_commitment):
        return "a draw for so much needs a nonce of the seller, too"
    if quote.start > tip + START_LAG_BLOCKS:
        return f"its start {quote.start} lies ahead of the tip {tip}"
    if tip >= plan(heights_profile(offer.heights_profile), quote.start, 1, offer.price_florins).fund_by:
        return "it is too old to be funded in time"
    return None


def terms_problem(terms: Terms, profile: NetworkProfile, me: str, tip: int) -> str | None:
    """Why an arbiter cannot accept a seat under these terms, or None."""
    laws = {
        "they are of another network": terms.network == profile.genesis,
        "their name does not follow from the buyer's nonce": (
            terms.contract_id == contract_id_of(terms.network, terms.buyer.did, terms.buyer.nonce)
        ),
        "the fund is not the one this node knows": terms.fund_script == fund_script_of(profile.fund),
        "the tax is not the network's": terms.tax_bps == profile.tax_bps,
        "the heights are of another profile": terms.heights_profile == profile.heights,
        "this node is not a candidate": me in terms.candidates,
        "they weigh other names than they list": _is_weighed(terms.weights, terms.candidates),
        "their draw is at another height": terms.draw_height == _draw_height(terms),
        "above 5,000 FLOP a draw needs a nonce of each party": len(terms.draw_commitments) == _commitments(terms),
        "they begin ahead of the tip": terms.heights.start <= tip + START_LAG_BLOCKS,
        "they are too old to be funded in time": tip < terms.heights.fund_by,
    }
    broken = next((law for law, holds in laws.items() if not holds), None)
    wrong = [] if broken else heights_problems(heights_profile(profile.heights), terms.heights, terms.price_florins)
    return (
        broken
        or next(iter(wrong), None)
        or (None if _is_planned(terms) else "the heights are not those of its start and job")
        or wish_problem(
            price_florins=terms.price_florins,
            arbiters=terms.candidates,
            needed=terms.arbiters_needed,
            parties=(terms.buyer.did, terms.seller.did),
            kind=terms.stage.kind,
        )
    )


def _draw_height(terms: Terms) -> int:
    return terms.heights.start + DRAW_AFTER_BLOCKS if len(terms.candidates) > seats_of(terms) else 0


def _commitments(terms: Terms) -> int:
    return 2 if terms.draw_height and _is_much(terms) else 0


def seat_problem(terms: Terms, accept: Accept) -> str | None:
    """Why an arbiter cannot sit with what it named, or None: else one could spoil every contract it is asked for."""
    key, payout = accept.arbiter.key, accept.arbiter.payout_script
    if not is_pubkey(key) or key in (terms.buyer.key, terms.seller.key):
        return "an arbiter's key is none, or a party's"
    if not (is_p2pkh(payout) or is_p2sh(payout)):
        return "an arbiter's payout script pays neither a key hash nor a script hash"
    taken = (terms.buyer.payout_script, terms.seller.payout_script, terms.fund_script, terms.royalty.payout_script)
    return "an arbiter wants to be paid where another is" if payout in taken else None


def seats_of(terms: Terms) -> int:
    """N = 2k - 1."""
    return 2 * terms.arbiters_needed - 1


def contract_of(terms: Terms, accepts: list[Accept]) -> Contract:
    """The contract that follows from terms and acceptances."""
    return Contract(
        version=CONTRACT_VERSION,
        network=terms.network,
        buyer=terms.buyer,
        seller=terms.seller,
        service_id=terms.service_id,
        job_hash=terms.job_hash,
        price_florins=terms.price_florins,
        arbiter_pay_florins=terms.arbiter_pay_florins,
        arbiters_needed=terms.arbiters_needed,
        arbiters=seated([accept.arbiter for accept in accepts]),
        result_hash=terms.result_hash,
        result_salt_hash=terms.result_salt_hash,
        fund_script=terms.fund_script,
        tax_bps=terms.tax_bps,
        fee_rate_florins_per_kb=terms.fee_rate_florins_per_kb,
        depth_blocks=terms.depth_blocks,
        start_blocks=terms.start_blocks,
        heights_profile=terms.heights_profile,
        heights=terms.heights,
        policy=terms.policy,
        swap_limit_florins=terms.swap_limit_florins,
        stage=terms.stage,
        royalty=terms.royalty,
    )


def seal_problem(terms: Terms, contract: Contract, accepts: list[Accept]) -> str | None:
    """Why this contract does not follow from these terms and acceptances, or None."""
    dids = [accept.arbiter.did for accept in accepts]
    if len(set(dids)) != len(dids) or len(dids) != seats_of(terms):
        return f"{seats_of(terms)} different arbiters have to accept"
    if not set(dids) <= set(terms.candidates):
        return "an arbiter is none of the candidates"
    if any(accept.terms_hash != terms_hash(terms) for accept in accepts):
        return "an acceptance is for other terms"
    if contract != contract_of(terms, accepts):
        return "it is not what follows from the terms"
    return None


def deal_of(terms: Terms) -> Deal:
    """What the table needs of the terms."""
    profile = heights_profile(terms.heights_profile)
    reserve = seats_of(terms) * int(terms.arbiter_pay_florins)
    return Deal(
        buyer=terms.buyer.did,
        seller=terms.seller.did,
        price_florins=int(terms.price_florins),
        lot_florins=int(terms.price_florins) + reserve,
        arbiters_needed=terms.arbiters_needed,
        seats=seats_of(terms),
        lock=bool(terms.result_hash),
        policy=terms.policy,
        swap_limit_florins=int(terms.swap_limit_florins),
        depth_blocks=terms.depth_blocks,
        start_blocks=terms.start_blocks,
        standby_blocks=profile.standby_blocks,
        rebroadcast_blocks=profile.rebroadcast_blocks,
        heights=terms.heights,
        rung_blocks=profile.rung_blocks,
        series=bool(terms.stage.series),
        stage=terms.stage.number,
        begins=terms.stage.begins,
        bond=terms.stage.kind is LotKind.BOND,
    )
