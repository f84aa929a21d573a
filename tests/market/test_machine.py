"""What a machine tells of itself, read from made-up trees of /proc and /sys and from the real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dux_registryd.machine import GIB, MIB, Machine, cores, memory_mb

MEMINFO = "MemTotal:       16384000 kB\nMemFree:  1 kB\nMemAvailable:    8192000 kB\nHugePages_Total:       0\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_machine_as_the_kernel_shows_it(tmp_path: Path) -> None:
    """Processor, clock, memory, graphics card and TPM come from the files of the kernel."""
    root = tree(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC 7763\ncpu MHz\t\t: 2445.424\n",
            "sys/class/drm/card0/device/vendor": "0x1002\n",
            "sys/class/drm/card0/device/device": "0x73bf\n",
            "sys/class/drm/card0/device/mem_info_vram_total": str(16 * GIB),
            "sys/class/tpm/tpm0/tpm_version_major": "2\n",
        },
    )
    found = Machine(tmp_path, root).hardware()
    assert (found.closer.cpu_model, found.closer.cpu_mhz) == ("AMD EPYC 7763", 2445)
    assert (found.gpu_model, found.closer.gpu_memory_mb) == ("AMD 0x73bf", 16 * 1024)
    assert (found.closer.tpm, found.memory_mb) == ("2.0", 16_000)
    tree(root, {"proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t NVIDIA RTX 3080\nIRQ: 5\n"})
    assert Machine(tmp_path, root).hardware().gpu_model == "NVIDIA RTX 3080"


def test_an_empty_tree_offers_nothing(tmp_path: Path) -> None:
    """What cannot be read counts as nothing, and is no error."""
    found = Machine(tmp_path, tmp_path).hardware()
    assert (found.memory_mb, found.gpu_model, found.closer.tpm, found.closer.cpu_model) == (0, "", "", "")
    assert found.cpu_cores >= 1


@pytest.mark.parametrize(("quota", "least"), [("max 100000", 1), ("100000 100000", 1), ("50000 100000", 1), ("x", 1)])
def test_a_containers_cpus_count(tmp_path: Path, quota: str, least: int) -> None:
    """A quota of one CPU is one core; half a one is one, too; `max` is all of them."""
    root = tree(tmp_path, {"sys/fs/cgroup/cpu.max": quota})
    assert cores(root) == (least if quota[0].isdigit() else os.cpu_count())


def test_a_containers_memory_counts(tmp_path: Path) -> None:
    """A limit below the machine's memory is what can be offered, less what is in use."""
    root = tree(tmp_path, {"proc/meminfo": MEMINFO, "sys/fs/cgroup/memory.max": "max"})
    assert memory_mb(root) == (16_000, 8_000)
    tree(root, {"sys/fs/cgroup/memory.max": str(512 * MIB), "sys/fs/cgroup/memory.current": str(100 * MIB)})
    assert memory_mb(root) == (512, 412)


def test_this_machine_has_something(tmp_path: Path) -> None:
    """The real files are read: at least a core, some memory, some storage, a kernel."""
    found, busy = Machine(tmp_path).hardware(), Machine(tmp_path).load(7)
    assert found.cpu_cores >= 1
    assert 0 < busy.memory_available_mb <= found.memory_mb
    assert found.closer.kernel
    assert found.closer.cpu_arch
    assert busy.uptime_s == 7
