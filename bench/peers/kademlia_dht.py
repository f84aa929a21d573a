"""The `kademlia` package as it is shipped: N of its servers over UDP in one process, in an environment of its own.

This file is run by that environment's Python, so it imports nothing of the project. It reads a wish per line and prints
what came of it as JSON: `form N` seconds, `put COUNT` and `get COUNT` times in ms and how many were found, `drop SHARE`
closes so many servers without a word. Values are its own: nobody signs, anybody may overwrite.
"""

import asyncio
import json
import sys
import time

from kademlia.network import Server

FIRST_PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 18_600
HOST = "127.0.0.1"


class Figures:
    """The servers."""

    def __init__(self):
        self.servers = []
        self.names = []

    async def form(self, count):
        """All up and bootstrapped."""
        began = time.perf_counter()
        for number in range(count):
            server = Server()
            await server.listen(FIRST_PORT + number, interface=HOST)
            self.servers.append(server)
            if number:
                await server.bootstrap([(HOST, FIRST_PORT)])
        return {"seconds": time.perf_counter() - began}

    async def put(self, count):
        """So many values, by turns."""
        taken = []
        for number in range(count):
            name, server = f"name-{number}", self.servers[number * 7 % len(self.servers)]
            began = time.perf_counter()
            await server.set(name, f"value-{number}")
            taken.append((time.perf_counter() - began) * 1000)
            self.names.append(name)
        return {"ms": taken, "found": len(taken)}

    async def get(self, count):
        """So many of them, by servers that do not hold them where there are such."""
        taken, found = [], 0
        for number in range(count):
            name = self.names[number % len(self.names)]
            server = self.servers[(number * 13 + 5) % len(self.servers)]
            began = time.perf_counter()
            found += await server.get(name) == f"value-{name.partition('-')[2]}"
            taken.append((time.perf_counter() - began) * 1000)
        return {"ms": taken, "found": found}

    async def drop(self, share):
        """The last servers are gone: their sockets close, and nobody is told."""
        gone = int(len(self.servers) * share)
        for server in self.servers[len(self.servers) - gone :]:
            server.stop()
        del self.servers[len(self.servers) - gone :]
        return {"left": len(self.servers)}


async def main():
    """A wish per line."""
    figures = Figures()
    print("ready", flush=True)
    while line := (await asyncio.to_thread(sys.stdin.readline)).split():
        what, value = line
        found = await getattr(figures, what)(float(value) if what == "drop" else int(value))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
