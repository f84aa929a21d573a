"""Daemons that misbehave, for the demo and for tests: the real ones with one part bent.

They are run in a daemon's place (`python -m dux_sim.liars` is the wrong-result taskd); no switch for them exists in any
product daemon.
"""

from __future__ import annotations

import msgspec

from common.parts import Parts
from common.work import JobKind, JobSpec
from dux_taskd.daemon import TaskDaemon
from dux_taskd.executor import Executor
from dux_taskd.sandbox.model import Outcome, Progress
from dux_taskd.settings import TaskSettings


class AlteringExecutor(Executor):
    """Runs every job honestly and changes the last byte of what it sells."""

    async def execute(self, job: JobSpec, package: bytes, data: bytes, progress: Progress) -> Outcome:
        """The honest outcome, one byte off."""
        outcome = await super().execute(job, package, data, progress)
        if job.kind is JobKind.CHECK or not outcome.output:
            return outcome
        return msgspec.structs.replace(outcome, output=outcome.output[:-1] + bytes([outcome.output[-1] ^ 1]))


class WrongResultDaemon(TaskDaemon):
    """A taskd that delivers wrong results, signed and committed to as if they were right."""

    def make_executor(self, parts: Parts[TaskSettings]) -> Executor:
        """The honest daemon's executor, bent."""
        executor = super().make_executor(parts)
        executor.__class__ = AlteringExecutor
        return executor


if __name__ == "__main__":
    WrongResultDaemon.main()
