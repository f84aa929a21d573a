"""A new life of any daemon of a node, with settings for a world where nothing polls faster than it has to."""

from __future__ import annotations

from typing import Any

from common.daemon import DuxOSDaemon
from dux_airdropd.settings import AirdropdSettings
from dux_escrowd.settings import EscrowSettings
from dux_flopd.settings import FlopSettings
from dux_p2pd.settings import P2pdSettings
from dux_registryd.settings import RegistrydSettings
from dux_sim.world.log import log_for
from dux_sim.world.node import OUTSIDE_PORT, SimNode
from dux_sim.world.parts import (
    InWorld,
    SimAirdropd,
    SimEscrowd,
    SimFlopd,
    SimP2pd,
    SimRegistryd,
    SimStored,
    SimTaskd,
)
from dux_stored.settings import StoredSettings
from dux_taskd.settings import TaskSettings

MONEY = ("p2pd", "flopd", "escrowd")
FUND = ("p2pd", "flopd", "registryd", "airdropd")
ALL = ("p2pd", "flopd", "registryd", "stored", "escrowd", "airdropd", "taskd")
NEVER_S = 10_000_000
POLL_MS = 30_000  # the coin node tells of every change by itself
MINUTE_S = 60.0  # blocks come about so often: who looks at the chain need not look more often
HEARTBEAT_S = 600.0

KINDS: dict[str, tuple[type[InWorld[Any]], type[Any], dict[str, Any]]] = {
    "p2pd": (SimP2pd, P2pdSettings, {"listen_port": OUTSIDE_PORT, "known_after_s": 0, "reachability": False}),
    "flopd": (SimFlopd, FlopSettings, {"source": "core", "egress": False, "poll_ms": POLL_MS}),
    "escrowd": (SimEscrowd, EscrowSettings, {"copies": False}),  # no history restores a node from its phrase
    "airdropd": (SimAirdropd, AirdropdSettings, {"look_s": MINUTE_S / 2}),
    "registryd": (
        SimRegistryd,
        RegistrydSettings,
        {"heartbeat_s": HEARTBEAT_S, "check_s": MINUTE_S, "benchmark": False},  # paper machines do no real work
    ),
    "stored": (SimStored, StoredSettings, {"follow_s": MINUTE_S}),
    "taskd": (SimTaskd, TaskSettings, {}),
}


def make(node: SimNode, daemon: str, **changes: Any) -> DuxOSDaemon[Any]:
    """A new life of a daemon; `changes` are settings of its own."""
    kind, settings_type, fields = KINDS[daemon]
    own = {"registryd": {"wallet_address": node.keys.address}, "p2pd": {"listen_host": node.host}}.get(daemon, {})
    made = born(node, daemon, kind, settings_type, **(fields | own | changes))
    if isinstance(made, SimTaskd):
        made.lies = node.lies
    return made


def born(node: SimNode, daemon: str, kind: type[Any], settings_type: type[Any], **settings: Any) -> DuxOSDaemon[Any]:
    """A daemon of this class with the node's clock, log, neighbours and a stream of randomness for this life."""
    world = node.world
    folder = str(world.folder / node.name)
    made: Any = kind(
        settings_type(
            network_profile="simulated",
            data_dir=folder,
            run_dir=folder,
            backup_interval=0,
            watchdog_s=NEVER_S,
            **settings,
        ),
        world.profile,
        log=log_for(world.history, f"{node.name}/{daemon}"),
        clock=node.clock(),
        randomness=world.stream(f"{node.name}/{daemon}/{node.lives(daemon)}"),
        neighbours=node.neighbours(daemon),
        store_in_memory=True,
    )
    made.site = node
    alive: DuxOSDaemon[Any] = made
    return alive
