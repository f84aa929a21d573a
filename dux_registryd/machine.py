"""What this machine is and how busy it is, read from the operating system. Measures, decides nothing.

Linux only, as Dux OS is: `/proc`, `/sys` and `statvfs`. What cannot be read counts as nothing offered. Inside a
container its limits count (cgroup v2, and the CPUs that this process may use), not the host's size.
"""

from __future__ import annotations

import os
import platform
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from common.receipts import NO_HARDWARE
from common.receipts import Hardware as CloserLook
from common.units import BPS
from dux_registryd.model import Load

MIB = 1 << 20
GIB = 1 << 30
ROOT = Path("/")
GPU_MAKERS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a node can offer at most."""

    hostname: str
    os_version: str
    cpu_cores: int
    memory_mb: int
    storage_gb: int
    gpu_model: str = ""
    closer: CloserLook = NO_HARDWARE


class Machine:
    """This machine; its storage is that of the file system which holds `data_dir`. A simulated node has another."""

    def __init__(self, data_dir: Path, root: Path = ROOT) -> None:
        """`root`: where /proc and /sys are."""
        self._data_dir = data_dir
        self._root = root

    def hardware(self) -> Hardware:
        """What it can offer at most."""
        disk, root = os.statvfs(self._data_dir), self._root
        gpu_model, gpu_memory_mb = _gpu(root)
        model, mhz = _cpu(root)
        return Hardware(
            hostname=socket.gethostname(),
            os_version=_os_version(),
            cpu_cores=cores(root),
            memory_mb=memory_mb(root)[0],
            storage_gb=disk.f_blocks * disk.f_frsize // GIB,
            gpu_model=gpu_model,
            closer=CloserLook(
                cpu_model=model,
                cpu_arch=platform.machine()[:16],
                cpu_mhz=mhz,
                kernel=platform.release()[:64],
                gpu_memory_mb=gpu_memory_mb,
                tpm=_tpm(root),
            ),
        )

    def load(self, uptime_s: int) -> Load:
        """How busy it is now."""
        total_mb, free_mb = memory_mb(self._root)
        disk = os.statvfs(self._data_dir)
        one, five, fifteen = (round(value * 1000) for value in os.getloadavg())
        return Load(
            uptime_s=uptime_s,
            load_milli=(one, five, fifteen),
            memory_used_bps=(total_mb - free_mb) * BPS // total_mb if total_mb else 0,
            disk_used_bps=(disk.f_blocks - disk.f_bavail) * BPS // disk.f_blocks if disk.f_blocks else 0,
            memory_available_mb=free_mb,
            cpu_available=max(0, cores(self._root) - one // 1000),
        )


def cores(root: Path) -> int:
    """The CPUs that this process may use: its affinity, and no more than its cgroup's quota."""
    usable = len(os.sched_getaffinity(0)) if root == ROOT else os.cpu_count() or 1
    quota, _, period = _text(root / "sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        usable = min(usable, max(1, int(quota) // int(period)))
    return usable


def memory_mb(root: Path) -> tuple[int, int]:
    """Total and available memory, the cgroup's where it is smaller; zeros where the kernel does not tell."""
    fields: dict[str, int] = {}
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        fields[name] = _number(rest)
    total, free = fields.get("MemTotal", 0) // 1024, fields.get("MemAvailable", 0) // 1024
    limit = _text(root / "sys/fs/cgroup/memory.max")
    if limit.isdigit() and int(limit) // MIB < total:
        used = _number(_text(root / "sys/fs/cgroup/memory.current")) // MIB
        total = int(limit) // MIB
        free = min(free, max(0, total - used))
    return total, free


def _cpu(root: Path) -> tuple[str, int]:
    """The processor's name and its greatest clock in MHz."""
    lines = _text(root / "proc/cpuinfo").splitlines()
    told = dict(re.split(r"\s*:\s*", line, maxsplit=1) for line in lines if ":" in line)
    khz = _number(_text(root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"))
    return told.get("model name", told.get("Model", ""))[:96], khz // 1000 or _number(told.get("cpu MHz", ""))


def _gpu(root: Path) -> tuple[str, int]:
    """The first graphics card's name and memory in MB; empty where there is none."""
    for told in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        found = re.search(r"Model:\s*(.+)", _text(told))
        if found:
            return found[1].strip()[:128], 0
    for card in sorted(root.glob("sys/class/drm/card[0-9]*/device")):
        maker = GPU_MAKERS.get(_text(card / "vendor"))
        if maker:
            memory = _number(_text(card / "mem_info_vram_total")) // MIB
            return f"{maker} {_text(card / 'device')}".strip()[:128], memory
    return "", 0


def _tpm(root: Path) -> str:
    major = _text(root / "sys/class/tpm/tpm0/tpm_version_major")
    return {"2": "2.0", "1": "1.2"}.get(major, "")


def _os_version() -> str:
    try:
        return platform.freedesktop_os_release().get("VERSION_ID", "")[:64]
    except OSError:
        return platform.release()[:64]


def _text(path: Path) -> str:
    """A small file's text; empty when it is not there or may not be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int:
    """The whole number that a text begins with; 0 when it begins with none."""
    found = re.match(r"\s*(\d+)", text)
    return int(found[1]) if found else 0
