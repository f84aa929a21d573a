"""`duxnet up` and `duxnet down`: a node's daemons, started, kept running, ended.

Promises: one process per daemon (all in one only when asked for, never on main); as root each daemon has a user of its
own; Ctrl-C, SIGTERM and `duxnet down` end all of them in order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import click

from common.errors import CallerMistake, DuxError, NotNow
from common.rpc.method import DAEMONS
from dux_cli.command import DuxCommand, Session, pass_session
from dux_cli.supervisor import (
    ASK_EVERY_S,
    HOST,
    SLOTS,
    STOP_WITHIN_S,
    Node,
    NotStarted,
    child_environment,
    end_recorded,
    last_words,
    record_pid,
    recorded_pid,
)

if TYPE_CHECKING:
    from dux_cli.node_dir import NodeDir
    from dux_cli.uids import Uids

UP = "up"
READY_WITHIN_S = 60.0


class AlreadyUp(NotNow):
    """The node in {path} is up already (process {pid}); `duxnet down` ends it."""

    code = 1221
    key = "already-up"


class SameUserOnMain(CallerMistake):
    """On main each daemon has a user of its own when root starts them; leave --same-user out."""

    code = 1125
    key = "same-user-on-main"


@click.command(cls=DuxCommand)
@click.option("--detach", "-d", is_flag=True, help="Return once every daemon answers; `duxnet down` ends them.")
@click.option("--one-process", is_flag=True, help="All daemons in one process; test networks only.")
@click.option("--same-user", is_flag=True, help="As root: do not give each daemon its own user; test networks only.")
@pass_session
def up(session: Session, *, detach: bool, one_process: bool, same_user: bool) -> None:
    """Start the node's daemons and keep them running.

    \b
    duxnet up                 in this terminal, until Ctrl-C
    duxnet up --detach        in the background
    """
    folder = session.node.must_be_ours("start")
    pid = recorded_pid(folder, UP)
    if pid is not None and pid != os.getpid():
        raise AlreadyUp(path=str(folder.path), pid=pid)
    node = Node(folder, one_process=one_process, uids=users_of(folder, same_user=same_user))
    refuse_walls_down(node, one_process=one_process)
    if detach:
        flags = [flag for flag, on in (("--one-process", one_process), ("--same-user", same_user)) if on]
        session.run(start_detached(node, flags))
        ready(session, folder)
    else:
        session.run(hold_up(node, session))


def users_of(folder: NodeDir, *, same_user: bool) -> Uids | None:
    """Whom to run the daemons as: users of their own when root starts them.

    Raises:
        SameUserOnMain: asked for, where real coins are. Unreachable: they could not read the program or the node.
    """
    from dux_cli.uids import Uids

    if same_user and folder.profile().is_main:
        raise SameUserOnMain
    if os.geteuid() != 0 or same_user:
        return None
    users = Uids.of_node(folder)
    users.check(folder)
    return users


def refuse_walls_down(node: Node, *, one_process: bool) -> None:
    """One process holds all keys only on a test network.

    Raises:
        KeysNeedWalls: this is main.
    """
    if one_process and node.folder.profile().is_main:
        from dux_cli.host import KeysNeedWalls

        raise KeysNeedWalls


async def hold_up(node: Node, session: Session) -> None:
    """Keep the node up until SIGINT or SIGTERM; then end its daemons."""
    from dux_cli.keep_running import keep_running

    for name in (HOST, SLOTS, *DAEMONS):
        await end_recorded(node.folder, name)  # left over from a supervisor that was killed
    node.folder.run.mkdir(exist_ok=True)
    record_pid(node.folder, UP, os.getpid())
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    try:
        await node.start(*node.process_names())
        async with asyncio.TaskGroup() as group:
            kept = group.create_task(keep_running(node, session.out.step))
            told = group.create_task(tell_ready(node, session))
            await first_of(stopping, kept)
            told.cancel()
            kept.cancel()
    except* DuxError as errors:
        raise innermost(errors) from None
    finally:
        session.out.step("ending the daemons …")
        await node.close()


def innermost(error: BaseException) -> BaseException:
    """The first error inside groups of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def first_of(stopping: asyncio.Event, kept: asyncio.Task[None]) -> None:
    """Return when asked to stop; an error of the other task ends both."""
    asked = asyncio.ensure_future(stopping.wait())
    await asyncio.wait((asked, kept), return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()


async def tell_ready(node: Node, session: Session) -> None:
    """Say when every daemon answers; a slow one is said, too, and waited for by nobody."""
    try:
        await node.wait_ready(deadline_s=READY_WITHIN_S)
    except NotStarted as error:
        session.out.step(f"warning: {error.message}")
    else:
        ready(session, node.folder)


def ready(session: Session, folder: NodeDir) -> None:
    """Say that the node is up and what to do next."""
    facts = [("node", str(folder.path)), ("daemons", f"{len(DAEMONS)} ready"), ("next", "duxnet status")]
    session.out.record({"up": True, "node": str(folder.path)}, facts, name=str(folder.path))


async def start_detached(node: Node, flags: list[str]) -> None:
    """Start `duxnet up` in the background and wait until every daemon answers.

    Raises:
        NotStarted: it ended before, or a daemon did not answer in time.
    """
    command = [sys.executable, "-P", "-m", "dux_cli", "up", "--node", str(node.folder.path), *flags]
    node.folder.logs.mkdir(exist_ok=True)
    with node.folder.log(UP).open("ab") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=child_environment()
        )
    try:
        await wait_for_child(node, child)
    finally:
        await node.close_clients()


async def wait_for_child(node: Node, child: subprocess.Popen[bytes]) -> None:
    """Return when every daemon answers that the child keeps up.

    Raises:
        NotStarted: the child has ended, or a daemon is silent.
    """
    waiting_for = DAEMONS[0]
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            for waiting_for in DAEMONS:
                while await node.info(waiting_for) is None:
                    if child.poll() is not None:
                        raise not_started(node, UP, "`up` has ended")
                    await asyncio.sleep(ASK_EVERY_S)
    except TimeoutError as error:
        raise not_started(node, waiting_for, f"silent for {READY_WITHIN_S:g} s") from error


def not_started(node: Node, name: str, reason: str) -> NotStarted:
    """The error with the end of the log that tells why."""
    log = node.folder.log(name)
    return NotStarted(daemon=name, reason=reason, log=str(log), tail=last_words(log))


@click.command(cls=DuxCommand)
@pass_session
def down(session: Session) -> None:
    """End the node's daemons.

    \b
    duxnet down
    """
    folder = session.node.must_be_ours("stop")
    ended = session.run(end_all(folder))
    told = ", ".join("all daemons" if name == UP else name for name in ended)
    session.out.record({"ended": ended}, [("ended", told or "nothing was running")], name="\n".join(ended))


async def end_all(folder: NodeDir) -> list[str]:
    """End the supervisor, which ends its daemons, then whatever it left; the names of what ran."""
    ended = [UP] if await end_recorded(folder, UP, within_s=STOP_WITHIN_S * 3) else []
    return ended + [name for name in (HOST, SLOTS, *DAEMONS) if await end_recorded(folder, name)]
