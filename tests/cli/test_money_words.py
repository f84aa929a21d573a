"""What a person meets at the command line about money: amounts, short ids, what is looked at before a question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from aiohttp.test_utils import TestServer

from common.chain.address import script_to_address
from common.chain.params import EMBEDDED
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, serialize
from common.contracts import channel, escrow, store, task, task_stages, wallet
from common.contracts.channel_errors import BadChannelTerms, ChannelBusy
from common.contracts.wallet_errors import DoesNotOpen, DustAmount, InsufficientFunds, WalletLocked
from common.errors import DuxError, NotNow
from common.identity.log import encode_log
from common.identity.purposes import Purpose
from common.receipts import Attested
from common.units import FLOP, Did, Florins
from dux_cli import call_channel
from dux_cli.case_alone import LogSignatures, Scan, coins_of
from dux_cli.command import run_main
from dux_cli.main import duxnet
from dux_escrowd.case_file import case_bytes
from dux_flopd.blocks import BlockTx
from dux_pay.fetching import Fetcher, Fetching, NobodyThere, SellerUnreachable
from dux_sim.chain.node import Node
from dux_sim.chain.profile import ChainProfile, Premine
from dux_sim.chain.server import RpcServer
from tests.cli.fake_node import FakeNode
from tests.cli.test_commands import ID, fresh, node, run
from tests.identity import log_kit
from tests.ports import free_base
from tests.rules.test_escrow_cases import case_of

__all__ = ["fresh", "node", "run"]  # fixtures

pytestmark = pytest.mark.patient

CONTRACT = escrow.SHOW.example[1]
CHANNEL = channel.SHOW.example[1].channel


class Told(DuxError):
    """It is so: {reason}."""


# --- amounts and sentences --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InsufficientFunds(have_florins=9_000_500_000, need_florins=10_000_001_000_000), "The wallet has 90.005 FLOP,"),
        (DustAmount(amount_florins=100_000, least_florins=1_000_000), "0.001 FLOP cannot be paid: nodes refuse"),
        (Told(reason="the price is too low."), "It is so: the price is too low."),
        (Told(reason="and so on .."), "It is so: and so on ..."),
        (Told(reason="."), "It is so: .."),
    ],
)
def test_a_person_reads_flop_and_one_full_stop(error: DuxError, text: str) -> None:
    """Fields keep florins for programs; a sentence inside the sentence leaves its full stop out."""
    assert error.message.startswith(text)
    assert not error.message.endswith("low..")
    assert all(not isinstance(value, int) or value >= 100_000 for value in error.fields.values())


# --- short ids --------------------------------------------------------------------------------------------------------


def named(node: FakeNode, *starts: str) -> None:
    """The node has contracts and channels of these ids."""
    ids = [start + "0" * (64 - len(start)) for start in starts]
    contracts = tuple(msgspec.structs.replace(CONTRACT, contract_id=name) for name in ids)
    channels = tuple(msgspec.structs.replace(CHANNEL, chid=name) for name in ids)
    node.answers["escrow.list"] = lambda asked: escrow.ContractList(
        contracts=tuple(one for one in contracts if one.contract_id.startswith(asked.start))
    )
    node.answers["channel.list"] = lambda asked: channel.ChannelList(
        channels=tuple(one for one in channels if one.chid.startswith(asked.start))
    )


@pytest.mark.parametrize(
    ("words", "method", "field"),
    [
        ("escrow show ee73", "escrow.show", "contract_id"),
        ("escrow dispute ee73", "escrow.dispute", "contract_id"),
        ("escrow cancel EE73", "escrow.cancel", "contract_id"),
        ("escrow judge ee73 --good", "escrow.judge", "contract_id"),
        ("escrow confirm ee73", "escrow.confirm", "contract_id"),
        ("escrow pay-part ee73 4", "escrow.pay_part", "contract_id"),
        ("escrow take-part ee73 4", "escrow.take_part", "contract_id"),
        ("escrow late-ok ee73", "escrow.late_ok", "contract_id"),
        ("escrow vote ee73 0", "escrow.vote", "contract_id"),
        ("escrow evidence ee73", "escrow.evidence", "contract_id"),
        ("why contract ee73", "escrow.explain", "contract_id"),
        ("rate ee73 5", "escrow.show", "contract_id"),
        ("channel show ee73…0000", "channel.show", "chid"),
        ("channel top-up ee73 5", "channel.top_up", "chid"),
        ("channel close ee73", "channel.close", "chid"),
        ("channel refund ee73", "channel.refund", "chid"),
    ],
)
def test_the_start_of_an_id_is_enough(run: Any, node: FakeNode, words: str, method: str, field: str) -> None:
    """Four letters or more, in capitals or with the end that tables show: the daemon is asked about the whole id."""
    named(node, "ee73", "ab12")
    told = run(*words.split())
    assert told.code == 0, told.err
    assert getattr(node.asked(method), field) == "ee73" + "0" * 60


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ("ee7", 3, "4 or more of 0-9, a-f"),
        ("nothing", 3, "names no contract"),
        ("ffff", 3, "There is no contract 'ffff' here"),
        ("ee73", 3, "the start of 2 contracts: ee731000"),
        ("ee73…00", 3, "the start of 2 contracts"),
    ],
)
def test_what_is_no_start_or_that_of_several_is_said(
    run: Any, node: FakeNode, given: str, code: int, words: str
) -> None:
    """Too short, no hex, nobody's, or that of two, which are named; nothing is asked about any of them."""
    named(node, "ee731", "ee732")
    told = run("escrow", "show", given)
    assert (told.code, words in told.err) == (code, True), told.err
    assert not [name for name, _ in node.seen if name == "escrow.show"]


