"""The units as systemd really runs them: a container boots twice, and its node is restarted, killed, hung and stopped.

The first boot is that of an installed machine that nobody has set up; the second has a coin chain and its login.
"""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
import yaml

from common.chain.address import script_to_address
from common.chain.params import EMBEDDED
from common.network import NetworkProfile, save_profile
from common.rpc.method import DAEMONS, PEOPLE
from dux_sim.chain.profile import chain_of, genesis_hash
from tests.systemd import machine as kit
from tests.systemd.machine import ControlGroups, Machine, note, wait_for
from tests.systemd.probe import PORT

pytestmark = [pytest.mark.nspawn, pytest.mark.timeout(300)]
HERE = Path(__file__).parent
PROGRAM = "/usr/lib/duxnet/venv/bin/python"
CHAIN_PORT = 21_550
STOP_S_MAX = 10.0
UNITS = [f"dux-{daemon}.service" for daemon in DAEMONS]
LISTEN = f"import socket,time; s=socket.create_server(('0.0.0.0',{PORT}),backlog=1000); time.sleep(3600)"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which the node was installed and which has just booted for the first time."""
    folder = tmp_path_factory.mktemp("machine")
    began = time.monotonic()
    kit.make_root(folder / "root")
    note(f"root and program made in {time.monotonic() - began:.1f} s")
    shutil.copyfile(HERE / "probe.py", folder / "root/usr/local/lib/probe.py")
    with ControlGroups() as groups:
        booted = Machine(folder / "root", folder / "console.log", groups)
        allow_control_groups(booted)
        try:
            note(f"first boot in {booted.boot():.1f} s")
            yield booted
        finally:
            booted.kill()
            shutil.rmtree(folder / "root")


def allow_control_groups(machine: Machine) -> None:
    """The one thing that this container needs and a machine does not: the groups stand at another place."""
    if machine.groups.lent:
        places = " ".join(f"{ControlGroups.PLACE}/{name}" for name in ("memory", "pids", "cpu"))
        drop_in(machine, "etc", "dux-slots.service", f"ReadWritePaths={places}")


def drop_in(machine: Machine, top: str, unit: str, *lines: str) -> None:
    """Add settings to a unit, for good (`etc`) or until the next boot (`run`)."""
    text = "\n".join(["[Service]", *lines, ""])
    path = f"/{top}/systemd/system/{unit}.d/90-test.conf"
    if top == "etc":
        target = machine.folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return
    machine.sh("sh", "-c", f"mkdir -p {path.rpartition('/')[0]} && printf '%s' \"$0\" >{path}", text)
    machine.sh("systemctl", "daemon-reload")


def made(machine: Machine) -> dict[str, str]:
    """What key making left for everybody to know."""
    return json.loads((machine.folder / "var/lib/duxnet/keygen/made").read_text())


def payout(machine: Machine) -> bytes:
    """The script by which the node is paid."""
    return bytes.fromhex((machine.folder / "var/lib/duxnet/registryd/payout.script").read_text())


def pid_of(machine: Machine, unit: str) -> int:
    """The unit's main process, once it is active; else 0."""
    found = machine.show(unit, "MainPID", "ActiveState")
    return int(found["MainPID"]) if found["ActiveState"] == "active" else 0


def duxnet(machine: Machine, *words: str) -> dict[str, object]:
    """What the command line on the machine answers."""
    return json.loads(machine.sh("duxnet", *words, "--json", check=False).stdout)


def test_first_boot_runs_the_node_without_any_set_up(machine: Machine) -> None:
    """Every daemon is active, systemd is content, and no unit was started twice to get there."""
    assert machine.state() == "running", machine.sh("systemctl", "--failed", "--no-pager").stdout
    for unit in UNITS:
        found = machine.show(unit, "ActiveState", "NRestarts", "Type", "StatusText", "User")
        assert (found["ActiveState"], found["NRestarts"], found["Type"]) == ("active", "0", "notify"), (unit, found)
        assert found["StatusText"].startswith("listening on 127.0.0.1:"), unit
        assert found["User"] == unit.removesuffix(".service")
    assert machine.show("dux-keygen.service", "Result", "SubState") == {"Result": "success", "SubState": "exited"}
    answer = duxnet(machine, "status")
    assert sorted(answer["daemons"]) == sorted(DAEMONS)
    assert answer["did"] == made(machine)["did"]


