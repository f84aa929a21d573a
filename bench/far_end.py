"""A p2pd that also echoes: the far end of the benchmarks, as a process, and the near end's class.

Promises: the transport, its TLS, its HELLO and its flow control are p2pd's own; only three methods are added below the
router, and the budget that keeps a peer from calling too often is opened, because the benchmark is such a peer. The
small call is there twice: answered at once, as p2pd answers look-ups, gets and stores, and by a handler in a task, as
it answers what may have to wait.
"""

from __future__ import annotations

from typing import Any

from common.node_ports import OUTSIDE_OFFSET
from common.parts import Parts
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.daemon import P2pDaemon
from dux_p2pd.directory import Directory
from dux_p2pd.gate import CallBudget
from dux_p2pd.keeper import Keeper
from dux_p2pd.overlay import shared_arguments
from dux_p2pd.session import Address, Handler, Incoming, OnSession, Prompt, Session
from dux_p2pd.settings import P2pdSettings
from dux_p2pd.tls_keys import contexts_of_seed
from dux_p2pd.tls_transport import TlsTransport
from dux_p2pd.wire_limits import WRITE_SLICE_BYTES

ECHO, ECHO_IN_TASK, BULK = "bench.echo", "bench.echo-in-task", "bench.bulk"
BODY = b"a small call of a daemon, some sixty bytes, canonical msgpack"
DEADLINE_S = 20.0
SLICE_BYTES = 64 * 1024
OPEN_UNITS = 1e9


class EchoTransport(TlsTransport):
    """Answers the methods of the benchmark itself and hands on all else."""

    async def serve(self, on_session: OnSession, handler: Handler) -> Address:
        """As every transport."""
        others = self.prompt

        def at_once(method: str) -> Prompt | None:
            return echo if method == ECHO else others(method)

        async def answer(session: Session, incoming: Incoming) -> bytes | None:
            if incoming.method == ECHO_IN_TASK:
                return await incoming.body()
            if incoming.method == BULK:
                await send_bulk(incoming, int.from_bytes(await incoming.body(8)))
                return None
            return await handler(session, incoming)

        self.prompt = at_once
        return await super().serve(on_session, answer)


def echo(_session: Session, body: bytes) -> bytes:
    """The same bytes."""
    return body


async def send_bulk(incoming: Incoming, size: int) -> None:
    """So many bytes on the stream."""
    slice_bytes = bytes(WRITE_SLICE_BYTES)
    for sent in range(0, size, WRITE_SLICE_BYTES):
        await incoming.stream.write(slice_bytes[: size - sent])


class EchoP2pd(P2pDaemon):
    """p2pd with that transport."""

    def make_transport(self, parts: Parts[P2pdSettings], keeper: Keeper, directory: Directory) -> BaseTransport:
        """p2pd's own, with those methods and an open budget."""
        settings = parts.settings
        shared: dict[str, Any] = shared_arguments(parts, directory)
        return EchoTransport(
            contexts=contexts_of_seed(keeper.transport.seed, parts.network.alpn),
            listen=(settings.listen_host, settings.listen_port or settings.port_base + OUTSIDE_OFFSET),
            bind_source=True,
            **(shared | {"budget": CallBudget(burst_units=OPEN_UNITS, units_per_s=OPEN_UNITS)}),
        )


if __name__ == "__main__":
    EchoP2pd.main()
