"""`duxos-node-registry machine`: what of a node's machine was measured by others, beside what it declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dux_cli.command import DuxCommand, Session, pass_session
from dux_cli.did_param import NodeDid
from dux_cli.output import counted

if TYPE_CHECKING:
    from common.contracts.registry_machine import MachineView


@click.command(cls=DuxCommand)
@click.argument("node_id", type=NodeDid(), required=False, default="")
@pass_session
def machine(session: Session, node_id: str) -> None:
    """Declared and measured, part by part, and by whom. Without NODE_ID this node; --json has the signed results.

    \b
    duxos-node-registry machine did:dux:…
    """
    from common.contracts.registry import MACHINE_SHOW, NODE_SELF
    from common.contracts.registry_machine import MachineAsked
    from common.rpc.method import Empty

    async def ask() -> MachineView:
        name = node_id or (await session.call(NODE_SELF, Empty())).node_id
        return await session.call(MACHINE_SHOW, MachineAsked(node_id=name))

    view = session.run(ask())
    session.out.record(view, machine_lines(view), name=view.node_id)


def machine_lines(view: MachineView) -> list[tuple[str, str]]:
    """A machine for a person."""
    if not view.results:
        return [
            ("node", view.node_id),
            (
                "declared",
                f"{view.declared_cores} cores, {view.declared_memory_mb} MB, {view.declared_storage_gb} GB disk",
            ),
            ("measured", "nothing yet: all of it is only declared"),
            *_quotes(view),
        ]
    cpu = f"{view.cores_seen} cores' work of {view.declared_cores} declared, {view.cpu_single} thousand hashes/s each"
    memory = f"{view.memory_mb} MB held of {view.memory_asked_mb} asked; {view.declared_memory_mb} MB declared"
    disk = f"{view.disk_mb} MB kept of {view.disk_asked_mb} asked; {view.declared_storage_gb} GB declared"
    speed = f"{view.up_kbps / 1000:.1f} Mbit/s out, {view.down_kbps / 1000:.1f} Mbit/s in"
    parts = (("cpu", cpu), ("memory", memory), ("storage", disk), ("bandwidth", speed))
    return [
        ("node", view.node_id),
        *((part, f"{text}: {'verified' if part in view.verified else 'NOT verified'}") for part, text in parts),
        ("answered wrongly", ", ".join(view.failed)),
        ("too slow to verify", ", ".join(view.slow)),
        *(("measured by", f"{one.prober} at {one.at}") for one in view.results),
        *_quotes(view),
        ("", f"{counted(len(view.results), 'signed result')} held here; --json prints them"),
    ]


def _quotes(view: MachineView) -> list[tuple[str, str]]:
    return [
        (
            "tpm",
            f"key {quote.key_name[4:20]}…, PCRs {quote.pcr_digest[:16]}…, checked by {quote.verifier} at {quote.at}",
        )
        for quote in view.quotes
    ]
