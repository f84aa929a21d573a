"""What simulated daemons log to: nothing, or the lines of a traced history. Logs are never part of the hash."""

from __future__ import annotations

from typing import Any

from dux_sim.world.history import History

FIELDS_SHOWN_MAX = 6
FIELD_CHARS_MAX = 100


class QuietLog:
    """Takes every call and does nothing, cheaply."""

    def bind(self, **_: object) -> QuietLog:
        """Itself."""
        return self

    new = unbind = try_unbind = bind

    def debug(self, *_args: object, **_fields: object) -> None:
        """Nothing."""

    info = warning = error = exception = critical = msg = log = debug


class ToldLog(QuietLog):
    """Each line of the log becomes a line of the trace."""

    def __init__(self, history: History, who: str) -> None:
        self._history = history
        self._who = who

    def _tell(self, event: str, **fields: Any) -> None:
        shown = " ".join(
            f"{key}={str(value)[:FIELD_CHARS_MAX]}" for key, value in list(fields.items())[:FIELDS_SHOWN_MAX]
        )
        self._history.tell("log", f"{self._who}: {event} {shown}")

    info = warning = error = exception = critical = _tell  # type: ignore[assignment]


def log_for(history: History, who: str) -> Any:
    """The logger of one daemon."""
    return ToldLog(history, who) if history.is_traced else QuietLog()
