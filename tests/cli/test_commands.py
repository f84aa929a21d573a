"""Every command against daemons that answer as their contracts say: what it asks, what it prints, how it ends."""

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.shell_completion import ShellComplete
from PIL import Image

from common.chain.contract import CONTRACT_BYTES_MAX, Contract, lot_value
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, serialize
from common.codec import from_canonical, from_json, from_plain, json_bytes, to_plain
from common.contracts import (
    airdrop,
    airdrop_parameters,
    channel,
    channel_restore,
    escrow,
    escrow_cases,
    escrow_restore,
    escrow_royalties,
    p2p,
    p2p_mail,
    registry,
    store,
    task,
    wallet,
    wallet_chain,
)
from common.contracts.escrow_cases import CASES
from common.contracts.p2p_errors import TooFewSources
from common.contracts.registry_witness import PresenceView
from common.contracts.wallet_errors import InsufficientFunds
from common.errors import BadParams, NeighbourDown, NotFound, TooBusy
from common.identity.log import encode_log
from common.network import NetworkProfile
from common.parameter_file import SignedSet, read_sets, write_sets
from common.parameters import next_set
from common.rpc.method import Method
from common.units import FLOP, BlockHeight, Did, Florins
from dux_cli import output
from dux_cli.command import run_main
from dux_cli.main import SECTIONS, duxnet
from dux_cli.output import printable
from dux_cli.pictures import make_test_picture, raw_from_picture
from dux_escrowd.case_file import audited, case_bytes
from tests.cli.fake_node import FakeNode, running
from tests.cli.toy_node import make_toy_node
from tests.identity import log_kit
from tests.p2pd.wire_kit import TestPapers
from tests.ports import free_base
from tests.rules.test_escrow_cases import case_of

pytestmark = pytest.mark.patient

ROOT = Path(__file__).resolve().parents[2]
ID = "5f" * 32


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeNode]:
    folder = make_toy_node(tmp_path_factory.mktemp("node") / "n", port_base=free_base())
    with running(folder) as fake:
        yield fake


@pytest.fixture(autouse=True)
def fresh(node: FakeNode) -> None:
    node.seen.clear()
    node.answers.clear()


