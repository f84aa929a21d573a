"""`duxnet completion`: the line that makes the shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from dux_cli.command import DuxCommand, Session, pass_session

SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(cls=DuxCommand)
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
@pass_session
def completion(session: Session, shell: str) -> None:
    """Print the script that completes `duxnet` in this shell.

    \b
    duxnet completion bash > ~/.local/share/bash-completion/completions/duxnet
    duxnet completion fish > ~/.config/fish/completions/duxnet.fish
    """
    from dux_cli.main import duxnet

    source = SHELLS[shell](duxnet, {}, "duxnet", "_DUXNET_COMPLETE").source()
    if session.out.as_json:
        session.out.json({"shell": shell, "source": source})
    else:
        session.out.text(source)
