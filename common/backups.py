"""Copies of a daemon's store, taken while it runs: two generations beside it.

A copy that fails is told by `/health` until one succeeds, and ends nothing. Does not know what is in the store.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from common.store import Store

LOOK_S = 86_400  # where no copies are wanted, the loop sleeps


class Backups:
    """The backups of one store; with none, or an interval of 0 seconds, it does nothing."""

    def __init__(
        self, store: Store | None, folder: Path, name: str, interval_s: int, log: FilteringBoundLogger
    ) -> None:
        self._store = store
        self._folder = folder
        self._name = name
        self._interval_s = interval_s
        self._log = log
        self.problem = ""  # why the last copy failed

    async def run(self) -> None:
        """A copy after each interval, until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s or LOOK_S)
            if self._interval_s:
                self.copy()

    def copy(self) -> None:
        """One copy now; the one before stays as the second generation."""
        if self._store is None:
            return
        try:
            self._copy(self._store)
            self.problem = ""
        except (OSError, sqlite3.Error) as error:
            self.problem = f"the store could not be copied to {self._folder}: {error}; make room there"
            self._log.error("backup failed", reason=str(error))

    def _copy(self, store: Store) -> None:
        newest, older = self._folder / f"{self._name}.sqlite", self._folder / f"{self._name}.1.sqlite"
        if newest.exists():
            newest.replace(older)
        store.backup(newest)
        self._log.info("store backed up", path=str(newest))