class Ran:
    """How a command ended and what it printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


@pytest.fixture
def run(node: FakeNode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))  # nobody is there to answer

    def command(*words: str) -> Ran:
        try:
            code = run_main(duxnet, [*words, "--node", str(node.folder.path)])
        except SystemExit as ended:
            code = int(ended.code or 0)
        told = capsys.readouterr()
        return Ran(code, told.out, told.err)

    return command


READS: list[tuple[str, Method[Any, Any]]] = [
    ("wallet balance", wallet.WALLET_BALANCE),
    ("wallet address --label x", wallet.WALLET_NEW_ADDRESS),
    ("wallet history --limit 3", wallet.WALLET_HISTORY),
    ("wallet coins", wallet.WALLET_UTXOS),
    ("wallet status", wallet.WALLET_STATUS),
    (f"wallet send {wallet.EXAMPLE_ADDRESS} 10.5 --yes --max-amount 11", wallet.WALLET_SEND),
    ("wallet accounts", wallet.WALLET_ACCOUNTS),
    ("wallet account savings", wallet.WALLET_ACCOUNT),
    (f"wallet watch {wallet.EXAMPLE_ADDRESS} --label shop --from-height 100", wallet.WALLET_WATCH),
    ("wallet watched", wallet.WALLET_WATCHED),
    (f"wallet bump {ID} --how child", wallet.WALLET_BUMP),
    ("wallet limits", wallet.WALLET_LIMITS),
    ("wallet backup", wallet.WALLET_BACKUP),
    ("wallet recover --from-height 100", wallet.WALLET_RECOVER),
    ("wallet recovery", wallet.WALLET_RECOVERY),
    ("wallet shared key --label till", wallet.WALLET_SHARED_KEY),
    ("wallet shared make 2 02ab 03cd --label till", wallet.WALLET_SHARED_MAKE),
    ("wallet shared list", wallet.WALLET_SHARED),
    (f"wallet partial make {wallet.EXAMPLE_ADDRESS} {wallet.EXAMPLE_ADDRESS}=10.5", wallet.WALLET_PARTIAL_MAKE),
    ("wallet bond make 50 --until 1007000 --yes --max-amount 50", wallet.WALLET_BOND_MAKE),
    ("wallet bond list", wallet.WALLET_BONDS),
    ("wallet bond register 700", wallet.WALLET_BOND_REGISTER),
    ("wallet bond reclaim 700", wallet.WALLET_BOND_RECLAIM),
    ("channel list --role payer --all", channel.LIST),
    (f"channel show {ID}", channel.SHOW),
    (f"channel open did:dux:{'b' * 52} 10 --blocks 500", channel.OPEN),
    (f"channel top-up {ID} 5", channel.TOP_UP),
    (f"channel close {ID} --roll", channel.CLOSE),
    (f"channel refund {ID}", channel.REFUND),
    (f"channel recover did:dux:{'b' * 52} --keys 5", channel.RECOVER_FROM),
    ("escrow list --status disputed", escrow.LIST),
    (f"escrow show {ID}", escrow.SHOW),
    (f"escrow dispute {ID} --reason wrong", escrow.DISPUTE),
    (f"escrow cancel {ID}", escrow.CANCEL),
    ("escrow audit", escrow.AUDIT),
    (f"escrow judge {ID} --good", escrow.JUDGE),
    (f"escrow judge {ID} --bad --reason wrong", escrow.JUDGE),
    (f"escrow pay-part {ID} 4", escrow.PAY_PART),
    (f"escrow take-part {ID} 4", escrow.TAKE_PART),
    (f"escrow late-ok {ID}", escrow.LATE_OK),
    (f"escrow vote {ID} 0 --reason wrong", escrow.VOTE),
    (f"escrow evidence {ID}", escrow_cases.EVIDENCE),
    ("cases", escrow_cases.CASES),
    ("escrow restore", escrow_restore.RESTORE),
    ("escrow recover --from did:dux:x", escrow_restore.RECOVER),
    ("escrow royalties", escrow.ROYALTIES),
    ("escrow pay-royalties --yes --max-amount 1", escrow.ROYALTIES),
    (f"escrow confirm {ID}", escrow.CONFIRM),
    ("fund", escrow.FUND_STATUS),
    ("nodes list --active --capability gpu --capability api", registry.NODE_LIST),
    (f"nodes show did:dux:{'b' * 52}", registry.NODE_SHOW),
    ("nodes", registry.NODE_LIST),
    ("nodes --active --limit 3", registry.NODE_LIST),
    ("nodes peers", p2p.P2P_PEERS),
    ("mail list", p2p_mail.MAIL_LIST),
    ("mail send did:dux:x text --subject hello", p2p_mail.MAIL_SEND),
    ("mail drop cdcd", p2p_mail.MAIL_DROP),
    ("topology", registry.TOPOLOGY_SHOW),
    ("topology --links --region eu", registry.TOPOLOGY_SHOW),
    ("nodes me", p2p.P2P_INFO),
    ("search upscale --tag image --max-price 12 --sort price", store.SERVICE_SEARCH),
    ("services list", store.SERVICE_LIST_MINE),
    ("services show abc", store.SERVICE_SHOW),
    ("services withdraw abc", store.SERVICE_WITHDRAW),
    (f"rate {ID} 5 --review good", store.SERVICE_RATE),
    ("task list --role buyer --open", task.LIST),
    ("task show t1", task.STATUS),
    ("task cancel t1", task.CANCEL),
    ("task probe", task.PROBE),
    ("why task t1", task.EXPLAIN),
    (f"why contract {ID}", escrow.EXPLAIN),
    (f"why airdrop did:dux:{'b' * 52}", airdrop.AIRDROP_EXPLAIN),
    ("airdrop status", airdrop.AIRDROP_STATUS),
    ("airdrop history", airdrop.AIRDROP_HISTORY),
    ("airdrop show 0", airdrop.AIRDROP_SHOW),
    ("airdrop eligible", airdrop.AIRDROP_ELIGIBLE),
]


@pytest.mark.parametrize(("words", "method"), READS, ids=[words for words, _ in READS])
def test_json_is_the_contracts_answer_and_text_has_lines(run: Any, words: str, method: Method[Any, Any]) -> None:
    """With --json: one object that decodes as the method's result. In a pipe: lines with tabs. --quiet: ids only."""
    told = run(*words.split(), "--json")
    assert told.code == 0, told.err
    assert from_plain(told.json, method.result) == method.example[1]
    piped = run(*words.split())
    assert piped.code == 0
    assert "\t" in piped.out
    quiet = run(*words.split(), "--quiet")
    assert quiet.code == 0
    assert "\t" not in quiet.out


def test_a_stage_bought_by_itself_says_which_it_is(run: Any, node: FakeNode) -> None:
    """To its buyer; a lot's own word stays, another contract has none, and without taskd it waits all the same."""
    case = escrow_cases.CASES.example[1].cases[0]
    of = msgspec.structs.replace
    items = (
        of(case, contract_id="aa" * 32, role="buyer"),
        of(case, contract_id="aa" * 32, role="arbiter"),
        of(case, contract_id="bb" * 32, role="buyer", stage=1, stages=2),
        of(case, contract_id="cc" * 32, role="buyer"),
    )
    bought = of(task.LIST.example[1].tasks[0], contract_id="aa" * 32, stages_id="stages-1", stage=3)
    lot = of(bought, contract_id="bb" * 32, stage=2)
    purchase = task.STAGES_SHOW.example[1]
    node.answers = {
        "escrow.cases": escrow_cases.Cases(cases=items, height=150),
        "task.list": task.TaskList(tasks=(bought, lot)),
    }
    told = run("cases", "--json").json["cases"]
    count = len(purchase.stages)
    assert [(one["stage"], one["stages"]) for one in told[:4]] == [(3, count), (0, 1), (1, 2), (0, 1)]
    assert f"stage 3 of {count}: " in run("cases").out
    node.answers["task.list"] = TooBusy(limit=1)
    told = run("cases", "--json")
    assert "cannot be told now" in told.err
    assert [one["stage"] for one in told.json["cases"][:4]] == [0, 0, 1, 0]


