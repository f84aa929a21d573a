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

from common.network import NetworkProfile, save_profile
from common.node_ports import OUTSIDE_OFFSET, PORT_BASE, PORTS_PER_NODE, outside_address
from common.rpc.method import DAEMONS
from dux_cli.node_dir import NodeDir

PROFILE_FILE = "network.yaml"


@dataclass(frozen=True)
class ChainLogin:
    """How flopd reaches its coin node. `password_file` holds the password alone, or `user:password`."""

    url: str
    user: str = ""
    password_file: Path | None = None

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
) -> None:
    """Write `config/*.yaml` of a node, `common.yaml` last. `extra`: daemon (or `common`) -> more settings for it.

    `listen_host` is where p2pd listens for the world; empty: node `index`'s own loopback address.
    """
    host = listen_host or outside_address(index)
    flopd: dict[str, Any] = {"node_url": chain.url}
    if chain.user:
        flopd["node_user"] = chain.user
    if chain.password_file:
        flopd["node_password_file"] = str(chain.password_file)
    p2pd: dict[str, Any] = {"listen_host": host, "egress_allow": {"flopd": [chain.address]}}
    if not profile.is_main:
        p2pd["known_after_s"] = 0  # on a test network nobody has been here for an hour
    files: dict[str, dict[str, Any]] = {daemon: {} for daemon in DAEMONS} | {"flopd": flopd, "p2pd": p2pd}
    shared = {
        "network_profile": PROFILE_FILE,
        "data_dir": str(folder.data),
        "run_dir": str(folder.run),
        "port_base": port_base,
    }
    save_profile(profile, folder.config / PROFILE_FILE)
    for name, settings in (files | {"common": shared}).items():
        write_yaml(folder, name, settings | dict((extra or {}).get(name, {})))


def write_yaml(folder: NodeDir, name: str, settings: Mapping[str, Any]) -> None:
    """One file of the configuration; an empty one is a file with a comment, for the owner to fill."""
    text = yaml.safe_dump(dict(settings), sort_keys=False) if settings else ""
    (folder.config / f"{name}.yaml").write_text(f"# Settings of {name}; docs/operations.md lists all.\n{text}")
