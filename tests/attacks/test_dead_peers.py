"""Half-open TCP as it really happens: a process that is stopped, a path that drops every packet. Both at once, 16 s."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress

import pytest

from dux_p2pd.wire_limits import DEAD_AFTER_S
from tests.attacks.registry import attack, met

pytestmark = [pytest.mark.constellation, pytest.mark.timeout(60)]
SLACK_S = 2.0  # of a loaded machine
NEAR, FAR = "10.213.7.1", "10.213.7.2"


@asynccontextmanager
async def process(*words, inside=()):
    command = [*inside, sys.executable, "-m", "tests.attacks.far_node", *words]
    started = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.kill(started.pid, signal.SIGKILL)
        await started.wait()


async def line(started):
    async with asyncio.timeout(DEAD_AFTER_S + 20):
        return (await started.stdout.readline()).decode().split()


async def found_dead_after_s(dialler):
    seconds, *reason = await line(dialler)
    assert "sign" in reason, reason
    return float(seconds)


@attack(
    "TCP",
    tries="a peer's process is stopped (SIGSTOP): its kernel goes on acknowledging every byte",
    meets="found dead 15 s after its last byte; the call under way fails with the reason",
)
async def test_a_stopped_process():
    """TCP is in perfect order, nobody is there: only our own timer can tell."""
    async with process("127.0.91.1", "0", "stopped") as far:
        host, port = await line(far)
        async with process("--dial", host, port, "stopped", "127.0.92.1") as near:
            assert await line(near) == ["up"]
            await asyncio.sleep(0.5)
            os.kill(far.pid, signal.SIGSTOP)
            took = await found_dead_after_s(near)
    assert DEAD_AFTER_S - 1 <= took <= DEAD_AFTER_S + SLACK_S
    met(f"found dead after {took:.1f} s")


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True)


@asynccontextmanager
async def two_namespaces():
    """Two network namespaces of our own, joined by a cable."""
    names = (f"duxnear{os.getpid()}", f"duxfar{os.getpid()}")
    cables = (f"dn{os.getpid()}", f"df{os.getpid()}")
    try:
        for name in names:
            run("ip", "netns", "add", name)
        run(
            "ip",
            "link",
            "add",
            cables[0],
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            cables[1],
            "netns",
            names[1],
        )
        for name, cable, address in zip(names, cables, (NEAR, FAR), strict=True):
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", cable)
            run("ip", "-n", name, "link", "set", cable, "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        yield names, cables
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)  # noqa: ASYNC221 - at the end


@attack(
    "TCP",
    tries="the path to a peer drops every packet, in both directions, without a word",
    meets="found dead 15 s after its last byte, at both ends",
)
async def test_a_path_that_drops_everything():
    """No FIN, no RST, no ICMP. A hole in the routing, as a router that died would leave it."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and ip (apt-get install iproute2)")
    try:
        run("ip", "netns", "add", f"duxtry{os.getpid()}")
        run("ip", "netns", "del", f"duxtry{os.getpid()}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr.strip()[:100]}")
    async with two_namespaces() as ((near_net, far_net), _cables):
        exec_in = ("ip", "netns", "exec")
        async with process(FAR, "0", "cut", inside=(*exec_in, far_net)) as far:
            host, port = await line(far)
            async with process("--dial", host, port, "cut", NEAR, inside=(*exec_in, near_net)) as near:
                assert await line(near) == ["up"]
                await asyncio.sleep(0.5)
                run("ip", "-n", far_net, "route", "add", "blackhole", NEAR)
                run("ip", "-n", near_net, "route", "add", "blackhole", FAR)
                took = await found_dead_after_s(near)
    assert DEAD_AFTER_S - 1 <= took <= DEAD_AFTER_S + SLACK_S
    met(f"found dead after {took:.1f} s")