def test_first_boot_made_keys_that_only_their_daemon_reads(machine: Machine) -> None:
    """Each file has its daemon's user and mode 600; the passphrase is sealed to the machine, in no unlock file."""
    listed = machine.sh("find", "/var/lib/duxnet", "-type", "f", "-printf", "%P %u:%g %m\n").stdout
    found = {line.split()[0]: tuple(line.split()[1:]) for line in listed.splitlines()}
    for name, user in (
        ("p2pd/operational.json", "dux-p2pd"),
        ("flopd/wallet.key", "dux-flopd"),
        ("registryd/payout.script", "dux-registryd"),
        ("keygen/phrase.sealed", "root"),
    ):
        assert found[name] == (f"{user}:{user}", "600")
    assert "flopd/unlock.key" not in found
    sealed = Path(made(machine)["credential"])
    assert machine.sh("stat", "-c", "%U %a", str(sealed)).stdout.split() == ["root", "600"]
    phrase = machine.sh("dux-keygen", "show", "--config", "/etc/duxnet").stdout
    assert len(phrase.split()) == 12
    assert phrase.split()[0] not in machine.sh("journalctl", "--unit", "dux-keygen", "--no-pager").stdout.split()


@pytest.fixture(scope="module")
def seen(machine: Machine) -> dict[str, dict[str, object]]:
    """What a process of each unit could do, and `root`, which is under no unit's restrictions, beside them."""
    names = ["-t", str(machine.leader), "-n"]
    with subprocess.Popen(["nsenter", *names, "--", sys.executable, "-c", LISTEN]) as listener:
        try:
            drop_in(machine, "run", "dux-.service", f"ExecStartPost={PROGRAM} -I /usr/local/lib/probe.py")
            machine.sh("systemctl", "restart", *UNITS)
            machine.sh("rm", "-r", "/run/systemd/system/dux-.service.d")
            machine.sh("systemctl", "daemon-reload")
            lines_of = {"root": machine.sh(PROGRAM, "-I", "/usr/local/lib/probe.py").stdout.strip()}
            for daemon in DAEMONS:
                lines = [str(line["MESSAGE"]) for line in machine.journal(f"dux-{daemon}")]
                lines_of[daemon] = next(line for line in reversed(lines) if line.startswith("PROBE "))
        finally:
            listener.kill()
    return {name: json.loads(text.removeprefix("PROBE ")) for name, text in lines_of.items()}


def test_only_p2pd_reaches_another_address(seen: dict[str, dict[str, object]]) -> None:
    """Localhost is open to all; elsewhere to p2pd alone, otherwise just as restricted. Root shows the way is open."""
    assert all(one["local"] for one in seen.values())
    assert [name for name, one in seen.items() if one["elsewhere"]] == ["root", "p2pd"]


def test_a_token_is_read_by_its_caller_and_its_callee_alone(seen: dict[str, dict[str, object]]) -> None:
    """A daemon reads its own tokens at others, and those of its callers; root shows that all of them are there."""
    everything = {f"{callee}/{caller}" for callee in DAEMONS for caller in (*DAEMONS, *PEOPLE)}
    assert set(seen["root"]["tokens"]) == everything
    for daemon in DAEMONS:
        assert set(seen[daemon]["tokens"]) == {name for name in everything if daemon in name.split("/")}, daemon


def test_keys_are_read_by_one_daemon_each(seen: dict[str, dict[str, object]]) -> None:
    """The wallet by flopd, the identity by p2pd, the phrase by nobody but root."""
    assert len(seen["root"]["keys"]) == 4
    assert seen["root"]["credential"]
    read = {daemon: seen[daemon]["keys"] for daemon in DAEMONS if seen[daemon]["keys"] or seen[daemon]["credential"]}
    assert read == {"p2pd": ["p2pd/operational.json", "p2pd/transport.json"], "flopd": ["flopd/wallet.key"]}


def test_a_daemon_writes_to_its_own_folders_alone(seen: dict[str, dict[str, object]]) -> None:
    """State, run-time folder and log; all else is read-only. It has no capability, a filter, and sees no others."""
    assert len(seen["root"]["writes"]) > 3 * len(DAEMONS)
    for daemon in DAEMONS:
        one = seen[daemon]
        assert one["writes"] == [f"/{top}/duxnet/{daemon}/probe" for top in ("var/lib", "run", "var/log")], daemon
        assert (one["capabilities"], one["filtered"], one["no_new_privileges"]) == (0, True, True)
        assert (one["read_only"], one["sees_others"]) == (True, False)
    assert (seen["root"]["read_only"], seen["root"]["sees_others"]) == (False, True)
    assert len({seen[daemon]["user"] for daemon in DAEMONS} | {0}) == len(DAEMONS) + 1


