"""A network of one's own, whole: three founders' nodes form it over real sockets, and a node of another is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from common.network import load_profile, save_profile
from dux_cli.node_dir import NodeDir
from dux_cli.supervisor import Node
from tests.ports import free_numbers, free_ports

ROOT = Path(__file__).resolve().parents[2]
NODES = 4
READY_S = 60


def types(*words: str, node: Path | None = None, code: int = 0) -> str:
    """What a command prints."""
    command = [sys.executable, "-P", "-m", "dux_cli", *words, *(["--node", str(node)] if node else [])]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def reads(*words: str, node: Path) -> Any:
    return json.loads(types(*words, "--json", node=node))


@pytest.fixture
def first() -> int:
    """The number of the first node."""
    return free_numbers(NODES)


@pytest.fixture
def chain(tmp_path: Path, first: int) -> Iterator[tuple[Path, str]]:
    """A profile of three founders, signed, and its chain's URL."""
    file = tmp_path / "ours.yaml"
    cards = []
    for number in range(3):
        card = tmp_path / f"{number}.card"
        named = ["--endpoint", f"127.0.0.1:{free_ports()}"] if number == 0 else []  # its own, not that of its index
        words = ["network", "founder", "--card", str(card), "--index", str(first + number), *named]
        types(*words, node=tmp_path / f"n{number}")
        cards += ["--founder", str(card)]
    parameters = tmp_path / "more.yaml"
    parameters.write_text(yaml.safe_dump({"presence": {"apart": False}, "key_file_costs": {"memory_kib": 8192}}))
    types("network", "create", "--name", "ours", *cards, "--parameters", str(parameters), str(file))
    for number in range(3):
        types("network", "sign", str(file), node=tmp_path / f"n{number}")
    listen = f"127.0.0.1:{free_ports()}"
    words = ["--data", str(tmp_path / "chain"), "--listen", listen, "--mine-every", "1"]
    command = [sys.executable, "-P", "-m", "dux_cli", "network", "chain", str(file), *words]
    child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    try:
        yield file, f"http://{listen}/"
    finally:
        child.terminate()
        child.wait(20)


async def until(found: Any, *, within_s: float = READY_S) -> None:
    async with asyncio.timeout(within_s):
        while not await asyncio.to_thread(found):
            await asyncio.sleep(0.5)


def a_set_goes_through_the_network(tmp_path: Path, folders: list[Path]) -> None:
    """Two of three founders sign the next set, one tells the network of it; the third finds it there and takes it."""
    made, found = tmp_path / "next.yaml", tmp_path / "found.yaml"
    types("parameters", "propose", "--from-height", "1", "--set", "tax_bps=450", str(made), node=folders[0])
    for folder in folders[:2]:
        types("parameters", "sign", str(made), node=folder)
    types("parameters", "fetch", str(found), node=folders[2], code=3)
    assert reads("parameters", "publish", str(made), node=folders[0])["version"] == 2
    assert reads("parameters", "fetch", str(found), node=folders[2])["version"] == 2
    assert found.read_text() == made.read_text()
    assert reads("parameters", "apply", str(found), node=folders[2])["version"] == 2


@pytest.mark.constellation
@pytest.mark.timeout(240)
async def test_three_founders_form_their_network_and_a_stranger_stays_outside(
    tmp_path: Path, first: int, chain: tuple[Path, str]
) -> None:
    """They connect to and list each other; a node of another genesis is refused at the first message."""
    file, url = chain
    auth = tmp_path / "chain/rpc.auth"
    await until(auth.exists)
    other = tmp_path / "other.yaml"
    save_profile(replace(load_profile(file), genesis="ab" * 32, council=()), other)
    login = ["--chain-url", url, "--chain-user", "duxnet", "--chain-password-file", str(auth)]
    folders = [tmp_path / f"n{number}" for number in range(3)]
    for number, folder in enumerate(folders):
        types("init", "--network", str(file), "--index", str(first + number), *login, node=folder)
    told = yaml.safe_load((folders[0] / "config/p2pd.yaml").read_text())
    assert told["endpoints"] == [load_profile(file).bootstrap[0].address]
    stranger = tmp_path / "stranger"
    types("init", "--network", str(other), "--index", str(first + 3), *login, node=stranger)
    async with contextlib.AsyncExitStack() as stack:
        for folder in folders:
            await stack.enter_async_context(Node(NodeDir(folder), one_process=True))
        dids = {reads("nodes", "me", node=folder)["did"] for folder in folders}
        assert dids == set(load_profile(file).council)

        def all_connected() -> bool:
            return all(len(reads("nodes", "peers", node=folder)["peers"]) == 2 for folder in folders)

        def all_listed() -> bool:
            lists = [reads("nodes", "list", "--active", node=folder)["nodes"] for folder in folders]
            return all({view["node_id"] for view in found} == dids for found in lists)

        await until(all_connected)
        seen = reads("nodes", "peers", node=folders[1])["peers"]
        by_endpoint = load_profile(file).bootstrap[0]
        assert any(peer["did"] == by_endpoint.did for peer in seen), "the others came in by the endpoint named"
        await until(all_listed)
        await asyncio.to_thread(a_set_goes_through_the_network, tmp_path, folders)
        log = stack.enter_context((tmp_path / "stranger.log").open("w+"))
        words = [sys.executable, "-P", "-m", "dux_p2pd", "--config", str(stranger / "config"), "--log-level", "DEBUG"]
        outside = await asyncio.create_subprocess_exec(
            *words, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
        )
        stack.push_async_callback(outside.wait)
        stack.callback(outside.terminate)
        await until(lambda: _answers(stranger))
        await until(lambda: "another network" in (tmp_path / "stranger.log").read_text())
        assert reads("nodes", "peers", node=stranger)["peers"] == []
        assert all(len(reads("nodes", "peers", node=folder)["peers"]) == 2 for folder in folders)


def _answers(node: Path) -> bool:
    try:
        return bool(reads("nodes", "me", node=node)["did"])
    except AssertionError:
        return False
