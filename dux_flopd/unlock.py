"""Opens the sealed keys: by systemd credential, by an unlock file, or by asking a person at the terminal.

The passphrase is held no longer than it takes; it is in no log and no error. Source: money.md §3, settled.md 1.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from common.contracts.wallet_errors import DoesNotOpen
from common.errors import BadSettings, NotFound
from common.keygen import WalletSecrets, open_wallet

CREDENTIAL = "passphrase"  # LoadCredentialEncrypted=passphrase in the unit
ATTEMPTS = 3

Ask = Callable[[], str]


def passphrase_from_files(unlock_file: Path, environment: Mapping[str, str]) -> bytes | None:
    """The passphrase of the credential, else of the unlock file; None when there is neither."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    paths = [Path(folder) / CREDENTIAL] if folder else []
    for path in (*paths, unlock_file):
        if path.is_file():
            return path.read_bytes().strip()
    return None


def open_keys(
    wallet_file: Path, unlock_file: Path, environment: Mapping[str, str], ask: Ask | None
) -> WalletSecrets | None:
    """The keys, or None when there is nobody to ask for the passphrase.

    Raises:
        BadSettings: there is no wallet file yet.
        DoesNotOpen: the passphrase is wrong.
    """
    passphrase = passphrase_from_files(unlock_file, environment)
    try:
        if passphrase is not None:
            return open_wallet(wallet_file, passphrase)
        return _open_by_asking(wallet_file, ask) if ask else None
    except NotFound as error:
        raise BadSettings(path=str(wallet_file), detail="make the node's keys first: `dux-keygen make`") from error


def _open_by_asking(wallet_file: Path, ask: Ask) -> WalletSecrets:
    for _ in range(ATTEMPTS - 1):
        try:
            return open_wallet(wallet_file, ask().encode())
        except DoesNotOpen:
            sys.stderr.write("That does not open the wallet; try again.\n")
    return open_wallet(wallet_file, ask().encode())


def terminal() -> Ask | None:
    """Asks at the terminal, where there is one."""
    if not (sys.stdin and sys.stdin.isatty()):
        return None
    return lambda: getpass.getpass("Passphrase of the wallet: ")


def environment() -> Mapping[str, str]:
    """The process's environment, read here alone."""
    return os.environ
