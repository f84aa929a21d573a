"""`duxos-node-registry` as a person types it, against a real registryd over HTTP with its tokens.

Every command line that the specification prints for it is run here: it works, or it fails saying what to write instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.network import save_profile
from dux_cli.command import run_main
from dux_cli.output import Output
from dux_cli.registry import PROGRAM, registry
from dux_registryd.daemon import RegistryDaemon
from tests.market.fakes import FakeNet, did_number, network, running, until

QUICK: dict[str, Any] = {"heartbeat_s": 0.1, "check_s": 0.05, "sync_s": 0.1}
OTHER_WALLET = "midSACfDe3qAxJZZXA9gkwBZgPqJJUpy1w"
WALLET = "mzBc4XEFSdzCDcTxAgf6EZXgsZWpztRhef"
SPEC_REGISTER = """register --wallet-address 0x1234567890abcdef1234567890abcdef12345678 --ip-address 192.168.1.100
    --hostname my-node --os-version 22.04 --duxos-version 1.0.0 --cpu-cores 8 --memory-gb 16 --storage-gb 500
    --gpu-enabled --gpu-model "NVIDIA RTX 3080" """
REGISTER = SPEC_REGISTER.replace("0x1234567890abcdef1234567890abcdef12345678", WALLET)


class Shell:
    """Types commands and reads what they print."""

    def __init__(self, node: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._node = node
        self._capsys = capsys

    async def type(self, line: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error of `duxos-node-registry <line>`."""
        self._capsys.readouterr()
        words = shlex.split(line)
        if "--help" not in words:
            words += ["--node", str(self._node)]
        code = await asyncio.to_thread(run_main, registry, words, name=PROGRAM)
        said = self._capsys.readouterr()
        return code, said.out, said.err

    async def json(self, line: str) -> Any:
        """The JSON answer of a command that works."""
        code, out, err = await self.type(f"{line} --json")
        assert code == 0, (out, err)
        return json.loads(out)


@contextlib.asynccontextmanager
async def shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], net: FakeNet, **settings: Any
) -> AsyncIterator[Shell]:
    """A node's directory whose registryd runs, and a shell beside it."""
    node = tmp_path / "node"
    async with running(net.node(1), RegistryDaemon, tmp_path, run_dir=str(node / "run"), **QUICK | settings):
        base = net.node(1).daemons["registryd"].settings.port_base
        save_profile(network(), node / "config" / "network.yaml")
        (node / "config" / "common.yaml").write_text(
            f"network_profile: network.yaml\ndata_dir: {node}/data\nrun_dir: {node}/run\nport_base: {base}\n"
        )
        yield Shell(node, capsys)


async def test_the_specifications_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Register (0x refused with advice, a Flopcoin address works), list, list with minima, update-health, help."""
    net = FakeNet()
    async with shell(tmp_path, capsys, net) as sh:
        code, _, err = await sh.type(SPEC_REGISTER)
        assert code == 2
        assert "duxnet wallet address" in err
        view = await sh.json(REGISTER)
        assert (view["hostname"], view["cpu_cores"], view["memory_gb"], view["storage_gb"]) == ("my-node", 8, 16.0, 500)
        assert (view["gpu_model"], view["os_version"], view["duxos_version"]) == ("NVIDIA RTX 3080", "22.04", "1.0.0")
        assert view["ip_address"] == "192.168.1.100"
        assert [node["node_id"] for node in (await sh.json("list"))["nodes"]] == [did_number(1)]
        minima = "list --min-cpu 4 --min-memory 8 --min-storage 250"
        assert (await sh.json(minima))["total"] == 1
        assert (await sh.json(f"{minima} --min-reputation 0.7"))["total"] == 0
        health = f"update-health {did_number(1)} --load-average 0.5 --memory-usage 65.5 --disk-usage 45.2"
        view = await sh.json(health)
        assert (view["load_average"][0], view["memory_usage"], view["disk_usage"]) == (0.5, 65.5, 45.2)
        for line, word in (("--help", "update-health"), ("register --help", "--wallet-address")):
            code, out, _ = await sh.type(line)
            assert code == 0
            assert word in out


async def test_what_register_is_not_told_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`register --region us` changes nothing else; --measure takes the machine anew, but not the address."""
    net = FakeNet()
    async with shell(tmp_path, capsys, net) as sh:
        whole = await sh.json(f"{REGISTER} --capability rendering --region eu")
        again = await sh.json("register --region us")
        moving = {"region", "last_heartbeat", "uptime", "status", "load_average", "available_memory", "available_cpu"}
        moving |= {"memory_usage", "disk_usage", "witnessed_uptime", "tier", "reputation_score"}
        assert {key for key in whole if whole[key] != again[key]} - moving == set()
        assert (whole["region"], again["region"]) == ("eu", "us")
        assert (whole["gpu_model"], again["gpu_model"]) == ("NVIDIA RTX 3080", "NVIDIA RTX 3080")
        bare = await sh.json("register --no-gpu")
        assert (bare["gpu_enabled"], bare["capabilities"]) == (False, ["rendering"])
        measured = await sh.json("register --measure --cpu-cores 3")
        assert (measured["cpu_cores"], measured["gpu_model"]) == (3, "")
        assert measured["hostname"] != "my-node"
        assert measured["capabilities"] == ["rendering"]
        assert [measured[name] for name in ("wallet_address", "region")] == [whole["wallet_address"], "us"]


