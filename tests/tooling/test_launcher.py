"""The launcher's laws, without the network: what counts as made, where it is made, once only, and what it says."""

import os
import subprocess
import sys
import threading
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

LAUNCHER = Path(__file__).resolve().parents[2] / "duxnet"


@pytest.fixture
def duxnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The launcher as a module, in a checkout of three lock files."""
    monkeypatch.delenv("DUXNET_VENV", raising=False)
    loader = SourceFileLoader("launcher", str(LAUNCHER))
    module = module_from_spec(spec_from_loader("launcher", loader))
    loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", str(tmp_path))
    for name in (*module.LOCKS, module.DEV_LOCK):
        (tmp_path / name).write_text(f"{name}==1 \\\n    --hash=sha256:00\n")
    return module


def finish(duxnet: Any, env: Path, locks: list[str]) -> None:
    env.mkdir(parents=True, exist_ok=True)
    (env / duxnet.MARKER).write_text("\n".join(duxnet.stamp(lock) for lock in locks))


def test_an_environment_counts_until_its_lock_file_changes(duxnet: Any, tmp_path: Path) -> None:
    """Made from these files: good for a plain start, not for `test`; a changed file, or a cut-off make, is not."""
    env = tmp_path / ".venv"
    assert not duxnet.is_made_from(str(env), duxnet.LOCKS)
    finish(duxnet, env, duxnet.LOCKS)
    assert duxnet.is_made_from(str(env), duxnet.LOCKS)
    assert not duxnet.is_made_from(str(env), [*duxnet.LOCKS, duxnet.DEV_LOCK])
    (tmp_path / "requirements.lock").write_text("other==2\n")
    assert not duxnet.is_made_from(str(env), duxnet.LOCKS)


def test_a_read_only_checkout_uses_the_users_cache(
    duxnet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkout's own environment is used when it is there and right, whoever may write to it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert duxnet.environment_dir() == str(tmp_path / ".venv")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert duxnet.environment_dir().startswith(str(tmp_path / "cache/duxnet/venv-"))
    finish(duxnet, tmp_path / ".venv", duxnet.LOCKS)
    assert duxnet.environment_dir() == str(tmp_path / ".venv")


def test_two_starts_at_once_make_one_environment(duxnet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the first and uses what it made."""
    env, made, go_on = tmp_path / ".venv", [], threading.Event()

    def make(path: str, wanted: list[str]) -> None:
        made.append(path)
        assert go_on.wait(20)
        finish(duxnet, env, wanted)

    monkeypatch.setattr(duxnet, "make", make)
    starts = [threading.Thread(target=duxnet.make_once, args=(str(env), duxnet.LOCKS)) for _ in range(2)]
    for start in starts:
        start.start()
    go_on.set()
    for start in starts:
        start.join(20)
    assert made == [str(env)]


def test_without_venv_and_apt_the_one_command_is_said(
    duxnet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 69, the command to run, and nothing half-made left behind."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(duxnet, "has_ensurepip", lambda: False)
    with pytest.raises(SystemExit) as ended:
        duxnet.make_empty(str(tmp_path / ".venv"))
    assert ended.value.code == 69
    assert "apt-get install -y python3-venv" in capsys.readouterr().err
    assert not (tmp_path / ".venv").exists()


def test_a_made_environment_becomes_the_command_line_at_once(duxnet: Any, tmp_path: Path) -> None:
    """The launcher replaces itself by the environment's Python and hands every word over."""
    env = tmp_path / "env"
    (env / "bin").mkdir(parents=True)
    stand_in = env / "bin" / "python"
    stand_in.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    stand_in.chmod(0o755)
    duxnet.HERE = str(LAUNCHER.parent)
    finish(duxnet, env, duxnet.LOCKS)
    told = subprocess.run(
        [sys.executable, str(LAUNCHER), "wallet", "balance", "--json"],
        env=os.environ | {"DUXNET_VENV": str(env)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "-P|-m|dux_cli|wallet|balance|--json|"


def test_the_registrys_command_line_is_a_program_of_the_checkout() -> None:
    """`./duxos-node-registry --help`, as a person types it, lists its verbs; docs/cli.md has each of them."""
    told = subprocess.run(
        [LAUNCHER.with_name("duxos-node-registry"), "--help"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    page = (LAUNCHER.parent / "docs/cli.md").read_text()
    assert "## duxos-node-registry\n" in page
    verbs = [line.split()[0] for line in told.stdout.partition("Commands:")[2].splitlines() if line[2:3].strip()]
    assert {"register", "list", "find", "update-health", "deregister", "show", "capabilities", "ban"} <= set(verbs)
    for verb in verbs:
        assert f"## duxos-node-registry {verb}\n" in page


def test_extras_come_from_lock_files_of_their_own(
    duxnet: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """$DUXNET_EXTRAS names them; an unknown one ends the start; the hashes are those that the tests run with."""
    assert duxnet.extra_locks() == []
    monkeypatch.setenv("DUXNET_EXTRAS", "token, punch")
    assert duxnet.extra_locks() == ["requirements-token.lock", "requirements-punch.lock"]
    monkeypatch.setenv("DUXNET_EXTRAS", "gold")
    with pytest.raises(SystemExit) as ended:
        duxnet.extra_locks()
    assert (ended.value.code, "token and punch" in capsys.readouterr().err) == (69, True)
    tested = (LAUNCHER.parent / "requirements-dev.lock").read_text()
    for lock in duxnet.EXTRAS.values():
        pinned = [
            line.strip()
            for line in (LAUNCHER.parent / lock).read_text().splitlines()
            if "==" in line or "--hash" in line
        ]
        assert pinned
        assert [line for line in pinned if line.split()[0] not in tested] == []
