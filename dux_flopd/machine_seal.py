"""Seals the wallet's passphrase to this machine with systemd-creds, so that a copy of flopd's files opens no wallet.

Promises: the passphrase is never on the disk in the clear; where systemd cannot seal, nothing is left and the answer is
no. flopd itself knows nothing of this: systemd opens the file for it (LoadCredentialEncrypted).
Source: systemd-creds(1).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from dux_flopd.unlock import CREDENTIAL

TOOL = "systemd-creds"
TOOL_S_MAX = 30.0
WITH_KEY = "host"  # not a TPM: its registers change with firmware updates, and nobody is there to restore the keys


def seal_to_machine(passphrase: bytes, path: Path) -> bool:
    """Write the sealed passphrase; False, with the reason on stderr, where this machine cannot."""
    if shutil.which(TOOL) is None or not path.parent.is_dir():
        sys.stderr.write(f"the passphrase is not sealed to this machine: no {TOOL}, or no {path.parent}\n")
        return False
    done = _run("encrypt", f"--with-key={WITH_KEY}", f"--name={CREDENTIAL}", "-", str(path), given=passphrase)
    if done.returncode != 0:
        sys.stderr.write(f"the passphrase is not sealed to this machine: {done.stderr.decode(errors='replace')}\n")
        path.unlink(missing_ok=True)
    return done.returncode == 0


def open_on_machine(path: Path) -> bytes:
    """The passphrase in the sealed file, for root.

    Raises:
        OSError: it cannot be opened here, with systemd's own words.
    """
    done = _run("decrypt", f"--name={CREDENTIAL}", str(path), "-")
    if done.returncode != 0:
        raise OSError(f"{path}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.strip()


def _run(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([TOOL, *words], input=given, capture_output=True, check=False, timeout=TOOL_S_MAX)  # noqa: S603
