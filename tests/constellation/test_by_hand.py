"""The session that a person types: a network, two nodes in it, a service published, found, bought, rated, explained."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from common.contracts.wallet_errors import WalletLocked
from common.receipts import KeyedReceipt, opened_receipt
from common.units import FLOP
from dux_cli.flopcoin_wallet import FlopcoinWallet
from dux_cli.pictures import make_test_picture

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 120


class Person:
    """Types commands; every one must end with the expected code."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = os.environ | {"DUXNET_TESTNET": str(home / "testnet"), "PYTHONPATH": str(ROOT)}

    def types(self, *words: str, node: str = "", code: int = 0) -> str:
        command = [sys.executable, "-P", "-m", "dux_cli", *words, *(["--node", str(self.home / node)] if node else [])]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=WAIT_S, check=False, cwd=self.home
        )
        assert done.returncode == code, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def reads(self, *words: str, node: str, code: int = 0) -> Any:
        return json.loads(self.types(*words, "--json", node=node, code=code))

    @contextmanager
    def runs(self, *words: str, node: str) -> Iterator[str]:
        """A command that goes on until it is stopped, once it listens; where it does."""
        place = ["--listen", "127.0.0.1:0", "--json", "--node", str(self.home / node)]
        command = [sys.executable, "-P", "-m", "dux_cli", *words, *place]
        with subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            try:
                yield json.loads(running.stdout.readline())["url"]
            finally:
                running.send_signal(signal.SIGINT)
                assert running.wait(20) == 0

    def repeats(self, until: Callable[[Any], object], *words: str, node: str) -> Any:
        """Types a command until its answer satisfies, at most two hundred times."""
        answer = None
        for _ in range(200):
            answer = self.reads(*words, node=node)
            if until(answer):
                return answer
        raise AssertionError(f"{words}: {answer}")


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    someone = Person(tmp_path_factory.mktemp("hand"))
    someone.types("testnet", "up", "--detach")
    try:
        for node in ("alice", "bob"):
            someone.types("init", "--quiet", node=node)
            someone.types("up", "--detach", "--same-user", node=node)
        yield someone
    finally:
        for node in ("alice", "bob"):
            someone.types("down", node=node)
        someone.types("testnet", "down")


@pytest.mark.constellation
@pytest.mark.timeout(400)
def test_a_person_sells_buys_rates_and_asks_why(person: Person) -> None:
    """Real processes, a real chain: of 10 FLOP, 9.5 less the chain's fee reach the seller, and 0.5 the fund."""
    assert person.reads("status", node="alice")["silent"] == []
    person.types("testnet", "give", "100", node="alice")
    service = person.types("publish", str(ROOT / "examples/image_upscaler"), "--price", "10", "--quiet", node="bob")
    person.repeats(lambda found: service in [s["id"] for s in found["services"]], "search", "upscale", node="alice")
    person.repeats(is_checked_by_somebody, "search", "check", node="alice")
    person.repeats(lambda held: int(held["spendable_florins"]) == 100 * FLOP, "wallet", "balance", node="alice")
    small, large = person.home / "small.png", person.home / "large.png"
    make_test_picture(96, 64).save(small)
    files = ["--input", str(small), "--output", str(large), "--arg", "scale=2"]
    bought = person.reads("call", service, *files, "--max-price", "10", "--check", "auto", node="alice")
    with Image.open(large) as picture:
        assert picture.size == (192, 128)
    assert (bought["state"], bought["good"], bought["check_state"]) == ("paid", True, "agreed")
    paid = bought["settlement"]
    assert int(paid["provider_florins"]) + int(paid["fee_florins"]) == 950_000_000
    assert int(paid["fund_florins"]) == 50_000_000
    shown = person.repeats(lambda seen: seen["receipt"], "task", "show", bought["task_id"], node="alice")
    assert isinstance(opened_receipt(base64.b64decode(shown["receipt"]))[1], KeyedReceipt)
    rated = person.reads("rate", bought["task_id"], "5", node="alice")
    assert (rated["ratings"], rated["reputation"]) == (1, 5.0)
    assert "settled" in person.types("why", "contract", bought["contract_id"], node="bob").lower()
    books = person.types("wallet", "history", "--csv", "-", node="alice").splitlines()
    assert books[0].startswith("time,height,kind,state,change,fee")
    assert any(",100," in line for line in books[1:])
    python_pays(person)
    seller = person.types("nodes", "me", "--quiet", node="bob")
    assert float(person.types("why", "node", seller, "--quiet", node="alice")) > 0.5