def test_royalties_are_paid_under_the_names_that_escrowd_gives(run: Any, node: FakeNode) -> None:
    """The wallet is asked under the payment's name; over its limit: told, exit code 1, nothing noted as paid."""
    words = ("escrow", "pay-royalties", "--yes", "--max-amount", "0.02")
    payment = msgspec.structs.replace(escrow.ROYALTY_PAY.example[1], payment_id="royalty/told/0")
    node.answers = {"escrow.royalty_pay": payment}
    assert run(*words).code == 0
    sent, noted = node.asked("wallet.send"), node.asked("escrow.royalty_paid")
    assert (sent.request_id, sent.address, sent.amount_florins) == (
        payment.payment_id, payment.address, payment.amount_florins,
    )  # fmt: skip
    assert (noted.payment_id, noted.txid) == (payment.payment_id, wallet.WALLET_SEND.example[1].txid)
    node.seen.clear()
    assert run("escrow", "pay-royalties", "--yes", "--max-amount", "0.0189").code != 0
    assert run("escrow", "pay-royalties", "--json").code != 0  # nobody can be asked
    assert "wallet.send" not in [name for name, _ in node.seen]
    node.answers["escrow.royalty_pay"] = msgspec.structs.replace(payment, payment_id="royalty/told/1")
    node.answers |= {"wallet.send": InsufficientFunds(need_florins=2, have_florins=1)}
    told = run(*words)
    assert (told.code, "is not paid now" in told.err) == (1, True)
    assert "escrow.royalty_paid" not in [name for name, _ in node.seen]
    node.answers = {
        "escrow.royalty_pay": escrow_royalties.NothingOwed(owed_florins=1, address="F", least_florins=1_000_000)
    }
    assert "nobody is owed" in run(*words).err


def test_a_nodes_standing_comes_with_what_was_seen_of_it(run: Any) -> None:
    """`why node`: reputation and presence in one JSON object, each as its contract says; both told to people."""
    told = run("why", "node", "did:dux:" + "a" * 52, "--json")
    assert from_plain(told.json["reputation"], registry.Reputation) == registry.REPUTATION_GET.example[1]
    assert from_plain(told.json["presence"], PresenceView) == registry.PRESENCE_SHOW.example[1]
    piped = run("why", "node", "did:dux:" + "a" * 52)
    assert "seen by 6 of 7 seats in 203.0.113.0/24: up" in piped.out
    assert "98.0% of what was judged of the last 7 days" in piped.out


def test_another_nodes_opinion_is_asked_first_and_told_beside_what_is_known_here(run: Any, node: FakeNode) -> None:
    """`why node ID --ask PEER`: its score, what it showed, and whether this node comes to the same."""
    of, peer = "did:dux:" + "a" * 52, "did:dux:" + "b" * 52
    told = run("why", "node", of, "--ask", peer, "--json")
    assert from_plain(told.json["opinion"], registry.Opinion) == registry.REPUTATION_OPINION.example[1]
    assert [name for name, _ in node.seen].index("reputation.opinion") == 0
    asked = node.asked("reputation.opinion")
    assert (asked.of, asked.peer) == (of, peer)
    piped = run("why", "node", of, "--ask", peer).out
    assert "0.900 at block 820; 4 receipts (1 new here) and 0 statements shown; this node comes to the same" in piped
    other = msgspec.structs.replace(registry.REPUTATION_OPINION.example[1], agrees=False, reason="it showed nothing")
    node.answers["reputation.opinion"] = other
    assert "this node does not come to that: it showed nothing" in run("why", "node", of, "--ask", peer).out
    assert run("why", "node", of, "--json").json["opinion"] is None
    assert run("why", "node", of, "--ask", "foo").code == run("nodes", "show", "foo").code == 2


def test_a_node_is_named_by_a_part_of_its_did_where_it_is_one_nodes(run: Any, node: FakeNode) -> None:
    """As tables cut it, with or without the method, as first letters; nobody's, several nodes' and too little: told."""
    view = registry.NODE_SHOW.example[1]
    other = msgspec.structs.replace(view, node_id=Did("did:dux:" + "abcdefgh" + "c" * 44))
    node.answers["node.list"] = registry.NodeList(nodes=(view, other), total=2)
    for part in ("did:dux:aaaa…aaaaaa", "aaaaaaaa", "did:dux:aaaaaaaa"):
        assert run("nodes", "show", part).code == 0
        assert node.asked("node.list").start.startswith("did:dux:aaaa")
        assert node.asked("node.show").node_id == view.node_id
    assert run("why", "node", "abcdefgh", "--ask", "aaaa…aaaa").code == 0
    opinion = node.asked("reputation.opinion")
    assert (opinion.of, opinion.peer) == (other.node_id, view.node_id)
    assert "no node 'did:dux:zzzzzzzz'" in run("nodes", "show", "zzzzzzzz").err
    both = (other, msgspec.structs.replace(other, node_id=Did("did:dux:" + "abcdefgh" + "d" * 44)))
    node.answers["node.list"] = registry.NodeList(nodes=both, total=2)
    told = run("nodes", "show", "abcdefgh")
    assert (told.code, "the start of 2 nodes: did:dux:abcdefghcccccccc, did:dux:abcdefghdddddddd" in told.err) == (
        3,
        True,
    )
    node.seen.clear()
    assert run("nodes", "show", "aaaa").code == run("nodes", "show", "aaaa…aaa").code == 2
    assert node.seen == []


def test_a_region_without_nodes_is_none_and_those_there_are_named(run: Any, node: FakeNode, tmp_path: Path) -> None:
    """No picture of nobody is written; the error line comes after the list of regions."""
    whole = registry.TOPOLOGY_SHOW.example[1]
    node.answers["topology.show"] = lambda asked: msgspec.structs.replace(whole, nodes=()) if asked.region else whole
    told = run("topology", "--region", "mars", "--svg", str(tmp_path / "mars.svg"))
    assert (told.code, f"regions with nodes: {whole.nodes[0].region}" in told.err) == (3, True)
    assert not (tmp_path / "mars.svg").exists()


