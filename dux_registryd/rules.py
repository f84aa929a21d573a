"""Decisions about nodes: what may be believed of them, how lately they were heard of, and who meets a filter.

Pure: the time, the tip and what is held come in; a reason or a choice comes out. Reputation has its own file
(`reputation_rules.py`), receipts' payments theirs (`payment_rules.py`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from common.contracts.registry import CAPABILITIES_MAX, ListNodes, NodeStatus
from common.quality import PPM
from common.receipts import Hardware, Heartbeat, NodeInfo, wallet_fault
from common.units import BPS, Did
from dux_registryd.model import KnownNode, RatedNode
from dux_registryd.sanction_rules import may_be_listed

FUTURE_MS = 600_000  # a clock this far ahead is still believed (TI §2.2)
WITNESS_BLOCKS = 60  # a heartbeat whose block is further from this node's own tip is no evidence of being here now
ACTIVE_HEARTBEATS = 3  # missed in a row before a node is stale
OFFLINE_AFTER_MS = 3_600_000  # the hour that the specification's airdrop asks for

HEARTBEAT_S = 60.0  # the usual rhythm

GPU = "gpu"  # offered, and the node's own look at its machine shows one
GPU_DECLARED = "gpu_declared"  # offered by its operator's word alone

_CAPABILITY = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_PRINTABLE_FIELDS = ("os_version", "duxos_version", "gpu_model", "region")


def node_fault(info: NodeInfo, network: str) -> str | None:
    """Why a node's description is refused, or None."""
    if info.network != network:
        return "it belongs to another network"
    if info.withdrawn:
        return None
    return wallet_fault(info.wallet_address) or _place_fault(info) or _text_fault(info)


def _place_fault(info: NodeInfo) -> str | None:
    if info.hostname and not _HOSTNAME.fullmatch(info.hostname):
        return f"{info.hostname!r} is not a host name"
    if not info.ip_address:
        return None
    try:
        ipaddress.ip_address(info.ip_address)
    except ValueError:
        return f"{info.ip_address!r} is not an IP address"
    return None


def _text_fault(info: NodeInfo) -> str | None:
    for field in _PRINTABLE_FIELDS:
        if not str(getattr(info, field)).isprintable():
            return f"{field} has characters that cannot be shown"
    if info.capabilities != tuple(sorted(set(info.capabilities))):
        return "its capabilities are not sorted or stand twice"
    odd = [name for name in info.capabilities if not _CAPABILITY.fullmatch(name)]
    return f"{odd[0]!r} is not a capability: lower case letters, digits, - and _" if odd else None


def hardware_fault(hardware: Hardware) -> str | None:
    """Why what a node says of its machine is refused, or None."""
    for field in ("cpu_model", "cpu_arch", "kernel", "tpm"):
        if not str(getattr(hardware, field)).isprintable():
            return f"{field} has characters that cannot be shown"
    return None


def capabilities_of(names: Iterable[str]) -> tuple[str, ...]:
    """Capability names in their one form: lower case, sorted, each once."""
    tidy = {re.sub(r"[\s-]+", "_", name.strip().lower()) for name in names}
    return tuple(sorted(name for name in tidy if name))[:CAPABILITIES_MAX]


def gpu_of(asked: bool | None, model: str, told: str, seen: str) -> str:  # noqa: FBT001 - as the wish has it
    """The GPU that a node offers, by its model; empty for none.

    `asked`: offered or not, None: as `told` before; `model`: as its operator names it; `seen`: on the machine.
    """
    if asked is None:
        return model or told
    return (model or told or seen) if asked else ""


def with_gpu(offered: Iterable[str], model: str, seen: str) -> tuple[str, ...]:
    """The capabilities that a node tells: which of the two words for a GPU stands there goes by the GPU alone."""
    words = [GPU if seen else GPU_DECLARED] if model else []
    return capabilities_of([*(name for name in capabilities_of(offered) if name not in (GPU, GPU_DECLARED)), *words])


def newer_node(held: NodeInfo | None, new: NodeInfo, now_ms: int) -> bool:
    """Whether a description replaces the one held: later, and not from the future."""
    if new.at_ms > now_ms + FUTURE_MS:
        return False
    return held is None or new.at_ms > held.at_ms


def heartbeat_fault(
    heartbeat: Heartbeat, held: Heartbeat | None, *, network: str, now_ms: int, tip: int | None
) -> str | None:
    """Why a heartbeat is not taken, or None. `tip`: this node's own height, None when it is not known."""
    if heartbeat.network != network:
        return "it belongs to another network"
    if heartbeat.at_ms > now_ms + FUTURE_MS:
        return "it comes from the future"
    if tip is not None and abs(heartbeat.height - tip) > WITNESS_BLOCKS:
        return "it cites a block too far from the tip"
    if held is not None and heartbeat.at_ms <= held.at_ms:
        return "a newer one is held"
    return None


