"""The airdrop's books as people and programs read them. Pure."""

from __future__ import annotations

from common.contracts.airdrop import AirdropDetail, AirdropView, Candidate, Phase, Share
from common.units import Florins, format_flop
from dux_airdropd.model import Census, Figures, Plan, Round, ShareLine


def airdrop_view(round_: Round, plan: Plan | None) -> AirdropView:
    """One airdrop in figures; zeros while no payout of it is known."""
    return AirdropView(
        number=round_.number,
        phase=round_.phase,
        cutoff_height=round_.cutoff_height,
        cutoff_hash=round_.cutoff_hash,
        txid=round_.txid,
        paid_height=round_.paid_height if round_.phase is Phase.PAID else None,
        eligible=len(plan.lines) if plan else 0,
        share_florins=Florins(plan.share_florins if plan else 0),
        spent_florins=Florins(plan.spent_florins if plan else 0),
        paid_florins=Florins(plan.paid_florins if plan else 0),
        change_florins=Florins(plan.change_florins if plan else 0),
        fee_florins=Florins(plan.fee_florins if plan else 0),
    )


def detail_view(round_: Round, plan: Plan | None) -> AirdropDetail:
    """One airdrop with every share."""
    return AirdropDetail(
        airdrop=airdrop_view(round_, plan), shares=[_share(line) for line in (plan.lines if plan else ())]
    )


def _share(line: ShareLine) -> Share:
    return Share(
        did=line.member.did,
        address=line.member.address,
        quality_ppm=line.member.quality_ppm,
        share_florins=Florins(line.share_florins),
        carried_before_florins=Florins(line.before_florins),
        paid_florins=Florins(line.paid_florins),
        carried_after_florins=Florins(line.after_florins),
    )


def candidates(census: Census) -> list[Candidate]:
    """Everybody the evidence knows, in the order of DIDs."""
    found = [
        Candidate(did=m.did, address=m.address, quality_ppm=m.quality_ppm, eligible=True, reason="")
        for m in census.members
    ]
    found += [
        Candidate(did=r.did, address=r.address, quality_ppm=r.quality_ppm, eligible=False, reason=r.reason)
        for r in census.refusals
    ]
    return sorted(found, key=lambda candidate: candidate.did)


def progress_lines(
    mine: Round | None, balance_florins: int, tip: int, proposal_after: int | None, figures: Figures
) -> list[str]:
    """Where the airdrop stands, for a person."""
    if mine is None:
        held, wanted = format_flop(balance_florins), format_flop(figures.threshold_florins)
        return [f"The fund holds {held} FLOP of the {wanted} FLOP at which it is handed back."]
    lines = [f"Airdrop {mine.number}: the fund reached the threshold at height {mine.cutoff_height}."]
    if mine.phase is Phase.GATHERING and proposal_after is not None and tip < proposal_after:
        lines.append(f"Custodians exchange evidence until height {proposal_after}; the tip is {tip}.")
    elif mine.phase is Phase.PAYING:
        lines.append(f"Its payout {mine.txid} is in a block and has to lie {figures.depth_blocks} blocks deep.")
    else:
        lines.append(
            f"Custodians propose and sign payouts; {figures.needed} of {len(figures.pubkeys)} have to sign one."
        )
    return lines


def candidate_lines(candidate: Candidate, share_florins: int | None) -> list[str]:
    """Why a node would get a share or not, for a person."""
    if not candidate.eligible:
        return [f"{candidate.did} would get nothing: {candidate.reason}."]
    lines = [f"{candidate.did} would get an equal share, paid to {candidate.address}."]
    if share_florins is not None:
        lines.append(f"By the evidence of this node a share would be {format_flop(share_florins)} FLOP now.")
    return lines
