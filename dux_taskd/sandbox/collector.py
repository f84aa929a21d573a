"""Fetches a job's one result file from its output folder, after everything in the slot is dead.

Promise: what is read is a regular file with one name, inside that folder, of at most the allowed bytes. Links are never
followed, pipes and devices never opened for long, other files make the output void. Works on a folder's descriptor
only.

Source: facts/sandboxes.md pitfall 11.
"""

from __future__ import annotations

import os
import stat
from itertools import islice

from dux_taskd.sandbox.bwrap import RESULT_NAME

ENTRIES_MAX = 8


class NoResult(Exception):
    """The job left no result that may be taken; the text says why."""


def open_result(folder: int, *, bytes_max: int) -> int:
    """The result file, open for reading.

    Raises:
        NoResult: none, or more than one file, a link, a special file, one with two names, or too long.
    """
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in islice(entries, ENTRIES_MAX))
    if names != [RESULT_NAME]:
        raise NoResult(f"the job must leave exactly one file, /out/{RESULT_NAME}; it left {names}"[:300])
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        file = os.open(RESULT_NAME, flags, dir_fd=folder)
    except OSError as error:
        raise NoResult(f"/out/{RESULT_NAME} cannot be opened as a plain file: {error.strerror}") from error
    fault = file_fault(os.fstat(file), bytes_max)
    if fault:
        os.close(file)
        raise NoResult(fault)
    return file


def file_fault(status: os.stat_result, bytes_max: int) -> str | None:
    """Why a file with this status is no result, or None."""
    if not stat.S_ISREG(status.st_mode):
        return f"/out/{RESULT_NAME} is no plain file"
    if status.st_nlink != 1:
        return f"/out/{RESULT_NAME} has {status.st_nlink} names"
    if status.st_size > bytes_max:
        return f"/out/{RESULT_NAME} has {status.st_size} bytes, the job allows {bytes_max}"
    return None


def read_result(file: int, *, bytes_max: int) -> bytes:
    """The bytes of an open result; checked again here, because the descriptor came from another process.

    Raises:
        NoResult: not a plain file within the limit.
    """
    fault = file_fault(os.fstat(file), bytes_max)
    if fault:
        raise NoResult(fault)
    with os.fdopen(os.dup(file), "rb") as stream:
        data = stream.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise NoResult(f"/out/{RESULT_NAME} grew while it was read")
    return data