def test_a_name_that_nobody_else_confirmed_is_said_to_be_held_here(run: Any, node: FakeNode) -> None:
    """`identity show` does not word "0 independent nodes" as a confirmation."""
    found = msgspec.structs.replace(p2p.DID_RESOLVE.example[1], sources=0, log=encode_log(TestPapers("a").log))
    lonely = TooFewSources(did=found.did, found=0, wanted=2)

    def alone(asked: p2p.Resolve) -> p2p.Resolved:
        if asked.min_sources:
            raise lonely
        return found

    node.answers["did.resolve"] = alone
    told = run("identity", "show").out
    assert "by nobody else lately" in told
    assert "event 0\tmade, key " in told
    node.answers["did.resolve"] = msgspec.structs.replace(found, sources=2, age_s=7)
    assert "7 s ago by 2 independent nodes" in run("identity", "show").out


def test_everything_that_the_phrase_brings_back_in_one_go(run: Any, node: FakeNode) -> None:
    """Coins, contracts and channels with what comes next; exit code 1 while something is missing."""
    told = run("restore", "--json")
    assert (told.code, told.err) == (0, "")
    assert told.json["wallet"]["state"] == "done"
    assert [one["contract_id"] for one in told.json["contracts"]] == [escrow.SHOW.example[1].contract_id]
    assert [one["channel"]["chid"] for one in told.json["channels"]] == [channel.SHOW.example[1].channel.chid]
    piped = run("restore").out
    assert [line.split("\t")[0] for line in piped.splitlines()] == ["coins", "contract", "channel"]
    assert escrow.EXPLAIN.example[1].lines[-1] in piped
    node.answers = {
        "channel.restore": channel_restore.ChannelsRestored(restored=(), known=(), problems=("c4c4: nobody",)),
        "wallet.recovery": msgspec.structs.replace(wallet.WALLET_RECOVERY.example[1], state="looking"),
    }
    waits = run("restore", "--wait", "1")
    assert waits.code == 1
    assert "still looking" in waits.out
    assert "not taken back\tc4c4: nobody" in waits.out


def test_the_wallet_is_checked_and_each_fault_told(run: Any, node: FakeNode) -> None:
    """Everything well: 0. Another chain, a warning, no backup: 1, each with what was found; flopd away: that alone."""
    told = run("wallet", "check", "--json")
    assert told.code == 1
    well = {check["what"]: check["ok"] for check in told.json["checks"]}
    assert [what for what, ok in well.items() if not ok] == [
        "the chain is this network's", "nothing looks wrong", "it is backed up",
    ]  # fmt: skip
    assert "few-peers: fewer coin nodes than wanted" in told.out
    status = msgspec.structs.replace(wallet.WALLET_STATUS.example[1], genesis=node.folder.profile().genesis)
    node.answers = {
        "wallet.status": status, "chain.status": msgspec.structs.replace(wallet.CHAIN_STATUS.example[1], warnings=[]),
    }  # fmt: skip
    backup = node.folder.data / "flopd/backup/wallet.dux"
    backup.parent.mkdir(parents=True, exist_ok=True)
    backup.write_bytes(b"")
    assert run("wallet", "check").code == 0
    node.answers["wallet.status"] = InsufficientFunds(need_florins=1, have_florins=0)
    told = run("wallet", "check", "--json")
    assert (told.code, [check["what"] for check in told.json["checks"]]) == (1, ["flopd answers"])
    backup.unlink()


def test_the_network_is_drawn_beside_its_table(run: Any, tmp_path: Path) -> None:
    """--svg writes a file beside the table; where it cannot, it says what to do."""
    told = run("topology", "--svg", str(tmp_path / "net.svg"))
    assert told.code == 0
    assert "eu\tus\t92 ms\t12\t1 and 0" in told.out
    assert (tmp_path / "net.svg").read_text().startswith("<svg")
    told = run("topology", "--svg", str(tmp_path / "net.svg" / "net.svg"))
    assert (told.code, "name another" in told.err) == (2, True)


def test_amounts_a_person_writes_arrive_as_florins(run: Any, node: FakeNode) -> None:
    """10.5 FLOP is 1,050,000,000 florins; more decimals than the coin has are refused before anything is asked."""
    run("wallet", "send", wallet.EXAMPLE_ADDRESS, "10.5", "--yes", "--max-amount", "11")
    assert node.asked("wallet.send").amount_florins == 1_050_000_000
    node.seen.clear()
    assert run("wallet", "send", wallet.EXAMPLE_ADDRESS, "0.123456789", "--yes", "--max-amount", "11").code == 2
    assert node.seen == []


@pytest.mark.parametrize(
    ("options", "code"),
    [(["--yes"], 3), (["--yes", "--max-amount", "1"], 3), (["--dry-run"], 0), ([], 130), (["--json"], 3)],
)
def test_nothing_is_paid_without_a_yes_and_a_limit(run: Any, node: FakeNode, options: list[str], code: int) -> None:
    """--yes without a limit, an amount above it, a dry run, and nobody to answer: no payment in any of them."""
    assert run("wallet", "send", wallet.EXAMPLE_ADDRESS, "10", *options).code == code
    looked = "--dry-run" in options or not options
    assert [name for name, _ in node.seen] == (["wallet.preview"] if looked else [])


