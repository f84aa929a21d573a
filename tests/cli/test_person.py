"""What a person meets: a node that is off, tables on a narrow terminal, logs, a result that has no place."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from common.chain.params import EMBEDDED
from common.contracts import p2p, registry, task, task_stages
from common.contracts.registry_witness import SlotShown
from common.contracts.wallet_errors import ChainUnavailable
from common.errors import NeighbourDown
from common.units import FLOP, Did, Florins
from dux_cli import output
from dux_cli.command import run_main
from dux_cli.log_lines import readable
from dux_cli.main import duxnet
from dux_cli.node_dir import INSTALLED
from dux_cli.output import draw_table
from dux_cli.pictures import make_test_picture, raw_from_picture, write_picture
from dux_cli.status import facts_of
from dux_flopd.node_rpc import CoinNode
from tests.cli.fake_node import FakeNode
from tests.cli.test_commands import ID, ROOT, fresh, node, run
from tests.cli.toy_node import make_toy_node
from tests.ports import free_base

__all__ = ["fresh", "node", "run"]  # fixtures

pytestmark = pytest.mark.patient

DID = "did:dux:" + "b" * 52


# --- status and help --------------------------------------------------------------------------------------------------


def test_a_node_that_is_off_says_how_it_is_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line below the table, without addresses and field names; another command says that nothing listens."""
    folder = make_toy_node(tmp_path / "n", port_base=free_base())
    with pytest.raises(SystemExit):
        run_main(duxnet, ["status", "--node", str(folder.path)])
    assert capsys.readouterr().err == f"node     {folder.path} is not running: `duxnet up --detach` starts it\n"
    for daemon in ("flopd", "p2pd"):
        (folder.run / daemon).mkdir(parents=True)
        (folder.run / daemon / "cli.token").write_text("x" * 43)
    for words in (["wallet", "balance"], ["call", "svc", "--input", str(folder.config / "common.yaml")]):
        run_main(duxnet, [*words, "--max-price", "1"] if words[0] == "call" else [*words, "--node", str(folder.path)])
    assert "nothing listens there. Is it running?" in capsys.readouterr().err
    installed = {"node": str(INSTALLED), "silent": list("1234567")}
    assert "`systemctl start duxnet.target`" in facts_of(installed)[0][1]


def test_status_tells_node_network_and_chain_in_words(run: Any, node: FakeNode) -> None:
    """No field names; what a daemon that answers could not say is told, and nothing twice of one that is silent."""
    told = run("status").err.splitlines()
    assert told[0] == f"node     {p2p.P2P_INFO.example[1].did}"
    assert told[1].startswith("network  toy, ")
    assert "peer" in told[1]
    assert told[2].startswith("chain    ")
    assert ", height " in told[2]
    node.answers["wallet.status"] = NeighbourDown(daemon="flopd", address="here", detail="it sleeps")
    assert "chain    flopd does not answer at here: it sleeps" in run("status").err
    reading = {"node": "n", "silent": [], "chain": "main", "height": 5, "synced": False}
    assert facts_of(reading) == [("chain", "main, height 5, which the wallet is still reading")]
    assert facts_of(reading | {"height": -1}) == [("chain", "main, no block is read yet")]
    silent = {"node": "n", "silent": ["flopd"], "chain_error": "flopd is off"}
    assert facts_of(silent) == []


