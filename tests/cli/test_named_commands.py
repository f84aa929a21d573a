"""Every command that a page or an error names can be typed: its verbs exist, and so does every option."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dux_cli.main import duxnet
from dux_cli.registry import registry

ROOT = Path(__file__).resolve().parents[2]
GROUPS: dict[str, click.Group] = {"duxnet": duxnet, "duxos-node-registry": registry}
NAMED = re.compile(r"`((?:\./)?(?:duxnet|duxos-node-registry) [^`]+)`")
COMMAND = re.compile(r"(?:\./)?(duxnet|duxos-node-registry) (.+)", re.DOTALL)
VERB = re.compile(r"[a-z]+(-[a-z]+)*")
OPTION = re.compile(r"--[a-z][a-z-]*")
SOURCES = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "docs/**/*.md", "common/**/*.py", "dux_*/**/*.py",
           "dux_*/README.md", "etc/**/*.yaml")  # fmt: skip
NO_COMMANDS = {"duxnet public network CA v1"}  # a name in a certificate


def named() -> Iterator[tuple[str, str, str]]:
    """File, program and what follows it, of everything between backticks."""
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            for line in NAMED.findall(path.read_text()):
                for one in line.split("&&"):  # the second is found by its own first word
                    if (found := COMMAND.fullmatch(one.strip())) is not None:
                        yield str(path.relative_to(ROOT)), found[1], found[2]


def fault(program: str, rest: str) -> str:
    """Why nobody can type this, or an empty string. `a|b` are two commands of one line."""
    command: click.Command = GROUPS[program]
    context = click.Context(command)
    for word in rest.split():
        if not isinstance(command, click.Group) or not VERB.fullmatch(word.split("|")[0]):
            break
        found = [command.get_command(context, name) for name in word.split("|")]
        if None in found:
            return f"there is no {word!r}"
        command = found[0] or command
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    unknown = set(OPTION.findall(rest)) - known
    return f"there is no {', '.join(sorted(unknown))}" if unknown and not isinstance(command, click.Group) else ""


def test_every_command_that_is_named_can_be_typed() -> None:
    """What a person is told to type next is there."""
    told = list(named())
    assert len(told) > 200, "the pattern has stopped finding them"
    faults = [
        f"{file}: `{program} {rest}`: {why}"
        for file, program, rest in told
        if f"{program} {rest}" not in NO_COMMANDS and (why := fault(program, rest))
    ]
    assert faults == []


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("wallet shared-key", "there is no 'shared-key'"),
        ("wallet lock|unlock|open", "there is no 'lock|unlock|open'"),
        ("wallet lock|unlock", ""),
        ("wallet send F… 1 --quickly", "there is no --quickly"),
        ("wallet send F… 1 --dry-run", ""),
        ("identity …", ""),
    ],
)
def test_a_command_that_is_none_is_found(rest: str, why: str) -> None:
    """The look itself: a verb, one of several, an option."""
    assert fault("duxnet", rest) == why
