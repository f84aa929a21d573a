"""Laws of the unit files and of what lies beside them, seen without booting anything and without root."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common.network import load_profile
from common.rpc.method import CALL_GRAPH, DAEMONS, PEOPLE
from common.settings import CONFIG_DEFAULT
from dux_cli.host import daemon_class
from dux_cli.install import SETTINGS, VENV, lay_units
from dux_cli.node_files import ChainLogin, chain_settings
from dux_flopd.first_boot import MADE_FILE
from dux_flopd.keygen import CREDENTIAL_FILE
from dux_flopd.unlock import CREDENTIAL
from tests.systemd.machine import note

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / SETTINGS
UNITS = ROOT / "systemd/system"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
CEILINGS = {"dux-slots.service": 36}  # exposure x 10; its reasons stand in its 20-needs.conf
CEILING = 20


def directives(path: Path) -> list[tuple[str, str]]:
    """The `Name=value` lines of a unit file, in order."""
    lines = [line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def values(unit: str, name: str) -> list[str]:
    """The words that a directive has in a unit's own file."""
    return " ".join(value for key, value in directives(UNITS / unit) if key == name).split()


def in_force(unit: str) -> list[tuple[str, str]]:
    """Every line that holds for a unit, as systemd reads them: its file, then all drop-ins by their names."""
    drops = [*(UNITS / "dux-.service.d").glob("*.conf"), *(UNITS / f"{unit}.d").glob("*.conf")]
    return [line for path in (UNITS / unit, *sorted(drops, key=lambda drop: drop.name)) for line in directives(path)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The units as installed, with a program at the place of the real one."""
    lay_units(tmp_path, enable=True)
    python = tmp_path / VENV / "bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    return tmp_path


def verify(tree: Path) -> str:
    """What systemd-analyze finds in the units; their program is looked for in the tree."""
    folder = tree / "usr/lib/systemd/system"
    for path in folder.rglob("*.service"):
        path.write_text(path.read_text().replace(f"/{VENV}", str(tree / VENV)))
    names = [str(folder / name) for name in (*SERVICES, "duxnet.target")]
    command = ["systemd-analyze", "verify", "--man=no", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr + (f"exit code {done.returncode}" if done.returncode else "")


@pytest.mark.units
def test_units_say_nothing_that_systemd_does_not_know(tree: Path) -> None:
    """`systemd-analyze verify` is silent: it exits with 0 even where it ignores a key, so any word is a failure."""
    assert verify(tree) == ""


@pytest.mark.units
@pytest.mark.parametrize(
    ("line", "noticed"),
    [
        ("ProtectEverything=yes", "Unknown key"),
        ("PrivateTmp=perhaps", "Failed to parse"),
        ("SystemCallFilter=@none-such", "Unknown system call group"),
        ("ExecStartPost=/none/such", "is not executable"),
    ],
)
def test_a_planted_mistake_in_a_unit_is_noticed(tree: Path, line: str, noticed: str) -> None:
    """The silence above means something: each kind of mistake is told."""
    with (tree / "usr/lib/systemd/system/dux-flopd.service").open("a") as unit:
        unit.write(f"{line}\n")
    assert noticed in verify(tree)


@pytest.mark.units
@pytest.mark.parametrize("unit", SERVICES)
def test_no_unit_is_more_exposed_than_it_must_be(tree: Path, unit: str) -> None:
    """`systemd-analyze security` gives each at most 2.0, and the slot launcher, which changes users, at most 3.6."""
    ceiling = CEILINGS.get(unit, CEILING)
    options = ["--offline=true", f"--root={tree}", f"--threshold={ceiling}", "--no-pager"]
    done = subprocess.run(["systemd-analyze", "security", *options, unit], capture_output=True, text=True, check=False)
    note(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.units
def test_a_lost_hardening_is_noticed(tree: Path) -> None:
    """Without the shared file every unit is over the ceiling."""
    shutil.rmtree(tree / "usr/lib/systemd/system/dux-.service.d")
    options = ["--offline=true", f"--root={tree}", f"--threshold={CEILING}", "--no-pager"]
    command = ["systemd-analyze", "security", *options, "dux-flopd.service"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_every_daemon_has_a_unit_that_the_target_starts() -> None:
    """One unit per daemon, key maker and slot launcher; the target wants all but the key maker, which is required."""
    assert set(SERVICES) == {f"dux-{name}.service" for name in (*DAEMONS, "keygen", "slots")}
    assert set(values("duxnet.target", "Wants")) == set(SERVICES) - {"dux-keygen.service"}
    for daemon in DAEMONS:
        assert "dux-keygen.service" in values(f"dux-{daemon}.service", "Requires")


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemons_unit_is_shaped_like_all_others(daemon: str) -> None:
    """Its own user, told ready by the daemon, watched, settings checked first, started after those it calls."""
    unit = f"dux-{daemon}.service"
    found = dict(in_force(unit))
    program = f"/{VENV}/bin/python -I -m dux_{daemon} --config {CONFIG_DEFAULT}"
    assert found["User"] == f"dux-{daemon}"
    assert (found["ExecStart"], found["ExecStartPre"]) == (program, f"{program} --check-config")
    assert (found["Type"], found["Restart"], found["RestartPreventExitStatus"]) == ("notify", "on-failure", "78")
    assert int(found["WatchdogSec"]) >= 30
    assert re.fullmatch(r"\d+[MG]", found["MemoryMax"])
    assert (found["StateDirectory"], found["LogsDirectory"]) == (f"duxnet/{daemon}", f"duxnet/{daemon}")
    below = [f"dux-{callee}.service" for callee in CALL_GRAPH[daemon]]
    assert set(values(unit, "After")) >= {*below, "dux-keygen.service"}
    assert set(values(unit, "Wants")) >= set(below)
    assert int(found["TimeoutStopSec"]) <= 10


def test_only_p2pd_has_the_world_open() -> None:
    """Every unit is denied all addresses but localhost; p2pd alone is allowed any."""
    for unit in SERVICES:
        lines = in_force(unit)
        assert ("IPAddressDeny", "any") in lines, unit
        allowed = {value for name, value in lines if name == "IPAddressAllow"}
        assert allowed == ({"localhost", "any"} if unit == "dux-p2pd.service" else {"localhost"}), unit


def test_openssl_itself_is_narrowed_where_p2pd_runs_as_a_unit() -> None:
    """Behind what the code demands: a bare context in p2pd's unit meets no key but an Ed25519 one."""
    (found,) = [value for value in values("dux-p2pd.service", "Environment") if value.startswith("OPENSSL_CONF=")]
    shipped = ROOT / found.partition("=/")[2]
    meet = Path(__file__).with_name("bare_tls.py")

    def ends(**more: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, meet], env=dict(os.environ) | more, cwd=ROOT, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert ends() == ["ed25519:TLSv1.3", "p256:TLSv1.3"]
    assert ends(OPENSSL_CONF=str(shipped)) == ["ed25519:TLSv1.3", "p256:refused"]


def test_what_a_unit_needs_beyond_the_shared_hardening_has_its_reason() -> None:
    """Each 20-needs.conf begins with a comment that names what it is for."""
    for path in UNITS.glob("*.d/20-needs.conf"):
        assert len(path.read_text().splitlines()[0]) > 30
        assert path.read_text().startswith("# ")


def test_every_user_and_every_token_file_is_made() -> None:
    """A user per daemon; a token file per callee and caller, the callee's own, readable by the caller's group alone."""
    users = (ROOT / "systemd/sysusers.d/duxnet.conf").read_text()
    assert {line.split()[1] for line in users.splitlines() if line.startswith("u ")} == {f"dux-{d}" for d in DAEMONS}
    groups = {daemon: f"dux-{daemon}" for daemon in DAEMONS} | {"cli": "duxnet", "module": "duxnet-modules"}
    assert set(groups) == {*DAEMONS, *PEOPLE}
    lines = set((ROOT / "systemd/tmpfiles.d/duxnet.conf").read_text().splitlines())
    for callee in DAEMONS:
        assert f"d /run/duxnet/{callee} 0711 dux-{callee} dux-{callee} -" in lines
        for caller, group in groups.items():
            assert f"f /run/duxnet/{callee}/{caller}.token 0640 dux-{callee} {group} -" in lines
    assert sum(line.startswith("f ") for line in lines) == len(DAEMONS) * len(groups)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_shipped_settings_are_accepted(daemon: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check-config`, which each unit runs first, prints what is in force and finds nothing wrong."""
    with pytest.raises(SystemExit) as ended:
        daemon_class(f"dux_{daemon}").main(["--config", str(CONFIG), "--check-config"])
    assert ended.value.code == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert found["log_file"] == f"/var/log/duxnet/{daemon}/{daemon}.log"
    assert (found["data_dir"], found["run_dir"]) == ("/var/lib/duxnet", "/run/duxnet")


def test_wrong_settings_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The check above can fail: an unknown key ends it with 78, which systemd does not restart on."""
    shutil.copytree(CONFIG, tmp_path, dirs_exist_ok=True)
    (tmp_path / "flopd.yaml").write_text("no_such_setting: 1\n")
    with pytest.raises(SystemExit) as ended:
        daemon_class("dux_flopd").main(["--config", str(tmp_path), "--check-config"])
    assert ended.value.code == 78
    assert "no_such_setting" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((CONFIG / "networks").glob("*.yaml")), ids=lambda path: path.stem)
def test_network_profiles_load(path: Path) -> None:
    """Each shipped profile is one that the program takes, named as its file is."""
    assert load_profile(path).name == path.stem


def test_names_that_two_files_share_agree() -> None:
    """Key maker, units, settings and run-time folders mean the same files."""
    data = Path(yaml.safe_load((CONFIG / "common.yaml").read_text())["data_dir"])
    assert values("dux-keygen.service", "ConditionPathExists") == [f"!{data / MADE_FILE}"]
    assert values("dux-flopd.service", "LoadCredentialEncrypted") == [f"{CREDENTIAL}:{CREDENTIAL_FILE.name}"]
    assert f"d {CREDENTIAL_FILE.parent} 0700 root root -" in (ROOT / "systemd/tmpfiles.d/duxnet.conf").read_text()
    launcher = dict(directives(UNITS / "dux-slots.service"))["ExecStart"].split()
    socket = yaml.safe_load((CONFIG / "taskd.yaml").read_text())["slot_socket"]
    assert launcher[launcher.index("--socket") + 1] == socket
    assert yaml.safe_load((CONFIG / "flopd.yaml").read_text())["source"] == "spv"
    ways_out = [way for name in ("test", "main") for way in chain_settings(ChainLogin(), f"flopcoin-{name}")[1]]
    assert yaml.safe_load((CONFIG / "p2pd.yaml").read_text())["egress_allow"] == {"flopd": ways_out}


def test_installing_again_keeps_the_owners_settings(tmp_path: Path) -> None:
    """Units are replaced, a settings file that is there is not; the node is started at boot only where asked for."""
    lay_units(tmp_path, enable=False)
    wanted = tmp_path / "etc/systemd/system/multi-user.target.wants/duxnet.target"
    assert not wanted.is_symlink()
    (tmp_path / "etc/duxnet/p2pd.yaml").write_text("listen_port: 4000\n")
    (tmp_path / "usr/lib/systemd/system/duxnet.target").write_text("")
    lay_units(tmp_path, enable=True)
    assert (tmp_path / "etc/duxnet/p2pd.yaml").read_text() == "listen_port: 4000\n"
    assert "Wants=" in (tmp_path / "usr/lib/systemd/system/duxnet.target").read_text()
    assert str(wanted.readlink()) == "/usr/lib/systemd/system/duxnet.target"