def python_pays(person: Person) -> None:
    """A program pays with three lines, and signs nothing while the wallet is locked."""
    wallet = FlopcoinWallet(person.home / "alice")
    before, address = wallet.get_balance(), wallet.get_new_address("from a program")
    assert before > 80
    assert len(wallet.send_to_address(address, "0.5")) == 64
    signed = person.reads("wallet", "sign", address, "It is me.", node="alice")
    person.types("wallet", "verify", address, signed["signature"], "It is me.", node="bob")
    person.types("wallet", "verify", address, signed["signature"], "It is not me.", node="bob", code=1)
    person.types("wallet", "lock", node="alice")
    with pytest.raises(WalletLocked):
        wallet.send_to_address(address, "0.5")
    person.types("wallet", "unlock", "--unattended", node="alice")
    with pytest.raises(TypeError):
        wallet.send_to_address(address, 0.5)  # type: ignore[arg-type]


@pytest.mark.constellation
@pytest.mark.timeout(300)
def test_a_person_buys_in_stages_one_by_one_and_together(person: Person) -> None:
    """Twice as large, twice, by a contract after the other; then two pictures by one payment: both are paid by turn."""
    person.types("testnet", "give", "50", node="alice")
    service = person.types("services", "list", "--quiet", node="bob").splitlines()[0]
    small, large = person.home / "small.png", person.home / "staged.png"
    make_test_picture(48, 32).save(small)
    words = ["--output", str(large), "--arg", "scale=2", "--max-price", "10", "--check", "none"]
    bought = person.reads("call", service, "--input", str(small), "--stages", "2", *words, node="alice")
    assert (bought["state"], int(bought["paid_florins"])) == ("accepted", 20 * FLOP)
    assert [size_of(file) for file in bought["written"]] == [(96, 64), (192, 128)]
    first, second = (stage["settlement"] for stage in bought["stages"])
    assert first["height"] < second["height"]
    inputs = ["--input", str(small), "--input", str(large.with_name("staged-1.png"))]
    both = person.reads("call", service, *inputs, "--together", *words, node="alice")
    assert [size_of(file) for file in both["written"]] == [(96, 64), (192, 128)]
    lots = [person.reads("escrow", "show", stage["contract_id"], node="alice") for stage in both["stages"]]
    assert [(lot["stage"], lot["stages"]) for lot in lots] == [(0, 2), (1, 2)]
    assert lots[0]["outpoint"].split(":")[0] == lots[1]["outpoint"].split(":")[0], "one payment funds both"
    shown = person.types("task", "show", both["stages_id"], node="alice")
    assert "together, by one payment" in shown


def size_of(file: str) -> tuple[int, int]:
    with Image.open(file) as picture:
        return picture.size


@pytest.mark.constellation
@pytest.mark.timeout(200)
@pytest.mark.skipif(not shutil.which("curl"), reason="no curl (apt-get install curl)")
def test_a_person_sells_an_http_endpoint_and_another_buys_with_curl(person: Person) -> None:
    """`sell-http` before an endpoint that knows nothing of it; `pay-http` opens a channel, `pay-curl` goes over it."""
    person.types("testnet", "give", "20", node="alice")
    with upstream() as behind, person.runs("sell-http", "--upstream", behind, "--price", "0.01", node="bob") as shop:
        bought = person.reads("pay-http", f"{shop}/a.json", "--max-per-call", "0.01", node="alice")
        assert (bought["status"], json.loads(bought["body"])) == (200, {"hello": 1})
        assert (bought["outcome"], bought["charged_florins"]) == ("ok", "1000000")
        assert any("opened channel" in line for line in bought["said"])
        again = person.reads("pay-http", f"{shop}/a.json", "--oid", bought["oid"], node="alice")
        assert (again["charged_florins"], again["receipt"]) == ("1000000", bought["receipt"])
        assert person.reads("pay-http", f"{shop}/a.json", "--max-per-call", "0.009", node="alice", code=3)["error"]
        with person.runs("gateway", node="alice") as gateway:
            token = person.home / "alice" / "run" / "gateway" / "module.token"
            environment = person.environment | {"DUXNET_GATEWAY": gateway, "DUXNET_GATEWAY_TOKEN": str(token)}
            command = [str(ROOT / "examples/pay_http/pay-curl"), f"{shop}/a.json"]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode, json.loads(done.stdout)) == (0, {"hello": 1}), done.stderr
            assert "over channel" in done.stderr
        rate = ("--price", "0.001", "--metered", "0.001/part")
        with person.runs("sell-http", "--upstream", behind, *rate, node="bob") as metered:
            words = ("--stream", "--output", str(person.home / "parts"), "--max-per-call", "0.01")
            came = person.reads("pay-http", f"{metered}/a.json", *words, node="alice")
            assert json.loads((person.home / "parts").read_text()) == {"hello": 1}
            assert (came["outcome"], came["charged_florins"]) == ("ok", "100000")


