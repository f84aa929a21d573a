"""The `duxnet` command: its sections, and the way in."""

from __future__ import annotations

import sys

import click

from dux_cli.command import EXIT_CODES_TEXT, LazyGroup, run_main

SECTIONS = {
    "See it": {
        "demo": ("dux_cli.demo.command:demo", "the whole paid job between six nodes on this machine, from nothing"),
        "test": ("dux_cli.testing:test", "every check of the project"),
        "attacks": ("dux_cli.attacks:attacks", "attack nodes on this machine, and see what each attack met"),
        "fuzz": ("dux_cli.fuzz:fuzz", "coverage-guided fuzzing of every parser of outside bytes"),
        "bench": ("bench.command:bench", "how fast and how large it is, beside others"),
        "sim": ("dux_cli.sim:sim", "networks on virtual time under faults, judged by laws"),
        "prove": ("dux_cli.prove:prove", "the protocols of money, walked through every state"),
        "soak": ("bench.soak_command:soak", "real nodes for a long time: what leaks"),
    },
    "A node of your own": {
        "init": ("dux_cli.init:init", "make a node: keys, configuration, network"),
        "phrase": ("dux_cli.init:phrase", "the words that restore the node"),
        "identity": ("dux_cli.identity:identity", "its name: keys, event log, rotation, recovery, end"),
        "up": ("dux_cli.up:up", "start its daemons and keep them running"),
        "down": ("dux_cli.up:down", "end them"),
        "status": ("dux_cli.status:status", "how each daemon fares, and where the chain is"),
        "logs": ("dux_cli.status:logs", "what a daemon has told"),
        "network": ("dux_cli.network:network", "a network of your own: founders, profile, signatures"),
        "testnet": ("dux_cli.testnet:testnet", "a network on this machine to try it in: chain, arbiters, bank"),
    },
    "The market": {
        "search": ("dux_cli.market:search", "find services by words, tags, price and rating"),
        "call": ("dux_cli.call:call", "buy one call of a service: picture in, picture out"),
        "fetch": ("dux_cli.call:fetch", "the result of a call that was not waited for"),
        "rate": ("dux_cli.market:rate", "rate a call that you paid for"),
        "task": ("dux_cli.tasks:task", "the paid jobs of this node; a dry run of a package"),
        "publish": ("dux_cli.market:publish", "offer a service on this node"),
        "services": ("dux_cli.market:services", "the services of this node"),
        "topology": ("dux_cli.topology:topology", "regions and latencies of the network; --svg draws it"),
        "nodes": ("dux_cli.nodes:nodes", "the nodes of the network, and this one among them"),
        "mail": ("dux_cli.mail:mail", "letters to other nodes, which may be off, and from them"),
        "sell-http": ("dux_cli.pay_http:sell_http", "sell an HTTP endpoint per call: a paying proxy before it"),
        "pay-http": ("dux_cli.pay_http:pay_http", "make one HTTP request and pay for it"),
        "gateway": ("dux_cli.pay_http:gateway", "let programs of this machine pay for HTTP calls"),
    },
    "Money": {
        "restore": ("dux_cli.restore:restore", "coins, contracts and channels that the phrase brings back"),
        "wallet": ("dux_cli.wallet_commands:wallet", "balance, addresses, payments, accounts, bonds, backup"),
        "channel": ("dux_cli.channel:channel", "channels: many small calls, two transactions"),
        "escrow": ("dux_cli.escrow:escrow", "contracts and their disputes"),
        "cases": ("dux_cli.escrow_acts:cases", "what waits for you as buyer, seller, arbiter or custodian"),
        "fund": ("dux_cli.fund:fund", "the community fund: books, sweeps, proofs, key ceremonies"),
        "airdrop": ("dux_cli.airdrop:airdrop", "what the fund hands back, to whom and when"),
        "verify": ("dux_cli.verify:verify", "check public proofs of airdrops and sweeps, on any machine"),
        "parameters": ("dux_cli.parameters:parameters", "tax, threshold and rule: versions, signatures"),
    },
    "Look inside": {
        "why": ("dux_cli.why:why", "why a task, a contract or a node stands where it stands"),
        "rpc": ("dux_cli.raw:rpc", "call any method of any daemon with JSON"),
        "completion": ("dux_cli.completion:completion", "let the shell complete commands and options"),
        "install": (
            "dux_cli.install:install",
            "lay program, units and settings below a folder, as packages do",
        ),
        "docs": ("dux_cli.docs.command:docs", "write the generated pages of the documentation anew"),
    },
}


@click.group(cls=LazyGroup, lazy=SECTIONS, epilog=f"\b\nExit codes:{EXIT_CODES_TEXT}")
@click.version_option(package_name=None, version="0.1.0", prog_name="duxnet")
def duxnet() -> None:
    """DuxNet: a market for computing without a company in the middle.

    \b
    duxnet demo                          see the whole of it in a minute
    duxnet init && duxnet up --detach    a node of your own
    duxnet search upscale                find a service
    duxnet call SERVICE --input a.png    buy one call of it

    Every command answers people with tables, pipes with tab-separated lines, and programs with --json. A command's
    own --help shows examples.
    """


def main() -> None:
    """The way in of the installed command and of the launcher."""
    sys.exit(run_main(duxnet))
