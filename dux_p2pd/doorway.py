"""From "the channel's key is proved" to a session: runs HELLO on a line, within its time.

Promise: whatever the peer sends, the line ends up with a session or closed, never half; a dialler learns why.
"""

from __future__ import annotations

import asyncio

from common.errors import DuxError
from common.nets import net_of
from common.units import Did
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.hello import HelloExchange, HelloStep, Introduced
from dux_p2pd.session import Address
from dux_p2pd.wire_errors import HelloRefused
from dux_p2pd.wire_limits import HELLO_S, LONG_LOG_COST
from dux_p2pd.wire_session import Line, WireSession


class Doorway:
    """One line's introduction."""

    def __init__(
        self,
        transport: BaseTransport,
        line: Line,
        *,
        dialled: bool,
        peer_key: bytes,
        address: Address,
        expected_did: Did | None = None,
        record_known: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.session: WireSession | None = None
        self.outcome: asyncio.Future[WireSession] = loop.create_future()
        self._transport, self._line = transport, line
        self._dialled, self._peer_key, self._address = dialled, peer_key, address
        self._exchange = HelloExchange(
            transport.me,
            dialler=dialled,
            peer_key=peer_key,
            expected_did=expected_did,
            record_known=record_known,
            pay_long_log=self._pay_long_log,
        )
        self._timer = loop.call_later(HELLO_S, self.fail, HelloRefused(reason=f"not complete within {HELLO_S:.0f} s"))

    def start(self) -> None:
        """Send what the dialler says first."""
        first = self._exchange.start()
        if first:
            self._line.send(first)

    def receive(self, data: bytes) -> None:
        """Bytes of the channel; after the introduction they are the session's."""
        if self.session is not None:
            self.session.feed(data)
        elif not self.outcome.done():
            self._introduce(data)

    def lost(self, reason: str) -> None:
        """The line is gone."""
        if self.session is not None:
            self.session.end(reason)
        else:
            self.fail(HelloRefused(reason=f"the other node hung up during the introduction ({reason})"))

    def fail(self, error: DuxError) -> None:
        """End the line without a session; one log line."""
        if self.outcome.done():
            return
        self._timer.cancel()
        self._transport.count.introductions_failed += 1
        self._transport.log.info("introduction failed", address=self._address[0], reason=error.message)
        self.outcome.set_exception(error)
        self.outcome.exception()  # nobody waits for it on the accepting side
        self._line.close()

    def _introduce(self, data: bytes) -> None:
        try:
            step = self._exchange.receive(data)
            if step.introduced is None:
                self._send(step)
            else:
                self._enter(step, step.introduced)
        except DuxError as error:
            self.fail(error)
        except Exception as error:
            self._transport.log.exception("introduction broke")
            self.fail(HelloRefused(reason=type(error).__name__))

    def _enter(self, step: HelloStep, who: Introduced) -> None:
        """Up: but a surplus connection is closed before we accept it, so that the dialler takes the other one."""
        if self._transport.is_surplus(who.vouched.did, dialled=self._dialled):
            self.fail(HelloRefused(reason="another connection with the same node is kept"))
            return
        self._send(step)
        self.session = self._transport.establish(
            self._line, who, transport_key=self._peer_key, address=self._address, dialled=self._dialled
        )
        self._timer.cancel()
        self.outcome.set_result(self.session)
        if step.leftover:
            self.session.feed(step.leftover)

    def _send(self, step: HelloStep) -> None:
        if step.to_send:
            self._line.send(step.to_send)

    def _pay_long_log(self) -> bool:
        transport = self._transport
        return transport.gate.charge(net_of(self._address[0]), LONG_LOG_COST, transport.now())
