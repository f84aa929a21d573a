"""RPC of machines: what was measured of them, and that this one is busy now."""

from __future__ import annotations

from common.contracts.registry_machine import Busy, MachineAsked, MachineView, MeasuredBy, QuoteView
from common.errors import NotFound
from common.receipts import attested, body_of
from common.rpc.method import Done
from common.rpc.table import Ctx
from common.standing import STATEMENT_BYTES_MAX, BenchmarkResult, QuoteSeen
from common.units import Did
from dux_registryd.bench_prover import BenchProver
from dux_registryd.benchmark_rules import cores_seen, sizes_of, slow_parts, wrong_parts
from dux_registryd.machines import Machines
from dux_registryd.store import Book
from dux_registryd.store_standing import Kept
from dux_registryd.views import iso_time


class MachineMethods:
    """What callers may ask about machines."""

    def __init__(self, book: Book, machines: Machines, prover: BenchProver) -> None:
        self._book = book
        self._machines = machines
        self._prover = prover

    async def show(self, params: MachineAsked, _ctx: Ctx) -> MachineView:
        """Measured beside declared, with the signed results."""
        held = self._book.node(params.node_id)
        if held is None:
            raise NotFound(what="node", name=params.node_id)
        info, did = held.info, Did(params.node_id)
        figures, sizes = self._machines.figures(did), sizes_of(info, self._machines.rules)
        return MachineView(
            node_id=did,
            verified=self._machines.verified(info),
            declared_cores=info.cpu_cores,
            declared_memory_mb=info.memory_mb,
            declared_storage_gb=info.storage_gb,
            cores_seen=cores_seen(figures),
            cpu_single=figures.cpu_single,
            cpu_all=figures.cpu_all,
            memory_mb=figures.memory_mb,
            memory_asked_mb=sizes.memory_mb,
            disk_mb=figures.disk_mb,
            disk_asked_mb=sizes.disk_mb,
            up_kbps=figures.up_kbps,
            down_kbps=figures.down_kbps,
            failed=wrong_parts(figures.failed),
            slow=slow_parts(figures.failed),
            results=tuple(_measured_by(kept) for kept in self._machines.results(did)),
            quotes=tuple(_quote_view(kept) for kept in self._machines.quotes(did)),
        )

    async def busy(self, params: Busy, _ctx: Ctx) -> Done:
        """A paid job runs here."""
        self._prover.busy(params.seconds)
        return Done()


def _measured_by(kept: Kept) -> MeasuredBy:
    result = body_of(attested(kept.note.body), BenchmarkResult, STATEMENT_BYTES_MAX)
    return MeasuredBy(prober=kept.signer, at=iso_time(kept.at_ms), failed=result.failed, signed=kept.note.body)


def _quote_view(kept: Kept) -> QuoteView:
    seen = body_of(attested(kept.note.body), QuoteSeen, STATEMENT_BYTES_MAX)
    return QuoteView(
        verifier=kept.signer,
        at=iso_time(kept.at_ms),
        key_name=seen.key_name.hex(),
        pcr_digest=seen.pcr_digest.hex(),
        firmware=seen.firmware,
        resets=seen.resets,
    )