def test_a_dry_run_shows_fee_size_coins_and_change(run: Any, node: FakeNode) -> None:
    """Of the payment that was asked for, its coins and its account."""
    coin = f"{'ab' * 32}:0"
    told = run("wallet", "send", wallet.EXAMPLE_ADDRESS, "10", "--dry-run", "--coin", coin, "--account", "2")
    for shown in ("10 FLOP", "0.01 FLOP for at most 237 bytes", f"{coin} 12 FLOP", "1.99 FLOP"):
        assert shown in told.out, told.out
    asked = node.asked("wallet.preview")
    assert (asked.amount_florins, len(asked.coins), asked.account) == (1_000_000_000, 1, 2)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound(what="node", name="x"), 3),
        (InsufficientFunds(have_florins=1, need_florins=2), 3),
        (TooBusy(limit=5), 4),
        (NeighbourDown(daemon="p2pd", address="x", detail="y"), 5),
        (ValueError("our own bug"), 1),
    ],
)
def test_an_error_has_its_classes_exit_code_and_says_what_to_do(
    run: Any, node: FakeNode, error: Exception, code: int
) -> None:
    """The daemon's error arrives as text on stderr, as an object on stdout with --json; bugs do not leak."""
    node.answers["node.show"] = error
    told = run("nodes", "show", f"did:dux:{'b' * 52}")
    assert (told.code, told.out) == (code, "")
    assert told.err.startswith("error: ")
    as_json = run("nodes", "show", f"did:dux:{'b' * 52}", "--json")
    assert as_json.code == code
    assert set(as_json.json["error"]) == {"code", "key", "message", "fields"}
    assert "our own bug" not in told.err + as_json.out


def test_a_wrong_command_line_is_told_in_json_too(run: Any) -> None:
    """Exit code 2, and the error is an object where a program reads."""
    told = run("wallet", "send", "--json")
    assert told.code == 2
    assert told.json["error"]["key"] == "usage"


def test_a_silent_daemon_is_named_with_the_way_to_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 5 and `duxnet status` where nothing listens; status itself ends with 1."""
    folder = make_toy_node(tmp_path / "n", port_base=free_base())
    assert run_main(duxnet, ["wallet", "balance", "--node", str(folder.path)]) == 5
    assert "duxnet status" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        run_main(duxnet, ["status", "--json", "--node", str(folder.path)])
    assert ended.value.code == 1
    assert len(json.loads(capsys.readouterr().out)["silent"]) == 7


def test_status_tells_what_waits_for_the_person(run: Any, node: FakeNode) -> None:
    """How many contracts and until when, with the command that shows them; a line less when nothing waits."""
    told = run("status", "--json")
    assert (told.json["cases"], told.json["case_due"]) == (1, CASES.example[1].cases[0].due)
    assert "waits for you, until block" in run("status").err
    node.answers["escrow.cases"] = msgspec.structs.replace(CASES.example[1], cases=())
    assert "for you" not in run("status").err
    node.answers["escrow.cases"] = NeighbourDown(daemon="escrowd", detail="off")
    assert "off" in run("status", "--json").json["cases_error"]


def test_no_node_says_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first thing a new user meets."""
    assert run_main(duxnet, ["wallet", "balance", "--node", str(tmp_path / "none")]) == 3
    assert "duxnet init" in capsys.readouterr().err


def test_a_call_goes_from_picture_to_picture(run: Any, node: FakeNode, tmp_path: Path) -> None:
    """The picture's pixels are the job's input; the result's pixels become a picture of its size; the limit is kept."""
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    make_test_picture(24, 16).save(small)
    node.blobs["ab" * 32] = raw_from_picture(make_test_picture(48, 32))
    told = run("call", "svc", "--input", str(small), "--output", str(large), "--max-price", "10", "--json")
    assert told.code == 0, told.err
    asked = node.asked("task.submit")
    assert (asked.price_limit_florins, asked.check) == (10 * FLOP, "auto")
    assert node.blobs[asked.input_blob] == raw_from_picture(make_test_picture(24, 16))
    with Image.open(large) as picture:
        assert picture.size == (48, 32)


def test_a_small_call_goes_over_a_channel_and_says_so(run: Any, node: FakeNode, tmp_path: Path) -> None:
    """Too small for a transaction of its own: the channel, its size and the reason are told, the output is written."""
    shown = store.SERVICE_SHOW.example[1]
    cheap = msgspec.structs.replace(shown.service, price_florins=Florins(100_000))
    node.answers["service.show"] = msgspec.structs.replace(shown, service=cheap)
    source, out = tmp_path / "in.bin", tmp_path / "out.bin"
    source.write_bytes(b"duck")
    told = run("call", "svc", "--input", str(source), "--output", str(out), "--max-price", "0.001")
    assert told.code == 0, told.err
    assert "paid over a channel: its price is too small" in told.err
    asked = node.asked("task.call")
    assert (asked.data, asked.price_limit_florins, asked.open_florins) == (b"duck", 100_000, 2 * FLOP + 100_000)
    assert out.read_bytes() == b"DUCK"


