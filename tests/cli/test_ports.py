"""What the tests take ports from: nothing that anybody else holds, gets or is handed by the kernel."""

import socket
import subprocess
import sys
from pathlib import Path

from dux_cli.demo.stage import free_port_base
from tests import ports

ROOT = Path(__file__).resolve().parents[2]
TAKE = "from tests import ports; print(*(ports.free_base() for _ in range(80)), flush=True); input()"
KERNELS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_two_processes_and_a_demo_never_get_the_same_ports() -> None:
    """Also before anybody listens, and when more are wanted than one block has."""
    words = [sys.executable, "-c", TAKE]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = {int(word) for word in other.stdout.readline().split()}
        ours = {ports.free_base() for _ in range(80)}
        demo = free_port_base()
        other.kill()
    blocks = [{(base - 12_000) // ports.BLOCK_PORTS for base in bases} for bases in (theirs, ours, {demo})]
    assert len(set.union(*blocks)) == sum(map(len, blocks))
    assert len(theirs) == len(ours) == 80


def test_ports_in_use_are_passed_over_and_none_is_the_kernels() -> None:
    """On whatever address somebody listens; outgoing connections take theirs from elsewhere."""
    low, high = map(int, KERNELS.read_text().split())
    with socket.socket() as listening:
        hand = ports._Hand()
        first = hand.take(1)
        listening.bind(("127.3.2.1", first + 5))
        listening.listen()
        found = [hand.take(3) for _ in range(4)]
    assert found[0] == first + 1
    assert found[1] > first + 5
    assert all(not low <= port <= high for base in (first, *found) for port in range(base, base + 3))
    number = ports.free_numbers(4)
    bases = [ports.PORT_BASE + ports.PORTS_PER_NODE * (number + at) for at in range(4)]
    assert all(high < base < 65_500 for base in bases)
    assert ports.free_numbers(4) != number
