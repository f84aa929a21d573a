"""Files that go into jobs and come out of them: pictures are turned into what the sandboxed program reads, and back.

A PNG or JPEG becomes raw pixels on the way in, because a program without libraries reads those; raw pixels become a PNG
or JPEG again, as the output's name says. Every other file passes as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.contracts.task import INPUT_BYTES_MAX
from common.errors import CallerMistake
from dux_cli.out_files import Unusable, unwritable, write_out
from dux_cli.pictures import FORMATS, MAGIC, raw_from_file, write_picture

if TYPE_CHECKING:
    from pathlib import Path


class InputTooLarge(CallerMistake):
    """{name} makes a job input of {size_bytes} bytes; {limit_bytes} are allowed. Use a smaller picture or file."""

    code = 7102
    key = "input-too-large"


class ResultNotWritten(CallerMistake):
    """{path} cannot be used: {reason}. The result is paid and kept: `{again}` writes it elsewhere."""

    code = 7106
    key = "result-not-written"


def read_input(path: Path) -> bytes:
    """A job's input bytes.

    Raises:
        NotAPicture: it is called a picture and is none. InputTooLarge: no node takes that much.
    """
    data = raw_from_file(path) if path.suffix.lower() in FORMATS else path.read_bytes()
    if len(data) > INPUT_BYTES_MAX:
        raise InputTooLarge(name=path.name, size_bytes=len(data), limit_bytes=INPUT_BYTES_MAX)
    return data


def write_output(data: bytes, path: Path) -> str:
    """Write a job's output; what was written, in words.

    Raises:
        NotAPicture: pixels, and a name that is no picture's. Unusable: the place does not take it.
    """
    if data.startswith(MAGIC) and path.suffix.lower() in FORMATS:
        width, height = write_picture(data, path)
        return f"{path} ({width} x {height} pixels)"
    write_out(path, data)
    return f"{path} ({len(data)} bytes)"


def write_result(data: bytes, path: Path, again: str) -> str:
    """Write what was paid for; what was written, in words. `again`: the command that writes it elsewhere.

    Raises:
        ResultNotWritten: the place does not take it.
    """
    try:
        return write_output(data, path)
    except Unusable as error:
        raise ResultNotWritten(path=str(path), reason=error.fields["reason"], again=again) from error


def place_of(output: Path | None, input_file: Path) -> Path:
    """Where a result will go, looked at before anything is paid.

    Raises:
        Unusable: nobody named a place, and the one beside the input takes no file.
    """
    path = output or default_output(input_file)
    fault = unwritable(path)
    if fault:
        raise Unusable(path=str(path), reason=f"{fault}; say where the result goes: --output FILE")
    return path


def default_output(input_file: Path) -> Path:
    """Where the result goes when nobody says: beside the input, `-result` in its name."""
    return input_file.with_name(f"{input_file.stem}-result{input_file.suffix}")