def test_several_that_fit_are_named_and_a_whole_id_asks_no_list(run: Any, node: FakeNode) -> None:
    """At most five of them, in JSON too; who writes all of it is not looked up."""
    named(node, *(f"ee73{number}" for number in range(7)))
    told = run("escrow", "show", "ee73", "--json")
    assert told.json["error"]["key"] == "several-fit"
    assert told.json["error"]["fields"]["named"].endswith("…")
    node.seen.clear()
    assert run("escrow", "show", ID).code == 0
    assert [name for name, _ in node.seen] == ["escrow.show"]


# --- paying -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [InsufficientFunds(have_florins=1, need_florins=2), DustAmount(amount_florins=1)])
def test_what_cannot_be_paid_is_not_asked_about(run: Any, node: FakeNode, wrong: DuxError) -> None:
    """Address, amount and balance are looked at first; the question has the fee, and nothing goes out without a yes."""
    node.answers["wallet.preview"] = wrong
    told = run("wallet", "send", wallet.EXAMPLE_ADDRESS, "10")
    assert (told.code, "Pay" in told.err) == (3, False)
    node.answers.clear()
    told = run("wallet", "send", wallet.EXAMPLE_ADDRESS, "10")
    assert (told.code, f"Pay 10 FLOP and 0.01 FLOP fee to {wallet.EXAMPLE_ADDRESS}?" in told.err) == (130, True)
    assert not [name for name, _ in node.seen if name == "wallet.send"]


