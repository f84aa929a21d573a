"""Assembly of what measures machines: the part of `daemon.py` that is about declared hardware."""

from __future__ import annotations

from common.contracts import registry_machine
from common.contracts.peer_benchmark import (
    BENCHMARK_BEGIN,
    BENCHMARK_FILL,
    BENCHMARK_HASH,
    BENCHMARK_PULL,
    BENCHMARK_PUSH,
    BENCHMARK_WALK,
    TPM_QUOTE,
)
from common.identity.purposes import Purpose
from common.parts import Parts
from common.receipts import NodeInfo
from common.standing import BenchmarkResult, Kind, QuoteSeen
from dux_registryd.attesting import Attesting
from dux_registryd.bench_prover import BenchProver
from dux_registryd.benchmarker import Benchmarker
from dux_registryd.challengers import Challengers
from dux_registryd.effects import Outside
from dux_registryd.machine import Machine
from dux_registryd.machine_methods import MachineMethods
from dux_registryd.machines import Machines
from dux_registryd.rights import Rights
from dux_registryd.settings import RegistrydSettings
from dux_registryd.statements import Heading, Rule, Statements
from dux_registryd.store import Book
from dux_registryd.tpm_device import TpmDevice


def measure_machines(
    parts: Parts[RegistrydSettings],
    book: Book,
    outside: Outside,
    challengers: Challengers,
    statements: Statements,
    machines: Machines,
    machine: Machine,
) -> Benchmarker:
    """Both sides of a measurement, what is kept of it, and what is asked about it."""
    rights = Rights(outside, challengers, parts.network)
    parts.serve_peer(BENCHMARK_BEGIN, rights.begin)
    benchmarker = Benchmarker(
        book,
        outside,
        rights,
        statements,
        network=parts.network,
        clock=parts.clock,
        random=parts.random,
        log=parts.log,
        settings=parts.settings,
    )
    statements.judge(Kind.BENCHMARK, _result_rule(rights))
    attesting = Attesting(
        book,
        outside,
        statements,
        TpmDevice(parts.settings.tpm) if parts.settings.tpm else None,
        rights.has_begun,
        network=parts.network.genesis,
        clock=parts.clock,
        random=parts.random,
    )
    statements.judge(Kind.QUOTE, _quote_rule(rights, attesting))
    benchmarker.look_at_tpm = attesting.look
    parts.serve_peer(TPM_QUOTE, attesting.show)

    async def own_info() -> NodeInfo | None:
        held = book.node(await outside.own_did())
        return held.info if held and parts.settings.benchmark else None

    prover = BenchProver(
        rights.has_begun,
        own_info,
        rules=parts.network.benchmark,
        machine=machine,
        clock=parts.clock,
        folder=parts.data_dir if parts.data_dir.is_dir() else None,
    )
    parts.serve_peer(BENCHMARK_HASH, prover.hash)
    parts.serve_peer(BENCHMARK_FILL, prover.fill)
    parts.serve_peer(BENCHMARK_WALK, prover.walk)
    parts.serve_peer(BENCHMARK_PULL, prover.pull)
    parts.serve_peer(BENCHMARK_PUSH, prover.push)
    methods = MachineMethods(book, machines, prover)
    parts.table.serve(registry_machine.MACHINE_SHOW, methods.show)
    parts.table.serve(registry_machine.MACHINE_BUSY, methods.busy)
    parts.stack.callback(prover.let_go)
    parts.gauges["machines_measured_by_me"] = lambda: float(benchmarker.measured)
    if parts.settings.benchmark:
        parts.background("measurements", benchmarker.run)
    return benchmarker


def _result_rule(rights: Rights) -> Rule:
    """A result counts when its challenger had drawn itself, in a period that is now or just over."""

    async def fault(result: BenchmarkResult) -> str | None:
        about = result.period, result.target, result.prober, result.proof
        return await rights.fault(*about, drawn_by_beacon=result.beacon)

    def heading(result: BenchmarkResult) -> Heading:
        return Heading(result.target, result.prober, f"{result.period}/{result.target}", result.at_ms)

    return Rule(Purpose.BENCHMARK, BenchmarkResult, heading, fault)


def _quote_rule(rights: Rights, attesting: Attesting) -> Rule:
    """A verifier's word counts when it had drawn itself to measure the node, and the key vouches for no other."""

    async def fault(seen: QuoteSeen) -> str | None:
        found = await rights.fault(seen.period, seen.target, seen.verifier, seen.proof)
        return found or attesting.key_fault(seen)

    def heading(seen: QuoteSeen) -> Heading:
        return Heading(seen.target, seen.verifier, f"{seen.period}/{seen.target}", seen.at_ms)

    return Rule(Purpose.QUOTE_SEEN, QuoteSeen, heading, fault)
