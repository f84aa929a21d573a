"""Tells systemd how the daemon fares, when systemd asked to be told (NOTIFY_SOCKET). Source: sd_notify(3)."""

from __future__ import annotations

import socket
from collections.abc import Mapping


class Notifier:
    """Sends READY, WATCHDOG, STOPPING; silent where nobody listens."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_s = int(environment.get("WATCHDOG_USEC", "0")) / 1_000_000

    def send(self, *lines: str) -> None:
        """Send state lines such as `READY=1`."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto("\n".join(lines).encode(), address)
