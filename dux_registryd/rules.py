"""Decisions about nodes: what may be believed of them, how lately they were heard of, and who meets a filter.

Pure: the time, the tip and what is held come in; a reason or a choice comes out. Reputation has its own file
(`reputation_rules.py`), receipts' payments theirs (`payment_rules.py`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from common.contracts.registry import ListNodes, NodeStatus
from common.quality import PPM
from common.receipts import Heartbeat, NodeInfo, wallet_fault
from common.units import Did
from dux_registryd.model import KnownNode, RatedNode

FUTURE_MS = 600_000  # a clock this far ahead is still believed (TI §2.2)
WITNESS_BLOCKS = 60  # a heartbeat whose block is further from this node's own tip is no evidence of being here now
ACTIVE_HEARTBEATS = 3  # missed in a row before a node is stale
OFFLINE_AFTER_MS = 3_600_000  # the hour that the specification's airdrop asks for
CAPABILITIES_MAX = 32

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


def capabilities_of(names: Iterable[str]) -> tuple[str, ...]:
    """Capability names in their one form: lower case, sorted, each once."""
    tidy = {re.sub(r"[\s-]+", "_", name.strip().lower()) for name in names}
    return tuple(sorted(name for name in tidy if name))[:CAPABILITIES_MAX]


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
    """How lately a node was heard of, in its own heartbeats' rhythm."""
    silent_ms = now_ms - heard_ms
    if heard_ms == 0 or silent_ms > OFFLINE_AFTER_MS:
        return NodeStatus.OFFLINE
    return NodeStatus.ACTIVE if silent_ms <= ACTIVE_HEARTBEATS * interval_s * 1000 else NodeStatus.STALE


def meets(rated: RatedNode, status: NodeStatus, wanted: ListNodes) -> bool:
    """Whether a node meets every filter; an unset filter is met by all."""
    info = rated.node.info
    return (
        info.cpu_cores >= wanted.min_cpu
        and info.memory_mb >= wanted.min_memory_mb
        and info.storage_gb >= wanted.min_storage_gb
        and rated.score.score_ppm >= round(wanted.min_reputation * PPM)
        and rated.score.tier >= wanted.min_tier
        and (not wanted.capability or set(capabilities_of([wanted.capability])) <= set(info.capabilities))
        and (not wanted.region or info.region.lower() == wanted.region.lower())
        and (not wanted.gpu or bool(info.gpu_model))
        and (wanted.status is None or status is wanted.status)
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
