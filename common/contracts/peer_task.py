"""What taskds ask each other: the key of a private input, and how far a job is.

Source: settled.md 2 (private inputs carry the DIDs of their audience; the session names the asker).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Canon
from common.rpc.method import PeerMethod

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]


class AskInputKey(Canon, frozen=True):
    """The key of this private input (blob id)."""

    blob: Bytes32


class InputKey(Canon, frozen=True):
    """An AES-256 key, shown to the input's audience only."""

    key: Bytes32


class AskProgress(Canon, frozen=True):
    """How far is the job of this contract? Answered to its buyer only."""

    contract_id: Bytes32


class Progress(Canon, frozen=True):
    """Thousandths, and the state in the worker's own word."""

    permille: Annotated[int, Meta(ge=0, le=1000)]
    state: Annotated[str, Meta(max_length=32)]


INPUT_KEY = PeerMethod(
    name="task.input_key", repeated="read",
    owner="taskd", params=AskInputKey, result=InputKey, callers=("taskd",), cost=2,
    params_bytes_max=256, summary="The key of a private input, for somebody of its audience.",
)  # fmt: skip
PROGRESS = PeerMethod(
    name="task.progress", repeated="read",
    owner="taskd", params=AskProgress, result=Progress, callers=("taskd",), cost=1,
    params_bytes_max=256, summary="How far a job is, for its buyer.",
)  # fmt: skip
