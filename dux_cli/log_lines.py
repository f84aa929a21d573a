"""A daemon's log for a person: when, how grave, what happened, and its facts as words.

Promises: a line that is no record of ours is shown as it is; nothing in it steers the terminal.
"""

from __future__ import annotations

import json
import re
from typing import Any

from dux_cli.output import printable

PRIORITY = re.compile(r"<\d>")  # systemd's, before the record
TOLD_APART = ("daemon", "event", "exception", "level", "timestamp")
LEVEL_WIDTH = len("warning")


def readable(line: str) -> str:
    """One line of a log as a person reads it; an error's trace follows on lines of its own."""
    record = record_in(line)
    if record is None:
        return printable(line.replace("\t", "  "))
    when = str(record["timestamp"])[:19].replace("T", " ")
    facts = [f"{name}={value}" for name, value in record.items() if name not in TOLD_APART]
    told = "  ".join([when, f"{record.get('level', '')!s:<{LEVEL_WIDTH}}", str(record["event"]), *facts])
    trace = str(record.get("exception", "")).splitlines()
    return "\n".join([printable(told), *(f"    {printable(one)}" for one in trace)])


def record_in(line: str) -> dict[str, Any] | None:
    """What a daemon wrote as one record; None for anything else."""
    try:
        found = json.loads(PRIORITY.sub("", line, count=1))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and {"event", "timestamp"} <= found.keys() else None
