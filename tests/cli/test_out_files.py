"""Answers that go to files: every option that names one refuses a place that takes none, before anything is done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dux_cli.command import DuxCommand, DuxGroup, run_main
from dux_cli.main import duxnet
from dux_cli.out_files import OutFile, Unusable, write_out

OPTIONS = {
    "airdrop proof FILE", "airdrop publish FILE", "call --output", "escrow audit --out", "fetch --output",
    "fund ceremony show --roster", "fund publish FILE", "identity disclose --output", "identity show --event-log",
    "network create FILE", "network founder --card", "parameters fetch FILE", "parameters propose FILE",
    "pay-http --output", "task run --output", "topology --svg", "wallet partial make --output",
    "wallet partial sign --output",
}  # fmt: skip


def out_files(command: click.Command, path: str, context: click.Context) -> Iterator[str]:
    """`command parameter` for each parameter that is a file to be written."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from out_files(child, f"{path} {name}".strip(), context)
        return
    for one in command.params:
        if isinstance(one.type, OutFile):
            yield f"{path} {one.opts[0] if isinstance(one, click.Option) else one.human_readable_name}"


def test_every_answers_file_is_looked_at_first() -> None:
    """The list of options whose file is written is complete: none of them fails after the work was done."""
    assert set(out_files(duxnet, "", click.Context(duxnet))) == OPTIONS


def test_a_place_that_takes_no_file_is_refused_before_keys_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Below a file and at a folder: the command line's error, in JSON too, and no keys behind it."""
    (tmp_path / "file").write_text("")
    for card in (tmp_path / "file" / "card", tmp_path):
        words = ["network", "founder", "--card", str(card), "--node", str(tmp_path / "a")]
        assert run_main(duxnet, words) == 2
        assert "cannot be written" in capsys.readouterr().err
        assert run_main(duxnet, [*words, "--json"]) == 2
        assert "name another" in json.loads(capsys.readouterr().out)["error"]["message"]
        assert not (tmp_path / "a").exists()


def test_an_error_of_a_file_is_told_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a command could not foresee: no traceback, but the path and what to do, in JSON one object."""

    @click.group(cls=DuxGroup)
    def group() -> None:
        """Commands of this test."""

    @group.command(cls=DuxCommand)
    def reads() -> None:
        """Fail at a file."""
        (tmp_path / "nowhere").read_bytes()

    @group.command(cls=DuxCommand)
    def pipes() -> None:
        """Fail at what is no file."""
        raise ConnectionResetError(104, "gone")

    assert run_main(group, ["reads"]) == 3
    assert str(tmp_path / "nowhere") in capsys.readouterr().err
    assert run_main(group, ["reads", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["key"] == "unusable-file"
    with pytest.raises(ConnectionResetError):
        run_main(group, ["pipes"])


def test_an_answer_is_written_with_its_folder(tmp_path: Path) -> None:
    """Folders are made; a place that takes none any more is an error with its name."""
    write_out(tmp_path / "a/b/c", b"x")
    assert (tmp_path / "a/b/c").read_bytes() == b"x"
    with pytest.raises(Unusable, match="a/b/c/d"):
        write_out(tmp_path / "a/b/c/d", b"x")
