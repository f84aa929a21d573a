"""A home router's NAT-PMP with real rules behind it: `pmp_router.py OUTSIDE INSIDE`, in the router's namespace.

It gives a port that is a thousand higher than the one asked for, as a router may.
"""

import socket
import struct
import subprocess
import sys


def rule(word: str, outer: int, inside: str, inner: int) -> None:
    """Let one port in, or no longer."""
    there = ["-i", "eth0", "-p", "tcp", "--dport"]
    nat = ["iptables", "-t", "nat", word, "PREROUTING", *there, str(outer), "-j", "DNAT", "--to", f"{inside}:{inner}"]
    subprocess.run(nat, check=True)
    place = ["1"] if word == "-I" else []
    subprocess.run(["iptables", word, "FORWARD", *place, *there, str(inner), "-j", "ACCEPT"], check=True)


def main() -> None:
    outside, inside = sys.argv[1:]
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    door.bind(("0.0.0.0", 5351))  # noqa: S104 - in a namespace of its own
    print("ready", flush=True)  # noqa: T201
    while True:
        data, sender = door.recvfrom(64)
        if len(data) == 2:
            door.sendto(struct.pack("!BBHI4s", 0, 128, 0, 1, socket.inet_aton(outside)), sender)
            continue
        if data[0]:  # another version: PCP
            door.sendto(struct.pack("!BBHI", 0, 128 + data[1], 1, 1), sender)
            continue
        _, _, _, inner, _, life = struct.unpack("!BBHHHI", data[:12])
        outer = inner + 1000
        rule("-I" if life else "-D", outer, inside, inner)
        door.sendto(struct.pack("!BBHIHHI", 0, 130, 0, 1, inner, outer if life else 0, min(life, 1800)), sender)


if __name__ == "__main__":
    main()
