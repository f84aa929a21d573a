"""A user for each daemon: who can read what, tried by those users themselves. Needs root."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.rpc.method import DAEMONS
from dux_cli.node_dir import NodeDir
from dux_cli.uids import Uids, Unreachable, check_reachable
from tests.cli.toy_node import make_toy_node

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users")


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[NodeDir, Uids]]:
    """A node whose folders may be entered, handed out to its users; where Python lies is not looked at."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = make_toy_node(Path(place) / "node", port_base=32760)
        users = Uids.of_node(folder)
        monkeypatch.setattr(users, "check", lambda _folder: None)
        folder.data.mkdir()
        folder.run.mkdir()
        (folder.data / "flopd").mkdir()
        (folder.data / "flopd" / "wallet.key").write_text("sealed")
        for daemon in DAEMONS:
            users.prepare(folder, daemon)
        yield folder, users


def reads(path: Path, uid: int) -> bool:
    """Whether this user, in this group and no other, can read the file."""
    done = subprocess.run(["cat", str(path)], user=uid, group=uid, extra_groups=[], capture_output=True, check=False)
    return done.returncode == 0


@needs_root
def test_no_daemon_reads_anothers_keys(node: tuple[NodeDir, Uids]) -> None:
    """The coin keys open for flopd's user and for nobody else's."""
    folder, users = node
    readers = [daemon for daemon in DAEMONS if reads(folder.data / "flopd" / "wallet.key", users.uid(daemon))]
    assert readers == ["flopd"]
    assert 0 not in {users.uid(daemon) for daemon in DAEMONS}


@needs_root
def test_a_token_is_read_by_its_caller_and_its_daemon_alone(node: tuple[NodeDir, Uids]) -> None:
    """The token of escrowd for flopd: both of them, nobody else; the person's token: no daemon but its owner."""
    folder, users = node
    tokens = folder.run / "flopd"
    readers = {daemon for daemon in DAEMONS if reads(tokens / "escrowd.token", users.uid(daemon))}
    assert readers == {"flopd", "escrowd"}
    assert {daemon for daemon in DAEMONS if reads(tokens / "cli.token", users.uid(daemon))} == {"flopd"}
    assert len({path.read_text() for path in folder.run.glob("*/*.token")}) == len(list(folder.run.glob("*/*.token")))


@needs_root
def test_nodes_on_one_machine_have_different_users(tmp_path: Path) -> None:
    """Ports 100 apart give users that do not overlap."""
    nodes = [make_toy_node(tmp_path / str(port), port_base=port) for port in (21560, 21660, 32560)]
    users = [{Uids.of_node(node).uid(daemon) for daemon in DAEMONS} for node in nodes]
    assert len(set.union(*users)) == len(nodes) * len(DAEMONS)


def test_a_folder_that_nobody_else_may_enter_is_named(tmp_path: Path) -> None:
    """The first one on the way is told, with what to do about it."""
    closed = tmp_path / "closed"
    (closed / "node").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(Unreachable, match="may not enter"):
        check_reachable(closed / "node", 171_000)
