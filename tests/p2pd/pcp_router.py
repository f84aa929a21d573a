"""A home router's PCP with real rules behind it: `pcp_router.py INSIDE`, in the router's namespace, for IPv6.

It lets callers in at the port that was asked for. On SIGHUP it starts anew: forgets every port and tells everybody.
"""

import signal
import socket
import struct
import subprocess
import sys
import time

HEAD, MAP = struct.Struct("!BBxxI16s"), struct.Struct("!12sB3xHH16s")
ALL_MACHINES = "ff02::1"


class Router:
    def __init__(self, inside: str) -> None:
        self.door = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.link = socket.if_nametoindex(inside)
        self.door.bind(("fe80::1", 5351, 0, self.link))  # so that answers and news come from the address that is asked
        self.began = time.monotonic()
        self.open: dict[int, tuple[str, bytes]] = {}
        signal.signal(signal.SIGHUP, lambda *_: self.start_anew())

    def count(self) -> int:
        return int(time.monotonic() - self.began)

    def rule(self, word: str, port: int, host: str) -> None:
        place = ["1"] if word == "-I" else []
        words = ["-i", "eth0", "-d", host, "-p", "tcp", "--dport", str(port), "-j", "ACCEPT"]
        subprocess.run(["ip6tables", word, "FORWARD", *place, *words], check=True)

    def start_anew(self) -> None:
        for port, (host, _) in self.open.items():
            self.rule("-D", port, host)
        self.open, self.began = {}, time.monotonic()
        news = struct.pack("!BBHII12x", 2, 0x80, 0, 0, self.count())
        self.door.sendto(news, (ALL_MACHINES, 5350, 0, self.link))

    def serve(self) -> None:
        while True:
            data, sender = self.door.recvfrom(1100)
            version, _, life, own = HEAD.unpack(data[:24])
            nonce, protocol, port, _, _ = MAP.unpack(data[24:60])
            assert (version, protocol, socket.inet_ntop(socket.AF_INET6, own)) == (2, 6, sender[0])
            known = self.open.get(port)
            if known is not None and known[1] != nonce:
                result = 2
            else:
                result = 0
                if life and known is None:
                    self.rule("-I", port, sender[0])
                    self.open[port] = sender[0], nonce
                elif not life and known is not None:
                    self.rule("-D", port, sender[0])
                    del self.open[port]
            head = struct.pack("!BBBBII12x", 2, 0x81, 0, result, min(life, 1800), self.count())
            self.door.sendto(head + MAP.pack(nonce, protocol, port, port, own), sender)


if __name__ == "__main__":
    made = Router(sys.argv[1])
    print("ready", flush=True)  # noqa: T201
    made.serve()
