"""The test network of one machine: what stands in its way is told before anything is started."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dux_cli import testnet
from dux_cli.testnet import LocalNetwork, NetworkRuns, make_room


async def test_a_second_network_on_the_machine_is_told_before_it_is_half_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another user's chain listens, ours would die behind a network that looks as if it were up."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setattr(testnet, "CHAIN_PORT", port)
        with pytest.raises(NetworkRuns, match=f"Port {port}"):
            await make_room(LocalNetwork(tmp_path))
    await make_room(LocalNetwork(tmp_path))