def test_a_call_that_was_refunded_ends_with_not_now_and_no_file(run: Any, node: FakeNode, tmp_path: Path) -> None:
    """No result, no file; the way to the reasons is named."""
    lost = msgspec.structs.replace(
        task.STATUS.example[1], state=task.TaskState.REFUNDED, output_blob=None, reason="the seller vanished"
    )
    node.answers["task.status"] = lost
    source = tmp_path / "in.bin"
    source.write_bytes(b"x")
    told = run("call", "svc", "--input", str(source), "--output", str(tmp_path / "out"), "--max-price", "1")
    assert told.code == 4
    assert "duxnet why task" in told.err
    assert not (tmp_path / "out").exists()


def test_a_call_without_a_price_asks_a_person_and_refuses_a_program(run: Any, node: FakeNode, tmp_path: Path) -> None:
    """Nobody pays a price that was not stated."""
    source = tmp_path / "in.bin"
    source.write_bytes(b"x")
    assert run("call", "svc", "--input", str(source), "--json").code == 3
    assert run("call", "svc", "--input", str(source)).code == 130
    assert not [name for name, _ in node.seen if name == "task.submit"]


def test_publishing_puts_the_package_publishes_and_serves(run: Any, node: FakeNode) -> None:
    """The example of the checkout: its price overridden, its package held by the node, its jobs run."""
    told = run("publish", str(ROOT / "examples/image_upscaler"), "--price", "7.5", "--quiet")
    assert told.code == 0, told.err
    asked = node.asked("service.publish")
    assert asked.price_florins == Florins(750_000_000)
    assert node.blobs[asked.package] == (ROOT / "examples/image_upscaler/upscaler.wasm").read_bytes()
    assert node.asked("task.serve").service_id == told.out.strip()


def test_a_service_file_with_a_wrong_key_is_named(run: Any, node: FakeNode, tmp_path: Path) -> None:
    """The file, the key, and an example to look at."""
    (tmp_path / "service.yaml").write_text("slug: a\nname: b\nprice: 1\ncolour: red\n")
    told = run("publish", str(tmp_path))
    assert told.code == 3
    assert "colour" in told.err
    assert "examples/image_upscaler" in told.err
    assert node.seen == []


def test_rpc_lists_and_calls_any_method(run: Any, node: FakeNode) -> None:
    """JSON in, JSON out, checked against the contract on the way."""
    assert "wallet.send" in run("rpc", "flopd", "--quiet").out
    told = run("rpc", "stored", "service.search", '{"text": "upscale", "limit": 3}')
    assert from_plain(json.loads(told.out), store.SearchResult) == store.SERVICE_SEARCH.example[1]
    assert node.asked("service.search").limit == 3
    assert run("rpc", "stored", "service.search", '{"limit": "3"}').code == 3
    assert run("rpc", "stored", "no.such").code == 3


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_learns_the_commands(run: Any, shell: str) -> None:
    """The script names the command; asked as the shell asks, it completes."""
    assert "_DUXNET_COMPLETE" in run("completion", shell).out
    completed = ShellComplete(duxnet, {}, "duxnet", "_DUXNET_COMPLETE").get_completions([], "wal")
    assert [item.value for item in completed] == ["wallet"]


def test_strangers_text_cannot_steer_a_terminal(run: Any, node: FakeNode) -> None:
    """Escape sequences and tabs in a service's name and description are shown as replaced characters."""
    assert printable("a\x1b[31mb\r\n") == "a�[31mb��"
    found = store.SERVICE_SEARCH.example[1]
    evil = msgspec.structs.replace(found.services[0], name="x\x1b]0;\tgone", description="\x1b[2J")
    node.answers["service.search"] = msgspec.structs.replace(found, services=(evil,))
    node.answers["service.show"] = msgspec.structs.replace(store.SERVICE_SHOW.example[1], service=evil)
    for command in (["search"], ["services", "show", "x"]):
        told = run(*command).out
        assert "\x1b" not in told
        assert "x�]0;�gone" in told


def test_every_listed_command_exists_and_takes_the_standard_options() -> None:
    """Names in the help lead to commands; each takes --json, --log-level and --log-file, or is the test runner."""
    context = click.Context(duxnet)

    def leaves(command: click.Command) -> Iterator[click.Command]:
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                yield from leaves(command.get_command(context, name))
        else:
            yield command

    for section in SECTIONS.values():
        for name in section:
            command = duxnet.get_command(context, name)
            assert command is not None, name
            for leaf in leaves(command):
                options = [option for parameter in leaf.params for option in parameter.opts]
                assert {"--json", "--log-level", "--log-file"} <= set(options) or leaf.name == "test", leaf.name
                assert len(options) == len(set(options)), f"{leaf.name} has an option twice"


def test_help_teaches_with_an_example() -> None:
    """Every command with arguments of its own shows a line to type, or says in one sentence what it does."""
    page = (ROOT / "docs/cli.md").read_text()
    for heading in re.findall(r"^## (duxnet .*)$", page, flags=re.MULTILINE):
        assert f"Usage: {heading}" in page


def test_a_letter_is_shown_whole_and_found_by_the_start_of_its_id(run: Any) -> None:
    """`mail read`: the text, cleaned of what steers a terminal; an id that nobody has is an error that says so."""
    told = run("mail", "read", "cdcd")
    assert told.code == 0, told.err
    assert "back on Monday" in told.out
    assert run("mail", "read", "ffff").code == 3


