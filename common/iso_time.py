"""Moments as people and programs read them. Does not know what time it is."""

from __future__ import annotations

from datetime import UTC, datetime

_CALENDAR_END_S = 253_402_300_799  # the last second of the year 9999: `datetime` knows none later


def iso_time(unix_ms: int) -> str:
    """ISO 8601 in UTC, whole seconds. What a stranger dates before 1970 or after 9999 is told as the nearest of these.

    Times in signed words are integers of any size: no view may fail of one.
    """
    unix_s = min(max(unix_ms // 1000, 0), _CALENDAR_END_S)
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
