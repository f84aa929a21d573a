"""A daemon as a process: it tells systemd how it fares, ends in order, and refuses settings it cannot use."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.network import NetworkProfile, save_profile
from tests.ports import free_ports

pytestmark = pytest.mark.patient

ROOT = Path(__file__).resolve().parents[2]
DAEMON = ROOT / "examples" / "daemon_template" / "daemon.py"


@pytest.fixture
def config(tmp_path: Path, profile: NetworkProfile) -> Path:
    folder = tmp_path / "config"
    save_profile(profile, folder / "network.yaml")
    (folder / "common.yaml").write_text(
        f"network_profile: network.yaml\ndata_dir: {tmp_path}/data\nrun_dir: {tmp_path}/run\n"
    )
    (folder / "exampled.yaml").write_text("port: 0\n")
    return folder


def start(config: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(DAEMON), "--config", str(config), *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def notify_socket(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        path = tmp_path / "notify"
        channel.bind(str(path))
        channel.settimeout(20)
        yield channel, str(path)


def wait_for(channel: socket.socket, word: str) -> str:
    while True:
        text = channel.recv(4096).decode()
        if word in text:
            return text


def test_systemd_hears_ready_watchdog_and_stopping(tmp_path: Path, config: Path) -> None:
    """READY=1 once the port answers, WATCHDOG=1 in time, STOPPING=1 on SIGTERM, then exit 0 within 5 s."""
    with notify_socket(tmp_path) as (channel, path):
        process = start(config, NOTIFY_SOCKET=path, WATCHDOG_USEC="600000")
        wait_for(channel, "READY=1")
        wait_for(channel, "WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        wait_for(channel, "STOPPING=1")
        _, log = process.communicate(timeout=5)
        assert process.returncode == 0, log
        assert "daemon stopped" in log


def test_a_waiting_caller_does_not_keep_a_daemon_from_ending(tmp_path: Path, config: Path) -> None:
    """SIGTERM while somebody waits a minute for events: it ends within 5 s all the same, in order."""
    port = free_ports()
    (config / "exampled.yaml").write_text(f"port: {port}\n")
    with notify_socket(tmp_path) as (channel, path):
        process = start(config, NOTIFY_SOCKET=path)
        wait_for(channel, "READY=1")
        token = (tmp_path / "run" / "exampled" / "cli.token").read_text().strip()
        params = {"cursor": 0, "wait_s": 25.0, "limit": 1}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "example.events", "params": params})
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nDux-Deadline-Ms: 60000\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.sendall((head + body).encode())
            caller.settimeout(0.5)
            with pytest.raises(TimeoutError):  # the call is waiting: no answer comes
                caller.recv(1)
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=5)
        assert process.returncode == 0, log
        assert "daemon stopped" in log


@pytest.mark.parametrize(
    ("text", "said", "stopped_is_told"),
    [("log_level: DEBUG\n", "settings reloaded", True), ("log_level: LOUD\n", "settings not reloaded", True),
     ("log_level: ERROR\n", "daemon ready", False)],
)  # fmt: skip
def test_sighup_takes_the_log_level(
    tmp_path: Path, config: Path, text: str, said: str, *, stopped_is_told: bool
) -> None:
    """A reload takes what may change, keeps the old where the new is unusable, and leaves the daemon running."""
    with notify_socket(tmp_path) as (channel, path):
        process = start(config, NOTIFY_SOCKET=path, WATCHDOG_USEC="200000")
        wait_for(channel, "READY=1")
        with (config / "exampled.yaml").open("a") as file:
            file.write(text)
        process.send_signal(signal.SIGHUP)
        for _ in range(3):  # three turns of its loop later it has seen the signal
            wait_for(channel, "WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=5)
        assert process.returncode == 0
        assert said in log
        assert ("daemon stopped" in log) == stopped_is_told


def test_killed_daemons_start_again_on_their_data(tmp_path: Path, config: Path) -> None:
    """Kill -9 leaves nothing in the way of the next start."""
    for _ in range(2):
        with notify_socket(tmp_path) as (channel, path):
            process = start(config, NOTIFY_SOCKET=path)
            wait_for(channel, "READY=1")
            process.kill()
            process.communicate(timeout=5)
        (tmp_path / "notify").unlink()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("port: many\n", "$.port"),
        ("port: 0\nports: 1\n", "unknown keys ports"),
        ("port: [\n", "exampled.yaml"),
        ("- a\n", "key: value"),
        ("port: true\n", "$.port"),
        ("port: 0\nlog_level: LOUD\n", "DEBUG"),
        ("port: 0\nhost: 0.0.0.0\n", "ssh -L"),
        ("port: 0\nhost: node.example\n", "ssh -L"),
        ("port: 0\nhost: '::'\n", "ssh -L"),
    ],
)
def test_unusable_settings_are_told_and_exit_78(config: Path, text: str, says: str) -> None:
    """The file and the key are named; systemd does not restart on 78."""
    (config / "exampled.yaml").write_text(text)
    process = start(config)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 78
    assert says in error
    assert "Traceback" not in error


def test_check_config_prints_what_is_in_force(config: Path) -> None:
    """Files and environment together; the environment wins."""
    process = start(config, "--check-config", DUXNET_EXAMPLED_TEXT_CHARS_MAX="77")
    printed, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "text_chars_max: 77" in printed
    assert "port: 0" in printed


def test_an_unknown_variable_is_refused(config: Path) -> None:
    """A misspelt override does not pass silently."""
    process = start(config, "--check-config", DUXNET_EXAMPLED_TEXT_CHAR_MAX="77")
    _, error = process.communicate(timeout=20)
    assert process.returncode == 78
    assert "text_char_max" in error
