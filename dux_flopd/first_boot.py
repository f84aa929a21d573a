"""The first boot of an installed node: keys are made with nobody present, and each file goes to its daemon's user.

    DATA/keygen/new/     everything, until the last file is made; then it is handed out from there
    DATA/<daemon>/…      a daemon's own files, which its user alone reads
    DATA/keygen/         the sealed phrase, root's alone
    DATA/keygen/made     the node's DID; once it is there, systemd does not start this any more

Promises: cut off at any point, the next start goes on with the same keys or begins anew, and never mixes two phrases;
keys that the owner made before (`dux-keygen restore`) are kept and handed out. Source: settled.md 1.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from common.codec import Wire, from_json, json_bytes
from common.errors import CallerMistake
from common.identity.branch import BRANCH_FILE, decode_branch, did_of_branch
from common.keyfile import read_limited, write_private
from common.keygen import UNLOCK_BYTES, UNLOCK_FILE, WALLET_FILE, leave_payout, make_keys
from common.network import NetworkProfile
from common.randomness import Randomness
from dux_flopd.machine_seal import open_on_machine

MADE_FILE = "keygen/made"
WORKSHOP = "keygen/new"
COMPLETE = "complete"
FOLDER_MODE = 0o700

Owner = Callable[[str], tuple[int, int]]  # a folder below DATA -> the user and group of its daemon
Seal = Callable[[bytes, Path], bool]


class HalfAKeySet(CallerMistake):
    """{path} is there and its counterpart is not: these keys are not whole. Restore them: `dux-keygen restore`."""

    code = 2035
    key = "half-a-key-set"


class Made(Wire, frozen=True):
    """What may be known of the keys, and where the passphrase lies that opens them (empty: in the unlock file)."""

    did: str
    credential: str


def first_boot(
    data: Path,
    network: NetworkProfile,
    *,
    owner: Owner,
    seal: Seal,
    credential: Path,
    randomness: Randomness,
    made_ms: int,
) -> Made:
    """Make the keys unless they are there, hand them out, and write down that it is done.

    Raises:
        HalfAKeySet: wallet without identity or the other way round, and nothing here that could complete it.
    """
    workshop = data / WORKSHOP
    workshop.parent.mkdir(parents=True, exist_ok=True)
    workshop.parent.chmod(FOLDER_MODE)
    known = [path for path in (data / MADE_FILE, workshop / COMPLETE) if path.exists()]
    if known:
        made = from_json(read_limited(known[0]), Made)
    elif has_keys(data):
        shutil.rmtree(workshop, ignore_errors=True)
        made = _of_owner(data, network)
    else:
        made = _make(workshop, network, seal, credential, randomness, made_ms)
    _hand_out(workshop, data, owner)
    write_private(data / MADE_FILE, json_bytes(made))
    shutil.rmtree(workshop, ignore_errors=True)
    return made


def has_keys(data: Path) -> bool:
    """True when wallet and identity are there.

    Raises:
        HalfAKeySet: one of them is missing.
    """
    found = [name for name in (WALLET_FILE, f"p2pd/{BRANCH_FILE}") if (data / name).exists()]
    if len(found) == 1:
        raise HalfAKeySet(path=str(data / found[0]))
    return bool(found)


def opener_of(data: Path, ask: Callable[[], str]) -> bytes:
    """What opens the keys below `data`: the unlock file, what is sealed to the machine, or what a person types."""
    if (data / UNLOCK_FILE).exists():
        return read_limited(data / UNLOCK_FILE).strip()
    made = from_json(read_limited(data / MADE_FILE), Made) if (data / MADE_FILE).exists() else None
    return open_on_machine(Path(made.credential)) if made and made.credential else ask().encode()


def _make(
    workshop: Path, network: NetworkProfile, seal: Seal, credential: Path, randomness: Randomness, made_ms: int
) -> Made:
    """A whole set in the workshop; its last file says that it is whole."""
    shutil.rmtree(workshop, ignore_errors=True)
    passphrase = randomness.bytes(UNLOCK_BYTES).hex().encode()
    sealed = seal(passphrase, credential)
    keys = make_keys(
        workshop, network, randomness=randomness, made_ms=made_ms, passphrase=passphrase if sealed else b""
    )
    leave_payout(workshop, keys, network)
    made = Made(did=keys.did, credential=str(credential) if sealed else "")
    write_private(workshop / COMPLETE, json_bytes(made))
    return made


def _of_owner(data: Path, network: NetworkProfile) -> Made:
    branch = decode_branch(read_limited(data / "p2pd" / BRANCH_FILE))
    return Made(did=did_of_branch(branch, network.inception_bits), credential="")


def _hand_out(workshop: Path, data: Path, owner: Owner) -> None:
    """Every file moves to its place and to its owner; what was moved before a cut-off only gets its owner."""
    for path in sorted(_files(workshop)):
        relative = path.relative_to(workshop)
        if len(relative.parts) > 1:
            (data / relative.parent).mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            path.replace(data / relative)
    for folder in (data / name for name in ("p2pd", "flopd", "registryd") if (data / name).is_dir()):
        folder.chmod(FOLDER_MODE)
        for path in (*_files(folder), folder):
            os.chown(path, *owner(folder.name), follow_symlinks=False)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
