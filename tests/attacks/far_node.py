"""A node in a process of its own: `python -m tests.attacks.far_node HOST PORT NAME` serves, prints its address, waits.

With `--dial HOST PORT NAME` it calls another one instead: prints `up` when the session is up, and `SECONDS REASON` when
it has ended, counted from the last answer.
"""

import asyncio
import logging
import sys

import structlog

from tests.p2pd.wire_kit import TestPapers, tls_node


async def serve(host: str, port: int, name: str) -> None:
    async with tls_node(name, host=host, listen=(host, port)) as node:
        print(*node.address, flush=True)  # noqa: T201
        await asyncio.Event().wait()


async def dial(host: str, to: tuple[str, int], name: str) -> None:
    loop, there = asyncio.get_running_loop(), TestPapers(name)
    async with tls_node("dialler", host=host) as node:
        session = await node.transport.connect(to, there.did, (there.transport_key,))
        answered = loop.time()
        print("up", flush=True)  # noqa: T201
        while not session.closed.done():
            try:
                await session.request("m", b"", deadline_s=30)
                answered = loop.time()
                await asyncio.sleep(0.2)
            except Exception as error:  # noqa: BLE001 - the end of the session is what is waited for
                print(f"{loop.time() - answered:.1f} {error}", flush=True)  # noqa: T201


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    words = sys.argv[1:]
    if words[0] == "--dial":
        asyncio.run(dial(words[4], (words[1], int(words[2])), words[3]))
    else:
        asyncio.run(serve(words[0], int(words[1]), words[2]))


if __name__ == "__main__":
    main()
