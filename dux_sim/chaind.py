"""The embedded chain as a process: `python -m dux_sim.chaind --profile FILE --listen 127.x.y.z:PORT`.

Serves JSON-RPC over HTTP as a coin node does, mines on a timer if told to, and keeps its blocks if given a directory.
Prints one line `READY <url> <genesis hash>` once it answers. Leaves on SIGTERM, SIGINT or the RPC call `stop`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import signal
import sys
from pathlib import Path

import msgspec
from aiohttp import web

from common.chain.wire import shown
from common.errors import DuxError
from common.randomness import SystemRandomness
from dux_sim.chain import miner
from dux_sim.chain.errors import MiningGaveUp
from dux_sim.chain.journal import FileJournal, JournalRefused, replay
from dux_sim.chain.node import Node
from dux_sim.chain.p2p import P2pServer
from dux_sim.chain.profile import ChainProfile, genesis_of, load_profile
from dux_sim.chain.rpc_actions import mining_script
from dux_sim.chain.server import RpcServer, auth_line

MINE_EVERY_MIN_S = 0.05
SHUTDOWN_S = 2.0


def parse_args(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="dux_sim.chaind", description=__doc__)
    parser.add_argument("--profile", type=Path, required=True, help="a chain profile or a network profile, YAML")
    parser.add_argument("--listen", help="loopback address and port, such as 127.0.0.1:28600")
    parser.add_argument("--p2p", help="also serve light wallets at this address and port")
    parser.add_argument("--in-container", action="store_true", help="--listen may name any address: a private network")
    parser.add_argument("--mine-every", type=float, default=0.0, metavar="SECONDS", help="0: only on demand")
    parser.add_argument("--data", type=Path, help="directory of the block file; without it a restart starts anew")
    parser.add_argument("--auth", type=Path, help="file with user:password, made if missing; default DATA/rpc.auth")
    parser.add_argument("--print-genesis", action="store_true", help="print the network's genesis hash and leave")
    return parser.parse_args(argv)


def problem(args: argparse.Namespace) -> str | None:
    """What is wrong with the command line, in words that say what to do; None when nothing is."""
    if not args.listen:
        return "--listen 127.0.0.1:PORT is needed"
    for option, value in (("--listen", args.listen), ("--p2p", args.p2p)):
        if value is not None and not _usable(value, in_container=args.in_container):
            return f"{option} wants a loopback address and a port, such as 127.0.0.1:28600, not {value}"
    if not args.auth and not args.data:
        return "--auth FILE or --data DIR is needed, for the login has to be written somewhere"
    if 0 < args.mine_every < MINE_EVERY_MIN_S:
        return f"--mine-every is at least {MINE_EVERY_MIN_S} seconds"
    return None


def _usable(listen: str, *, in_container: bool) -> bool:
    host, _, port = listen.rpartition(":")
    try:
        return (ipaddress.ip_address(host).is_loopback or in_container) and 0 <= int(port) < 2**16
    except ValueError:
        return False


def open_node(profile: ChainProfile, data: Path | None, stack: contextlib.ExitStack) -> Node:
    """A node as its block file left it, or a new one."""
    node = Node(profile)
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
        journal = stack.enter_context(FileJournal(data / "blocks.dat", genesis_of(profile).hash))
        replay(journal, node)
        node.journal = journal
    return node


async def mine_on_timer(node: Node, every_s: float) -> None:
    """A block each `every_s` seconds; one that is too hard is tried again in the next round."""
    script = mining_script(node.profile.mine_to)
    while True:
        await asyncio.sleep(every_s)
        with contextlib.suppress(MiningGaveUp):
            node.mine(script, tries_max=miner.TRIES_MAX // 100)


async def serve(args: argparse.Namespace, node: Node, auth: str) -> None:
    """Answer until told to stop."""
    server = RpcServer(node, auth)
    host, _, port = args.listen.rpartition(":")
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    site = web.TCPSite(runner, host, int(port))
    await site.start()
    peers = P2pServer(node, SystemRandomness())
    if args.p2p:
        peer_host, _, peer_port = args.p2p.rpartition(":")
        await peers.start(peer_host, int(peer_port))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    sys.stdout.write(
        f"READY http://{runner.addresses[0][0]}:{runner.addresses[0][1]} {shown(node.chain.active[0].hash)}\n"
    )
    sys.stdout.flush()
    try:
        async with asyncio.TaskGroup() as group:
            mining = group.create_task(mine_on_timer(node, args.mine_every)) if args.mine_every else None
            await server.stopping.wait()
            server.stop()
            if mining is not None:
                mining.cancel()
    finally:
        await peers.stop()
        await runner.cleanup()


def main(argv: list[str] | None = None) -> int:
    """Run the chain; 0 after an orderly end, 2 for a wrong command line, 1 for a block file that cannot be used."""
    args = parse_args(sys.argv[1:] if argv is None else argv)
    try:
        profile = load_profile(args.profile)
    except (OSError, msgspec.MsgspecError, DuxError, ValueError) as error:
        sys.stderr.write(f"chaind: {args.profile}: {error}\n")
        return 2
    if args.print_genesis:
        sys.stdout.write(shown(genesis_of(profile).hash) + "\n")
        return 0
    wrong = problem(args)
    if wrong:
        sys.stderr.write(f"chaind: {wrong}\n")
        return 2
    with contextlib.ExitStack() as stack:
        try:
            node = open_node(profile, args.data, stack)
        except JournalRefused as error:
            sys.stderr.write(f"chaind: {error}\n")
            return 1
        auth = auth_line(args.auth or args.data / "rpc.auth", SystemRandomness())
        asyncio.run(serve(args, node, auth))
    return 0


if __name__ == "__main__":
    sys.exit(main())
