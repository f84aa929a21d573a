"""Peers that are fetched when somebody measures beside them: wheels and environments in a cache, never in the project.

Promises that what cannot be had is said with the reason and breaks nothing else: no row of ours depends on it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from common.errors import Unavailable

FETCH_WITHIN_S = 300.0


class Missing(Unavailable):
    """{what}: {reason}."""

    code = 1346
    key = "peer-missing"


def cache_dir() -> Path:
    """Where they are kept between runs: `$XDG_CACHE_HOME/duxnet/peers`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    found = Path(base) / "duxnet" / "peers"
    found.mkdir(parents=True, exist_ok=True, mode=0o700)
    return found


def wheel_of(package: str, cache: Path) -> Path:
    """The newest wheel of one package, without what it depends on.

    Raises:
        Missing: it cannot be fetched.
    """
    _run(
        package, sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
        "--dest", str(cache), package,
    )  # fmt: skip
    wheels = sorted(cache.glob(f"{package}-*.whl"))
    if not wheels:
        raise Missing(what=package, reason="pip fetched no wheel")
    return wheels[-1]


async def python_with(package: str, cache: Path) -> Path:
    """The Python of an environment that has this package.

    Raises:
        Missing: it cannot be installed.
    """
    folder = cache / f"env-{package}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        await asyncio.to_thread(_run, package, sys.executable, "-m", "venv", str(folder))
        await asyncio.to_thread(_run, package, str(python), "-m", "pip", "install", "--quiet", package)
        (folder / "complete").touch()
    return python


def _run(package: str, *words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=FETCH_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(what=package, reason=f"{type(error).__name__}") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Missing(what=package, reason=f"could not be fetched: {lines[-1][:160] if lines else 'pip failed'}")
