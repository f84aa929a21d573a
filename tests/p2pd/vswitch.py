"""A switch in user space: frames between veth ends of its own namespace, late or lost as told.

`vswitch.py PORT…` runs inside a namespace that holds the ports. Lines on its input, each for one way:
`link A B DELAY_MS LOSS`, `cut A B`, `heal A B`. It answers `ready` once. Frames keep the kernel's offload header,
so that checksums and segments stay right. Chance is seeded; time is the machine's.
"""

import heapq
import os
import random  # noqa: TID251 - a tool of tests, seeded
import selectors
import socket
import sys
import time

SOL_PACKET, PACKET_IGNORE_OUTGOING, PACKET_VNET_HDR, ETH_P_ALL = 263, 23, 15, 3
HEADER = 10  # struct virtio_net_hdr


class Switch:
    """Ports by name."""

    def __init__(self, names: list[str], seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.ports = {name: open_port(name) for name in names}
        self.where: dict[bytes, str] = {}
        self.links: dict[tuple[str, str], tuple[float, float]] = {}
        self.cut: set[tuple[str, str]] = set()
        self.late: list[tuple[float, int, str, bytes]] = []
        self.count = 0

    def command(self, line: str) -> None:
        word, one, other, *more = line.split()
        if word == "link":
            self.links[one, other] = float(more[0]) / 1000, float(more[1])
        elif word == "cut":
            self.cut.add((one, other))
        else:
            self.cut.discard((one, other))

    def came(self, source: str, frame: bytes) -> None:
        target, origin = frame[HEADER : HEADER + 6], frame[HEADER + 6 : HEADER + 12]
        self.where[origin] = source
        known = self.where.get(target)
        for name in [known] if known else self.ports:
            if name != source and (source, name) not in self.cut:
                self.pass_on(source, name, frame)

    def pass_on(self, source: str, name: str, frame: bytes) -> None:
        delay_s, loss = self.links.get((source, name), (0.0, 0.0))
        if self.random.random() < loss:
            return
        self.count += 1
        heapq.heappush(self.late, (time.monotonic() + delay_s, self.count, name, frame))

    def deliver(self) -> float | None:
        """Send what is due; seconds until the next."""
        while self.late:
            wait_s = self.late[0][0] - time.monotonic()
            if wait_s > 0:
                return wait_s
            _, _, name, frame = heapq.heappop(self.late)
            try:
                self.ports[name].send(frame)
            except OSError:
                continue  # its queue is full, or the host is gone: a lost frame
        return None


def open_port(name: str) -> socket.socket:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    port.bind((name, 0))
    port.setblocking(False)
    return port


def main() -> None:
    switch, selector = Switch(sys.argv[1:], 7), selectors.DefaultSelector()
    for name, port in switch.ports.items():
        selector.register(port, selectors.EVENT_READ, name)
    selector.register(0, selectors.EVENT_READ, "")
    print("ready", flush=True)  # noqa: T201
    while True:
        for key, _ in selector.select(switch.deliver()):
            if not key.data:
                told = os.read(0, 65_536).decode()
                if not told:
                    return
                for line in told.splitlines():
                    switch.command(line)
                continue
            for _ in range(64):
                try:
                    switch.came(key.data, switch.ports[key.data].recv(70_000))
                except BlockingIOError:
                    break


if __name__ == "__main__":
    main()
