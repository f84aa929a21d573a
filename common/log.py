"""Structured logs: one line per event, for journald or a person.

Events are constant past-tense phrases with the facts as fields. Under systemd a line is JSON after `<6>`, which
journald reads as its priority; on a terminal it is coloured text. Fields that are named like secrets never get out.
Source: style.md 2.7.
"""

from __future__ import annotations

import logging
import os
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

LEVELS = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARNING": logging.WARNING, "ERROR": logging.ERROR}
_level = logging.INFO  # of the whole process; SIGHUP may change it
_PRIORITY = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>", "critical": "<2>"}
_SECRET_WORDS = ("seed", "phrase", "secret", "token", "password", "passphrase", "private", "preimage", "mnemonic")
LOG_FILE_BYTES_MAX = 8 * 1024 * 1024  # then it becomes FILE.1 and the older one goes: a live system logs into memory


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank every field whose name speaks of a secret, and every value of raw bytes (logs hold no keys)."""
    for name, value in event.items():
        if any(word in name.lower() for word in _SECRET_WORDS):
            event[name] = "[redacted]"
        elif isinstance(value, bytes):
            event[name] = f"[{len(value)} bytes]"
    return event


def set_level(level: str) -> None:
    """From now on tell only what is at least this important; `level` is one of LEVELS."""
    global _level  # noqa: PLW0603 - a process has one journal
    _level = LEVELS[level]


def _below_level(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    if LEVELS.get("ERROR" if method in ("exception", "critical") else method.upper(), logging.ERROR) < _level:
        raise structlog.DropEvent
    return event


class _JournalRenderer:
    def __init__(self) -> None:
        self._json = structlog.processors.JSONRenderer()

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        priority = _PRIORITY.get(str(event.get("level", "info")), "<6>")
        return priority + str(self._json(logger, method, event))


class _LogFile:
    """A file of bounded size that lines are appended to."""

    def __init__(self, path: Path) -> None:
        self._file = RotatingFileHandler(path, maxBytes=LOG_FILE_BYTES_MAX, backupCount=1)
        self._file.terminator = ""

    def write(self, text: str) -> None:
        self._file.handle(logging.LogRecord("", logging.INFO, "", 0, text, None, None))

    def flush(self) -> None:
        self._file.flush()


class _Both:
    """Tells the journal and the file."""

    def __init__(self, journal: TextIO, file: _LogFile) -> None:
        self._journal, self._file = journal, file

    def write(self, text: str) -> None:
        self._journal.write(text)
        self._file.write(text)

    def flush(self) -> None:
        self._journal.flush()
        self._file.flush()


def _is_the_journal(stream: TextIO) -> bool:
    """True when systemd reads this stream. Source: systemd.exec(5), JOURNAL_STREAM."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _stream(log_file: Path | None) -> TextIO:
    if log_file is None:
        return sys.stderr
    file = _LogFile(log_file)
    return cast("TextIO", _Both(sys.stderr, file) if _is_the_journal(sys.stderr) else file)


def start_logging(daemon: str, level: str, log_file: Path | None = None) -> FilteringBoundLogger:
    """Set up the process's logs and return the daemon's logger. `level` is one of LEVELS; `log_file` is appended to.

    With a log file standard error stays silent, unless it is the journal: `journalctl` shows everything always.
    """
    stream = _stream(log_file)
    set_level(level)
    person = log_file is None and sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if person else _JournalRenderer()
    structlog.configure(
        processors=[
            _below_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    return logger(daemon)


def logger(daemon: str) -> FilteringBoundLogger:
    """A logger whose lines carry the daemon's name."""
    return cast("FilteringBoundLogger", structlog.get_logger().bind(daemon=daemon))