async def test_a_node_is_paid_where_its_settings_say_before_a_new_address_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Taken off the list and registered again without an address it is paid as before: no wallet runs here."""
    async with shell(tmp_path, capsys, FakeNet(), wallet_address=WALLET) as sh:
        for words in ("register --region eu", "deregister"):
            assert (await sh.type(words))[0] == 0
        assert (await sh.json("register"))["wallet_address"] == WALLET


async def test_a_node_whose_settings_name_no_address_gets_a_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: what it was told stays. And nothing of a size cannot be offered."""
    given = iter([OTHER_WALLET])
    monkeypatch.setattr("dux_cli.registry._new_address", lambda _session: next(given))
    async with shell(tmp_path, capsys, FakeNet()) as sh:
        for words in ("register", "register --region us"):
            assert (await sh.json(words))["wallet_address"] == OTHER_WALLET
        for size in ("--cpu-cores 0", "--memory-gb 0", "--storage-gb 0.2"):
            code, _, err = await sh.type(f"register {size}")
            assert (code, "is not in the range" in err) == (2, True)


async def test_the_specifications_logging(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--log-level tells more on stderr, --log-file writes it to a file whose folder is made; a bad place says so."""
    net = FakeNet()
    async with shell(tmp_path, capsys, net) as sh:
        code, _, err = await sh.type(f"{REGISTER} --log-level DEBUG")
        assert code == 0
        assert "command started" in err
        log = tmp_path / "var/log/duxos/node_registry.log"
        code, _, err = await sh.type(f"{REGISTER} --log-level DEBUG --log-file {log}")
        assert code == 0
        assert "command started" not in err
        assert "command started" in log.read_text()
        code, _, err = await sh.type(f"list --log-file {log}/below/a/file.log")
        assert code == 1
        assert "name a file that you may write" in err


async def test_every_verb_for_a_person(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text answers name what a person looks for; filters pass through; deregister empties the list."""
    net = FakeNet()
    async with shell(tmp_path, capsys, net) as sh:
        code, _, err = await sh.type("show")
        assert (code, "register --wallet-address" in err) == (4, True)
        code, out, err = await sh.type(f"{REGISTER} --region eu --capability arbiter --port 32570")
        assert "reputation\t0.50, tier" in out, err
        await until(lambda: _beats(sh))
        for flags, found in (
            ("--region eu --gpu --capability arbiter --capability Arbiter --status active --min-tier 1 --limit 5", 1),
            ("--region us", 0),
            ("--gpu-model 3080 --hostname my- --os-version 22.04 --duxos-version 1.0.0 --max-load 1000000", 1),
            (f"--wallet-address {WALLET} --min-free-cpu 0 --min-free-memory 0.001 --min-uptime 0", 1),
            ("--min-free-memory 100000", 0),
            ("--cpu-arch pdp11", 0),
            ("--min-witnessed-uptime 0.1", 0),
            ("--min-tasks 1", 0),
            ("--min-success-rate 0.1", 0),
            ("--status offline", 0),
            ("--verified cpu --verified tpm", 0),
        ):
            assert (await sh.json(f"list {flags}"))["total"] == found
        code, out, _ = await sh.type("list --quiet")
        assert out.strip() == did_number(1)
        assert (await sh.json("find arbiter"))["total"] == 1
        assert (await sh.json("find nothing_such --limit 3"))["total"] == 0
        code, out, _ = await sh.type("machine")
        assert "measured\tnothing yet" in out
        shown = (await sh.type("show"))[1]
        assert "nothing: all of this it only declares" in shown
        assert "gpu\tNVIDIA RTX 3080, declared by its operator: its node sees none" in shown
        assert "NVIDIA RTX 3080 (declared)" in (await sh.type("find gpu_declared"))[1]
        with monkeypatch.context() as terminal:
            terminal.setattr(Output, "for_person", property(lambda out: not out.as_json))
            table = (await sh.type("list"))[1]
        assert "verified" not in table  # nobody of these has anything verified, and a terminal is narrow
        assert all(word in table for word in ("score", "RAM GB", "16?", "??"))
        assert (await sh.json("find gpu"))["total"] == 0
        code, _, err = await sh.type("register --no-gpu")
        assert code == 0
        code, _, err = await sh.type("register --gpu-enabled")
        assert (code, "--gpu-model" in err) == (3, True)
        code, out, _ = await sh.type("capabilities")
        assert "arbiter\t1" in out
        shown = await sh.json(f"show {did_number(1)} --why")
        assert shown["reputation"]["evidence"] == []
        code, out, _ = await sh.type("show --why")
        assert "standing\t0.00 at height" in out
        code, _, err = await sh.type(f"deregister {did_number(2)}")
        assert (code, "only its own operator" in err) == (3, True)
        code, _, _ = await sh.type(f"deregister {did_number(1)}")
        assert code == 0
        code, _, err = await sh.type("list")
        assert (code, "no node fits" in err) == (0, True)
        code, out, _ = await sh.type("show --json")
        assert (code, json.loads(out)["error"]["key"]) == (4, "not-registered")


async def test_bans_for_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ban, suspend, list what is kept from whom, lift it; oneself and a stranger's sanction are refused with advice."""
    net = FakeNet()
    other = did_number(2)
    async with shell(tmp_path, capsys, net) as sh:
        await sh.json(REGISTER)
        code, out, err = await sh.type(f'ban {other} --reason "sends junk" --evidence log --days 7')
        assert (code, "banned\tsends junk" in out, "until 2026-09-28" in out) == (0, True, True), err
        assert (await sh.json(f"ban {other} --reason r --forever"))["until"] == ""
        code, out, _ = await sh.type("sanctions")
        assert out.startswith(f"{other}\tbanned\tr\toperator\t-")
        assert (await sh.json(f"suspend {other} --reason r --days 1"))["state"] == "suspended"
        assert [one["state"] for one in (await sh.json(f"sanctions {other}"))["sanctions"]] == ["suspended"]
        for flags, found in (("", 1), ("--banned", 0), ("--all", 1)):
            assert (await sh.json(f"list {flags}"))["total"] == found
        code, _, err = await sh.type(f"ban {did_number(1)} --reason r")
        assert (code, "this node itself" in err) == (3, True)
        for line in ("ban foo --reason r", "suspend foo --reason r", "unban foo", "sanctions foo", "faults foo"):
            code, _, err = await sh.type(line)
            assert (code, "no node's name" in err) == (2, True)
        for line in ("show foo", "update-health foo", "deregister foo", "machine foo", "audit list foo"):
            code, _, err = await sh.type(line)
            assert (code, "no node's name" in err) == (2, True)
        assert (await sh.type(f"unban {other}"))[0] == 0
        code, _, err = await sh.type(f"unban {other}")
        assert (code, "duxnet why node" in err) == (3, True)
        code, _, err = await sh.type("faults")
        assert (code, "no fault is proven" in err) == (0, True)


async def _beats(sh: Shell) -> bool:
    return bool((await sh.json("show"))["last_heartbeat"])


async def test_without_a_daemon_the_error_says_where_to_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No node: how to make one. A node whose registryd is down: how to see that."""
    code, _, err = await Shell(tmp_path / "none", capsys).type("list")
    assert (code, "duxnet init" in err) == (3, True)
    net = FakeNet()
    async with shell(tmp_path, capsys, net) as sh:
        pass
    code, _, err = await sh.type("list")
    assert (code, "duxnet status" in err) == (5, True)