@contextmanager
def upstream() -> Iterator[str]:
    """An endpoint that knows nothing of payments."""

    class Endpoint(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"hello": 1}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def is_checked_by_somebody(found: Any) -> bool:
    """A second worker is known and alive."""
    return any(s["kind"] == "check" and s["provider_status"] == "active" for s in found["services"])


@pytest.mark.constellation
@pytest.mark.timeout(200)
def test_a_node_that_is_down_says_so_and_comes_back_with_what_it_had(person: Person) -> None:
    """Down: exit codes 1 and 5. Up again: the same DID, the same services."""
    me = person.types("nodes", "me", "--quiet", node="bob")
    mine = person.types("services", "list", "--quiet", node="bob")
    person.types("down", node="bob")
    person.types("status", node="bob", code=1)
    person.types("wallet", "balance", node="bob", code=5)
    person.types("up", "--detach", "--same-user", node="bob")
    assert person.types("nodes", "me", "--quiet", node="bob") == me
    assert person.types("services", "list", "--quiet", node="bob") == mine


@pytest.mark.constellation
@pytest.mark.timeout(300)
def test_a_node_comes_back_from_its_words_alone(person: Person) -> None:
    """The disk is gone: the same name, the same coins, the channel to bob; `restore` says so in one go."""
    me = person.types("nodes", "me", "--quiet", node="alice")
    seller = person.types("nodes", "me", "--quiet", node="bob")
    if not person.reads("channel", "list", "--role", "payer", node="alice")["channels"]:
        person.types("testnet", "give", "20", node="alice")
        person.types("channel", "open", seller, "5", node="alice")
    open_ones = person.repeats(is_open, "channel", "list", "--role", "payer", node="alice")["channels"]
    held = person.reads("wallet", "balance", node="alice")["total_florins"]
    words = person.home / "alice.words"
    words.write_text(person.reads("phrase", "show", node="alice")["phrase"])
    person.types("down", node="alice")
    shutil.rmtree(person.home / "alice")
    person.types("init", "--phrase-file", str(words), "--quiet", node="alice")
    person.types("up", "--detach", "--same-user", node="alice")
    back = person.repeats(lambda told: told["channels"], "restore", node="alice")
    assert [one["channel"]["chid"] for one in back["channels"]] == [one["chid"] for one in open_ones]
    assert (back["wallet"]["state"], back["wallet"]["found_florins"]) == ("done", held)
    assert person.types("nodes", "me", "--quiet", node="alice") == me
    person.repeats(is_open, "channel", "list", "--role", "payer", node="alice")


def is_open(found: Any) -> bool:
    """There is a channel, and calls can go over it."""
    return any(one["state"] == "OPEN" for one in found["channels"])


@pytest.mark.constellation
@pytest.mark.timeout(300)
def test_a_name_is_taken_back_with_the_phrase_while_the_node_is_down(person: Person) -> None:
    """Keys were known to somebody: the phrase undoes what came after event 0, and everybody else learns it."""
    me = person.types("nodes", "me", "--quiet", node="bob")
    assert person.reads("identity", "rotate", node="bob")["key_seq"] == 1
    words = person.home / "phrase.txt"
    words.write_text(person.reads("phrase", "show", node="bob")["phrase"])
    log = person.home / "bob.log"
    person.types("identity", "show", "--event-log", str(log), node="bob")
    person.types("down", node="bob")
    wrong = person.home / "wrong.txt"
    wrong.write_text("abandon " * 11 + "about")
    person.types("identity", "recover", "--phrase-file", str(wrong), "--event-log", str(log), node="bob", code=3)
    taken = person.reads(
        "identity", "recover", "--phrase-file", str(words), "--event-log", str(log), "--since", "0", node="bob"
    )
    assert (taken["did"], taken["told"]) == (me, False)
    person.types("up", "--detach", "--same-user", node="bob")
    shown = person.types("identity", "show", node="bob")
    assert "taken back with the phrase" in shown
    assert "sound" in shown
    assert person.types("nodes", "me", "--quiet", node="bob") == me
    person.repeats(lambda found: b"rec" in base64.b64decode(found["log"]), "identity", "show", me, node="alice")