@pytest.mark.parametrize("group", ["wallet", "identity", "prove", "fund ceremony", "why"])
def test_a_noun_s_help_cuts_no_sentence(
    group: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each verb's first sentence stands there whole, on two lines where one is too short."""
    monkeypatch.setenv("COLUMNS", "80")
    assert run_main(duxnet, [*group.split(), "--help"]) == 0
    verbs = capsys.readouterr().out.split("Commands:\n")[1]
    assert "..." not in verbs
    assert max(map(len, verbs.splitlines())) <= 80


# --- tables and logs --------------------------------------------------------------------------------------------------


def drawn(headings: tuple[str, ...], *lines: tuple[str, ...], width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table as a terminal so wide shows it."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    told = io.StringIO()
    monkeypatch.setattr("sys.stdout", told)
    draw_table(headings, lines)
    return told.getvalue()


def test_ids_give_way_before_words_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a line is too long, ids beside the first column are cut as commands take them; no short word is split."""
    head = ("task", "state", "service", "reason")
    line = ("task-7d3ec672c4292cc31c6c2967", "cancelled", "s" * 32, "the second worker got the same")
    wide = drawn(head, line, width=160, monkeypatch=monkeypatch)
    assert "s" * 32 in wide
    assert len(wide.splitlines()) == 2
    narrow = drawn(head, line, width=80, monkeypatch=monkeypatch)
    assert {line[0], "cancelled", "ssssss…"} <= set(narrow.split())
    assert max(map(len, narrow.splitlines())) <= 80
    assert {"second", "worker"} <= set(narrow.split())
    named = drawn(("n", "with", "why", "by"), ("1", DID, "y " * 20, "z " * 20), width=80, monkeypatch=monkeypatch)
    assert "bbbb…bbbb" in named.split()
    full = drawn(
        ("task", "with", "state", "why"), (line[0], "d " * 20, "cancelled", "y" * 60), width=60, monkeypatch=monkeypatch
    )
    assert "cancelled" in full.split()
    crowded = (line[0], "buyer", "cancelled", "10 FLOP", "s" * 32, "no agreement came about in time")
    head = ("task", "role", "state", "price", "service", "reason")
    for width in range(67, 100):
        told = drawn(head, crowded, width=width, monkeypatch=monkeypatch).splitlines()
        assert max(map(len, told)) <= width
        last = told[0].rstrip().rindex(" ") + 1
        assert "".join(row[last:].replace(" ", "") for row in told[1:]).endswith("noagreementcameaboutintime"), told


def test_a_list_of_tasks_has_a_stage_s_column_where_there_is_one(
    run: Any, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe has the same columns always; a person sees no empty one."""
    one = msgspec.structs.replace(task.STATUS.example[1], stages_id="", stage=0, reason="why")
    node.answers["task.list"] = task.TaskList(tasks=(one,))
    assert len(run("task", "list").out.strip().split("\t")) == 7
    monkeypatch.setattr(output.Output, "for_person", True)
    assert "stage" not in run("task", "list").out
    staged = msgspec.structs.replace(one, stages_id="stages-1", stage=2)
    node.answers["task.list"] = task.TaskList(tasks=(staged,))
    assert "stage" in run("task", "list").out


def test_a_log_is_read_as_sentences_and_the_rest_as_it_is() -> None:
    """Time, weight, event, facts; a trace on lines of its own; nothing steers the terminal."""
    record = {
        "daemon": "taskd",
        "port": 7,
        "event": "daemon ready",
        "level": "info",
        "timestamp": "2026-11-29T20:23:08.7Z",
    }
    assert readable("<6>" + json.dumps(record)) == "2026-11-29 20:23:08  info     daemon ready  port=7"
    failed = record | {"level": "error", "exception": "Traceback:\n  line\x1b[2J"}
    assert readable("<3>" + json.dumps(failed)).splitlines()[1:] == ["    Traceback:", "      line�[2J"]
    for line in ("plain \x07text", "cut off", "<6>[1]", '{"a": 1}', "<6>{", "[" * 100_000):
        assert readable(line) == line.replace("\x07", "�")
    assert readable("next\tduxnet status") == "next  duxnet status"


def test_a_log_that_is_not_there_is_said_to_be_empty(run: Any, node: FakeNode) -> None:
    """Nothing told, and where it would stand."""
    told = run("logs", "host")
    assert (told.code, told.out, told.err) == (0, "", f"nothing so far in {node.folder.log('host')}\n")


def test_rpc_lists_an_object_and_names_what_is_wrong_with_params(run: Any) -> None:
    """Like every answer in JSON; what is no JSON is told as PARAMS."""
    told = run("rpc", "flopd", "--json").json
    assert told["daemon"] == "flopd"
    assert "wallet.send" in told["methods"]
    wrong = run("rpc", "flopd", "wallet.balance", "{")
    assert (wrong.code, "PARAMS: " in wrong.err) == (3, True)
    assert "Invalid value for 'DAEMON'" in run("rpc", "nobody").err


# --- what was paid for ------------------------------------------------------------------------------------------------


def test_a_result_without_a_place_is_refused_before_it_is_paid(run: Any, node: FakeNode, tmp_path: Path) -> None:
    """The place beside the input, which nobody named, is looked at like one that somebody did."""
    source = tmp_path / "in.bin"
    source.write_bytes(b"x")
    (tmp_path / "in-result.bin").mkdir()
    told = run("call", "svc", "--input", str(source), "--max-price", "1")
    assert (told.code, "--output FILE" in told.err) == (3, True)
    assert node.seen == []


@pytest.mark.parametrize("way", ["escrow", "channel", "stages"])
def test_a_paid_result_that_cannot_be_written_is_said_to_be_kept(
    run: Any, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The error names the command that writes it elsewhere."""
    source = tmp_path / "in.bin"
    source.write_bytes(b"x")
    node.blobs["ab" * 32] = b"result"
    words = ["call", "svc", "--input", str(source), "--output", str(tmp_path / "out"), "--max-price", "1"]
    more = {"escrow": ["--pay", "escrow"], "channel": ["--pay", "channel"], "stages": ["--stages", "2"]}[way]

    def full(_path: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    told = run(*words, *more)
    again = {
        "escrow": f"duxnet fetch {task.STATUS.example[1].task_id} --output FILE",
        "channel": "--output FILE --request-id cli-call-",
        "stages": f"duxnet fetch {task_stages.STAGES_SHOW.example[1].stages_id} --output FILE",
    }[way]
    assert (told.code, "paid and kept" in told.err, again in told.err) == (3, True, True), told.err


def test_a_job_that_was_given_back_says_what_may_be_wrong(run: Any, node: FakeNode, tmp_path: Path) -> None:
    """A seller's program that refuses its input tells the buyer nothing: the person is told where to look."""
    source = tmp_path / "in.bin"
    source.write_bytes(b"x")
    node.answers["task.status"] = msgspec.structs.replace(
        task.STATUS.example[1], state=task.TaskState.CANCELLED, output_blob=None, reason=""
    )
    told = run("call", "svc", "--input", str(source), "--output", str(tmp_path / "o"), "--max-price", "1")
    assert (told.code, "its words (--arg)" in told.err) == (4, True)


def test_a_picture_s_folder_is_made_as_any_file_s(tmp_path: Path) -> None:
    """A result that is a picture is written where every other result would be."""
    path = tmp_path / "new" / "folder" / "large.png"
    assert write_picture(raw_from_picture(make_test_picture(24, 16)), path) == (24, 16)
    assert path.read_bytes().startswith(b"\x89PNG")


# --- what is looked at before it is asked -----------------------------------------------------------------------------


def test_a_channel_too_small_is_refused_here_and_its_seller_named_in_part(run: Any, node: FakeNode) -> None:
    """No other node's error for an amount that no node takes."""
    view = msgspec.structs.replace(registry.NODE_SHOW.example[1], node_id=Did(DID))
    node.answers["node.list"] = registry.NodeList(nodes=(view,), total=1)
    for words in (["open", DID, "1"], ["top-up", ID, "0.5"]):
        told = run("channel", *words)
        assert (told.code, "a channel holds more than 1 FLOP" in told.err) == (3, True)
    assert run("channel", "open", "bbbbbbbb", "1.5").code == 0
    asked = node.asked("channel.open")
    assert (asked.payee, asked.cap_florins) == (DID, 3 * FLOP // 2)
    assert run("channel", "open", "nobody", "2").code == run("channel", "recover", "nobody").code == 2


def test_a_nonce_and_a_proof_are_told_from_anything_else(run: Any, tmp_path: Path) -> None:
    """The sentence says what is wanted, not what a decoder expected."""
    picture = tmp_path / "picture.png"
    make_test_picture(24, 16).save(picture)
    told = run("identity", "disclose", "tier>=1", "--nonce", "abc", "--output", str(tmp_path / "p"))
    assert (told.code, "duxnet identity challenge" in told.err) == (2, True)
    wrong = run("identity", "verify", str(picture), "--nonce", ID)
    assert (wrong.code, f"{picture} is no proof as `duxnet identity disclose` writes it" in wrong.err) == (3, True)
    assert "Expected 64 hex digits" in run("fund", "publish", "abc", str(tmp_path / "f")).err


def test_a_slot_that_goes_on_is_not_called_down(run: Any, node: FakeNode) -> None:
    """`why node`: too few have seen it so far; a contract without weight counts for nothing."""
    told, shown = registry.REPUTATION_GET.example[1], registry.PRESENCE_SHOW.example[1]
    slots = tuple(
        SlotShown(slot=at, from_height=10 * at, drawn=5, seen=seen, up=up, net="")
        for at, seen, up in ((9, 2, False), (8, 2, False), (7, 5, True))
    )
    line = msgspec.structs.replace(told.evidence[0], good_florins=Florins(0), bad_florins=Florins(0))
    node.answers["reputation.get"] = msgspec.structs.replace(told, at_height=95, evidence=(line,))
    node.answers["presence.show"] = msgspec.structs.replace(shown, slots=slots)
    said = run("why", "node", DID).out
    assert "slot from 90\tseen by 2 of 5 seats: under way" in said
    assert "slot from 80\tseen by 2 of 5 seats: not up" in said
    assert "slot from 70\tseen by 5 of 5 seats: up" in said
    assert "counts for nothing" in said


@pytest.mark.parametrize("command", ["sell-http --upstream http://127.0.0.1:1 --price 0.05", "gateway"])
def test_a_door_that_somebody_else_has_is_an_error_for_a_person(
    run: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second seller or gateway at the same port: no trace, and how to name another place."""
    structlog.reset_defaults()  # an earlier test's log goes to a stream that is closed
    monkeypatch.setattr("dux_cli.pay_http.tell_calls", lambda: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        told = run(*command.split(), "--listen", place)
    assert told.code == 3, told.err
    assert told.err.startswith(f"error: {place} cannot be listened at: Address already in use; name another with")


@pytest.mark.parametrize(
    "command",
    [
        "pay-http nonsense",
        "pay-http ftp://host/",
        "pay-http http://host:port/",
        "pay-http http://host:0/",
        "verify airdrop README.md --coin-node nonsense",
        "verify sweep README.md --coin-node 127.0.0.1:1",
        "escrow audit --file README.md --coin-node x",
        "init --chain-url 127.0.0.1:1",
    ],
)
def test_what_is_no_address_of_a_server_is_refused_where_it_is_typed(
    run: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection is tried to it."""
    monkeypatch.chdir(ROOT)
    told = run(*command.split())
    assert (told.code, "is no address of a server: write http://HOST:PORT/" in told.err) == (2, True)


def test_a_coin_node_that_is_not_there_is_told_in_words() -> None:
    """Nothing of sockets and certificates, where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        node = CoinNode(f"http://127.0.0.1:{free.getsockname()[1]}/", ("", ""), EMBEDDED)

        async def ask() -> None:
            try:
                await node.tip()
            finally:
                await node.close()

        with pytest.raises(ChainUnavailable, match="does not answer: nothing listens there"):
            asyncio.run(ask())


def test_files_that_are_none_are_told_without_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing profile, a file that is no profile, one that is no proof."""
    junk = tmp_path / "junk"
    junk.write_text("hello")
    assert run_main(duxnet, ["init", "--network", str(tmp_path / "none"), "--node", str(tmp_path / "n")]) == 3
    assert "none: No such file or directory." in capsys.readouterr().err
    assert run_main(duxnet, ["network", "show", str(junk)]) == 3
    assert "junk: this is no profile of a network." in capsys.readouterr().err
    assert run_main(duxnet, ["escrow", "audit", "--file", str(junk), "--node", str(tmp_path / "n")]) == 3
    assert "junk is no contract as `duxnet escrow audit CONTRACT --out FILE` keeps it" in capsys.readouterr().err
    assert run_main(duxnet, ["init", "--index", "400", "--node", str(tmp_path / "n")]) == 2
    assert "0<=x<=328" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run_main(duxnet, ["verify", "airdrop", str(junk)])
    assert "it is no proof file" in capsys.readouterr().out
