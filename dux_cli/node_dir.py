"""A node's directory: where its settings, data, tokens and logs are, and how its daemons are reached.

    DIR/config/{common,p2pd,flopd,…}.yaml, network.yaml     no secrets: readable by all of the node's daemons
    DIR/data/<daemon>/                                      each daemon's own
    DIR/run/<callee>/<caller>.token                         made by the callee, or by `up` as root
    DIR/log/<daemon>.log

The node that systemd runs is named by its settings, `--node /etc/duxnet`, and lies where an installed program's files
do: /var/lib/duxnet, /run/duxnet, /var/log/duxnet.

Knows paths and contracts; starts nothing (that is supervisor.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import CallerMistake, NotFound
from common.rpc.method import DAEMONS, Method

if TYPE_CHECKING:
    from common.network import NetworkProfile
    from common.rpc.client import HttpClient
    from common.settings import DaemonSettings

CONTRACT_OF = {
    "p2pd": "p2p",
    "flopd": "wallet",
    "escrowd": "escrow",
    "airdropd": "airdrop",
    "registryd": "registry",
    "stored": "store",
    "taskd": "task",
}
NODE_VARIABLE = "DUXNET_NODE"
INSTALLED = Path("/etc/duxnet")


class NoNode(CallerMistake):
    """There is no node in {path}; make one with `duxnet init`, or name another with --node DIR."""

    code = 1120
    key = "no-node"


class RunBySystemd(CallerMistake):
    """The node of {path} is run by systemd: `systemctl {verb} duxnet.target`."""

    code = 1150
    key = "run-by-systemd"


def default_node(environment: Mapping[str, str] | None = None, installed: Path = INSTALLED) -> Path:
    """`DUXNET_NODE`, else the node of this user, else the node that systemd runs, where there is one."""
    variables = os.environ if environment is None else environment
    if NODE_VARIABLE in variables:
        return Path(variables[NODE_VARIABLE])
    own = own_node(variables)
    return installed if (installed / "common.yaml").exists() and not NodeDir(own).exists() else own


def own_node(environment: Mapping[str, str] | None = None) -> Path:
    """Where this user's node is or would be: the XDG data folder, or /var/lib/duxnet/node for root."""
    variables = os.environ if environment is None else environment
    if os.geteuid() == 0:
        return Path("/var/lib/duxnet/node")
    return Path(variables.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "duxnet/node"


class NodeDir:
    """The files of one node."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.config = self.path / "config"
        self.data = self.path / "data"
        self.run = self.path / "run"
        self.logs = self.path / "log"
        if self.is_installed:
            self.config = self.path
            self.data, self.run, self.logs = (Path(top, "duxnet") for top in ("/var/lib", "/run", "/var/log"))

    @property
    def is_installed(self) -> bool:
        """True for the node that systemd runs."""
        return self.path == INSTALLED

    def must_be_ours(self, verb: str) -> NodeDir:
        """This node, which this program starts and ends; `verb` is systemctl's word for what was asked.

        Raises:
            RunBySystemd: it is the installed one.
        """
        if self.is_installed:
            raise RunBySystemd(path=str(self.path), verb=verb)
        return self.must_exist()

    def exists(self) -> bool:
        """True once `duxnet init` has finished here."""
        return (self.config / "common.yaml").exists()

    def must_exist(self) -> NodeDir:
        """This node, which has been made.

        Raises:
            NoNode: it has not.
        """
        if not self.exists():
            raise NoNode(path=str(self.path))
        return self

    def log(self, daemon: str) -> Path:
        """The file that the daemon's standard output and error go to."""
        return self.logs / daemon / f"{daemon}.log" if self.is_installed else self.logs / f"{daemon}.log"

    @cached_property
    def settings(self) -> DaemonSettings:
        """What all daemons of the node share (common.yaml)."""
        from common.settings import DaemonSettings, load_settings

        return load_settings(self.must_exist().config, "cli", DaemonSettings, {})

    @property
    def port_base(self) -> int:
        """The port from which the node's ports count."""
        return self.settings.port_base

    def profile(self) -> NetworkProfile:
        """The network that the node belongs to."""
        from common.clock import SystemClock
        from common.parameter_file import load_network

        return load_network(self.config / self.settings.network_profile, now_ms=SystemClock().unix_ms())

    def url(self, daemon: str) -> str:
        """Where the daemon answers on this machine."""
        from common.node_ports import rpc_port

        return f"http://{self.settings.host}:{rpc_port(daemon, self.port_base)}/"

    def client(self, daemon: str, caller: str = "cli") -> HttpClient:
        """A client of the daemon under the caller's name; close it after use."""
        from common.rpc.client import HttpClient

        return HttpClient(daemon, self.url(daemon), self.run / daemon / f"{caller}.token")


def contract_module(daemon: str) -> Any:
    """The module that declares the daemon's methods and errors."""
    return import_module(f"common.contracts.{CONTRACT_OF[daemon]}")


def methods_of(daemon: str) -> dict[str, Method[Any, Any]]:
    """The daemon's methods by name, with those that every daemon has."""
    from common.contracts import base
    from common.rpc.method import methods_in

    everyone = {method.name: method for method in (base.INFO, base.DISCOVER)}
    return everyone | {method.name: method for method in methods_in(contract_module(daemon))}


def owner_of(name: str) -> str:
    """The daemon that serves a method, by the method's name.

    Raises:
        NotFound: no contract declares it.
    """
    for daemon in DAEMONS:
        if name in methods_of(daemon) and name not in ("daemon.info", "rpc.discover"):
            return daemon
    raise NotFound(what="method", name=name)