def test_a_member_of_the_group_uses_the_command_line(machine: Machine) -> None:
    """A person in the group `duxnet` needs no root to ask the node; one outside it gets no answer."""
    machine.sh("useradd", "--groups", "duxnet", "member")
    machine.sh("useradd", "stranger")
    question = ("duxnet", "rpc", "p2pd", "daemon.info", "{}")
    as_user = [
        ("setpriv", f"--reuid={u}", f"--regid={u}", "--init-groups", "--reset-env") for u in ("member", "stranger")
    ]
    asks = [machine.sh(*words, *question, check=False) for words in as_user]
    assert [ask.returncode == 0 for ask in asks] == [True, False], asks
    assert "members of its group" in asks[1].stderr


def test_restart_of_one_leaves_the_others_alone(machine: Machine) -> None:
    """`systemctl restart dux-flopd` gives it a new process, and everybody else keeps theirs."""
    before = {unit: pid_of(machine, unit) for unit in UNITS}
    machine.sh("systemctl", "restart", "dux-flopd")
    changed = [unit for unit in UNITS if pid_of(machine, unit) != before[unit]]
    assert changed == ["dux-flopd.service"]


def test_reload_reads_the_settings_again(machine: Machine) -> None:
    """`systemctl reload` is SIGHUP: the same process takes what may change while it runs, and says so."""
    before = pid_of(machine, "dux-flopd.service")
    machine.sh("systemctl", "reload", "dux-flopd")
    reloaded = partial(told, machine, "dux-flopd", '"event": "settings reloaded"')
    wait_for("the daemon says so", reloaded, 5)
    assert pid_of(machine, "dux-flopd.service") == before


def told(machine: Machine, unit: str, text: str) -> bool:
    """Whether the journal has the text in a line of the unit."""
    return any(text in str(line["MESSAGE"]) for line in machine.journal(unit))


def test_a_killed_daemon_is_back(machine: Machine) -> None:
    """After `kill -9` another process of the unit is active within seconds, and no neighbour has changed."""
    before = {unit: pid_of(machine, unit) for unit in UNITS}
    for unit in ("dux-p2pd.service", "dux-taskd.service"):
        machine.signal(before[unit], signal.SIGKILL)
        took = wait_for(f"{unit} is back", lambda u=unit: pid_of(machine, u) not in (0, before[u]), 20)
        note(f"{unit} back after kill -9 in {took:.1f} s")
        assert machine.show(unit, "NRestarts")["NRestarts"] == "1"
    changed = [unit for unit in UNITS if pid_of(machine, unit) != before[unit]]
    assert changed == ["dux-p2pd.service", "dux-taskd.service"]


def test_a_hung_daemon_is_restarted_by_the_watchdog(machine: Machine) -> None:
    """One that is stopped (SIGSTOP) says nothing more, and systemd replaces it; only the time is made shorter."""
    unit = "dux-escrowd.service"
    assert machine.show(unit, "WatchdogUSec")["WatchdogUSec"] == "1min"
    drop_in(machine, "run", unit, "WatchdogSec=4s")
    machine.sh("systemctl", "restart", unit)
    before = pid_of(machine, unit)
    time.sleep(5)  # longer than the time allowed: a daemon that turns is left alone
    assert pid_of(machine, unit) == before
    machine.signal(before, signal.SIGSTOP)
    took = wait_for("the watchdog", lambda: pid_of(machine, unit) not in (0, before), 30)
    note(f"{unit} back after a hang in {took:.1f} s, of which 4 s are the watchdog's")
    assert told(machine, unit, "Watchdog timeout")
    machine.sh("rm", f"/run/systemd/system/{unit}.d/90-test.conf")
    machine.sh("systemctl", "daemon-reload")


def test_journal_and_log_file_tell_the_same(machine: Machine) -> None:
    """A daemon's lines are in the journal with their priority, under its name, and in its file in /var/log/duxnet."""
    for daemon in DAEMONS:
        lines = [line for line in machine.journal(f"dux-{daemon}") if '"event": "daemon ready"' in str(line["MESSAGE"])]
        assert lines, daemon
        assert {(line["PRIORITY"], line["SYSLOG_IDENTIFIER"]) for line in lines} == {("6", f"dux-{daemon}")}
        kept = (machine.folder / f"var/log/duxnet/{daemon}/{daemon}.log").read_text()
        assert str(lines[-1]["MESSAGE"]) in kept, daemon


def kinds(machine: Machine) -> dict[str, dict[str, object]]:
    """What taskd's probe has seen to hold."""
    answer = duxnet(machine, "rpc", "taskd", "task.probe", "{}")
    return {str(kind["kind"]): kind for kind in answer["kinds"]}


def test_both_sandboxes_hold_under_the_units_restrictions(machine: Machine) -> None:
    """The hardening takes nothing away that a job needs: every probe passes, through the slot launcher's unit too."""
    wait_for("wasm is offered", lambda: kinds(machine)["wasm"]["offered"], 30)
    if not machine.groups.lent:
        pytest.skip("this machine's control groups cannot be lent to a container (no v1 hierarchies)")
    with contextlib.suppress(AssertionError):
        wait_for("native is offered", lambda: kinds(machine)["native"]["offered"], 30)
    native = kinds(machine)["native"]
    assert native["offered"], (native, [line["MESSAGE"] for line in machine.journal("dux-slots")])


