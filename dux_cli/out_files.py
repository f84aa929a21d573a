"""Where a command writes what it was asked for: a place that cannot be written to is refused before anything is done.

Promises: an option of the type OutFile is looked at when the command line is read, so that nothing was paid, signed or
made for an answer that has no place; `write_out` makes the folder; what goes wrong later is an Unusable with the path.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from common.errors import CallerMistake


class Unusable(CallerMistake):
    """{path} cannot be used: {reason}. Name another, or mend its rights."""

    code = 1148
    key = "unusable-file"


class OutFile(click.ParamType[Path]):
    """A file to be written: its nearest folder that is there is one, and may be written to."""

    name = "FILE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path as written."""
        path = Path(str(value))
        fault = unwritable(path)
        if fault:
            self.fail(f"{path} cannot be written: {fault}; name another", param, ctx)
        return path


def unwritable(path: Path) -> str:
    """Why a file cannot be written there, or an empty string."""
    if path.is_dir():
        return "it is a folder"
    if path.exists():
        return "" if os.access(path, os.W_OK) else "its rights forbid it"
    nearest = next((one for one in path.absolute().parents if one.exists()), Path("/"))
    if not nearest.is_dir():
        return f"{nearest} is no folder"
    return "" if os.access(nearest, os.W_OK) else f"the rights of {nearest} forbid it"


def try_out(path: Path) -> bool:
    """Have the place show that it takes a file, since rights do not tell all; whether the file is new and empty.

    Raises:
        Unusable: it takes none.
    """
    is_new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            return is_new
    except OSError as error:
        raise unusable(error, path) from error


def write_out(path: Path, data: bytes) -> None:
    """Write an answer's file, its folder too.

    Raises:
        Unusable: the place does not take it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise unusable(error, path) from error


def unusable(error: OSError, path: Path | str) -> Unusable:
    """The error of a file, told to a person."""
    return Unusable(path=str(path), reason=error.strerror or type(error).__name__)
