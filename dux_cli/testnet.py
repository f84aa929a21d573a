"""`duxnet testnet …`: a whole network on this machine, to try one's own nodes in.

Promises: an embedded coin chain that mines on a timer, three helper nodes that serve as arbiters and as custodians of
the fund, the first of which also holds coins to give away, and a fourth that sells second runs of jobs. All of it stays
on loopback. What it makes is kept, so that nodes made for it work again after a pause.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from common.errors import CallerMistake, DuxError, Unavailable
from common.units import FLOP, Florins
from dux_cli.command import DuxGroup, Session, new_request_id, pass_session
from dux_cli.compose_files import compose_files
from dux_cli.node_dir import NodeDir, own_node
from dux_cli.node_files import ChainLogin, outside_endpoint, port_base_of, write_config
from dux_cli.output import flop
from dux_cli.supervisor import (
    ASK_EVERY_S,
    CHECKOUT,
    Node,
    NotStarted,
    child_environment,
    end_recorded,
    last_words,
    record_pid,
    recorded_pid,
)
from dux_cli.wallet import FLOP_AMOUNT

if TYPE_CHECKING:
    from common.keygen import KeysMade
    from common.network import NetworkProfile

JUDGES = 3  # helpers that are arbiters and custodians; a panel has three
HELPERS = JUDGES + 1  # the last one is the second worker, for nobody judges what it checked
THRESHOLD = 2
PORT_BASE = 21_560  # of the first helper; below the ports that the kernel gives to outgoing connections
CHAIN_PORT = PORT_BASE - 10
PEERS_PORT = PORT_BASE - 9  # where the chain serves the nodes' light wallets
BLOCK_EVERY_S = 1.0
HEARTBEAT_S = 5.0
BANK_COINS, BANK_COIN_FLOP = 40, 500  # several, so that it can pay several nodes within one block
FUND_FLOP_TENTHS = 996  # 99.6: the first paid call of 10 FLOP brings the fund over its threshold
READY_WITHIN_S = 90.0
UP = "testnet"
TESTNET_VARIABLE = "DUXNET_TESTNET"
CHECK_SERVICE = CHECKOUT / "examples" / "image_upscaler" / "check.yaml"


class NoTestnet(CallerMistake):
    """There is no test network in {path}; start one with `duxnet testnet up --detach`, or name another --network."""

    code = 1127
    key = "no-testnet"


class NetworkRuns(Unavailable):
    """Port {port} of this machine is in use, by another user's test network perhaps; end it there, then repeat."""

    code = 1335
    key = "network-runs"


class LocalNetwork:
    """The folder of a test network: its profile, its chain, its helpers, who has joined."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.profile_file = self.path / "network.yaml"
        self.chain = self.path / "chain"
        self.members = self.path / "members"

    @classmethod
    def default(cls) -> Self:
        """The test network of this user: `DUXNET_TESTNET`, or beside the user's node."""
        if TESTNET_VARIABLE in os.environ:
            return cls(Path(os.environ[TESTNET_VARIABLE]))
        return cls(own_node().parent / "testnet")

    def must_exist(self) -> Self:
        """This network, which has been made.

        Raises:
            NoTestnet: it has not.
        """
        if not self.profile_file.exists():
            raise NoTestnet(path=str(self.path))
        return self

    def helper(self, index: int) -> NodeDir:
        """The folder of one of the helpers."""
        return NodeDir(self.path / f"helper-{index + 1}")

    def profile(self) -> NetworkProfile:
        """What its nodes agree on."""
        from common.network import load_profile

        return load_profile(self.must_exist().profile_file)

    def chain_login(self) -> ChainLogin:
        """How a node's flopd reaches the chain."""
        peers = (f"127.0.0.1:{PEERS_PORT}",)
        return ChainLogin(f"http://127.0.0.1:{CHAIN_PORT}/", "duxnet", self.chain / "rpc.auth", peers)

    def port_base(self, index: int) -> int:
        """Where the ports of its node `index` begin."""
        return port_base_of(index, PORT_BASE)

    def join(self, folder: NodeDir) -> int:
        """A number of its own on this machine for a new node; it is never given twice."""
        self.members.mkdir(exist_ok=True)
        number = HELPERS
        while True:
            try:
                with (self.members / str(number)).open("x") as file:
                    file.write(f"{folder.path}\n")
            except FileExistsError:
                number += 1
            else:
                return number

    def make(self) -> None:
        """Keys of the helpers, then the profile that names them, then their configurations."""
        from common.keyfile import write_private
        from common.randomness import SystemRandomness

        write_private(self.chain / "rpc.auth", f"duxnet:{SystemRandomness().bytes(20).hex()}\n".encode())
        made = [make_helper_keys(self.helper(index)) for index in range(HELPERS)]
        profile = profile_of(made)
        for index, keys in enumerate(made):
            folder = self.helper(index)
            folder.config.mkdir(parents=True, exist_ok=True)
            settings = quick_settings(keys.address)
            ports = self.port_base(index)
            write_config(folder, profile, index=index, port_base=ports, chain=self.chain_login(), extra=settings)
        from common.network import save_profile

        save_profile(profile, self.profile_file)

    def chain_command(self) -> list[str]:
        """The command line of the chain's process."""
        listen = ["--listen", f"127.0.0.1:{CHAIN_PORT}", "--p2p", f"127.0.0.1:{PEERS_PORT}"]
        listen += ["--data", str(self.chain), "--mine-every", str(BLOCK_EVERY_S)]
        return [sys.executable, "-P", "-m", "dux_sim.chaind", "--profile", str(self.profile_file), *listen]


