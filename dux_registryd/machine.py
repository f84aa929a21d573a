"""What this machine is and how busy it is, read from the operating system. Measures, decides nothing.

Linux only, as Dux OS is: `/proc` and `statvfs`. What cannot be read counts as nothing offered.
"""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from pathlib import Path

from common.units import BPS
from dux_registryd.model import Load

MEMINFO = Path("/proc/meminfo")
MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a node can offer at most."""

    hostname: str
    os_version: str
    cpu_cores: int
    memory_mb: int
    storage_gb: int


class Machine:
    """This machine; its storage is that of the file system which holds `data_dir`. A simulated node has another."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def hardware(self) -> Hardware:
        """What it can offer at most."""
        total_mb, _ = _memory_mb()
        disk = os.statvfs(self._data_dir)
        return Hardware(
            hostname=socket.gethostname(),
            os_version=_os_version(),
            cpu_cores=os.cpu_count() or 1,
            memory_mb=total_mb,
            storage_gb=disk.f_blocks * disk.f_frsize // GIB,
        )

    def load(self, uptime_s: int) -> Load:
        """How busy it is now."""
        total_mb, free_mb = _memory_mb()
        disk = os.statvfs(self._data_dir)
        one, five, fifteen = (round(value * 1000) for value in os.getloadavg())
        cores = os.cpu_count() or 1
        return Load(
            uptime_s=uptime_s,
            load_milli=(one, five, fifteen),
            memory_used_bps=(total_mb - free_mb) * BPS // total_mb if total_mb else 0,
            disk_used_bps=(disk.f_blocks - disk.f_bavail) * BPS // disk.f_blocks if disk.f_blocks else 0,
            memory_available_mb=free_mb,
            cpu_available=max(0, cores - one // 1000),
        )


def _memory_mb() -> tuple[int, int]:
    """Total and available memory; zeros where the kernel does not tell (a unit with ProcSubset=pid)."""
    fields: dict[str, int] = {}
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return 0, 0
    for line in lines:
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0])
    return fields.get("MemTotal", 0) // 1024, fields.get("MemAvailable", 0) // 1024


def _os_version() -> str:
    try:
        return platform.freedesktop_os_release().get("VERSION_ID", "")[:64]
    except OSError:
        return platform.release()[:64]
