"""Settings: YAML files into one frozen struct per daemon.

`common.yaml` is read first, the daemon's own file over it, then `DUXNET_<DAEMON>_<KEY>` of the environment (never a
secret: secrets come as paths of files). Unknown keys, missing keys and wrong types are refused with their path.
Source: style.md 2.5, settled.md 34.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from common.codec import Wire, from_plain, to_plain
from common.errors import BadParams, BadSettings
from common.yaml_file import read_yaml

S = TypeVar("S", bound="DaemonSettings")

CONFIG_DEFAULT = Path("/etc/duxnet")


class DaemonSettings(Wire, frozen=True):
    """What every daemon has. `common.yaml` holds those that all daemons of a node share."""

    network_profile: str  # path of the network's YAML file; relative ones are relative to the configuration folder
    data_dir: str  # each daemon writes only below `data_dir/<daemon>`
    run_dir: str  # tokens and probe sockets: `run_dir/<daemon>/`
    host: str = "127.0.0.1"  # RPC listens here: an address of this machine's loopback
    port_base: int = 32560  # the constellation's ports count from here, by the daemon's place in the table
    log_level: str = "INFO"
    log_file: str = ""  # told there too beside the journal, and instead of standard error elsewhere; empty: not
    backup_interval: int = 3600  # seconds between copies of the store; 0 = none (the specification's key, so no unit)
    watchdog_s: int = 30  # seconds without a turn of the loop after which systemd restarts the daemon

    def __post_init__(self) -> None:
        """Calls and tokens travel in the clear, so they stay on this machine. Source: settled.md 35."""
        if not is_loopback(self.host):
            raise ValueError(f"host: {self.host!r} is not of this machine; use 127.0.0.1, and `ssh -L` from elsewhere")


def is_loopback(host: str) -> bool:
    """Does the address lead to this machine alone?"""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(folder: Path, daemon: str, kind: type[S], environment: Mapping[str, str]) -> S:
    """The daemon's settings from `common.yaml` and `<daemon>.yaml` in `folder`, and the environment.

    Raises:
        BadSettings: with the file or variable, and what is wrong.
    """
    fields = set(kind.__struct_fields__)
    merged: dict[str, Any] = {}
    for name in ("common", daemon):
        path = folder / f"{name}.yaml"
        found = _read(path)
        unknown = set(found) - fields if name == daemon else set(found) - set(DaemonSettings.__struct_fields__)
        if unknown:
            raise BadSettings(path=str(path), detail=f"unknown keys {', '.join(sorted(unknown))}")
        merged |= found
    merged |= _overrides(daemon, fields, environment)
    try:
        return from_plain(merged, kind)
    except BadParams as error:
        raise BadSettings(path=str(folder / f"{daemon}.yaml"), detail=str(error.fields["detail"])) from error


def _read(path: Path) -> dict[str, Any]:
    found = read_yaml(path) if path.exists() else None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BadSettings(path=str(path), detail="expected `key: value` lines")
    return found


def _overrides(daemon: str, fields: set[str], environment: Mapping[str, str]) -> dict[str, Any]:
    prefix = f"DUXNET_{daemon.upper()}_"
    found: dict[str, Any] = {}
    for name, text in environment.items():
        if not name.startswith(prefix):
            continue
        key = name.removeprefix(prefix).lower()
        if key not in fields:
            raise BadSettings(path=name, detail=f"{daemon} has no setting {key!r}")
        found[key] = yaml.safe_load(text)
    return found


def effective(settings: DaemonSettings) -> str:
    """The settings in force, as YAML."""
    return yaml.safe_dump(to_plain(settings), sort_keys=False)
