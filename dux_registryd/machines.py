"""What is known of machines from signed results that are not too old. Reads, decides by the rules, writes nothing."""

from __future__ import annotations

from common.clock import Clock
from common.network import BenchmarkParameters
from common.receipts import NodeInfo, attested, body_of
from common.standing import STATEMENT_BYTES_MAX, BenchmarkResult, Kind
from common.units import Did
from dux_registryd.benchmark_rules import Figures, figures_of, verified_parts
from dux_registryd.fault_rules import DAY_MS
from dux_registryd.store import Book
from dux_registryd.store_standing import Kept

RESULTS_MAX = 64  # the newest of one node


class Machines:
    """Measured beside declared."""

    def __init__(self, book: Book, rules: BenchmarkParameters, clock: Clock) -> None:
        self._book = book
        self.rules = rules
        self._clock = clock

    def results(self, did: Did) -> list[Kept]:
        """Signed measurements of a machine, the newest first; of each challenger the newest."""
        from_ms = self._clock.unix_ms() - self.rules.valid_days * DAY_MS
        newest: dict[Did, Kept] = {}
        for kept in self._book.statements_about(Kind.BENCHMARK, did, from_ms, RESULTS_MAX):
            newest.setdefault(kept.signer, kept)
        return list(newest.values())

    def quotes(self, did: Did) -> list[Kept]:
        """Checked quotes of its TPM, the newest first."""
        from_ms = self._clock.unix_ms() - self.rules.valid_days * DAY_MS
        return self._book.statements_about(Kind.QUOTE, did, from_ms, RESULTS_MAX)

    def figures(self, did: Did) -> Figures:
        """What was measured of it."""
        return figures_of(
            body_of(attested(kept.note.body), BenchmarkResult, STATEMENT_BYTES_MAX) for kept in self.results(did)
        )

    def verified(self, info: NodeInfo) -> tuple[str, ...]:
        """The parts of its declaration that are borne out; `tpm` when a quote was checked."""
        parts = verified_parts(info, self.figures(info.did), self.rules)
        return (*parts, "tpm") if self.quotes(info.did) else parts
