"""Founders' signatures through running p2pds, by the commands that founders and everybody else type."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from common.contracts import p2p
from common.council import signed_words
from common.identity.branch import operational_key
from common.identity.log import Log, encode_log
from common.identity.purposes import Purpose
from common.network import save_profile
from common.parameter_file import SignedSet, add_signature, load_network, parameters_file, read_sets, write_sets
from common.parameters import next_set, set_bytes
from common.peers import MONEY_MAX_AGE_S, MONEY_SOURCES
from common.units import Did
from tests.attacks.registry import attack, met
from tests.p2pd.overlay_kit import Node, network, profile, wait_until

pytestmark = pytest.mark.patient

FROM_HEIGHT = 100
NOW_MS = 1_800_000_000_000


def settle(node: Node, council: tuple[Did, ...]) -> None:
    """Give a running node settings that commands find, in a network of this council."""
    config = node.folder / "config"
    config.mkdir(exist_ok=True)
    save_profile(replace(profile(), council=council), config / "profile.yaml")
    common = {
        "network_profile": "profile.yaml", "data_dir": str(node.folder / "data"), "run_dir": str(node.folder / "run"),
        "port_base": node.base,
    }  # fmt: skip
    (config / "common.yaml").write_text(yaml.safe_dump(common))


def second_set(council: tuple[Did, ...], folder: Path) -> Path:
    """A file with the network's next parameter set, for founders to sign."""
    file, first = folder / "next.yaml", replace(profile(), council=council).parameters
    write_sets(file, [SignedSet(parameters=next_set(first, from_height=FROM_HEIGHT, tax_bps=450))])
    return file


async def types(node: Node, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of a command, in a process of its own."""
    command = [sys.executable, "-m", "dux_cli", *words, "--node", str(node.folder), "--json"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    answer: dict[str, Any] = json.loads(output)
    return process.returncode or 0, answer


async def takes(node: Node, file: Path, *more: str) -> str:
    """Why a node does not take the set in a file; nothing when it does."""
    code, answer = await types(node, "parameters", "apply", str(file), "--tip", str(FROM_HEIGHT), *more)
    return "" if code == 0 else str(answer["error"]["message"])


def sign_by_copy(node: Node, log: Log, file: Path) -> None:
    """Sign the set in a file as a node, with a copy of its first key and the log of then."""
    words, key = set_bytes(read_sets(file)[0].parameters), operational_key(node.branch, 0)
    add_signature(file, signed_words(Purpose.PARAMETERS, words, node.did, encode_log(log), key))


def knows(node: Node, other: Node, seq: int) -> Any:
    """Whether a node has heard from all it must ask that another's key is number `seq`."""

    async def asked() -> bool:
        wish = p2p.Resolve(did=other.did, max_age_s=MONEY_MAX_AGE_S, min_sources=MONEY_SOURCES)
        return (await node.as_caller("cli").call(p2p.DID_RESOLVE, wish)).key_seq == seq

    return asked


@attack(
    "identity",
    tries="signs a parameter set as a founder, with a copy of the key that the founder's node has since replaced",
    meets="a running node does not take it; the founder's own signature, by the key of now, makes it count",
)
async def test_a_founder_signs_with_the_key_that_its_node_has_now() -> None:
    """Through p2pd, which has rotated since; the old key's signature beside a true one is too few."""
    async with network(3) as (founder, other, taker):
        council = (founder.did, other.did)
        for node in (founder, other, taker):
            settle(node, council)
        file, before = second_set(council, founder.folder), founder.daemon.net.keeper.log
        await founder.as_caller("cli").call(p2p.IDENTITY_ROTATE, p2p.Rotate())
        await wait_until(knows(taker, founder, 1), "the rotation is known")
        await wait_until(knows(taker, other, 0), "the other founder is known")

        sign_by_copy(other, other.daemon.net.keeper.log, file)
        sign_by_copy(founder, before, file)
        refused = await takes(taker, file)
        assert "1 of the council's 2 have signed it, 2 are needed (1 more by keys since replaced" in refused
        met(refused)

        assert (await types(founder, "parameters", "sign", str(file))) == (0, {"signatures": 2})
        assert {one.did: one.key_seq for one in read_sets(file)[0].signatures} == {founder.did: 1, other.did: 0}
        assert not await takes(taker, file)
        assert load_network(taker.folder / "config/profile.yaml", now_ms=NOW_MS).tax_bps == 450


async def test_who_cannot_ask_takes_nothing_unless_told_to() -> None:
    """Without p2pd there is no newest log and no key of now; `--offline` judges by what the file carries."""
    async with network(1) as (founder,):
        settle(founder, (founder.did,))
        file = second_set((founder.did,), founder.folder)
        sign_by_copy(founder, founder.daemon.net.keeper.log, file)
        await founder.stop()
        code, answer = await types(founder, "parameters", "sign", str(file))
        assert (code != 0, answer["error"]["key"]) == (True, "neighbour-down")
        assert "p2pd does not answer" in await takes(founder, file)
        assert not parameters_file(founder.folder / "config/profile.yaml").exists()
        assert not await takes(founder, file, "--offline")
