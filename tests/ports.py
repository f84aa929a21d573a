"""Ports for tests that nobody else on this machine holds or gets: not another test process, not a demo, not the kernel.

A process takes whole blocks, the demo's own and by the same names, so two of them never share one; a name goes with its
process, however that ends. Inside of a block ports are handed out by turn, each only while it is free on every address.
All lie below those that the kernel gives to outgoing connections: a port that binding port 0 found may be any
connection's a moment later. It does not know who picks ports by another rule; of those it sees only who listens.

Source: ip(7), ip_local_port_range; unix(7), abstract names.
"""

from __future__ import annotations

import os
import socket

from common.node_ports import OUTSIDE_OFFSET, PORT_BASE, PORTS_PER_NODE
from dux_cli.demo.ports import is_free, name_of
from dux_cli.demo.stage import CHAIN_PORT_OFFSET, PORTS_FROM, PORTS_TO

BLOCK_PORTS = 700
USED_PORTS = BLOCK_PORTS - 2 * CHAIN_PORT_OFFSET  # the rest is the next block's chain
BLOCKS_MAX = 4  # of one process; afterwards its own are used again
EVERYWHERE = ""  # every address
NODE_PORTS = OUTSIDE_OFFSET + 1
NUMBERS = range((61_000 - PORT_BASE) // PORTS_PER_NODE + 1, (65_500 - PORT_BASE) // PORTS_PER_NODE)

_names: dict[int, socket.socket] = {}  # of what this process has taken, by its first port


def free_ports(count: int = 1) -> int:
    """The first of so many free ports in a row."""
    return _hand.take(count)


def free_base() -> int:
    """A port base of a node all of whose ports are free."""
    return free_ports(NODE_PORTS)


def free_numbers(count: int) -> int:
    """The first of so many numbers of nodes whose ports by the usual rule are free: above the kernel's, as few are."""
    for first in NUMBERS[::count][:-1]:
        bases = [PORT_BASE + PORTS_PER_NODE * (first + at) for at in range(count)]
        if _take_name(bases[0]) and all(is_free(base + at, EVERYWHERE) for base in bases for at in range(NODE_PORTS)):
            return first
    raise AssertionError(f"no {count} nodes' ports in a row are free; end what listens on {PORT_BASE} and above")


def _take_name(first: int) -> bool:
    """Whether these ports are this process's from now on; not when they are already."""
    name = name_of(first)
    if name is not None:
        _names[first] = name
    return name is not None


class _Hand:
    """Goes through this process's blocks, and round again when it may have no more."""

    def __init__(self) -> None:
        self._blocks: list[int] = []
        self._block = 0  # its place among them
        self._next = USED_PORTS  # in that block

    def take(self, count: int) -> int:
        """So many free ports in a row."""
        for _ in range((BLOCKS_MAX + 1) * USED_PORTS):
            if self._next + count > USED_PORTS:
                self._turn()
            first = self._blocks[self._block] + self._next
            if all(is_free(port, EVERYWHERE) for port in range(first, first + count)):
                self._next += count
                return first
            self._next += 1
        raise AssertionError(f"no {count} free ports in a row in {self._blocks}; end what listens there")

    def _turn(self) -> None:
        if len(self._blocks) < BLOCKS_MAX and (more := self._another()):
            self._blocks.append(more)
            self._block = len(self._blocks) - 1
        elif self._blocks:
            self._block = (self._block + 1) % len(self._blocks)
        else:
            raise AssertionError("every block of ports is taken: too many demos and tests at a time")
        self._next = 0

    def _another(self) -> int:
        """A block that nobody has; each process begins elsewhere, for those that go by another rule. 0: none."""
        blocks = range(PORTS_FROM, PORTS_TO - BLOCK_PORTS, BLOCK_PORTS)
        begin = os.getpid() % len(blocks)
        for first in (*blocks[begin:], *blocks[:begin]):
            if _take_name(first):
                return first
        return 0


_hand = _Hand()
