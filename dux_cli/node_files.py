"""Writes a node's configuration: which network, which place on this machine, which coin node.

Promises: what is written is what the daemons read (a test loads it with their own settings); no secret is written, only
paths of files that hold one. Keys are made by common/keygen.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from common.chain.coin_network import coin_network
from common.network import NetworkProfile, save_profile
from common.node_ports import OUTSIDE_OFFSET, PORT_BASE, PORTS_PER_NODE, outside_address
from common.rpc.method import DAEMONS
from dux_cli.node_dir import NodeDir

PROFILE_FILE = "network.yaml"


@dataclass(frozen=True)
class ChainLogin:
    """How flopd sees the coin's chain: as a light wallet of `peers` (none named: the network's seeds), or by `url`.

    A node that speaks both is seen by its peers' side; `url` is then for whoever mines. `password_file` holds the
    password alone, or `user:password`.
    """

    url: str = ""
    user: str = ""
    password_file: Path | None = None
    peers: tuple[str, ...] = ()

    @property
    def is_light(self) -> bool:
        """Whether the wallet is a light one, which needs no login."""
        return bool(self.peers) or not self.url

    @property
    def address(self) -> str:
        """`host:port`, as p2pd's egress names it."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or 80}"


def port_base_of(index: int, first: int = PORT_BASE) -> int:
    """Where the ports of the machine's node `index` begin."""
    return first + PORTS_PER_NODE * index


def outside_endpoint(index: int, port_base: int) -> str:
    """`host:port` at which node `index` of a test network on one machine is reached by the others."""
    return f"{outside_address(index)}:{port_base + OUTSIDE_OFFSET}"


def write_config(
    folder: NodeDir,
    profile: NetworkProfile,
    *,
    index: int,
    port_base: int,
    chain: ChainLogin,
    listen_host: str = "",
    extra: Mapping[str, Mapping[str, Any]] | None = None,
    region: str = "",
) -> None:
    """Write `config/*.yaml` of a node, `common.yaml` last. `extra`: daemon (or `common`) -> more settings for it.

    `listen_host` is where p2pd listens for the world; empty: node `index`'s own loopback address.
    `region` is where it stands: bootstraps of its own are asked first, and buyers may ask for it.
    """
    host = listen_host or outside_address(index)
    flopd, ways_out = chain_settings(chain, profile.chain)
    p2pd: dict[str, Any] = {"listen_host": host, "egress_allow": {"flopd": ways_out}}
    if not profile.is_main:
        p2pd["known_after_s"] = 0  # on a test network nobody has been here for an hour
    where = {"region": region} if region else {}
    files: dict[str, dict[str, Any]] = {daemon: {} for daemon in DAEMONS}
    files |= {"flopd": flopd, "p2pd": p2pd | where, "registryd": where}
    shared = {
        "network_profile": PROFILE_FILE,
        "data_dir": str(folder.data),
        "run_dir": str(folder.run),
        "port_base": port_base,
    }
    save_profile(profile, folder.config / PROFILE_FILE)
    for name, settings in (files | {"common": shared}).items():
        write_yaml(folder, name, settings | dict((extra or {}).get(name, {})))


def chain_settings(chain: ChainLogin, family: str) -> tuple[dict[str, Any], list[str]]:
    """The settings of flopd for this way to the chain, and where p2pd has to let it out to."""
    if not chain.is_light:
        login = {"node_user": chain.user, "node_password_file": str(chain.password_file or "")}
        named = {key: value for key, value in login.items() if value}
        return {"source": "core", "node_url": chain.url} | named, [chain.address]
    if chain.peers:
        return {"source": "spv", "peers": list(chain.peers)}, list(chain.peers)
    network = coin_network(family)
    return {"source": "spv"}, [*(f"{seed}:{network.port}" for seed in network.seeds), f"*:{network.port}"]


def write_yaml(folder: NodeDir, name: str, settings: Mapping[str, Any]) -> None:
    """One file of the configuration; an empty one is a file with a comment, for the owner to fill."""
    text = yaml.safe_dump(dict(settings), sort_keys=False) if settings else ""
    (folder.config / f"{name}.yaml").write_text(f"# Settings of {name}; docs/operations.md lists all.\n{text}")
