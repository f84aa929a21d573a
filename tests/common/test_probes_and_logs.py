"""What a daemon shows of itself: probes behind a token or the private socket, its own description, and its log."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest
import structlog

from common import __version__
from common.contracts.base import DISCOVER, INFO
from common.daemon import DuxOSDaemon
from common.log import set_level, start_logging
from common.network import NetworkProfile
from common.parts import Parts
from common.rpc.client import HttpClient
from common.rpc.method import Empty
from common.settings import DaemonSettings
from common.store import Store


class Settings(DaemonSettings, frozen=True, kw_only=True):
    port: int = 0


class Watched(DuxOSDaemon[Settings]):
    name = "watchedd"
    settings_type = Settings
    trouble = ""

    async def assemble(self, parts: Parts[Settings]) -> None:
        self.store = parts.store(["CREATE TABLE things (n INTEGER);"])
        parts.problems.append(lambda: self.trouble)
        parts.gauges["things"] = lambda: 7.0


@pytest.fixture
async def daemon(tmp_path: Path, profile: NetworkProfile) -> AsyncIterator[Watched]:
    options = Settings(network_profile="", data_dir=str(tmp_path / "data"), run_dir=str(tmp_path / "run"))
    watched = Watched(options, profile)
    async with watched.running():
        yield watched


@pytest.fixture
async def client(daemon: Watched, tmp_path: Path) -> AsyncIterator[HttpClient]:
    found = HttpClient("watchedd", f"http://127.0.0.1:{daemon.port}/", tmp_path / "run" / "watchedd" / "cli.token")
    yield found
    await found.close()


async def by_socket(tmp_path: Path, path: str) -> tuple[int, str]:
    connector = aiohttp.UnixConnector(str(tmp_path / "run" / "watchedd" / "probe.sock"))
    async with aiohttp.ClientSession(connector=connector) as session, session.get("http://localhost" + path) as answer:
        return answer.status, await answer.text()


async def test_health_is_200_or_503_with_the_reason(daemon: Watched, client: HttpClient, tmp_path: Path) -> None:
    """A container's or systemd's probe sees by the status, a person by the text; `daemon.info` says the same."""
    assert await by_socket(tmp_path, "/health") == (200, "ok\n")
    daemon.trouble = "the chain's tip is an hour old"
    assert await by_socket(tmp_path, "/health") == (503, "the chain's tip is an hour old\n")
    info = await client.call(INFO, Empty())
    assert (info.healthy, info.problems) == (False, ["the chain's tip is an hour old"])
    assert (info.version, info.name) == (__version__, "watchedd")
    assert info.uptime_s >= 0


async def test_metrics_are_prometheus_text_with_the_daemons_gauges(daemon: Watched, tmp_path: Path) -> None:
    """Every line is `name value`; the version, the uptime and the daemon's own figures are among them."""
    status, text = await by_socket(tmp_path, "/metrics")
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines())
    assert status == 200
    assert figures[f'dux_info{{daemon="{daemon.name}",version="{__version__}"}}'] == "1"
    assert figures["dux_watchedd_things"] == "7"
    assert float(figures["dux_watchedd_uptime_seconds"]) >= 0


async def test_metrics_tell_where_the_time_went(daemon: Watched, client: HttpClient, tmp_path: Path) -> None:
    """Calls and their seconds by method, decisions and their seconds; a method that nobody called is left out."""
    before = await figures_of(tmp_path)
    await client.call(INFO, Empty())
    await client.call(INFO, Empty())
    with daemon.store.transaction() as tx:
        tx.execute("INSERT INTO things VALUES (1)")
    now = await figures_of(tmp_path)
    assert now['dux_watchedd_calls_total{method="daemon.info"}'] == 2
    assert now['dux_watchedd_calls_seconds_total{method="daemon.info"}'] > 0
    assert now["dux_watchedd_decisions_total"] == before["dux_watchedd_decisions_total"] + 1
    assert now["dux_watchedd_decisions_seconds_total"] > before["dux_watchedd_decisions_seconds_total"]
    assert not any("rpc.discover" in name for name in now)


async def figures_of(tmp_path: Path) -> dict[str, float]:
    _, text = await by_socket(tmp_path, "/metrics")
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines())}


@pytest.mark.parametrize("path", ["health", "metrics"])
async def test_on_the_port_a_probe_wants_a_token(client: HttpClient, path: str) -> None:
    """Without a token nothing is told; with it the same answer as on the socket."""
    async with client.session().get(client.url + path) as answer:
        assert answer.status == 401
        assert "token file" in await answer.text()
    async with client.session().get(client.url + path, headers={"Authorization": f"Bearer {client.token()}"}) as answer:
        assert answer.status == 200