def show_chain(node: FakeNode) -> None:
    """The node's chain shows the coin of `case_of` and the spend that gave it back."""
    contract = from_canonical(case_of().contract, Contract, max_bytes=CONTRACT_BYTES_MAX)
    point, value = Outpoint("ab" * 32, 0), lot_value(contract)
    back = Tx(inputs=(TxInput(point),), outputs=(TxOutput(Florins(1), contract.buyer.payout_script),))
    spend = wallet_chain.SpendView(txid="t", height=BlockHeight(107), raw=serialize(back), script_sig=b"")
    coin = wallet_chain.CoinView(outpoint=point, value_florins=value, height=BlockHeight(105), position=0, spend=spend)
    node.answers["chain.coins"] = wallet_chain.Coins(coins=[coin], tip=BlockHeight(110))


def test_an_audit_asks_the_own_chain_and_says_when_it_could_not(node: FakeNode, run: Any) -> None:
    """Without the chain nothing is called whole; what the chain does not show is a fault; both end with an error."""
    node.answers["escrow.case_file"] = escrow_cases.CaseFileBytes(file=case_bytes(case_of()))
    node.answers["chain.coins"] = NeighbourDown(daemon="flopd", detail="off")
    blind = run("escrow", "audit", ID)
    assert blind.code != 0
    assert "no chain was asked" in blind.out
    assert "everything follows" not in blind.out
    node.answers["chain.coins"] = wallet_chain.Coins(coins=[], tip=BlockHeight(110))
    forged = run("escrow", "audit", ID)
    assert forged.code != 0
    assert "is not on this chain" in forged.out
    show_chain(node)
    assert run("escrow", "audit", ID).code == 0


def test_a_contract_is_audited_from_the_node_or_from_a_file(node: FakeNode, run: Any, tmp_path: Path) -> None:
    """The same outcome from the node and from the file it kept; a changed file is told and ends with an error."""
    case = case_of()
    node.answers["escrow.case_file"] = escrow_cases.CaseFileBytes(file=case_bytes(case))
    show_chain(node)
    kept = tmp_path / "contract.json"
    first = run(*f"escrow audit {ID} --out {kept} --json".split())
    assert (first.code, first.json["problems"], first.json["state"]) == (0, [], "CLOSED")
    again = run(*f"escrow audit --file {kept} --json".split())
    assert (again.code, again.json["outcome"]) == (0, first.json["outcome"])
    kept.write_bytes(case_bytes(msgspec.structs.replace(case, statements=case.statements[1:])))
    bent = run(*f"escrow audit --file {kept}".split())
    assert bent.code != 0
    assert "backed by no statement" in bent.out
    node.answers["identity.verify"] = p2p.Verdict(valid=False, reason="another key")
    assert "signature" in run("escrow", "audit", ID).out


@pytest.mark.parametrize("stopped", [False, True])
def test_an_audit_believes_keys_that_have_been_replaced_since(node: FakeNode, run: Any, *, stopped: bool) -> None:
    """A file is read months later: each signature counts by the key of its time; who has recovered since is named."""
    log = log_kit.log(log_kit.ICP, log_kit.ROT1)
    told = p2p.DID_RESOLVE.example[1]
    show_chain(node)
    node.answers["escrow.case_file"] = escrow_cases.CaseFileBytes(file=case_bytes(case_of()))
    node.answers["did.resolve"] = lambda _ask: msgspec.structs.replace(told, log=encode_log(log))

    def verify(ask: p2p.Verify) -> p2p.Verdict:
        valid = ask.at_ms == log.events[ask.key_seq].at_ms
        return p2p.Verdict(valid=valid, reason="" if valid else "not in that key's time", stopped=stopped and valid)

    node.answers["identity.verify"] = verify
    found = run("escrow", "audit", ID)
    assert (found.code, "everything follows" in found.out) == (0, True), found.out
    assert ("has recovered or closed its name since" in found.out) is stopped


def test_a_did_document_is_printed_as_it_is_and_what_it_cannot_say_beside_it(node: FakeNode, run: Any) -> None:
    """W3C JSON on stdout, one's own or another's; that the name is disputed, or keys are all there is, on stderr."""
    did, asked = "did:dux:" + "c" * 52, list[str]()
    told = {"@context": ["https://www.w3.org/ns/did/v1"], "id": did, "alsoKnownAs": ["flopcoin:x"]}
    body = msgspec.json.encode(told).decode()
    found = msgspec.structs.replace(p2p.DID_RESOLVE.example[1], did=did, document=body)
    sound = msgspec.structs.replace(found, node_record=b"\x90")

    def resolve(ask: p2p.Resolve) -> p2p.Resolved:
        asked.append(ask.did)
        return sound if ask.did == did else msgspec.structs.replace(found, disputed=True)

    node.answers["did.resolve"] = resolve
    shown = run("identity", "document", did)
    assert (shown.code, json.loads(shown.out), shown.err) == (0, told, "")
    assert shown.out.count("\n") > 5
    assert run("identity", "document", did, "--json").json == told
    assert run("identity", "document", did, "--quiet").out.strip() == did
    own = run("identity", "document")
    assert asked[-1] == p2p.P2P_INFO.example[1].did
    assert "disputed" in own.err
    assert "no node record is known" in own.err
    assert json.loads(own.out) == told


