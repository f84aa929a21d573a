"""What every command has: which node, which form of answer, errors that say what to do, and exit codes.

Promises: every command takes --json, --quiet, --node, --log-level and --log-file; an error leaves as text on stderr or,
with --json, as one object on stdout; the exit code tells its class (EXIT_CODES). Commands are loaded when they are
used, so that `duxnet --help` stays fast.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from common.errors import CallerMistake, DuxError, NotNow, PeerMisbehaved, Unavailable
from dux_cli.node_dir import NodeDir, default_node, owner_of
from dux_cli.out_files import unusable
from dux_cli.output import Output, error_object, note

if TYPE_CHECKING:
    from common.rpc.client import HttpClient
    from common.rpc.method import Method, P, R

T = TypeVar("T")

SENTENCE_CHARS_MAX = 1_000  # of a verb in its noun's help: none is cut

EXIT_CODES: dict[type[DuxError], int] = {CallerMistake: 3, NotNow: 4, Unavailable: 5, PeerMisbehaved: 6}
EXIT_FAILED = 1  # an internal error, or a command whose outcome is "no"
EXIT_USAGE = 2  # the command line itself
EXIT_CODES_TEXT = """
0  done
1  an internal error, or the answer is no
2  the command line is wrong
3  the call is wrong: mend it
4  not now: wait, then repeat
5  a daemon, the chain or a peer does not answer: look at `duxnet status`, repeat
6  another node broke the protocol
69 the machine lacks something that the launcher needs
"""


@dataclass
class Session:
    """One run of a command: the node it is about and the form of its answer."""

    node: NodeDir
    out: Output
    _clients: dict[str, HttpClient] = field(default_factory=dict)

    async def call(self, method: Method[P, R], params: P, *, deadline_s: float = 30.0) -> R:
        """Call a method on the daemon of this node that serves it.

        Raises:
            DuxError: as the daemon raised it, or NoNode, NeighbourDown, DeadlinePassed.
        """
        return await self.client(owner_of(method.name)).call(method, params, deadline_s=deadline_s)

    def client(self, daemon: str) -> HttpClient:
        """The client of a daemon of this node."""
        if daemon not in self._clients:
            self._clients[daemon] = self.node.must_exist().client(daemon)
        return self._clients[daemon]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the command's asynchronous part and close its clients."""

        async def closing() -> T:
            try:
                return await work
            finally:
                await self.close()

        return asyncio.run(closing())

    async def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            await client.close()

    def ask(self, method: Method[P, R], params: P, *, deadline_s: float = 30.0) -> R:
        """One call, from a command that is not asynchronous."""
        return self.run(self.call(method, params, deadline_s=deadline_s))


pass_session = click.make_pass_decorator(Session)


def standard_options() -> list[click.Parameter]:
    """The options of every command."""
    levels = click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False)
    return [
        click.Option(["--json", "as_json"], is_flag=True, help="Answer with one JSON object, errors too."),
        click.Option(["--quiet", "-q"], is_flag=True, help="Print ids only."),
        click.Option(["--node", "node"], type=click.Path(path_type=Path), help="The node's folder (or $DUXNET_NODE)."),
        click.Option(["--log-level"], type=levels, help="How much the command tells of its own doings."),
        click.Option(["--log-file"], type=click.Path(path_type=Path), help="Where it tells it; else stderr."),
    ]


class InPart(click.ParamType[str]):
    """A name that may be written in part: which one it is the node knows, once the command has one."""

    async def whole(self, session: Session, text: str) -> str:
        """The name that a person means.

        Raises:
            NotFound, SeveralFit: it is nobody's, or that of several.
        """
        raise NotImplementedError


