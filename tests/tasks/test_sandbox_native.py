"""Hostile and honest scripts in the real hardened sandbox, through the real slot launcher."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.work import Limits
from dux_taskd.sandbox import collector, native_probe, slot_launcher, slot_wire
from dux_taskd.sandbox.model import Ended, Outcome, Run
from dux_taskd.sandbox.native import NativeRunner
from tests.tasks.task_kit import SLOT_UIDS, wait_until

pytestmark = pytest.mark.sandbox
COMMANDS = ("python", "bash", "node")
LIMITS = Limits(fuel=0, memory_bytes=96 << 20, wall_s=15, output_bytes=1 << 20)


async def go(launcher: Path, script: str, *args: str, entry: str = "python", deadline_s: float = 15.0) -> Outcome:
    """Run a script in a slot."""
    run = Run(package=script.encode(), entry=entry, args=args, input=b"duck", limits=LIMITS)
    return await NativeRunner(SystemClock(), launcher, COMMANDS).run(
        run, deadline_s=deadline_s, progress=lambda _: None
    )


def slot_processes() -> list[int]:
    """Every living process of a slot's uid, as the host sees it."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                uid = folder.stat().st_uid
                state = (folder / "stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if SLOT_UIDS <= uid < SLOT_UIDS + slot_launcher.RANGE and state != "Z":
                found.append(int(folder.name))
    return found


async def test_the_probe_offers_native_here(launcher: Path) -> None:
    """Every positive and every negative control holds on this machine."""
    offer = await NativeRunner(SystemClock(), launcher, COMMANDS).probe()
    assert offer.offered, offer.reason
    assert len(offer.probes) > 20


async def test_without_a_launcher_native_is_not_offered_and_nothing_runs(tmp_path: Path) -> None:
    """No launcher: the probe says what to do, and a run is BROKEN; there is no second way to start a script."""
    runner = NativeRunner(SystemClock(), tmp_path / "none.sock", COMMANDS)
    offer = await runner.probe()
    assert not offer.offered
    assert "duxnet up" in offer.reason
    mark = tmp_path / "mark"
    outcome = await go(tmp_path / "none.sock", f"touch {mark}", entry="bash")
    assert outcome.ended is Ended.BROKEN
    assert not mark.exists()


async def test_a_weaker_sandbox_is_found_out(launcher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe whose planted file is visible inside (here: under /usr) withdraws the kind."""
    planted = native_probe.LOOK.replace('planted["file"]', '"/usr/bin/env", "rb"')
    monkeypatch.setattr(native_probe, "LOOK", planted)
    offer = await NativeRunner(SystemClock(), launcher, COMMANDS).probe()
    assert not offer.offered
    assert "host file read" in offer.reason


async def test_each_command_runs_and_gives_its_result(launcher: Path) -> None:
    """Python, bash and node: input in, /out/result out, what was printed in the log."""
    scripts = {
        "bash": "tr a-z A-Z < /job/input > /out/result; echo said",
        "python": "open('/out/result','w').write(open('/job/input').read().upper()); print('said')",
        "node": "const f=require('fs')\nconst text=f.readFileSync('/job/input','utf8')\n"
        "f.writeFileSync('/out/result', text.toUpperCase())\nconsole.log('said')",
    }
    installed = [name for name in scripts if os.path.exists(slot_wire.COMMANDS[name])]  # noqa: PTH110, ASYNC240
    for name in installed:
        outcome = await go(launcher, scripts[name], entry=name)
        assert (outcome.ended, outcome.output, outcome.log) == (Ended.DONE, b"DUCK", b"said\n"), (name, outcome)


HOSTILE = {
    "memory bomb": (native_probe.EAT, ("400",), Ended.OUT_OF_MEMORY),
    "memory bomb in shared memory": (
        "import os\nwhile True: os.write(os.memfd_create('x'), b'x'*(1<<20))",
        (),
        Ended.OUT_OF_MEMORY,
    ),
    "memory bomb in many children": (
        "import os,time\nfor i in range(12):\n if os.fork()==0:\n  x=b'x'*(40<<20)\n  time.sleep(9)\ntime.sleep(2)",
        (),
        Ended.OUT_OF_MEMORY,
    ),
    "infinite loop": ("while True: pass", (), Ended.DEADLINE),
    "ignores signals": (
        "import signal\nfor n in {*range(1, 32)} - {9, 19}: signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
        (),
        Ended.DEADLINE,
    ),
    "stops itself": ("import os,signal\nos.fork()\nos.kill(os.getpid(), signal.SIGSTOP)", (), Ended.DEADLINE),
    "fork bomb": ("import os\nwhile True:\n try: os.fork()\n except OSError: pass", (), Ended.DEADLINE),
    "flood of words": ("while True: print('x'*65536)", (), Ended.OUTPUT_TOO_LARGE),
    "symlink to host file": ("import os\nos.symlink('/etc/passwd','/out/result')", (), Ended.FAILED),
    "symlink to host root": ("import os\nos.symlink('/proc/1/root/etc/shadow','/out/result')", (), Ended.FAILED),
    "pipe as result": ("import os\nos.mkfifo('/out/result')", (), Ended.FAILED),
    "folder as result": ("import os\nos.mkdir('/out/result')", (), Ended.FAILED),
    "two names": ("import os\nopen('/out/result','w')\nos.link('/out/result','/out/other')", (), Ended.FAILED),
    "more files": ("open('/out/result','w'); open('/out/more','w')", (), Ended.FAILED),
    "no result": ("pass", (), Ended.FAILED),
    "unreadable result": ("import os\nopen('/out/result','w')\nos.chmod('/out/result',0)", (), Ended.FAILED),
    "bad exit": ("open('/out/result','w')\nraise SystemExit(3)", (), Ended.FAILED),
    "output bomb": ("open('/out/result','wb').write(b'x'*(64<<20))", (), Ended.FAILED),
    "many files": ("for i in range(10**6): open(f'/out/{i}','w')", (), Ended.FAILED),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_jobs_are_contained(launcher: Path, name: str) -> None:
    """Each ends in its own way, gives no output, and leaves no process behind."""
    script, args, ended = HOSTILE[name]
    outcome = await go(launcher, script, *args, deadline_s=1.0 if ended is Ended.DEADLINE else 15.0)
    assert outcome.ended is ended, outcome
    assert outcome.output == b""
    await wait_until(lambda: slot_processes() == [], within_s=2)


REACH = {
    "password file": "open('/etc/passwd').read()",
    "shadow": "open('/etc/shadow').read()",
    "home": "os.listdir('/root')",
    "environment of process 1": "(lambda b: b or 1/0)(open('/proc/1/environ','rb').read())",
    "init of the host": "os.readlink('/proc/1/exe').index('systemd')",
    "kernel setting": "os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY)",
    "disk": "os.open('/dev/vda', os.O_RDONLY)",
    "outside": "socket.create_connection(('1.1.1.1', 53), timeout=2)",
    "loopback": "socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=2)",
    "name service": "socket.getaddrinfo('example.org', 80)",
    "vsock": "socket.socket(40, 1)",
    "mount": "(lambda r: r == 0 or 1/0)(ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None))",
    "user namespace": "(lambda r: r == 0 or 1/0)(ctypes.CDLL(None).unshare(0x10000000))",
    "trace": "(lambda r: r == 0 or 1/0)(ctypes.CDLL(None).ptrace(16, 1, 0, 0))",
    "keyring": "(lambda r: r >= 0 or 1/0)(ctypes.CDLL(None).syscall(250, 0, -3, 1))",
    "write to usr": "open('/usr/x', 'w')",
    "write to root": "open('/x', 'w')",
    "launcher's socket": "socket.socket(1, 5).connect(sys.argv[2])",
}


async def test_no_job_reaches_the_host(launcher: Path) -> None:
    """One job tries everything that gave hosts away before; it must succeed with nothing."""
    lines = [f"attempt({name!r}, lambda: {code})" for name, code in REACH.items()]
    script = "\n".join(
        [
            "import ctypes, os, socket, sys",
            "out = open('/out/result', 'w')",
            "def attempt(name, action):",
            "  try: action()",
            "  except BaseException: return",
            "  print(name, file=out)",
            *lines,
            "attempt('control', lambda: 1)",
        ]
    )
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        outcome = await go(launcher, script, str(server.sockets[0].getsockname()[1]), str(launcher))
    assert outcome.ended is Ended.DONE, outcome
    assert outcome.output == b"control\n"


async def test_a_grandchild_that_left_its_session_dies_with_the_job(launcher: Path) -> None:
    """The run ends when the job exits, not when its output closes; whatever it left behind is killed."""
    leave = "if os.fork()==0:\n os.setsid()\n time.sleep(300)\n"
    script = f"import os,time\n{leave}open('/out/result','w').write('x')\nos._exit(0)"
    outcome = await go(launcher, script)
    assert (outcome.ended, outcome.output) == (Ended.DONE, b"x")
    await wait_until(lambda: slot_processes() == [], within_s=2)


async def test_cancelling_kills_the_job_before_it_returns(launcher: Path) -> None:
    """A cancelled run leaves no process when the cancellation has gone through."""
    task = asyncio.ensure_future(go(launcher, "while True: pass"))
    await wait_until(lambda: bool(slot_processes()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wait_until(lambda: slot_processes() == [], within_s=2)


async def test_slots_are_used_again_and_side_by_side(launcher: Path) -> None:
    """More jobs than slots all get their result: a slot that was emptied serves the next one."""
    jobs = [go(launcher, f"open('/out/result','w').write('{n}')") for n in range(2 * slot_launcher.SLOTS)]
    outcomes = await asyncio.gather(*jobs)
    assert [outcome.output for outcome in outcomes] == [str(n).encode() for n in range(2 * slot_launcher.SLOTS)]


async def test_only_the_named_uid_is_served(tmp_path: Path) -> None:
    """A launcher told to serve another uid serves not even root: the connection is closed, nothing runs."""
    if os.geteuid() != 0:
        pytest.skip("needs root to start a launcher")
    socket = tmp_path / "other.sock"
    words = ["-m", "dux_taskd.sandbox.slot_launcher", "--socket", str(socket), "--serve-uid", "12345"]
    with subprocess.Popen([sys.executable, *words], cwd=Path(__file__).parents[2]) as process:  # noqa: ASYNC220
        await wait_until(socket.exists)
        outcome = await go(socket, "open('/out/result','w')")
        process.terminate()
    assert outcome.ended is Ended.BROKEN


def test_whom_it_serves_may_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A unit file knows the name of taskd's user, not its number; a name that is no user's is told."""
    named = slot_launcher.read_options(["--socket", "/run/s", "--serve-user", "root"])
    assert named.serve_uid == 0
    with pytest.raises(SystemExit):
        slot_launcher.read_options(["--socket", "/run/s", "--serve-user", "no-such-user"])
    assert "there is no user no-such-user" in capsys.readouterr().err


def test_without_control_groups_it_ends_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no limit could hold there is nothing to launch: exit code 69, which its unit takes for an answer."""

    def none() -> None:
        raise OSError("no control group for memory")

    monkeypatch.setattr(slot_launcher.cgroups, "find_parents", none)
    words = ["--socket", str(tmp_path / "s"), "--serve-uid", "1", "--first-uid", str(SLOT_UIDS + 100_000)]
    assert slot_launcher.main(words) == slot_launcher.EXIT_UNAVAILABLE == 69
    assert "no control group for memory" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_two_launchers_never_share_uids() -> None:
    """Each claims a range of its own; a range is free again when its launcher is gone."""
    first, uid = slot_launcher.claim_uids(SLOT_UIDS + 1)
    second, other = slot_launcher.claim_uids(SLOT_UIDS + 1)
    assert other == uid + slot_launcher.RANGE
    first.close()
    third, again = slot_launcher.claim_uids(SLOT_UIDS + 1)
    assert again == uid
    second.close()
    third.close()


def test_the_collector_never_follows_or_opens_what_is_no_plain_file(tmp_path: Path) -> None:
    """Links, pipes, folders, second names and long files are refused by name; a plain file is opened."""
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    result = tmp_path / "result"
    secret = tmp_path.parent / "secret"
    secret.write_text("secret")
    makers = {
        "link": lambda: result.symlink_to(secret),
        "dangling link": lambda: result.symlink_to("nowhere"),
        "pipe": lambda: os.mkfifo(result),
        "second name": lambda: os.link(secret, result),
        "long": lambda: result.write_bytes(bytes(17)),
    }
    for make in makers.values():
        make()
        with pytest.raises(collector.NoResult):
            collector.open_result(folder, bytes_max=16)
        result.unlink()
    result.write_bytes(bytes(16))
    file = collector.open_result(folder, bytes_max=16)
    assert collector.read_result(file, bytes_max=16) == bytes(16)
    os.close(file)
    os.close(folder)


@pytest.mark.parametrize("entry", ["/bin/sh", "python3", "", "../bash", "perl"])
async def test_only_named_commands_start(launcher: Path, entry: str) -> None:
    """The entry is a name from the table, never a path."""
    assert (await go(launcher, "echo", entry=entry)).ended is Ended.FAILED


async def test_an_operator_may_allow_fewer_commands(launcher: Path) -> None:
    """allowed_commands limits what is started, whatever the machine has."""
    run = Run(package=b"echo x > /out/result", entry="bash", args=(), input=b"", limits=LIMITS)
    outcome = await NativeRunner(SystemClock(), launcher, ("python",)).run(run, deadline_s=5.0, progress=lambda _: None)
    assert outcome.ended is Ended.FAILED
