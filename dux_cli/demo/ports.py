"""Choosing ports so that two processes of this machine never choose the same ones.

A name of the abstract namespace stands for a block of ports: it goes with the process that bound it, however that ends.
Source: unix(7).
"""

from __future__ import annotations

import socket


def name_of(first: int) -> socket.socket | None:
    """The name of the ports from this one on, this process's while it is open; None when somebody has it already."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0duxnet-ports-{first}")
    except OSError:
        name.close()
        return None
    return name


def is_free(port: int, host: str) -> bool:
    """Whether somebody could listen there; an empty host stands for every address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))  # closed at once: nobody is let in
        except OSError:
            return False
    return True