class DuxCommand(click.Command):
    """A command with the standard options and a Session as its context object."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """As click's, with the standard options last."""
        super().__init__(*arguments, **settings)
        self.params.extend(standard_options())

    def invoke(self, context: click.Context) -> Any:
        """Run the command; an error of a daemon becomes text or JSON and an exit code."""
        taken = {name: context.params.pop(name) for name in ("as_json", "quiet", "node", "log_level", "log_file")}
        out = Output(as_json=taken["as_json"], quiet=taken["quiet"])
        context.obj = Session(NodeDir(taken["node"] or default_node()), out)
        start_log(context.command_path, taken["log_level"], taken["log_file"])
        try:
            self._complete(context)
            return super().invoke(context)
        except DuxError as error:
            out.error(error)
            context.exit(exit_code(error))
        except OSError as error:
            if not isinstance(error.filename, str | os.PathLike):
                raise  # a pipe or a socket, whose caller knows more
            told = unusable(error, os.fspath(error.filename))
            out.error(told)
            context.exit(exit_code(told))

    def _complete(self, context: click.Context) -> None:
        """What was written in part is asked for whole."""
        for param in self.params:
            given = context.params.get(param.name or "")
            if isinstance(param.type, InPart) and given:
                session: Session = context.obj
                names = given if isinstance(given, tuple) else (given,)
                whole = tuple(session.run(param.type.whole(session, name)) for name in names)
                context.params[param.name or ""] = whole if isinstance(given, tuple) else whole[0]


def exit_code(error: DuxError) -> int:
    """The exit code of the error's class."""
    for kind, code in EXIT_CODES.items():
        if isinstance(error, kind):
            return code
    return EXIT_FAILED


def start_log(command: str, level: str | None, path: Path | None) -> None:
    """Log the command's doings where the person asked for it."""
    if level is None and path is None:
        return
    from common.log import start_logging

    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        log = start_logging("cli", (level or "INFO").upper(), path)
    except OSError as error:
        raise click.ClickException(f"cannot log to {path}: {error.strerror}; name a file that you may write") from error
    log.info("command started", command=command)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used; help shows the lines given here."""

    def __init__(self, *arguments: Any, lazy: dict[str, dict[str, tuple[str, str]]] | None = None, **more: Any) -> None:
        """`lazy`: section -> command -> (`module:attribute`, one line of help)."""
        super().__init__(*arguments, **more)
        self._sections = lazy or {}
        self._places = {name: place for section in self._sections.values() for name, (place, _) in section.items()}

    def list_commands(self, context: click.Context) -> list[str]:
        """Every name, in the order of the sections."""
        return [*self._places, *super().list_commands(context)]

    def get_command(self, context: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in self._places:
            return super().get_command(context, cmd_name)
        module, attribute = self._places[cmd_name].split(":")
        found = getattr(import_module(module), attribute)
        return found if isinstance(found, click.Command) else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The sections with one line per command."""
        del context
        for title, commands in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, line) for name, (_, line) in commands.items()])


class DuxGroup(click.Group):
    """A noun with verbs; each verb is a DuxCommand. The noun alone, or with options only, may stand for one of them."""

    command_class = DuxCommand

    def __init__(self, *arguments: Any, alone: str | None = None, **settings: Any) -> None:
        """As click's. `alone`: the verb that the noun without one stands for."""
        super().__init__(*arguments, **settings)
        self._alone = alone

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs with the first sentence of each, whole: it is wrapped where a line is too short for it."""
        verbs = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.get_short_help_str(SENTENCE_CHARS_MAX)) for name, verb in verbs if verb])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The verb and what follows it."""
        has_verb = bool(args) and (not args[0].startswith("-") or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if has_verb or self._alone is None else [self._alone, *args])


def run_main(group: click.Group, arguments: list[str] | None = None, *, name: str = "duxnet") -> int:
    """Run the command line; the exit code. A mistake in the command line is told in the form that it asked for."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = group.main(args=words, prog_name=name, standalone_mode=False)
    except click.Abort:
        note("stopped")
        return 130
    except click.ClickException as error:
        return tell_usage(error, as_json="--json" in words)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return code if isinstance(code, int) else 0


def tell_usage(error: click.ClickException, *, as_json: bool) -> int:
    """Say what is wrong with the command line."""
    if as_json:
        Output(as_json=True).json(error_object(1104, "usage", error.format_message(), {}))
    else:
        error.show()
    return error.exit_code


def new_request_id(what: str) -> str:
    """A fresh request id: a repetition of the command is a new wish."""
    from common.randomness import SystemRandomness

    return f"cli-{what}-{SystemRandomness().bytes(8).hex()}"
