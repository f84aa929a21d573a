"""Gives each daemon of a node that root starts a numeric user of its own.

Promises: no daemon runs as root, no daemon can read another's data, and each caller can read exactly the token files
that are meant for it. Needs no entry in /etc/passwd. Source: settled.md 4 and 7.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from common.errors import CallerMistake
from common.randomness import SystemRandomness
from common.rpc.method import DAEMONS, PEOPLE
from dux_cli.node_dir import NodeDir

UID_BASE = 171_000  # outside the ranges of Debian's users, of systemd and of subordinate ids
UIDS_PER_NODE = 10


class Unreachable(CallerMistake):
    """User {uid}, whom root gives the daemon, may not enter {path}: move it, or chmod o+x it; testing: --same-user."""

    code = 1122
    key = "unreachable"


class Uids:
    """The users of one node's daemons: `first` + the daemon's place in the table."""

    def __init__(self, first: int) -> None:
        self._first = first

    @classmethod
    def of_node(cls, folder: NodeDir) -> Uids:
        """The users of the node in this folder; nodes on different ports have different users."""
        from common.node_ports import PORTS_PER_NODE

        return cls(UID_BASE + UIDS_PER_NODE * (folder.port_base // PORTS_PER_NODE))

    def check(self, folder: NodeDir) -> None:
        """Every daemon's user can get at the program and at the node.

        Raises:
            Unreachable: one could not, with the folder that stands in the way.
        """
        program = (Path(__file__).resolve(), Path(sys.executable).absolute(), Path(sys.executable).resolve())
        for path in (*program, Path(sys.prefix), folder.config):
            check_reachable(path.parent, self._first)

    def uid(self, daemon: str) -> int:
        """The daemon's user, which is its group too."""
        return self._first + DAEMONS.index(daemon)

    def group_of_caller(self, caller: str) -> int:
        """The group that may read a caller's tokens: a daemon's own, or root's for people."""
        return self.uid(caller) if caller in DAEMONS else 0

    def prepare(self, folder: NodeDir, daemon: str) -> int:
        """Hand the daemon its folders and tokens; the user (and group) to run it as.

        Raises:
            Unreachable: that user could not get at the program or the folders.
        """
        self.check(folder)
        uid = self.uid(daemon)
        own = folder.data / daemon
        own.mkdir(mode=0o700, exist_ok=True)
        own.chmod(0o700)
        for path in (own, *below(own)):
            os.chown(path, uid, uid, follow_symlinks=False)
        self._make_tokens(folder.run / daemon, uid)
        return uid

    def _make_tokens(self, folder: Path, owner: int) -> None:
        folder.mkdir(exist_ok=True)
        os.chown(folder, owner, owner)
        folder.chmod(0o711)
        for caller in (*DAEMONS, *PEOPLE):
            path = folder / f"{caller}.token"
            if not path.exists() or not path.read_text().strip():
                path.touch(mode=0o600)
                path.write_text(SystemRandomness().bytes(32).hex() + "\n")
            path.chmod(0o640)
            os.chown(path, owner, self.group_of_caller(caller))


def below(folder: Path) -> Iterator[Path]:
    """Everything in a folder, links not followed."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent) / name for name in (*folders, *files))


def check_reachable(path: Path, uid: int) -> None:
    """Every folder on the way may be entered by others.

    Raises:
        Unreachable: with the first that may not.
    """
    for folder in reversed((path, *path.parents)):
        if folder.exists() and folder.stat().st_uid != uid and not folder.stat().st_mode & 0o001:
            raise Unreachable(uid=uid, path=str(folder))
