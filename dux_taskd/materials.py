"""Fetches what a job needs: its package, its input, and the key of a private input.

Promise: what is returned has the hashes that the job names. It asks only the nodes it is told to ask.
"""

from __future__ import annotations

from common.contracts.peer_task import INPUT_KEY, AskInputKey
from common.errors import DuxError, NotNow, Unavailable
from common.peers import Peers
from common.units import Did
from common.work import JobSpec, input_hash_of
from dux_taskd import sealing
from dux_taskd.sandbox.native import SCRIPT_BYTES_MAX
from dux_taskd.sandbox.wasm_abi import INPUT_BYTES_MAX, MODULE_BYTES_MAX
from dux_taskd.store import TaskStore

PACKAGE_BYTES_MAX = max(MODULE_BYTES_MAX, SCRIPT_BYTES_MAX)


class WrongMaterial(Exception):
    """What was found is not what the job names; the text says what."""


class Materials:
    """Packages and inputs, through p2pd."""

    def __init__(self, peers: Peers, store: TaskStore) -> None:
        self._peers, self._store = peers, store

    async def gather(self, job: JobSpec, providers: list[Did]) -> tuple[bytes, bytes]:
        """(package, input in the clear).

        Raises:
            BlobMissing, Unavailable: nobody asked has it now.
            WrongMaterial: it is there and does not fit.
        """
        package = await self._peers.fetch_blob(job.package.hex(), providers, max_bytes=PACKAGE_BYTES_MAX)
        limit = INPUT_BYTES_MAX + sealing.OVERHEAD_BYTES
        found = await self._peers.fetch_blob(job.input_blob.hex(), providers, max_bytes=limit)
        data = await self._in_the_clear(job, found, providers) if job.input_private else found
        if input_hash_of(data) != job.input_hash:
            raise WrongMaterial("the input is not the one that the job names")
        return package, data

    async def _in_the_clear(self, job: JobSpec, sealed: bytes, providers: list[Did]) -> bytes:
        """With the key known here, or the first one shown that fits; that is kept for the rest of the audience."""
        blob, later, reasons = job.input_blob.hex(), list[DuxError](), list[str]()
        known = self._store.input_key(blob)
        if known is not None:
            return _opened(known, sealed, job)
        for did in providers:
            try:
                answer = await self._peers.call(did, INPUT_KEY, AskInputKey(blob=job.input_blob))
                data = _opened(answer.key, sealed, job)
            except (WrongMaterial, DuxError) as error:
                later += [error] if isinstance(error, NotNow | Unavailable) else []
                reasons.append(str(error))
                continue
            with self._store.store.transaction() as tx:
                self._store.keep_input_key(tx, blob, answer.key, job.audience)
            return data
        if later:
            raise later[0]  # somebody who may have it could not be asked: nobody is blamed for that
        raise WrongMaterial(f"nobody shows the key of the private input ({'; '.join(reasons)[:200]})")


def _opened(key: bytes, sealed: bytes, job: JobSpec) -> bytes:
    """The input under this key, if it is the one that the job names."""
    try:
        data = sealing.open_input(key, sealed)
    except sealing.SealBroken as error:
        raise WrongMaterial("the private input does not open with the key that was shown") from error
    if input_hash_of(data) != job.input_hash:
        raise WrongMaterial("the input is not the one that the job names")
    return data
