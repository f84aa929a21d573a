"""What callers are shown, made of what the registry holds. Pure: no store, no clock, no neighbour."""

from __future__ import annotations

from collections.abc import Sequence

from common import iso_time as moments
from common.contracts.registry import NodeStatus, NodeView, ReceiptView, Reputation, ScoreLine
from common.contracts.registry_standing import SanctionView
from common.quality import PPM
from common.units import BPS, BlockHeight, Did, Florins, Hash32
from dux_registryd.model import Presence, RatedNode, Sanction, Score, Weight
from dux_registryd.reputation_rules import jobs
from dux_registryd.rules import GPU
from dux_registryd.sanction_rules import worst
from dux_registryd.store import Claim


def iso_time(unix_ms: int) -> str:
    """ISO 8601 in UTC, whole seconds; empty for never."""
    return moments.iso_time(unix_ms) if unix_ms else ""


def part(bps: int | None) -> float | None:
    """A part of 1 for people; None stays None."""
    return None if bps is None else bps / BPS


def node_view(rated: RatedNode, status: NodeStatus, *, own: bool) -> NodeView:
    """A node in the specification's words."""
    info, beat, total = rated.node.info, rated.node.heartbeat, rated.jobs_done + rated.jobs_failed
    load, more = beat.load_milli if beat else (0, 0, 0), rated.node.hardware
    return NodeView(
        node_id=info.did,
        wallet_address=info.wallet_address,
        ip_address=info.ip_address,
        port=info.port,
        capabilities=info.capabilities,
        reputation_score=rated.score.score_ppm / PPM,
        tier=rated.score.tier,
        total_tasks_completed=rated.jobs_done,
        success_rate=rated.jobs_done / total if total else 0.0,
        last_heartbeat=iso_time(rated.node.heard_ms),
        uptime=beat.uptime_s if beat else 0,
        load_average=(load[0] / 1000, load[1] / 1000, load[2] / 1000),
        available_memory=beat.memory_available_mb if beat else 0,
        available_cpu=beat.cpu_available if beat else 0,
        memory_usage=beat.memory_used_bps * 100 / BPS if beat else 0.0,
        disk_usage=beat.disk_used_bps * 100 / BPS if beat else 0.0,
        hostname=info.hostname,
        os_version=info.os_version,
        duxos_version=info.duxos_version,
        cpu_cores=info.cpu_cores,
        memory_gb=info.memory_mb / 1024,
        storage_gb=info.storage_gb,
        gpu_enabled=bool(info.gpu_model),
        gpu_model=info.gpu_model,
        gpu_seen=bool(info.gpu_model) and GPU in info.capabilities,
        region=info.region,
        cpu_model=more.cpu_model,
        cpu_arch=more.cpu_arch,
        cpu_mhz=more.cpu_mhz,
        kernel=more.kernel,
        gpu_memory=more.gpu_memory_mb,
        tpm=more.tpm,
        status=status,
        own=own,
        witnessed_uptime=part(rated.presence.uptime_bps),
        sanction=worst(rated.sanctions) or "",
        verified=rated.verified,
        bonded_florins=Florins(rated.bonded_florins),
    )


def sanction_view(one: Sanction) -> SanctionView:
    """A sanction as callers read it."""
    return SanctionView(
        node_id=one.did,
        state=one.state.value,
        reason=one.reason,
        evidence=one.evidence,
        set_by=one.set_by,
        since=iso_time(one.since_ms),
        until=iso_time(one.until_ms or 0),
    )


def receipt_view(claim: Claim) -> ReceiptView:
    """A claim as callers read it."""
    receipt = claim.receipt
    return ReceiptView(
        cid=Hash32(receipt.cid),
        buyer=receipt.buyer,
        seller=receipt.seller,
        service_id=receipt.service_id,
        price_florins=receipt.price_florins,
        gross_florins=receipt.gross_florins,
        tax_florins=receipt.tax_florins,
        txid=receipt.txid,
        height=receipt.height,
        outcome=receipt.outcome.value,
        state=claim.state,
        reason=claim.reason,
        signed_by=tuple(told.signer for told in claim.told),
        cursor=claim.cursor,
        signed=claim.words,
    )


def reputation_view(
    did: Did,
    score: Score,
    weights: Sequence[Weight],
    presence: Presence,
    *,
    duties: tuple[str, ...],
    sanctions: Sequence[Sanction],
    activity: int,
    tip: int,
) -> Reputation:
    """A score with the lines that add up to it."""
    done, failed = jobs(weights)
    return Reputation(
        node_id=did,
        score=score.score_ppm / PPM,
        score_ppm=score.score_ppm,
        standing_milli=score.standing_milli,
        weight_florins=score.weight_florins,
        good_florins=score.good_florins,
        bad_florins=score.bad_florins,
        tier=score.tier,
        trade_tier=score.trade_tier,
        duty_tier=score.duty_tier,
        duties=duties,
        sanctions=tuple(sanction_view(one) for one in sanctions),
        days_witnessed=presence.days_witnessed,
        days_good=presence.days_good,
        uptime=part(presence.uptime_bps),
        probing=part(presence.probing_bps),
        jobs_done=done,
        jobs_failed=failed,
        activity_florins=Florins(activity),
        at_height=BlockHeight(tip),
        evidence=tuple(_line(weight) for weight in weights),
    )


def _line(weight: Weight) -> ScoreLine:
    settlement = weight.settlement
    return ScoreLine(
        cid=Hash32(settlement.cid),
        other=settlement.buyer,
        outcome=settlement.outcome.value,
        height=settlement.height,
        age_days=weight.age_days,
        good_florins=weight.good_florins,
        bad_florins=weight.bad_florins,
    )
