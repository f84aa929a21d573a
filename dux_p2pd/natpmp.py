"""NAT-PMP: asks the gateway for a port in twelve bytes.

No maintained library carries it asynchronously. Only the gateway's own answers, to this question, are heard.
Source: RFC 6886.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from dux_p2pd.gateway_udp import Gateway, ask
from dux_p2pd.mapping import Mapped, MappingFailed

ADDRESS, MAP_TCP, ANSWER = 0, 2, 128
MAP_BYTES, ADDRESS_BYTES = 16, 12  # of the answers


class NatPmp:
    """One gateway."""

    name = "NAT-PMP"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def map(self, port: int, lease_s: int) -> Mapped:
        """The outside address of our port, for so long.

        Raises:
            MappingFailed: no answer, or a refusal.
        """
        answer = await self._ask(struct.pack("!BBHHHI", 0, MAP_TCP, 0, port, port, lease_s), MAP_BYTES)
        outer, life_s = read_mapping(answer, port, lease_s)
        host = read_address(await self._ask(bytes((0, ADDRESS)), ADDRESS_BYTES))
        return Mapped(host, outer, life_s)

    async def unmap(self, port: int) -> None:
        """Give it back.

        Raises:
            MappingFailed: as `map`.
        """
        await self._ask(struct.pack("!BBHHHI", 0, MAP_TCP, 0, port, 0, 0), MAP_BYTES)

    async def _ask(self, question: bytes, answer_bytes: int) -> bytes:
        return granted(
            await ask(
                self._gateway,
                lambda _own: question,
                lambda data: is_answer(data, question[1], answer_bytes),
                name=self.name,
            )
        )


def is_answer(data: bytes, operation: int, size: int) -> bool:
    """Whether a datagram answers this kind of question."""
    return len(data) >= size and data[0] == 0 and data[1] == ANSWER + operation


def granted(answer: bytes) -> bytes:
    """The answer, when it is no refusal.

    Raises:
        MappingFailed: with the gateway's number.
    """
    result = int.from_bytes(answer[2:4])
    if result:
        raise MappingFailed(f"{NatPmp.name}: the gateway refuses (result {result})")
    return answer


def read_mapping(answer: bytes, port: int, lease_s: int) -> tuple[int, int]:
    """The outside port and its life, seconds: no longer than asked for, whatever the gateway promises.

    Raises:
        MappingFailed: it is about another port.
    """
    inner, outer, life_s = struct.unpack("!HHI", answer[8:MAP_BYTES])
    if inner != port:
        raise MappingFailed(f"{NatPmp.name}: the answer is about another port")
    return outer, min(life_s, lease_s)


def read_address(answer: bytes) -> str:
    """The gateway's outside address."""
    return str(IPv4Address(answer[8:ADDRESS_BYTES]))
