"""While a history runs, the real world is out of reach: what asks for it fails, with the place that asked.

A daemon that reads the machine's clock or chance would give another history each time; so it is found here, and not in
a hash that differs. Sockets and processes are refused likewise. The event loop refuses by itself what it lacks.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

FORBIDDEN: tuple[tuple[Any, str], ...] = (
    (time, "time"),
    (time, "time_ns"),
    (time, "monotonic"),
    (time, "monotonic_ns"),
    (time, "sleep"),
    (os, "urandom"),
    (socket.socket, "connect"),
    (socket.socket, "bind"),
    (subprocess.Popen, "__init__"),
    (threading.Thread, "start"),
)


class RealWorld(AssertionError):
    """Something of the machine was asked for inside a simulated history."""


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        raise RealWorld(f"{name} was asked for inside a history: time, chance and sockets come as parts")

    return refuse


@contextmanager
def guarded() -> Iterator[None]:
    """Refuse the machine while it lasts."""
    before = [(owner, name, getattr(owner, name)) for owner, name in FORBIDDEN]
    for owner, name, _ in before:
        setattr(owner, name, _refusal(f"{getattr(owner, '__name__', owner)}.{name}"))
    try:
        yield
    finally:
        for owner, name, real in before:
            setattr(owner, name, real)
