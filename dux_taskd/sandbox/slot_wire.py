"""What taskd and the slot launcher say to each other: one request, then what happened. Over a local packet socket.

A packet is one canonical struct; open files ride along. The launcher trusts nothing in a request but that its sender's
uid is the one it was told to serve, and checks every figure.
"""

from __future__ import annotations

import array
import socket
from enum import StrEnum
from typing import Annotated, TypeVar

from msgspec import Meta

from common.codec import Canon, canonical, from_canonical

PACKET_BYTES_MAX = 32_768
FDS_MAX = 4

COMMANDS = {"python": "/usr/bin/python3", "node": "/usr/bin/node", "bash": "/usr/bin/bash"}

C = TypeVar("C", bound=Canon)


class SlotRequest(Canon, frozen=True):
    """Run this once. Files with it: script, input, a pipe's end for what the job prints."""

    command: Annotated[str, Meta(max_length=16)]
    args: Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(max_length=16)]
    wall_ms: Annotated[int, Meta(ge=1, le=86_400_000)]
    memory_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 36)]  # of the whole slot, tmpfs and copies included
    output_bytes: Annotated[int, Meta(ge=1, le=1 << 30)]
    processes: Annotated[int, Meta(ge=8, le=4_096)]
    cpus_milli: Annotated[int, Meta(ge=10, le=64_000)]  # thousandths of one CPU


class SlotEnd(StrEnum):
    """How a slot's run ended."""

    EXITED = "exited"
    DEADLINE = "deadline"
    BROKEN = "broken"  # the sandbox could not be set up as it must be; nothing ran


class SlotEnded(Canon, frozen=True):
    """After everything in the slot is dead. With it, when there is one: the result, open for reading."""

    end: SlotEnd
    exit_code: int
    detail: Annotated[str, Meta(max_length=2_000)]
    out_of_memory: bool
    memory_peak_bytes: int
    cpu_ms: int
    output_fault: Annotated[str, Meta(max_length=300)]  # why there is no result file, or empty


def send(to: socket.socket, message: Canon, fds: tuple[int, ...] = ()) -> None:
    """One packet with its open files."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    to.sendmsg([canonical(message)], ancillary)


def receive(source: socket.socket, kind: type[C]) -> tuple[C, list[int]]:
    """One packet and its open files, which are the caller's to close.

    Raises:
        EOFError: the other side has gone.
        BadParams: not such a message.
    """
    data, fds, _, _ = socket.recv_fds(source, PACKET_BYTES_MAX, FDS_MAX)
    if not data:
        raise EOFError("the other side closed the connection")
    return from_canonical(data, kind, max_bytes=PACKET_BYTES_MAX), fds
