"""A container's health: `python -m dux_cli.probe DIR` asks every daemon of a node, `--chain DIR` a coin node.

Promises: exit code 0 when all answer that they are well, else 1 and what is wrong; costs a few dozen milliseconds,
because it is run every few seconds and imports nothing but the standard library.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import sys
from pathlib import Path

DAEMONS = ("p2pd", "flopd", "escrowd", "airdropd", "registryd", "stored", "taskd")  # a test compares with the contracts
CHAIN_PORT = 28_600
ANSWER_WITHIN_S = 3.0
TEXT_BYTES_MAX = 2_000
OK = 200


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_WITHIN_S)
        self._path = str(path)

    def connect(self) -> None:
        """Connect to the file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_WITHIN_S)
        self.sock.connect(self._path)


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: str = "", login: str = "") -> str:
    """What is wrong by the answer to one request, or an empty string."""
    try:
        connection.request(method, path, body, {"Authorization": login} if login else {})
        answer = connection.getresponse()
        text = answer.read(TEXT_BYTES_MAX).decode("utf-8", "replace").strip()
    except OSError as error:
        return f"does not answer: {error}"
    finally:
        connection.close()
    return "" if answer.status == OK else text.replace("\n", "; ") or f"HTTP {answer.status}"


def node_problems(node: Path) -> list[str]:
    """What is wrong with each daemon of the node in this folder."""
    found = {daemon: ask(UnixConnection(node / "run" / daemon / "probe.sock"), "GET", "/health") for daemon in DAEMONS}
    return [f"{daemon}: {problem}" for daemon, problem in found.items() if problem]


def chain_problems(folder: Path) -> list[str]:
    """What is wrong with the coin node whose login is in this folder."""
    login = "Basic " + base64.b64encode((folder / "rpc.auth").read_bytes().strip()).decode()
    body = json.dumps({"id": 1, "method": "getblockcount", "params": []})
    connection = http.client.HTTPConnection("127.0.0.1", CHAIN_PORT, timeout=ANSWER_WITHIN_S)
    problem = ask(connection, "POST", "/", body, login)
    return [f"chain: {problem}"] if problem else []


def main(arguments: list[str]) -> int:
    """The exit code; what is wrong goes to stdout, where `docker inspect` shows it."""
    *options, folder = arguments
    problems = chain_problems(Path(folder)) if options == ["--chain"] else node_problems(Path(folder))
    sys.stdout.write("\n".join(problems) + "\n" if problems else "well\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
