"""Rotation, recovery and end between real p2pds over TLS, by the commands that a person types."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml

from common.clock import SystemClock
from common.contracts.p2p import DID_RESOLVE, Resolve, Resolved
from common.contracts.p2p_errors import TooFewSources
from common.identity.branch import BRANCH_FILE, did_of_branch, encode_branch, make_branch
from common.keygen import INCEPTION_MS
from common.keys import new_phrase, seed_of
from common.nets import may_listen_at
from common.network import Bootstrap, save_profile
from common.randomness import SeededRandomness, SystemRandomness
from dux_p2pd.log_fetch import LogFetch
from tests.p2pd.overlay_kit import Node, network, profile, wait_until

pytestmark = pytest.mark.patient

PHRASE = new_phrase(SeededRandomness(5))


def make_typed(node: Node) -> None:
    """Give the node the keys of a phrase and a configuration that commands find."""
    node.branch = make_branch(seed_of(PHRASE), net=1, account=0, made_ms=INCEPTION_MS, inception_bits=0)
    node.did = did_of_branch(node.branch, 0)
    (node.folder / "data" / "p2pd" / BRANCH_FILE).write_bytes(encode_branch(node.branch))
    config = node.folder / "config"
    config.mkdir()
    save_profile(node.profile, config / "profile.yaml")
    common = {
        "network_profile": "profile.yaml", "data_dir": str(node.folder / "data"), "run_dir": str(node.folder / "run"),
        "port_base": node.base,
    }  # fmt: skip
    (config / "common.yaml").write_text(yaml.safe_dump(common))
    (node.folder / "phrase.txt").write_text(PHRASE)


async def typed(node: Node, *words: str) -> dict[str, Any]:
    """What a command answers, in a process of its own."""
    answer: dict[str, Any] = json.loads(await printed(node, *words, "--json"))
    return answer


async def printed(node: Node, *words: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "dux_cli", "identity", *words, "--node", str(node.folder)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output.decode()


async def seen_by(node: Node, did: str) -> Resolved:
    return await node.as_caller("cli").call(DID_RESOLVE, Resolve(did=did, max_age_s=86_400))


async def test_a_name_is_rotated_recovered_and_ended_over_tls() -> None:
    """Every other node follows each step, holds a session under the right transport key, and none after the end."""
    async with network(3) as (one, two, _three), network_of_one_more(one) as typist:
        assert (await typed(typist, "show"))["key_seq"] == 0
        assert (await typed(typist, "rotate"))["key_seq"] == 1
        await wait_until(lambda: follows(two, typist, 1), "the rotation is known")
        session = one.daemon.net.peers.session_with(typist.did)
        assert session is not None
        fetch = LogFetch(typist.profile, clock=SystemClock(), random=SystemRandomness(), log=structlog.get_logger())
        address = may_listen_at(one.address)
        assert address is not None
        document = await typed(typist, "document")
        assert (document["id"], document["versionId"]) == (typist.did, "1")
        assert document["authentication"] == [f"{typist.did}#k1"]
        assert document["service"][0]["serviceEndpoint"] == typist.address
        assert await typed(typist, "document", one.did) == json.loads((await seen_by(typist, one.did)).document)
        log = await fetch.fetch(typist.did, [address])
        assert log == typist.daemon.net.keeper.log

        recovered = await typed(typist, "recover", "--phrase-file", str(typist.folder / "phrase.txt"))
        assert (recovered["key_seq"], recovered["standing"]) == (2, "sound")
        await wait_until(lambda: follows(two, typist, 2), "the recovery is known")
        await wait_until(lambda: under_new_key(one, typist), "the connection was made anew")
        assert session.closed.done()

        await typist.stop()
        await typist.start()
        assert (await typed(typist, "show"))["key_seq"] == 2
        await wait_until(lambda: one.daemon.net.peers.is_connected(typist.did), "back again")
        words = ("end", "--yes", "--phrase-file", str(typist.folder / "phrase.txt"))
        assert (await typed(typist, *words))["standing"] == "closed"
        await wait_until(lambda: closed(two, typist), "the end is known")
        await wait_until(lambda: not one.daemon.net.peers.is_connected(typist.did), "no connection is left")


class network_of_one_more:  # noqa: N801 - reads as `network` does
    """A further node of the network, made from a phrase."""

    def __init__(self, first: Node) -> None:
        folder = Path(first.folder).parent / "typist"
        self.node = Node(9, folder, profile((Bootstrap(address=first.address, did=first.did),)))

    async def __aenter__(self) -> Node:
        make_typed(self.node)
        await self.node.start()
        await wait_until(self.node.daemon.net.peers.sessions, "connected")
        return self.node

    async def __aexit__(self, *_: object) -> None:
        await self.node.stop()


async def follows(node: Node, other: Node, seq: int) -> bool:
    return (await seen_by(node, other.did)).key_seq == seq


async def closed(node: Node, other: Node) -> bool:
    return (await seen_by(node, other.did)).ended


def under_new_key(node: Node, other: Node) -> bool:
    session = node.daemon.net.peers.session_with(other.did)
    return session is not None and session.peer.transport_key == other.daemon.net.keeper.transport.public


async def test_a_restored_backup_catches_up_by_a_command() -> None:
    """Its old key is refused everywhere, so it asks under another name, and then goes on where it had stopped."""
    async with network(2) as (one, two), network_of_one_more(one) as typist:
        folder, backup = typist.folder / "data" / "p2pd", typist.folder / "backup"
        await typist.stop()
        shutil.copytree(folder, backup)
        await typist.start()
        await typed(typist, "rotate", "--transport")
        await wait_until(lambda: follows(two, typist, 1), "the rotation is known")
        await typist.stop()
        shutil.rmtree(folder)
        shutil.copytree(backup, folder)
        await typist.start()
        assert typist.daemon.net.keeper.key_seq == 0
        assert (await typed(typist, "catch-up"))["key_seq"] == 1
        await wait_until(lambda: one.daemon.net.peers.is_connected(typist.did), "back in the network")
        assert (await seen_by(two, typist.did)).disputed is False


@pytest.mark.timeout(120)
@pytest.mark.parametrize("step", ["rotate", "recover"])
async def test_a_machine_that_was_off_when_its_name_went_on_learns_it_by_itself(step: str) -> None:
    """Refused everywhere it asks for its own log: its own rotation it takes over, of a recovery its health tells."""
    async with network(2) as (one, two), network_of_one_more(one) as typist:
        folder, old = typist.folder / "data" / "p2pd", typist.folder / "old-machine"
        await typist.stop()
        shutil.copytree(folder, old)
        (folder / "transport.json").unlink()  # another machine has other keys for its connections
        if step == "recover":
            await typed(typist, "recover", "--phrase-file", str(typist.folder / "phrase.txt"))
        await typist.start()
        if step == "rotate":
            await typed(typist, "rotate")
        for other in (one, two):
            await wait_until(lambda other=other: follows(other, typist, 1), f"the {step} is known")
        await typist.stop()
        shutil.rmtree(folder)
        shutil.copytree(old, folder)
        await typist.start()
        keeper = typist.daemon.net.keeper
        assert (keeper.key_seq, keeper.standing) == (0, "sound")
        await wait_until(lambda: "`duxnet identity catch-up`" in problems(typist), "refused", within_s=60)
        assert typist.daemon.net.peers.is_alone()
        await typist.daemon.renewal.turn()
        if step == "rotate":
            assert (keeper.key_seq, keeper.standing) == (1, "sound")
            await wait_until(lambda: one.daemon.net.peers.is_connected(typist.did), "back in the network")
            assert problems(typist) == ""
        else:
            assert (keeper.standing, keeper.may_sign) == ("recovered elsewhere", False)
            assert "recovered elsewhere: stop the node, or take the name back" in problems(typist)
            assert "catch-up" not in problems(typist)
            assert "without its keys since it was recovered elsewhere" in await printed(typist, "show")


def problems(node: Node) -> str:
    """What its health tells."""
    return "; ".join(filter(None, (problem() for problem in node.daemon.parts.problems)))


async def test_money_asks_two_networks_where_there_are_two() -> None:
    """A node connected to two others wants both to confirm a name; what only one says is not enough."""
    async with network(3) as (one, two, three):
        resolver = one.daemon.renewal._resolver
        known = await resolver.resolve(three.did, 600, 2)
        assert known.log == three.daemon.net.keeper.log
        resolver._sources[three.did] = (SystemClock().unix_ms(), 1)

        async def nobody(_did: str) -> None:
            return None

        resolver._search_once = nobody  # type: ignore[method-assign]
        with pytest.raises(TooFewSources):
            await resolver.resolve(three.did, 600, 2)
        assert (await resolver.resolve(two.did, 86_400)).log == two.daemon.net.keeper.log
