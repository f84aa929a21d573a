"""Every call and topic between nodes, by name: the table from which p2pd knows whom to hand what comes in.

Each daemon declares its own in `peer_<daemon>.py`; this file only collects them. A relayed call can never reach a local
method: p2pd looks names up here, and what it finds it hands to `peer.handle` of the owner.

Source: settled.md 25.
"""

from __future__ import annotations

from types import ModuleType
from typing import TypeVar

from common.codec import Canon
from common.contracts import (
    peer_airdrop,
    peer_benchmark,
    peer_channel,
    peer_copies,
    peer_escrow,
    peer_mail,
    peer_p2p,
    peer_reach,
    peer_registry,
    peer_store,
    peer_task,
)
from common.rpc.method import Namespace, PeerMethod, Topic

T = TypeVar("T")

DECLARED: tuple[ModuleType, ...] = (
    peer_airdrop,
    peer_benchmark,
    peer_channel,
    peer_copies,
    peer_escrow,
    peer_mail,
    peer_p2p,
    peer_reach,
    peer_registry,
    peer_store,
    peer_task,
)


def _declared() -> list[object]:
    return [value for module in DECLARED for value in vars(module).values()]


def peer_methods() -> dict[str, PeerMethod[Canon, Canon]]:
    """Every peer method by its name.

    Raises:
        ValueError: two have one name.
    """
    found = [value for value in _declared() if isinstance(value, PeerMethod)]
    return _unique({value.name: value for value in found}, len({id(value) for value in found}))


def topics() -> dict[str, Topic[Canon]]:
    """Every gossip topic by its name.

    Raises:
        ValueError: two have one name.
    """
    found = [value for value in _declared() if isinstance(value, Topic)]
    return _unique({value.name: value for value in found}, len({id(value) for value in found}))


def namespaces() -> dict[str, Namespace[Canon]]:
    """Every DHT namespace by its name.

    Raises:
        ValueError: two have one name.
    """
    found = [value for value in _declared() if isinstance(value, Namespace)]
    return _unique({value.name: value for value in found}, len({id(value) for value in found}))


def _unique(by_name: dict[str, T], declared: int) -> dict[str, T]:
    if len(by_name) != declared:
        raise ValueError("a name is declared twice in common/contracts/peer_*.py")
    return by_name
