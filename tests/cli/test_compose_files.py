"""What docker-compose's `prepare` service makes, and what the containers' health check asks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from common.network import load_profile
from common.node_ports import PORT_BASE
from common.rpc.method import DAEMONS
from common.settings import load_settings
from dux_cli import compose_files, probe
from dux_cli.demo.network import ARBITERS, NAMES, SPLIT
from dux_cli.host import daemon_class
from dux_cli.main import duxnet
from dux_cli.node_dir import NodeDir

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("duxnet")
    compose_files.make(path, "embedded")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_each_node_s_settings_suit_its_daemons_and_its_container(name: str, folder: Path) -> None:
    """Every daemon accepts them; p2pd listens off loopback and lets flopd out to the coin node alone."""
    node = NodeDir(folder / name)
    found = {
        daemon: load_settings(node.config, daemon, daemon_class(f"dux_{daemon}").settings_type_of(), {})
        for daemon in DAEMONS
    }
    p2pd: Any = found["p2pd"]
    assert p2pd.egress_allow == {"flopd": (f"{compose_files.CHAIN}:{compose_files.PEERS_PORT}",)}
    assert p2pd.listen_host == "0.0.0.0"  # noqa: S104
    assert {settings.host for settings in found.values()} == {"127.0.0.1"}
    assert {settings.port_base for settings in found.values()} == {PORT_BASE}


def test_keys_are_in_their_own_node_s_folder_and_the_login_in_no_settings(folder: Path) -> None:
    """One wallet and one identity per node; readable by their owner alone; the shared profile names no secret."""
    wallets = {(folder / name / "data/flopd/wallet.key").read_bytes() for name in NAMES}
    assert len(wallets) == len(NAMES)
    assert list((folder / "chain").rglob("*.key")) == []
    login = (folder / "chain/rpc.auth").read_text().strip().split(":")[1]
    for path in folder.rglob("*.yaml"):
        assert login not in path.read_text(), path
    assert list(folder.rglob("node.login")) == []
    for path in (*folder.rglob("*.key"), folder / "chain/rpc.auth"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_second_run_changes_nothing_and_a_half_made_network_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    """`docker-compose up` runs it each time."""
    command = ["testnet", "compose-files", str(tmp_path / "net"), "--json"]
    duxnet.main(command, standalone_mode=False)
    before = {path: path.read_bytes() for path in (tmp_path / "net").rglob("*") if path.is_file()}
    duxnet.main(command, standalone_mode=False)
    assert before == {path: path.read_bytes() for path in (tmp_path / "net").rglob("*") if path.is_file()}
    (tmp_path / "net/chain/network.yaml").unlink()
    with pytest.raises(compose_files.NetworkHalfMade, match="down --volumes"):
        compose_files.make(tmp_path / "net", "embedded")


def test_the_profile_names_containers_not_addresses(folder: Path) -> None:
    """A container may be given another address; its name stays."""
    profile = load_profile(folder / "chain/network.yaml")
    assert [one.address for one in profile.bootstrap] == [f"{name}:{PORT_BASE + 10}" for name in ARBITERS[:2]]


def test_docker_compose_s_services_are_the_nodes_and_each_mounts_its_own_volume_only() -> None:
    """Names, volumes and users agree with what compose-files makes; no two nodes share a /24."""
    assert set(SERVICES) == {"prepare", compose_files.CHAIN, *NAMES}
    nets = set()
    for name in (compose_files.CHAIN, *NAMES):
        service = SERVICES[name]
        assert service["volumes"] == [f"{name}:/duxnet/{name}"]
        assert service.get("user", "root") == ("root" if name in SPLIT else f"{compose_files.PLAIN_USER}:10001")
        nets.add(service["networks"]["mesh"]["ipv4_address"].rpartition(".")[0])
        assert service["cap_drop"] == ["ALL"]
    assert len(nets) == len(NAMES) + 1
    assert SERVICES["prepare"]["network_mode"] == "none"
    assert COMPOSE["networks"]["mesh"]["internal"] is True


async def serve(path: Path, status: int, text: str) -> web.AppRunner:
    async def health(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    return runner


async def test_the_probe_wants_every_daemon_to_be_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All well: 0. One ill or silent: 1, with its name and its words."""
    assert probe.DAEMONS == DAEMONS
    assert probe.CHAIN_PORT == compose_files.CHAIN_PORT
    runners = {}
    for daemon in DAEMONS:
        (tmp_path / "run" / daemon).mkdir(parents=True)
        runners[daemon] = await serve(tmp_path / "run" / daemon / "probe.sock", 200, "ok\n")
    assert await asyncio.to_thread(probe.main, [str(tmp_path)]) == 0
    await runners["flopd"].cleanup()
    (tmp_path / "run/flopd/probe.sock").unlink(missing_ok=True)
    runners["flopd"] = await serve(tmp_path / "run/flopd/probe.sock", 503, "the chain is away\n")
    await runners["taskd"].cleanup()
    assert await asyncio.to_thread(probe.main, [str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "flopd: the chain is away" in told
    assert "taskd: does not answer" in told
    for runner in runners.values():
        await runner.cleanup()
