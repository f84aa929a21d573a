"""The processes of a node: started, killed, started again, ended, with real processes."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.rpc.method import DAEMONS
from dux_cli.keep_running import Backoff, UnusableSettings, keep_running
from dux_cli.node_dir import NodeDir
from dux_cli.supervisor import HOST, Node, NotStarted, end_recorded, record_pid, recorded_pid, started_at
from tests.cli.toy_node import make_toy_node, write_toys
from tests.ports import free_base

pytestmark = pytest.mark.patient


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    made = write_toys(tmp_path / "toys")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "toys"))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[NodeDir]:
    return make_toy_node(tmp_path / "node", port_base=free_base())


async def test_a_node_is_ready_when_all_answer_and_a_killed_daemon_comes_back_alone(
    folder: NodeDir, toys: dict[str, str]
) -> None:
    """Entering waits for seven answers; kill -9 of one leaves the others; leaving ends all of them."""
    node = Node(folder, modules=toys)
    async with node:
        pids = {daemon: node.pid(daemon) for daemon in DAEMONS}
        assert len(set(pids.values())) == len(DAEMONS)
        info = await node.info("escrowd")
        assert info is not None
        assert info.pid == pids["escrowd"]
        await node.kill("escrowd")
        assert node.pid("escrowd") is None
        assert await node.info("escrowd") is None
        await node.start()
        await node.wait_ready("escrowd")
        assert node.pid("flopd") == pids["flopd"]
        assert node.pid("escrowd") not in (None, pids["escrowd"])
    assert not any(started_at(pid) for pid in pids.values())
    assert list(folder.run.glob("*.pid")) == []


async def test_one_process_hosts_all_seven(folder: NodeDir, toys: dict[str, str]) -> None:
    """Every daemon answers under its own port from the one process."""
    async with Node(folder, modules=toys, one_process=True) as node:
        pids = {(await node.info(daemon)).pid for daemon in DAEMONS}
        assert pids == {node.pid("flopd")}
        assert recorded_pid(folder, HOST) in pids


async def test_one_process_is_refused_on_main(tmp_path: Path, toys: dict[str, str]) -> None:
    """Keys never share memory with a sandbox launcher where coins are real."""
    main = make_toy_node(tmp_path / "main", port_base=free_base(), network="main")
    node = Node(main, modules=toys, one_process=True)
    with pytest.raises(NotStarted, match="one process per daemon"):
        await node.__aenter__()


async def test_a_daemon_that_cannot_start_is_named_with_its_last_words(folder: NodeDir, toys: dict[str, str]) -> None:
    """Waiting ends at once, not at the deadline, and the reason is the daemon's own."""
    (folder.config / "taskd.yaml").write_text("no_such_key: 1\n")
    node = Node(folder, modules=toys)
    try:
        with pytest.raises(NotStarted, match="unknown keys no_such_key"):
            await node.__aenter__()
    finally:
        await node.close()


async def test_a_daemon_that_dies_is_started_again_and_unusable_settings_end_it_all(
    folder: NodeDir, toys: dict[str, str]
) -> None:
    """One life after another for a crash; no second try where settings are wrong."""
    node, said = Node(folder, modules=toys), []
    kept = asyncio.ensure_future(keep_running(node, said.append))
    try:
        while node.pid("taskd") is None:
            await asyncio.sleep(0.01)
        await node.wait_ready()
        first = node.pid("stored")
        os.kill(first, signal.SIGKILL)
        while node.pid("stored") in (None, first):
            await asyncio.sleep(0.02)
        assert said == ["stored ended (signal 9); starting it again in 1 s"]
        (folder.config / "taskd.yaml").write_text("no_such_key: 1\n")
        os.kill(node.pid("taskd"), signal.SIGKILL)
        with pytest.raises(ExceptionGroup) as caught:
            await kept
        assert isinstance(caught.value.exceptions[0], UnusableSettings)
    finally:
        kept.cancel()
        await node.close()


class OneProcess:
    """A node with one process, which always ends at once with this code."""

    def __init__(self, folder: NodeDir, name: str, code: int) -> None:
        self.folder, self.name, self.code, self.starts = folder, name, code, 0

    def process_names(self) -> tuple[str, ...]:
        return (self.name,)

    async def start(self, _name: str) -> None:
        self.starts += 1

    async def wait_for_exit(self, _name: str) -> int:
        return self.code


async def test_a_slot_launcher_that_finds_no_slots_is_let_be_and_nothing_else_is(folder: NodeDir) -> None:
    """In a container it would find none at the hundredth start either; another process with that code starts again."""
    folder.logs.mkdir(exist_ok=True)
    folder.log("slots").write_text("no slots, so no native jobs on this machine: read-only\n")
    said: list[str] = []
    slots: Any = OneProcess(folder, "slots", 69)
    await asyncio.wait_for(keep_running(slots, said.append), 5)
    assert slots.starts == 1
    assert "read-only" in said[0]
    taskd: Any = OneProcess(folder, "taskd", 69)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(keep_running(taskd, said.append), 1.5)
    assert taskd.starts == 2


def test_restarts_come_later_each_time_until_a_long_life() -> None:
    """1, 2, 4 … 30 s; a minute's life makes it 1 s again."""
    backoff = Backoff()
    assert [backoff.pause_after(0.1) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff.pause_after(61) == 1


async def test_a_stranger_with_a_recorded_id_is_left_alone(folder: NodeDir) -> None:
    """An id counts only together with the moment at which that process started."""
    folder.run.mkdir()
    child = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        record_pid(folder, "flopd", child.pid)
        assert recorded_pid(folder, "flopd") == child.pid
        (folder.run / "flopd.pid").write_text(f"{child.pid} 1\n")
        assert recorded_pid(folder, "flopd") is None
        assert not await end_recorded(folder, "flopd")
        assert child.returncode is None
        record_pid(folder, "flopd", child.pid)
        assert await end_recorded(folder, "flopd")
        assert await child.wait() == -signal.SIGTERM
    finally:
        if child.returncode is None:
            child.kill()