def test_the_node_stops_within_ten_seconds(machine: Machine) -> None:
    """Every daemon ends by itself after `systemctl stop duxnet.target`, none has to be killed, and all start again."""
    began = time.monotonic()
    machine.sh("systemctl", "stop", "duxnet.target")
    states = [*UNITS, "dux-slots.service"]
    wait_for("stop", lambda: {machine.show(u, "ActiveState")["ActiveState"] for u in states} == {"inactive"}, 30)
    took = time.monotonic() - began
    note(f"stopped in {took:.1f} s")
    assert took < STOP_S_MAX
    assert {machine.show(unit, "Result")["Result"] for unit in states} == {"success"}
    began = time.monotonic()
    machine.sh("systemctl", "start", "duxnet.target")
    note(f"started in {time.monotonic() - began:.1f} s")
    assert [unit for unit in UNITS if not pid_of(machine, unit)] == []


def give_it_a_chain(machine: Machine) -> None:
    """A coin chain on the machine, and what its owner writes to use it: profile, address, login."""
    profile = NetworkProfile(name="nspawn", chain="embedded", genesis="00" * 32, heights="demo")
    genesis = genesis_hash(chain_of(profile))
    settings = machine.folder / "etc/duxnet"
    save_profile(msgspec.structs.replace(profile, genesis=genesis), settings / "own.yaml")
    for name, changes in (
        ("common", {"network_profile": "own.yaml"}),
        ("p2pd", {"egress_allow": {"flopd": [f"127.0.0.1:{CHAIN_PORT}"]}}),
        ("flopd", {
            "source": "core",
            "node_url": f"http://127.0.0.1:{CHAIN_PORT}",
            "node_password_file": "/run/credentials/dux-flopd.service/node-login",
        }),
    ):  # fmt: skip
        path = settings / f"{name}.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
    login = machine.folder / "etc/credstore/duxnet.node-login"
    login.parent.mkdir(mode=0o700, exist_ok=True)
    login.write_text("owner:made-for-this-test\n")
    shutil.copyfile(HERE / "test-chain.service", machine.folder / "etc/systemd/system/test-chain.service")
    wants = machine.folder / "etc/systemd/system/multi-user.target.wants/test-chain.service"
    wants.symlink_to("/etc/systemd/system/test-chain.service")


def test_second_boot_is_the_same_node(machine: Machine) -> None:
    """Power off, add a coin chain, power on: the same DID, keys made once, the chain followed, the node registered."""
    first = made(machine)
    note(f"powered off in {machine.off():.1f} s")
    give_it_a_chain(machine)
    note(f"second boot in {machine.boot():.1f} s")
    assert machine.state() == "running"
    assert machine.show("dux-keygen.service", "ConditionResult") == {"ConditionResult": "no"}
    wait_for("the chain is followed", lambda: duxnet(machine, "status").get("synced"), 30)
    answer = duxnet(machine, "status")
    assert answer["did"] == first["did"]
    assert [name for name, info in answer["daemons"].items() if not info["healthy"]] == []
    registered = partial(duxnet, machine, "rpc", "registryd", "node.self", "{}")
    paid_at = script_to_address(payout(machine), EMBEDDED)  # at the first boot, in another network, it had another text
    wait_for("registration", lambda: registered().get("wallet_address") == paid_at, 30)


def test_an_owner_brings_the_keys_back_from_the_phrase(machine: Machine) -> None:
    """As docs/operations.md says: stop, remove what the first boot made, type the phrase, start: the wallet is back."""
    before = payout(machine)
    phrase = machine.sh("dux-keygen", "show").stdout.strip()
    machine.sh("systemctl", "stop", "duxnet.target", *UNITS)
    machine.sh("sh", "-c", "rm -r /var/lib/duxnet /etc/credstore.encrypted/duxnet.passphrase")
    machine.sh("sh", "-c", 'echo "$0" | dux-keygen restore', phrase)
    machine.sh("systemctl", "start", "duxnet.target")
    assert [unit for unit in UNITS if not pid_of(machine, unit)] == []
    owner = machine.sh("stat", "-c", "%U %a", "/var/lib/duxnet/flopd/wallet.key", "/var/lib/duxnet/p2pd").stdout
    assert payout(machine) == before
    assert owner.splitlines() == ["dux-flopd 600", "dux-p2pd 700"]
    assert "sealed" not in str(duxnet(machine, "status")["daemons"]["flopd"]["problems"])
