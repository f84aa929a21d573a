"""`dux-keygen`: makes a node's keys once, shows the phrase until its owner has written it down, then erases it.

    dux-keygen make    --config DIR [--ask-passphrase]      new keys; prints the phrase
    dux-keygen restore --config DIR [--ask-passphrase]      keys of a phrase that is typed in
    dux-keygen show    --config DIR                         the phrase once more, while it is kept
    dux-keygen confirm --config DIR                         it is written down: erase it
    dux-keygen first-boot --config DIR                      what systemd runs once, as root: keys for each daemon's user

Reads `common.yaml` and the network profile in DIR, and writes below `data_dir`. Runs as the user who owns that folder,
before any daemon does.
"""

from __future__ import annotations

import argparse
import getpass
import os
import pwd
import sys
from pathlib import Path

from common.clock import Clock, SystemClock
from common.errors import DuxError, NotFound
from common.keygen import KeysMade, erase_phrase, leave_payout, make_keys, read_phrase
from common.network import NetworkProfile, load_profile
from common.passphrase import check_strength
from common.randomness import Randomness, SystemRandomness
from common.settings import CONFIG_DEFAULT, DaemonSettings, load_settings
from dux_flopd.first_boot import first_boot, opener_of
from dux_flopd.machine_seal import seal_to_machine

EXIT_MISTAKE = 1
EXIT_USAGE = 2
USER_PREFIX = "dux-"
CREDENTIAL_FILE = Path("/etc/credstore.encrypted/duxnet.passphrase")  # as dux-flopd.service names it


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
        sys.stdout.write(read_phrase(data, opener_of(data, lambda: _ask("Passphrase: "))) + "\n")
        return 0
    if options.command == "first-boot":
        node = first_boot(
            data,
            network,
            owner=user_of,
            seal=seal_to_machine,
            credential=CREDENTIAL_FILE,
            randomness=random,
            made_ms=clock.unix_ms(),
        )
        sys.stdout.write(f"this node is {node.did}; `dux-keygen show` shows its phrase to root\n")
        return 0
    phrase = _ask("Recovery phrase: ") if options.command == "restore" else ""
    passphrase = _new_passphrase() if options.ask_passphrase else b""
    made = make_keys(data, network, randomness=random, made_ms=clock.unix_ms(), phrase=phrase, passphrase=passphrase)
    leave_payout(data, made, network)
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


def user_of(daemon: str) -> tuple[int, int]:
    """The user and group of a daemon of an installed node.

    Raises:
        NotFound: `systemd-sysusers` has not made it.
    """
    try:
        found = pwd.getpwnam(USER_PREFIX + daemon)
    except KeyError as error:
        raise NotFound(what="user (systemd-sysusers makes it)", name=USER_PREFIX + daemon) from error
    return found.pw_uid, found.pw_gid


def _new_passphrase() -> bytes:
    first, second = _ask("New passphrase: "), _ask("Once more: ")
    if not first or first != second:
        sys.stderr.write("The two are empty or differ; nothing was made.\n")
        sys.exit(EXIT_USAGE)
    check_strength(first)
    return first.encode()


def _ask(prompt: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(prompt)
    return sys.stdin.readline().rstrip("\n")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dux-keygen", description="Makes a node's keys from one recovery phrase.")
    parser.add_argument("command", choices=("make", "restore", "show", "confirm", "first-boot"))
    parser.add_argument("--config", type=Path, default=CONFIG_DEFAULT, help="folder with common.yaml")
    parser.add_argument("--ask-passphrase", action="store_true", help="seal with a passphrase, not an unlock file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
