"""Daemons of one process call each other directly, and are refused what they would be refused over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from common.codec import Wire
from common.daemon import DuxOSDaemon
from common.errors import DeadlinePassed, NeighbourDown, NotPermitted
from common.network import NetworkProfile
from common.parts import Parts
from common.rpc.method import Method
from common.rpc.table import Ctx
from common.settings import DaemonSettings
from dux_cli.siblings import Siblings
from tests.ports import free_base


class Words(Wire, frozen=True):
    words: list[str]


ECHO: Method[Words, Words] = Method(
    name="toy.echo", params=Words, result=Words, summary="The same.", callers=("escrowd",),
    example=(Words(words=["a"]), Words(words=["a"])),
)  # fmt: skip
SLOW: Method[Words, Words] = Method(
    name="toy.slow", params=Words, result=Words, summary="Never.", callers=("escrowd",), deadline_max_s=0.1,
    example=(Words(words=["a"]), Words(words=["a"])),
)  # fmt: skip


class Toy(DuxOSDaemon[DaemonSettings]):
    name = "flopd"
    settings_type = DaemonSettings

    async def assemble(self, parts: Parts[DaemonSettings]) -> None:
        self.got: list[Words] = []

        async def echo(params: Words, _ctx: Ctx) -> Words:
            self.got.append(params)
            return params

        async def slow(_params: Words, _ctx: Ctx) -> Words:
            await asyncio.Event().wait()
            raise AssertionError

        parts.table.serve(ECHO, echo)
        parts.table.serve(SLOW, slow)


@asynccontextmanager
async def household(tmp_path: Path) -> AsyncIterator[tuple[Siblings, Toy]]:
    """flopd, running; whoever asks is its sibling."""

    def no_bulk(_caller: str, _daemon: str) -> Any:
        return None

    siblings = Siblings(no_bulk)
    settings = DaemonSettings(
        network_profile="unused.yaml", data_dir=str(tmp_path / "data"), run_dir=str(tmp_path / "run"),
        port_base=free_base(),
    )  # fmt: skip
    network = NetworkProfile(name="toy", chain="embedded", genesis="00" * 32, heights="demo")
    toy = Toy(settings, network, neighbours=siblings.of("flopd"))
    siblings.daemons["flopd"] = toy
    async with AsyncExitStack() as stack:
        with pytest.raises(NeighbourDown, match="not started"):
            await siblings.of("escrowd")("flopd").call(ECHO, Words(words=[]))
        await stack.enter_async_context(toy.running())
        yield siblings, toy


async def test_a_sibling_answers_and_shares_nothing_but_bytes(tmp_path: Path) -> None:
    """What arrives is equal to what was sent and not the same object, in either direction."""
    async with household(tmp_path) as (siblings, toy):
        sent = Words(words=["one", "two"])
        answered = await siblings.of("escrowd")("flopd").call(ECHO, sent)
        assert answered == sent == toy.got[0]
        assert len({id(sent.words), id(answered.words), id(toy.got[0].words)}) == 3


async def test_a_sibling_has_no_more_rights_than_over_http(tmp_path: Path) -> None:
    """Callers are held to the contract, deadlines are kept, and who does not run is down."""
    async with household(tmp_path) as (siblings, toy):
        with pytest.raises(NotPermitted, match="escrowd"):
            await siblings.of("stored")("flopd").call(ECHO, Words(words=[]))
        with pytest.raises(DeadlinePassed):
            await siblings.of("escrowd")("flopd").call(SLOW, Words(words=[]))
        with pytest.raises(NeighbourDown, match="taskd"):
            await siblings.of("escrowd")("taskd").call(ECHO, Words(words=[]))
        assert toy.got == []
