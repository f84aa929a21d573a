"""Where the daemons of a node listen: a port base and each daemon's place."""

from __future__ import annotations

from common.rpc.method import DAEMONS

PORT_BASE = 32560
PORTS_PER_NODE = 100  # nodes on one machine stand this far apart (settled.md 12)
OUTSIDE_OFFSET = 10  # p2pd's outside port
INDEX_MAX = (65_535 - PORT_BASE) // PORTS_PER_NODE - 1  # of a node on its machine: all its ports are ports
EGRESS_OFFSET = 8  # p2pd's SOCKS5 port, localhost only


def rpc_port(daemon: str, port_base: int) -> int:
    """The daemon's JSON-RPC port on localhost."""
    return port_base + DAEMONS.index(daemon)


def outside_address(node_index: int) -> str:
    """Node i's own loopback address, each in a subnet of its own, so that limits per subnet stay on."""
    return f"127.{1 + (node_index >> 8)}.{node_index & 255}.1"
