"""The demo's stage with containers for nodes: the same job, the same auditor, other misfortunes."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import yaml

from common.contracts.p2p import P2P_INFO
from common.keygen import KeysMade
from common.network import load_profile
from common.node_ports import PORT_BASE, PORTS_PER_NODE
from common.rpc.method import DAEMONS, Empty
from dux_cli.compose_files import CHAIN, CHAIN_PORT
from dux_cli.demo.coin_chain import CoinChain
from dux_cli.demo.network import NAMES
from dux_cli.demo.pace import Pace
from dux_cli.demo.stage import Stage, free_port_base, in_step
from dux_cli.node_dir import NodeDir
from dux_cli.node_files import ChainLogin, write_config
from dux_cli.supervisor import Node
from tests.containers.engine import Engine
from tests.containers.forward import Forward

HEALTHY_WITHIN_S = 90.0
LOOK_EVERY_S = 0.5


class ContainerNode(Node):
    """A node whose processes are one container; its misfortunes are the engine's."""

    def __init__(self, folder: NodeDir, engine: Engine, name: str) -> None:
        super().__init__(folder)
        self.engine, self.name, self.container = engine, name, engine.container(name)

    def pid(self, daemon: str) -> int | None:  # noqa: ARG002 - as Node's
        """Nobody on this side knows process ids; 1 stands for the container."""
        return 1

    async def stop(self, *daemons: str) -> None:
        """Closing the stage ends no container: `down` does."""

    async def docker(self, *words: str) -> str:
        return (await asyncio.to_thread(self.engine.docker, *words)).decode()

    async def healthy(self) -> None:
        """Return when the container's own health check says so."""
        async with asyncio.timeout(HEALTHY_WITHIN_S):
            while (await self.docker("inspect", "-f", "{{.State.Health.Status}}", self.container)).strip() != "healthy":
                await asyncio.sleep(LOOK_EVERY_S)

    async def address(self) -> str:
        """The container's address on the private network."""
        template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return (await self.docker("inspect", "-f", template, self.container)).strip()


@asynccontextmanager
async def staged(engine: Engine, folder: Path) -> AsyncIterator[Stage]:
    """The network that `docker-compose up` started, as a stage; leaving it ends nothing but the ways to it."""
    base = free_port_base()
    async with AsyncExitStack() as stack:
        (folder / "network.yaml").write_bytes(read(engine, CHAIN, "network.yaml"))
        profile = load_profile(folder / "network.yaml")
        chain = CoinChain("embedded", folder / CHAIN, "127.0.0.1", base - 9)
        chain.log_in(read(engine, CHAIN, "rpc.auth").decode().strip())
        stack.push_async_callback(chain.stop)
        await forward(stack, engine, CHAIN, CHAIN_PORT, chain.port)
        nodes: dict[str, Node] = {}
        await asyncio.gather(*(ContainerNode(NodeDir(folder / name), engine, name).healthy() for name in NAMES))
        for index, name in enumerate(NAMES):
            node = NodeDir(folder / name)
            ports = base + index * PORTS_PER_NODE
            write_config(node, profile, index=index, port_base=ports, chain=ChainLogin(chain.url))
            fetch_tokens(engine, name, node)
            for place in range(len(DAEMONS)):
                await forward(stack, engine, name, PORT_BASE + place, ports + place)
            nodes[name] = ContainerNode(node, engine, name)
            stack.push_async_callback(nodes[name].close_clients)
        keys = {name: await keys_of(engine, name, node) for name, node in nodes.items()}
        stage = Stage(folder, chain, profile, keys, nodes, Pace(chain, list))
        await stage.pace.until("all nodes connected and in step with the chain", lambda: in_step(stage))
        yield stage


def read(engine: Engine, name: str, path: str) -> bytes:
    """A file of a container's volume, as its own user sees it."""
    return engine.docker("exec", engine.container(name), "cat", f"/duxnet/{name}/{path}")


def fetch_tokens(engine: Engine, name: str, node: NodeDir) -> None:
    """The tokens with which a person calls the daemons of this node."""
    words = f"cd /duxnet/{name}/run && tar -c */cli.token"
    packed = engine.docker("exec", engine.container(name), "sh", "-c", words)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(node.run, filter="data")


async def forward(stack: AsyncExitStack, engine: Engine, name: str, inside: int, here: int) -> None:
    """Until the stack is left, port `here` leads into the container."""
    way = Forward(engine, engine.container(name), inside)
    await way.start(here)
    stack.push_async_callback(way.stop)


async def keys_of(engine: Engine, name: str, node: Node) -> KeysMade:
    """What the others may know of a node's keys."""
    info = await node.call(P2P_INFO, Empty())
    registry = yaml.safe_load(read(engine, name, "config/registryd.yaml"))
    return KeysMade(did=info.did, address=registry["wallet_address"], fund_pubkey="", phrase="")
