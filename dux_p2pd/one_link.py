"""Addresses of IPv6 that are of one link alone: they lead somewhere together with the interface only.

libuv forgets which interface an address named, and guesses by a question that p2pd's unit does not allow (netlink):
there it reaches nobody, and elsewhere the first interface's neighbours. Hence these are kept whole and dialled here.
"""

from __future__ import annotations

import asyncio
import socket

from dux_p2pd.session import Address

SCOPED_PARTS = 4  # host, port, flow, interface


def is_of_one_link(address: Address) -> bool:
    """Whether an address names its interface."""
    return "%" in address[0]


def host_of(name: tuple[str | int, ...]) -> str:
    """The host of a socket's name; one of one link alone keeps its interface."""
    host = str(name[0]).split("%", 1)[0]
    scope = int(name[3]) if len(name) == SCOPED_PARTS else 0
    return f"{host}%{scope}" if scope else host


async def connected(address: Address, own: Address | None = None) -> socket.socket:
    """A connection to it, from `own` where that is fixed.

    Raises:
        OSError: nobody answers, or there is no such interface.
    """
    made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        if own is not None:
            made.bind(own)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made
