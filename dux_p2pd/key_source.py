"""Where the node's operational keys come from: the branch file of key making, or a token that keeps them in.

Promise: whoever holds a source can have each key of the node's own log sign, and nothing else; the phrase and the
recovery keys are never there. Source: settled.md 1, transport_identity.md §2.3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from common.codec import from_canonical
from common.errors import BadParams, BadSettings
from common.identity.branch import BRANCH_FILE, OperationalBranch, decode_branch, inception_of, operational_key
from common.identity.keys import Signer
from common.identity.log import LOG_BYTES_MAX, LogBytes
from common.identity.signed import Signed

TOKEN_FILE = "token.json"  # noqa: S105 - a file's name


class KeySource(Protocol):
    """The keys of one node."""

    def signer(self, seq: int) -> Signer:
        """The key that event `seq` of the log sets.

        Raises:
            NotFound: this source does not reach so far.
        """
        ...

    def first_events(self, inception_bits: int) -> tuple[Signed, ...]:
        """The log that the keys were made for: the inception, or what a recovery left."""
        ...


class BranchKeys:
    """Keys derived from the branch file, as many as there may be."""

    def __init__(self, branch: OperationalBranch) -> None:
        self._branch = branch

    def signer(self, seq: int) -> Signer:
        """The key of event `seq`."""
        return operational_key(self._branch, seq)

    def first_events(self, inception_bits: int) -> tuple[Signed, ...]:
        """The inception; after a recovery the log with the recovery at its end."""
        if self._branch.log:
            return from_canonical(bytes.fromhex(self._branch.log), LogBytes, max_bytes=LOG_BYTES_MAX).events
        return (inception_of(self._branch, inception_bits),)


def load_branch(folder: Path) -> OperationalBranch:
    """The branch file that key making left in p2pd's data directory.

    Raises:
        BadSettings: absent, unreadable or of another form.
    """
    path = folder / BRANCH_FILE
    try:
        return decode_branch(path.read_bytes())
    except OSError as error:
        raise BadSettings(path=str(path), detail=f"{error.strerror}; `duxnet init` makes the node's keys") from error
    except BadParams as error:
        raise BadSettings(path=str(path), detail=str(error.fields["detail"])) from error


def load_keys(folder: Path) -> KeySource:
    """The keys that key making left in p2pd's data directory, or those in the token that is named there.

    Raises:
        BadSettings: absent, unreadable or of another form. TokenAway: the token does not answer.
    """
    if (folder / TOKEN_FILE).exists():
        from dux_p2pd.token_keys import load_token  # noqa: PLC0415 - its library is there for those who have a token

        return load_token(folder)
    return BranchKeys(load_branch(folder))
