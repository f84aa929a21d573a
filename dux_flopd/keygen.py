"""`dux-keygen`: makes a node's keys once, shows the phrase until its owner has written it down, then erases it.

    dux-keygen make    --config DIR [--ask-passphrase]      new keys; prints the phrase
    dux-keygen restore --config DIR [--ask-passphrase]      keys of a phrase that is typed in
    dux-keygen show    --config DIR                         the phrase once more, while it is kept
    dux-keygen confirm --config DIR                         it is written down: erase it

Reads `common.yaml` and the network profile in DIR, and writes below `data_dir`. Runs as the user who owns that folder,
before any daemon does.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

from common.clock import Clock, SystemClock
from common.errors import DuxError
from common.keyfile import read_limited
from common.keygen import UNLOCK_FILE, KeysMade, erase_phrase, make_keys, read_phrase
from common.network import NetworkProfile, load_profile
from common.randomness import Randomness, SystemRandomness
from common.settings import CONFIG_DEFAULT, DaemonSettings, load_settings

EXIT_MISTAKE = 1
EXIT_USAGE = 2


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 done, 1 refused with the reason, 2 not understood."""
    options = _options(arguments)
    try:
        settings = load_settings(options.config, "keygen", DaemonSettings, os.environ)
        network = load_profile(options.config / settings.network_profile)
        return _run(options, Path(settings.data_dir), network, SystemRandomness(), SystemClock())
    except DuxError as error:
        sys.stderr.write(f"{error.message}\n")
        return EXIT_MISTAKE


def _run(options: argparse.Namespace, data: Path, network: NetworkProfile, random: Randomness, clock: Clock) -> int:
    if options.command == "confirm":
        erase_phrase(data)
        sys.stdout.write("The phrase is erased from this machine. Your paper is now the only copy.\n")
        return 0
    if options.command == "show":
        sys.stdout.write(read_phrase(data, _opener(data)) + "\n")
        return 0
    phrase = _ask("Recovery phrase: ") if options.command == "restore" else ""
    passphrase = _new_passphrase() if options.ask_passphrase else b""
    made = make_keys(data, network, randomness=random, made_ms=clock.unix_ms(), phrase=phrase, passphrase=passphrase)
    _tell(made, is_new=not phrase, network=network)
    return 0


def _tell(made: KeysMade, *, is_new: bool, network: NetworkProfile) -> None:
    sys.stdout.write(f"DID      {made.did}\naddress  {made.address}\n")
    if not is_new:
        return
    sys.stdout.write(f"\nWrite these words down, in this order, on paper:\n\n    {made.phrase}\n\n")
    if network.may_keep_phrase:
        sys.stdout.write("This is a test network: the sealed phrase may stay; `dux-keygen confirm` erases it.\n")
    else:
        sys.stdout.write("They bring back coins and identity, and nothing else does. Then run `dux-keygen confirm`.\n")


def _opener(data: Path) -> bytes:
    unlock = data / UNLOCK_FILE
    return read_limited(unlock).strip() if unlock.exists() else _ask("Passphrase: ").encode()


def _new_passphrase() -> bytes:
    first, second = _ask("New passphrase: "), _ask("Once more: ")
    if not first or first != second:
        sys.stderr.write("The two are empty or differ; nothing was made.\n")
        sys.exit(EXIT_USAGE)
    return first.encode()


def _ask(prompt: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(prompt)
    return sys.stdin.readline().rstrip("\n")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dux-keygen", description="Makes a node's keys from one recovery phrase.")
    parser.add_argument("command", choices=("make", "restore", "show", "confirm"))
    parser.add_argument("--config", type=Path, default=CONFIG_DEFAULT, help="folder with common.yaml")
    parser.add_argument("--ask-passphrase", action="store_true", help="seal with a passphrase, not an unlock file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