@pytest.mark.parametrize("sealed", [WalletLocked(unlock_file="x"), DoesNotOpen(path="x"), None])
def test_an_unlock_file_is_used_before_anybody_is_asked(
    run: Any, node: FakeNode, sealed: DuxError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the node opens its keys by itself nobody types; where it cannot, the passphrase is asked for."""
    asked = list[str]()

    def unlocked(wish: Any) -> Any:
        if sealed is not None and not wish.passphrase:
            raise sealed
        return wallet.WALLET_UNLOCK.example[1]

    monkeypatch.setattr(click, "prompt", lambda text, **_: asked.append(text) or "words of mine")
    node.answers["wallet.unlock"] = unlocked
    told = run("wallet", "unlock")
    assert told.code == 0, told.err
    assert (asked, "by the node's own unlock file" in told.out) == (["Passphrase"] if sealed else [], sealed is None)
    assert run("wallet", "unlock", "--unattended").code == (0 if sealed is None else EXIT_OF[type(sealed)])


EXIT_OF = {WalletLocked: 4, DoesNotOpen: 3}


async def test_a_dead_server_and_a_silent_seller_are_two_things() -> None:
    """Nothing was paid: no id to repeat; what may have been paid is repeated by its own id."""
    url = f"http://127.0.0.1:{free_base()}/"
    purse: Any = None
    async with Fetcher(purse) as fetcher:
        with pytest.raises(NobodyThere, match="nothing was paid: is the address right") as told:
            await fetcher.fetch(Fetching(method="GET", url=url))
        assert "id" not in told.value.fields
        with pytest.raises(SellerUnreachable, match="the same id http-1: it is charged once"):
            await fetcher.fetch(Fetching(method="GET", url=url, oid="http-1"))


# --- calls over channels ----------------------------------------------------------------------------------------------


@pytest.fixture
def call(run: Any, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`duxnet call` of a service for 10 FLOP, for which a channel of 20 FLOP is open."""
    shown = store.SERVICE_SHOW.example[1]
    dear = msgspec.structs.replace(shown.service, price_florins=Florins(10 * FLOP), kind="wasm")
    node.answers["service.show"] = msgspec.structs.replace(shown, service=dear)
    (tmp_path / "in.bin").write_bytes(b"duck")
    monkeypatch.setattr(call_channel, "PAUSE_S", 0.01)

    def called(trusted: int, *more: str) -> Any:
        one = msgspec.structs.replace(
            CHANNEL, other=dear.provider, owed_florins=Florins(0), usable_florins=Florins(20 * FLOP),
            trusted_florins=Florins(trusted),
        )  # fmt: skip
        node.answers["channel.list"] = channel.ChannelList(channels=(one,))
        words = ["--input", str(tmp_path / "in.bin"), "--output", str(tmp_path / "out.bin"), "--max-price", "10"]
        return run("call", "svc", *words, "--check", "none", *more)

    return called


def test_a_young_channel_sends_a_dear_call_to_escrow(call: Any, node: FakeNode) -> None:
    """`auto` compares the price with what the channel carries now, not with what it will carry."""
    node.blobs["ab" * 32] = b"DUCK"
    told = call(FLOP)
    assert "paid by escrow: the channel to this seller is too young for so much" in told.err
    assert "paid over a channel: a channel to this seller is open" in call(1_000 * FLOP).err


def test_what_a_call_waits_for_is_said_once_and_waited_for(call: Any, node: FakeNode) -> None:
    """The channel that it opened, and the blocks to go; then the answer."""
    waits = [
        ChannelBusy(chid=ID, state="OPEN_SEEN", reason="opened channel 5f5f5f5f of 12 FLOP; 5 more blocks are needed"),
        ChannelBusy(chid=ID, state="OPEN_SEEN", reason="5 more blocks are needed"),
        ChannelBusy(chid=ID, state="OPEN_SEEN", reason="5 more blocks are needed"),
    ]

    def paid(_wish: Any) -> Any:
        if waits:
            raise waits.pop(0)
        return task.CALL.example[1]

    node.answers["task.call"] = paid
    told = call(1_000 * FLOP)
    assert told.code == 0, told.err
    assert told.err.count("opened channel 5f5f5f5f of 12 FLOP") == 1
    assert told.err.count("5 more blocks are needed") == 2, "each text once"


def test_a_wait_ends_with_the_way_to_go_on(call: Any, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last reason, and the call's id, under which it is still paid once."""
    monkeypatch.setattr(call_channel, "WAIT_S", 0.0)
    node.answers["task.call"] = ChannelBusy(chid=ID, state="OPEN_SEEN", reason="5 more blocks are needed")
    told = call(1_000 * FLOP, "--request-id", "mine-1")
    assert told.code == 4
    assert "--request-id mine-1" in told.err
    assert "5 more blocks are needed" in told.err


def test_what_a_channel_refuses_is_known_by_name(call: Any, node: FakeNode) -> None:
    """Callers of taskd read the error, not its number; and what is refused for good is not waited for."""
    for wrong, words in (
        (BadChannelTerms(reason="the payee changed what was asked for"), "This channel cannot be entered: the payee"),
        (
            task.CallRefused(service_id="s", reason="the channel is closing", said=""),
            "refused the call: the channel is",
        ),
    ):
        node.answers["task.call"] = wrong
        told = call(1_000 * FLOP)
        assert (words in told.err, "does not know" in told.err) == (True, False), told.err


def test_a_channels_phase_is_told_in_the_words_of_channels() -> None:
    """Not of contracts; it is still the same kind of error for whoever waits."""
    error = channel.WrongChannelPhase(fact="a close", state="CLOSED", chid=ID)
    assert (
        error.message
        == f"a close does not fit channel {ID}, which is CLOSED; nothing changed; see `duxnet channel show`."
    )
    assert isinstance(error, escrow.WrongPhase)
    assert isinstance(error, NotNow)
    assert channel.WrongChannelPhase in channel.CLOSE.raises


# --- an audit without a node ------------------------------------------------------------------------------------------


def test_signatures_are_judged_by_the_logs_in_a_file() -> None:
    """Right by the key of its number; wrong by another; a log that is another's counts for nothing; none is said."""
    log = log_kit.log(log_kit.ICP, log_kit.ROT1)
    body = b"what was said"
    one = Attested(body, log.did, 1, log_kit.key("a1").sign(Purpose.ESCROW_STATEMENT, body))
    judge = LogSignatures({log.did: encode_log(log)})
    assert judge.is_right(Purpose.ESCROW_STATEMENT, one)
    assert not judge.is_right(Purpose.ESCROW_TERMS, one)
    assert not judge.is_right(Purpose.ESCROW_STATEMENT, msgspec.structs.replace(one, key_seq=0))
    assert not judge.is_right(Purpose.ESCROW_STATEMENT, msgspec.structs.replace(one, key_seq=9))
    other = Did("did:dux:" + "z" * 52)
    for kept in (encode_log(log), b"none"):
        assert not LogSignatures({other: kept}).is_right(
            Purpose.ESCROW_STATEMENT, msgspec.structs.replace(one, did=other)
        )
    assert judge.missing == set()
    assert judge.is_right(Purpose.ESCROW_STATEMENT, msgspec.structs.replace(one, did=other))
    assert judge.missing == {other}


def test_a_file_is_audited_without_a_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be asked is named, with what to do, and is no success; a bent file is told all the same."""
    kept = tmp_path / "contract.json"
    for case, words in (
        (case_of(), "its log is not in the file, and no node was asked"),
        (msgspec.structs.replace(case_of(), statements=case_of().statements[1:]), "backed by no statement"),
        (msgspec.structs.replace(case_of(), logs={case_of().me: b"none"}), "signature"),
    ):
        kept.write_bytes(case_bytes(case))
        with pytest.raises(SystemExit, match="1"):
            run_main(duxnet, ["escrow", "audit", "--file", str(kept), "--node", str(tmp_path / "nothing")])
        told = capsys.readouterr().out
        assert words in told
        assert "name a coin node with --coin-node" in told
        assert "everything follows" not in told


def test_a_scan_reads_coins_and_what_spent_them() -> None:
    """Outputs on the script, in order, each with the transaction that took it; others are nothing to it."""
    script = b"\xa9\x14" + b"f" * 20 + b"\x87"
    pays = Tx(
        inputs=(TxInput(Outpoint("aa" * 32, 0)),), outputs=(TxOutput(Florins(7), b"x"), TxOutput(Florins(5), script))
    )
    takes = Tx(inputs=(TxInput(Outpoint("01" * 32, 1)),), outputs=(TxOutput(Florins(4), b"x"),))
    scan = Scan(script)
    scan.take(10, (BlockTx(txid="01" * 32, tx=pays, raw=serialize(pays), position=3),))
    assert scan.coins(10).coins[0].spend is None
    scan.take(12, (BlockTx(txid="02" * 32, tx=takes, raw=serialize(takes), position=1),))
    (coin,) = scan.coins(12).coins
    assert (coin.outpoint, coin.value_florins, coin.height, coin.position) == (Outpoint("01" * 32, 1), 5, 10, 3)
    assert coin.spend is not None
    assert (coin.spend.txid, coin.spend.height, coin.spend.raw) == ("02" * 32, 12, serialize(takes))


async def test_a_coin_node_is_read_from_the_contracts_first_block_on() -> None:
    """Block after block up to the tip, over the RPC that every coin node has."""
    script = b"\xa9\x14" + b"f" * 20 + b"\x87"
    address = script_to_address(script, EMBEDDED) or ""
    chain = Node(ChainProfile(name="audit", premine=(Premine(address, str(5 * FLOP)),), mine_to=address))
    for _ in range(3):
        chain.mine(b"\x51")
    async with TestServer(RpcServer(chain, "user:word").app()) as server:
        url = str(server.make_url("/"))
        whole = await coins_of(script, 0, url, ("user", "word"))
        assert ([(coin.value_florins, coin.height) for coin in whole.coins], whole.tip) == ([(5 * FLOP, 0)], 3)
        assert (await coins_of(script, 1, url, ("user", "word"))).coins == []


# --- what a buyer may ask of a contract -------------------------------------------------------------------------------

ANNA, BERT, CARL = (f"did:dux:{letter * 52}" for letter in "abc")


@pytest.fixture
def buy(run: Any, node: FakeNode, tmp_path: Path) -> Any:
    """`duxnet call` of the example service, for a file, up to 10 FLOP."""
    (tmp_path / "in.bin").write_bytes(b"duck")
    node.blobs |= {"ab" * 32: b"DUCK", "cd" * 32: b"SWAN"}
    one = task_stages.STAGES_SHOW.example[1].stages[0]
    paid = msgspec.structs.replace(one, number=1, state="paid", good=True, output_blob="ab" * 32, reason="")
    node.answers["task.stages"] = msgspec.structs.replace(
        task_stages.STAGES_SHOW.example[1], state=task_stages.StagesState.ACCEPTED, reason="", stages=(paid,),
        bonded=True,
    )  # fmt: skip

    def bought(*words: str) -> Any:
        files = ["--input", str(tmp_path / "in.bin"), "--output", str(tmp_path / "out.bin"), "--max-price", "10"]
        return run("call", "svc", *files, *words)

    return bought


def test_policy_limit_and_strikes_go_into_the_task(buy: Any, node: FakeNode) -> None:
    """As they were written, and by a contract whatever the price; nobody is paid to check what was paid for already."""
    told = buy("--policy", "swap", "--swap-limit", "5", "--strike", ANNA, "--strike", BERT)
    assert told.code == 0, told.err
    assert "paid by escrow: --policy swap takes a contract" in told.err
    asked = node.asked("task.submit")
    assert (asked.policy, asked.swap_limit_florins, asked.strikes) == ("swap", 5 * FLOP, (ANNA, BERT))
    assert asked.check == "none"
    told = buy("--strike", ANNA)
    assert "--strike takes a contract" in told.err
    asked = node.asked("task.submit")
    assert (asked.policy, asked.swap_limit_florins, asked.check) == ("standby", 250_000_000, "auto")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--swap-limit", "5"], "goes with --policy swap"),
        (["--policy", "swap", "--pay", "channel"], "--pay channel makes none"),
        (["--strike", ANNA, "--pay", "channel"], "--pay channel makes none"),
        (["--strike", ANNA, "--strike", BERT, "--strike", CARL], "2 arbiters may be struck, not 3"),
        (["--stages", "2", "--bond"], "add --together"),
        (["--bond", "--pay", "channel"], "a bond"),
    ],
)
def test_what_does_not_fit_together_is_told_before_anything_is_asked(
    buy: Any, node: FakeNode, words: list[str], why: str
) -> None:
    """No task, and words that say what to leave out."""
    told = buy(*words)
    assert (told.code, why in told.err) == (3, True), told.err
    assert node.seen == []


def test_a_bond_is_asked_for_with_one_call_or_with_stages(buy: Any, node: FakeNode, tmp_path: Path) -> None:
    """One call is a series of one; its result goes where it was wanted, without a number."""
    told = buy("--bond")
    assert told.code == 0, told.err
    assert "the seller locked it first" in told.out
    asked = node.asked("task.submit_stages")
    assert (asked.count, asked.together, asked.bonded, asked.check) == (1, True, True, "none")
    assert (tmp_path / "out.bin").read_bytes() == b"DUCK"
    told = buy("--input", str(tmp_path / "in.bin"), "--together", "--bond", "--policy", "swap", "--strike", ANNA)
    asked = node.asked("task.submit_stages")
    assert (asked.count, asked.bonded, asked.policy, asked.strikes) == (2, True, "swap", (ANNA,))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "it shows the result's key while arbiters stand by (standby)"),
        ({"policy": "swap", "swap_limit_florins": Florins(2 * FLOP)}, "the buyer, up to 2 FLOP"),
        ({"policy": "swap", "result_lock": False}, "open to the buyer before it is paid"),
        ({"struck": (Did(ANNA),)}, ANNA),
    ],
)
def test_a_contract_tells_who_goes_first_and_whom_the_seller_struck(
    run: Any, node: FakeNode, changes: dict[str, Any], words: str
) -> None:
    """In the lines of `escrow show`; a bond buys nothing, so of it nothing is said."""
    node.answers["escrow.show"] = msgspec.structs.replace(CONTRACT, **changes)
    assert words in run("escrow", "show", ID).out
    node.answers["escrow.show"] = msgspec.structs.replace(CONTRACT, bond=True, **changes)
    told = run("escrow", "show", ID).out
    assert ("who goes first" in told, ", of the bond" in told) == (False, True)


def test_a_contract_tells_how_many_keep_its_copy(run: Any, node: FakeNode) -> None:
    """Nothing before one was sent; none of eight is said, too."""
    node.answers["escrow.show"] = CONTRACT
    assert "copy kept by" not in run("escrow", "show", ID).out
    node.answers["escrow.show"] = msgspec.structs.replace(CONTRACT, copies_kept=0, copies_wanted=8)
    assert "0 of 8 nodes" in run("escrow", "show", ID).out


@pytest.mark.parametrize("lock", [True, False])
def test_a_service_file_says_whether_results_are_sold_by_their_key(
    run: Any, node: FakeNode, tmp_path: Path, *, lock: bool
) -> None:
    """`result_lock: false` goes into the record, and stands in what others are shown."""
    (tmp_path / "p.wasm").write_bytes(b"\0asm")
    line = "" if lock else "result_lock: false\n"
    (tmp_path / "service.yaml").write_text(f"slug: x\nname: X\nprice: 1\npackage: p.wasm\nentry: dux-wasm/1\n{line}")
    assert run("publish", str(tmp_path)).code == 0
    assert node.asked("service.publish").result_lock is lock
    shown = store.SERVICE_SHOW.example[1]
    node.answers["service.show"] = msgspec.structs.replace(
        shown, service=msgspec.structs.replace(shown.service, result_lock=lock)
    )
    words = "sold by its key" if lock else "open to the buyer before it is paid"
    assert words in run("services", "show", "svc").out