def status_of(heard_ms: int, now_ms: int, interval_s: float) -> NodeStatus:
    """How lately a node was heard of; `interval_s` is this node's rhythm, and a quick one makes nobody else late."""
    silent_ms = now_ms - heard_ms
    if heard_ms == 0 or silent_ms > OFFLINE_AFTER_MS:
        return NodeStatus.OFFLINE
    return (
        NodeStatus.ACTIVE if silent_ms <= ACTIVE_HEARTBEATS * max(interval_s, HEARTBEAT_S) * 1000 else NodeStatus.STALE
    )


def is_asked_for(rated: RatedNode, wanted: ListNodes) -> bool:
    """Banned and suspended nodes stand on no list that does not ask for them."""
    if wanted.sanctioned == "only":
        return bool(rated.sanctions)
    return wanted.sanctioned == "shown" or may_be_listed(rated.sanctions)


def meets(rated: RatedNode, status: NodeStatus, wanted: ListNodes) -> bool:
    """Whether a node meets every filter; an unset filter is met by all."""
    return (
        _is_as_wanted(rated, status, wanted)
        and _is_named(rated.node, wanted)
        and _has_room(rated.node, wanted)
        and _has_worked(rated, wanted)
    )


def _is_named(node: KnownNode, wanted: ListNodes) -> bool:
    """Names and texts: host and GPU by a part of them, the rest whole."""
    info = node.info
    return (
        info.did.startswith(wanted.start)
        and wanted.hostname.lower() in info.hostname.lower()
        and wanted.gpu_model.lower() in info.gpu_model.lower()
        and wanted.wallet_address in ("", info.wallet_address)
        and wanted.os_version in ("", info.os_version)
        and wanted.duxos_version in ("", info.duxos_version)
        and wanted.cpu_arch in ("", node.hardware.cpu_arch)
    )


def _has_room(node: KnownNode, wanted: ListNodes) -> bool:
    """What its last heartbeat left free; a node that never beat has nothing free."""
    beat = node.heartbeat
    if beat is None:
        return not (wanted.min_free_cpu or wanted.min_free_memory_mb or wanted.min_uptime_s) and wanted.max_load is None
    return (
        beat.cpu_available >= wanted.min_free_cpu
        and beat.memory_available_mb >= wanted.min_free_memory_mb
        and beat.uptime_s >= wanted.min_uptime_s
        and (wanted.max_load is None or beat.load_milli[0] <= round(wanted.max_load * 1_000))
    )


def _has_worked(rated: RatedNode, wanted: ListNodes) -> bool:
    """Jobs paid, and their part of all jobs."""
    total = rated.jobs_done + rated.jobs_failed
    least = round(wanted.min_success_rate * PPM)
    return rated.jobs_done >= wanted.min_tasks and rated.jobs_done * PPM >= least * max(total, 1)


def _is_as_wanted(rated: RatedNode, status: NodeStatus, wanted: ListNodes) -> bool:
    """Size, standing, offers and place."""
    info = rated.node.info
    return (
        info.cpu_cores >= wanted.min_cpu
        and info.memory_mb >= wanted.min_memory_mb
        and info.storage_gb >= wanted.min_storage_gb
        and rated.score.score_ppm >= round(wanted.min_reputation * PPM)
        and rated.score.tier >= wanted.min_tier
        and set(capabilities_of(wanted.capabilities)) <= set(info.capabilities)
        and (not wanted.region or info.region.lower() == wanted.region.lower())
        and (not wanted.gpu or bool(info.gpu_model))
        and (rated.presence.uptime_bps or 0) >= round(wanted.min_witnessed_uptime * BPS)
        and (wanted.status is None or status is wanted.status)
        and set(wanted.verified) <= set(rated.verified)
        and (wanted.min_bond_florins is None or rated.bonded_florins >= wanted.min_bond_florins)
    )


def by_reputation(rated: RatedNode) -> tuple[int, int, str]:
    """Sort key: best standing first, then best quality, then the name, so that every node lists alike."""
    return (-rated.score.standing_milli, -rated.score.score_ppm, rated.node.info.did)


def capability_index(nodes: Iterable[KnownNode]) -> dict[str, tuple[Did, ...]]:
    """Who offers what, names and nodes sorted."""
    index: dict[str, set[Did]] = {}
    for node in nodes:
        for name in node.info.capabilities:
            index.setdefault(name, set()).add(node.info.did)
    return {name: tuple(sorted(dids)) for name, dids in sorted(index.items())}