def quick_settings(address: str) -> dict[str, dict[str, Any]]:
    """What a node of a test network has beside its place: paid at this address, and heard of within seconds."""
    return {"registryd": {"wallet_address": address, "heartbeat_s": HEARTBEAT_S, "check_s": 1.0, "probe_s": 1.0}}


def make_helper_keys(folder: NodeDir) -> KeysMade:
    """A helper's keys, for a network that has no genesis yet: keys do not depend on it."""
    from common.clock import SystemClock
    from common.keygen import make_keys
    from common.network import KeyFileCosts, NetworkProfile
    from common.randomness import SystemRandomness

    cheap = KeyFileCosts(memory_kib=8192, iterations=1)
    blank = NetworkProfile(name=UP, chain="embedded", genesis="00" * 32, heights="demo", key_file_costs=cheap)
    return make_keys(folder.data, blank, randomness=SystemRandomness(), made_ms=SystemClock().unix_ms())


def profile_of(helpers: list[KeysMade]) -> NetworkProfile:
    """The network of these helpers; its genesis follows from its premine."""
    from msgspec.structs import replace

    from common.community_fund import fund_address_of
    from common.network import Bootstrap, Custodian, FundParameters, KeyFileCosts, NetworkProfile
    from dux_sim.chain.profile import chain_of, genesis_hash

    coins = tuple((helpers[0].address, Florins(BANK_COIN_FLOP * FLOP)) for _ in range(BANK_COINS))
    profile = NetworkProfile(
        name=UP,
        chain="embedded",
        genesis="00" * 32,
        heights="demo",
        key_file_costs=KeyFileCosts(memory_kib=8192, iterations=1),
        fund=FundParameters(
            threshold=THRESHOLD,
            custodians=tuple(Custodian(did=keys.did, pubkey=keys.fund_pubkey) for keys in helpers[:JUDGES]),
        ),
        arbiters=tuple(keys.did for keys in helpers[:JUDGES]),
        bootstrap=tuple(
            Bootstrap(address=outside_endpoint(index, port_base_of(index, PORT_BASE)), did=keys.did)
            for index, keys in enumerate(helpers)
        ),
    )
    fund = (fund_address_of(profile), Florins(FUND_FLOP_TENTHS * FLOP // 10))
    profile = replace(profile, premine=(*coins, fund))
    return replace(profile, genesis=genesis_hash(chain_of(profile)))


@click.group(cls=DuxGroup)
def testnet() -> None:
    """A network on this machine: a coin chain, arbiters, custodians and a bank to be given coins by.

    It is one for all nodes of a user, whatever --node says; $DUXNET_TESTNET names another folder for it.
    """


testnet.add_command(compose_files)


@testnet.command()
@click.option("--detach", "-d", is_flag=True, help="Return once it answers; `duxnet testnet down` ends it.")
@pass_session
def up(session: Session, *, detach: bool) -> None:
    """Start the network; it is made on first use.

    \b
    duxnet testnet up --detach
    duxnet init && duxnet up --detach
    duxnet testnet give 100
    """
    network = LocalNetwork.default()
    if not network.profile_file.exists():
        session.out.step(f"making a test network in {network.path} …")
        network.make()
    if recorded_pid(NodeDir(network.path), UP) is None:
        session.run(make_room(network))
        if not detach:
            session.run(hold(network, session))
            return
        session.run(detached(network))
    told = {"testnet": str(network.path), "profile": str(network.profile_file), "chain": network.chain_login().url}
    session.out.record(told, [*told.items(), ("next", "duxnet init && duxnet up --detach")], name=str(network.path))


async def hold(network: LocalNetwork, session: Session) -> None:
    """Keep chain and helpers running until SIGINT or SIGTERM."""
    from dux_cli.keep_running import keep_running

    folder = NodeDir(network.path)
    record_pid(folder, UP, os.getpid())
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    chain = await start_chain(network)
    helpers = [Node(network.helper(index), one_process=True) for index in range(HELPERS)]
    try:
        for helper in helpers:
            await helper.start()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(keep_running(helper, session.out.step)) for helper in helpers]
            tasks.append(group.create_task(offer_checks(helpers[-1], session)))
            await stopping.wait()
            for task in tasks:
                task.cancel()
    finally:
        session.out.step("ending the test network …")
        for helper in helpers:
            await helper.close()
        if chain.returncode is None:
            chain.terminate()
        await chain.wait()


async def offer_checks(helper: Node, session: Session) -> None:
    """The last helper sells second runs of jobs, so that `duxnet call` finds somebody to check a result."""
    from common.contracts.store import SERVICE_LIST_MINE
    from common.rpc.method import Empty
    from dux_cli.market import publish_service, read_service

    shop = Session(helper.folder, session.out)
    try:
        await helper.wait_ready(deadline_s=READY_WITHIN_S)
        if not (await shop.call(SERVICE_LIST_MINE, Empty())).services:
            await publish_service(shop, read_service(CHECK_SERVICE), CHECK_SERVICE.parent, price=None, name="")
    except DuxError as error:
        session.out.step(f"nobody offers second runs: {error.message}")
    finally:
        await shop.close()


async def start_chain(network: LocalNetwork) -> asyncio.subprocess.Process:
    """The chain's process, once it listens.

    Raises:
        NotStarted: it ended instead.
    """
    folder = NodeDir(network.path)
    folder.logs.mkdir(exist_ok=True)
    with folder.log("chain").open("ab") as log:
        chain = await asyncio.create_subprocess_exec(
            *network.chain_command(), stdout=log, stderr=log, env=child_environment(), process_group=0
        )
    record_pid(folder, "chain", chain.pid)
    while not chain_listens():
        if chain.returncode is not None:
            words = last_words(folder.log("chain"))
            raise NotStarted(daemon="chain", reason="it has ended", log=str(folder.log("chain")), tail=words)
        await asyncio.sleep(ASK_EVERY_S)
    return chain


def chain_listens() -> bool:
    """True when somebody listens on the chain's port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", CHAIN_PORT)) == 0


async def detached(network: LocalNetwork) -> None:
    """Start `duxnet testnet up` in the background and wait for the helpers.

    Raises:
        NotStarted: it ended, or a helper is silent.
    """
    folder = NodeDir(network.path)
    folder.logs.mkdir(exist_ok=True)
    with folder.log(UP).open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "dux_cli", "testnet", "up"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=child_environment(),
        )
    helpers = [Node(network.helper(index), one_process=True) for index in range(HELPERS)]
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            while not all([await helper.info("taskd") for helper in helpers]):
                if child.poll() is not None:
                    break
                await asyncio.sleep(ASK_EVERY_S)
    except TimeoutError:
        pass
    finally:
        answered = [await helper.info("taskd") is not None for helper in helpers]
        for helper in helpers:
            await helper.close_clients()
    if not all(answered):
        words = last_words(folder.log(UP))
        raise NotStarted(daemon=UP, reason="a helper does not answer", log=str(folder.logs), tail=words)


async def make_room(network: LocalNetwork) -> None:
    """What an earlier run left has ended, and nobody else holds the network's ports.

    Raises:
        NetworkRuns: somebody listens where the chain is to listen.
    """
    await end_leftovers(network)
    if chain_listens():
        raise NetworkRuns(port=CHAIN_PORT)


async def end_leftovers(network: LocalNetwork) -> list[str]:
    """End what an earlier run left; the names of what ran."""
    ended = [f"helper-{i + 1}" for i in range(HELPERS) if await end_recorded(network.helper(i), "host")]
    return ended + (["chain"] if await end_recorded(NodeDir(network.path), "chain") else [])


@testnet.command()
@pass_session
def down(session: Session) -> None:
    """End the network; its chain, coins and helpers are kept for the next time."""

    async def end_all() -> list[str]:
        ended = [UP] if await end_recorded(NodeDir(network.path), UP, within_s=20) else []
        return ended + await end_leftovers(network)

    network = LocalNetwork.default().must_exist()
    ended = session.run(end_all())
    session.out.record({"ended": ended}, [("ended", ", ".join(ended) or "nothing was running")], name="\n".join(ended))


@testnet.command()
@click.argument("amount", type=FLOP_AMOUNT)
@click.option("--to", "address", default="", help="An address; else a fresh one of this node.")
@pass_session
def give(session: Session, amount: Florins, address: str) -> None:
    """Give coins of the test network's bank to this node, or to any address.

    \b
    duxnet testnet give 100
    duxnet testnet give 100 --to ADDRESS
    """
    from common.contracts.wallet import WALLET_NEW_ADDRESS, WALLET_SEND, NewAddress, Send

    bank = Session(LocalNetwork.default().must_exist().helper(0), session.out)
    if not address:
        asked = NewAddress(request_id=new_request_id("give"), label="from the test network's bank")
        address = session.ask(WALLET_NEW_ADDRESS, asked).address
    sent = bank.ask(WALLET_SEND, Send(request_id=new_request_id("give"), address=address, amount_florins=amount))
    lines = [("given", flop(sent.amount_florins)), ("to", address), ("transaction", sent.txid)]
    session.out.record(sent, lines, name=sent.txid)