@pytest.mark.usefixtures("daemon")
async def test_the_probe_socket_answers_no_calls(tmp_path: Path) -> None:
    """The way that needs no token leads to the probes and nowhere else."""
    connector = aiohttp.UnixConnector(str(tmp_path / "run" / "watchedd" / "probe.sock"))
    body = {"jsonrpc": "2.0", "id": 1, "method": "daemon.info", "params": {}}
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post("http://localhost/", json=body) as answer,
    ):
        assert answer.status == 404


async def test_a_daemon_describes_itself(client: HttpClient) -> None:
    """`rpc.discover` gives an OpenRPC document that names every method served, with its parameters."""
    document = (await client.call(DISCOVER, Empty())).document
    assert document["openrpc"].startswith("1.")
    assert {"daemon.info", "rpc.discover"} <= {method["name"] for method in document["methods"]}
    assert all("params" in method and "result" in method for method in document["methods"])


def put(store: Store, n: int) -> None:
    with store.transaction() as tx:
        tx.execute("INSERT INTO things VALUES (?)", n)


def things_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as copy:
        return int(copy.execute("SELECT count(*) FROM things").fetchone()[0])


async def test_two_generations_of_backups_stand_beside_the_store(daemon: Watched, tmp_path: Path) -> None:
    """Each copy is whole and is of its moment; the one before is kept, older ones are not."""
    for n in range(3):
        put(daemon.store, n)
        daemon._backups.copy()
    folder = tmp_path / "data" / "watchedd" / "backup"
    assert {path.name: things_in(path) for path in folder.iterdir()} == {"watchedd.sqlite": 3, "watchedd.1.sqlite": 2}


async def test_a_backup_that_fails_is_told_and_ends_nothing(daemon: Watched, tmp_path: Path) -> None:
    """A full or wrong disk turns health to 503 with the reason until a copy succeeds; calls go on."""
    in_the_way = tmp_path / "data" / "watchedd" / "backup"
    in_the_way.write_text("a file where the folder should be")
    daemon._backups.copy()
    status, text = await by_socket(tmp_path, "/health")
    assert status == 503
    assert "could not be copied" in text
    in_the_way.unlink()
    daemon._backups.copy()
    assert await by_socket(tmp_path, "/health") == (200, "ok\n")


@pytest.fixture(autouse=True)
def usual_logs() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    set_level("INFO")


def test_a_line_for_the_journal_is_a_priority_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The journal takes the priority off and keeps the facts as fields."""
    log = start_logging("watchedd", "INFO")
    log.info("lot funded", lot=3)
    log.error("lot lost")
    log.debug("too small to tell")
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("<6>{")
    assert second.startswith("<3>{")
    told = json.loads(first[3:])
    assert {key: told[key] for key in ("event", "lot", "daemon", "level")} == {
        "event": "lot funded", "lot": 3, "daemon": "watchedd", "level": "info",
    }  # fmt: skip


@pytest.mark.parametrize("field", ["seed", "wallet_passphrase", "Token", "private_key", "preimage", "rpc_password"])
def test_no_secret_reaches_the_log(capsys: pytest.CaptureFixture[str], field: str) -> None:
    """A field that is named like a secret is blanked, raw bytes are counted and not shown."""
    start_logging("watchedd", "INFO").warning("something happened", **{field: "hunter2", "blob": b"hunter2"})
    told = capsys.readouterr().err
    assert "hunter2" not in told
    assert "[redacted]" in told
    assert "[7 bytes]" in told


def test_a_log_file_is_appended_to(tmp_path: Path) -> None:
    """`--log-file` keeps what earlier runs told."""
    path = tmp_path / "d.log"
    path.write_text("earlier\n")
    start_logging("watchedd", "INFO", path).info("daemon ready")
    earlier, now = path.read_text().splitlines()
    assert (earlier, json.loads(now[3:])["event"]) == ("earlier", "daemon ready")


def test_under_systemd_the_journal_hears_what_the_file_hears(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log file takes nothing from `journalctl`; where standard error is not the journal it stays silent."""
    path, stream = tmp_path / "d.log", os.fstat(sys.stderr.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{stream.st_dev}:{stream.st_ino}")
    start_logging("watchedd", "INFO", path).info("daemon ready")
    assert capfd.readouterr().err == path.read_text() != ""
    monkeypatch.setenv("JOURNAL_STREAM", f"{stream.st_dev}:{stream.st_ino + 1}")
    start_logging("watchedd", "INFO", path).info("told to the file")
    assert capfd.readouterr().err == ""
    assert "told to the file" in path.read_text()


def test_a_log_file_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its limit it becomes FILE.1, and the one before that goes: a live system's logs lie in memory."""
    monkeypatch.setattr("common.log.LOG_FILE_BYTES_MAX", 2000)
    log = start_logging("watchedd", "INFO", tmp_path / "d.log")
    for number in range(100):
        log.info("something happened", number=number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.log", "d.log.1"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    assert '"number": 99' in (tmp_path / "d.log").read_text()
