"""TaskSettings of taskd: the specification's `sandbox` keys under their own names, the rest with units in theirs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from common.codec import Wire
from common.errors import BadSettings
from common.settings import DaemonSettings

_SIZE = re.compile(r"(\d{1,6})([kmg]?)")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class Sandbox(Wire, frozen=True):
    """What jobs get at most, and which kinds run at all."""

    runtime: Literal["auto", "wasm", "native"] = "auto"  # auto: whatever the probe has seen to hold
    memory_limit: str = "512m"  # most memory of one job; k, m or g behind the number, powers of 1024
    cpu_limit: Annotated[str, Meta(pattern=r"^\d{1,2}(\.\d{1,3})?$")] = "1.0"  # CPUs of one native job
    network_access: Literal[False] = False  # jobs have no network; a later version may give one through p2pd
    timeout: Annotated[int, Meta(ge=1, le=86_400)] = 300  # most seconds of one job
    allowed_commands: tuple[str, ...] = ("python", "node", "bash")  # of kind native


class TaskSettings(DaemonSettings, frozen=True, kw_only=True):
    """What `taskd.yaml` may hold."""

    sandbox: Sandbox = Sandbox()
    slot_socket: str = ""  # where the slot launcher listens; empty: run_dir/taskd/slots.sock
    jobs_at_once: Annotated[int, Meta(ge=1, le=1024)] = 2  # runs side by side
    memory_budget: str = "2g"  # of all runs together; a job waits until its share is free
    lease_s: Annotated[int, Meta(ge=0, le=86_400)] = 0  # calls over channels cost their price per so long; 0: once
    open_jobs_max: Annotated[int, Meta(ge=1, le=100_000)] = 64  # quoted and not done; more offers are refused
    hold_s: Annotated[int, Meta(ge=3600)] = 14 * 86_400  # how long others are asked to keep a delivered result, seconds


def size_bytes(text: str, path: str) -> int:
    """The bytes in `512m`.

    Raises:
        BadSettings: not a number with k, m or g.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    if not match:
        raise BadSettings(path=path, detail=f"write a size such as 512m or 2g, not {text!r}")
    return int(match.group(1)) * _UNITS[match.group(2)]


def slot_socket(settings: TaskSettings) -> Path:
    """Where the slot launcher is looked for."""
    return Path(settings.slot_socket) if settings.slot_socket else Path(settings.run_dir) / "taskd" / "slots.sock"


def cpus_milli(settings: TaskSettings) -> int:
    """The CPU limit of a native job in thousandths of one CPU."""
    whole, _, rest = settings.sandbox.cpu_limit.partition(".")
    return max(10, int(whole) * 1000 + int(rest.ljust(3, "0")))