@pytest.mark.parametrize("brought", ["a log", "no log"])
def test_an_audit_believes_a_key_that_a_recovery_took_out_by_the_log_in_the_file(
    node: FakeNode, run: Any, brought: str
) -> None:
    """What was signed before a recovery is still shown by who has the file: with the log of then, and a warning."""
    show_chain(node)
    case, then = case_of(), b"the log of then"
    signers: set[str] = set()
    audited(case, lambda _purpose, one: signers.add(one.did) is None)
    logs = dict.fromkeys(signers, then if brought == "a log" else b"none")
    node.answers["escrow.case_file"] = escrow_cases.CaseFileBytes(
        file=case_bytes(msgspec.structs.replace(case, logs=logs))
    )

    def verify(ask: p2p.Verify) -> p2p.Verdict:
        if ask.kept == b"none":
            raise BadParams(detail="no log")
        return p2p.Verdict(valid=(ask.kept, ask.ever) == (then, True), reason="no such key", stopped=True)

    node.answers["identity.verify"] = verify
    found = run("escrow", "audit", ID)
    assert ("everything follows" in found.out) is (brought == "a log"), found.out
    assert found.out.count("has recovered or closed its name since") == (len(signers) if brought == "a log" else 0)


def test_evidence_is_written_where_an_arbiter_wants_it(run: Any, tmp_path: Path) -> None:
    """Job and pieces of evidence as files, named by who showed them."""
    assert run("escrow", "evidence", ID, "--out", str(tmp_path / "case")).code == 0
    assert {path.name for path in (tmp_path / "case").iterdir()} == {"job", "a" * 12 + "-0"}


def test_a_custodian_sees_what_waits_of_the_fund(node: FakeNode, run: Any) -> None:
    """A payout that lacks signatures waits for a custodian, for nobody else; a silent airdropd is told, not fatal."""
    status = airdrop.AIRDROP_STATUS.example[1]
    signing = msgspec.structs.replace(
        status, is_custodian=True, phase=airdrop.Phase.SIGNING, signatures=1, signatures_needed=2, problem=""
    )
    node.answers["airdrop.status"] = signing
    assert [case["role"] for case in run("cases", "--json").json["cases"]] == ["arbiter", "custodian"]
    node.answers["airdrop.status"] = msgspec.structs.replace(signing, is_custodian=False)
    assert [case["role"] for case in run("cases", "--json").json["cases"]] == ["arbiter"]
    node.answers["airdrop.status"] = NeighbourDown(daemon="airdropd", detail="off")
    assert run("cases", "--json").code == 0


def test_a_signed_set_goes_to_the_network_and_comes_from_it(run: Any, node: FakeNode, tmp_path: Path) -> None:
    """`parameters publish` hands airdropd what the founders signed; `parameters fetch` writes what it has found."""
    network = NetworkProfile(name="x", chain="embedded", genesis="ab" * 32, heights="demo")
    one = SignedSet(parameters=next_set(network.first_parameters, from_height=9, tax_bps=450))
    there, here = tmp_path / "there.yaml", tmp_path / "here.yaml"
    write_sets(there, [one])
    told = run("parameters", "publish", str(there), "--json")
    assert told.json == to_plain(airdrop_parameters.PARAMETERS_PUBLISH.example[1])
    assert from_json(node.asked("airdrop.publish_parameters").signed, SignedSet) == one
    found = airdrop_parameters.SetFound(version=2, from_height=BlockHeight(9), signed=json_bytes(one))
    node.answers = {"airdrop.find_parameters": found}
    assert f"duxnet parameters apply {here}" in run("parameters", "fetch", str(here)).out
    assert read_sets(here) == (one,)
    write_sets(there, [one, one])
    assert "holds 2 sets" in run("parameters", "publish", str(there)).err
    node.answers = {"airdrop.find_parameters": airdrop_parameters.NoNewerSet(version=1)}
    assert "after version 1" in run("parameters", "fetch", str(here)).err


def test_a_token_without_its_library_is_an_error_that_says_what_to_do(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the extra is missing there is no traceback, but the way to have it."""
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    monkeypatch.delitem(sys.modules, "dux_p2pd.token_keys", raising=False)
    (tmp_path / "pin").write_text("1234")
    told = run("identity", "token", "--module", "x.so", "--token", "t", "--pin-file", str(tmp_path / "pin"))
    assert (told.code, "DUXNET_EXTRAS=token" in told.err) == (3, True)


def test_what_is_no_name_is_refused_at_once(run: Any) -> None:
    """A typo is the caller's: not another node's fault, and no standing is told of nobody."""
    for line in ("identity show foo", "why node foo", "identity issuers foo", "identity attest foo"):
        told = run(*line.split())
        assert (told.code, "is no node's name" in told.err) == (2, True), line


def test_what_was_never_seen_and_never_done_is_told_so() -> None:
    """No 0 % of no jobs, no 100 % of days that were not; hours and minutes of what a node says."""
    assert (output.done_well(0, 0.0), output.done_well(3, 0.75)) == ("none yet", "3 (75% of all)")
    assert output.seen_up(None) == "never judged"
    assert output.seen_up(1.0).startswith("100.0% of what was judged")
    assert (output.running_for(0), output.running_for(90_061)) == ("", "for 1 d 1 h, it says")
    assert [output.span(s) for s in (0, 59, 60, 3_605, 7_260)] == ["0 s", "59 s", "1 min", "1 h", "2 h 1 min"]
    assert (output.ago("", 0), output.ago("1970-01-01T00:01:00Z", 85_000)) == ("never", "25 s ago")
    assert output.ago("1970-01-01T00:01:00Z", 50_000) == "0 s ago", "its clock is ahead of this one"
