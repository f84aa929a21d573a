"""The small parts by themselves: the shelf of large answers, the book of paid calls, coin keys, slow connections."""

import os
from pathlib import Path
from types import SimpleNamespace

import coincurve
import msgspec
import pytest

from common.clock import ManualClock
from common.codec import canonical
from common.contracts.p2p import DID_RESOLVE, Resolve, Resolved
from common.errors import BadParams
from common.identity.log import encode_log
from common.identity.node_record import CoinLink, NodeRecord, coin_link_hash, link_coin
from common.identity.purposes import Purpose
from common.identity.signed import decode_signed, sign
from common.units import Florins, UnixMs
from dux_cli.pay_http import body_of, pairs_of, place_of
from dux_pay.answers import Answered, Shelf, kept_of, packed, typed, unpacked
from dux_pay.buying import BadOffer
from dux_pay.coin_keys import CoinKeys
from dux_pay.gateway_client import GatewayAt, NoGateway, gateway_of, refusal
from dux_pay.ledger import Ledger, Limits, OtherRequest, OverDayLimit, PaidCall, UnknownCall
from dux_pay.node import Node, NoNodeNamed
from dux_pay.proxy import BadUpstream, upstream_of
from dux_pay.reaper import CONNECTIONS_MAX, Reaper
from tests.p2pd.wire_kit import MADE_MS, TestPapers
from tests.pay.kit import NETWORK

LIMITS = Limits(per_call_florins=Florins(50), per_day_florins=Florins(100), open_florins=Florins(10))
KEY = coincurve.PrivateKey(b"\x09" * 32)


def answered(body: bytes) -> Answered:
    return Answered(
        status=200, headers=typed(kept_of([("Content-Type", "text/plain"), ("X-Other", "y")])), body=body, at_s=1
    )


def test_the_shelf_keeps_whole_answers_and_the_newest(tmp_path: Path) -> None:
    """What comes back is what was put there, byte for byte; the oldest make room; a damaged one is none."""
    shelf = Shelf(tmp_path / "shelf", bytes_max=3_000)
    put = [answered(bytes([number]) * 1_000) for number in range(4)]
    for number, one in enumerate(put):
        shelf.put(one)
        (tmp_path / "shelf" / one.resp.hex()).touch()
        os.utime(tmp_path / "shelf" / one.resp.hex(), (number, number))
    assert [shelf.get(one.resp) == one for one in put] == [False, False, True, True]
    assert unpacked(packed(put[3])) == put[3]
    (tmp_path / "shelf" / put[3].resp.hex()).write_bytes(packed(put[2]))
    assert shelf.get(put[3].resp) is None
    assert typed(()) == (("content-type", "application/octet-stream"),)


def call(oid: str, most: int = 40) -> PaidCall:
    return PaidCall(
        oid=oid, bound=b"r", payee="p", url="u", chid="", number=0, most_florins=most, charged_florins=None,
        state="reserved", header="", receipt="",
    )  # fmt: skip


def test_the_book_counts_promises_and_survives(tmp_path: Path) -> None:
    """Promised counts as spent until it ends; what is taken back does not; the file knows it all after a restart."""
    clock = ManualClock()
    book = Ledger(tmp_path / "paid.sqlite", clock, LIMITS)
    book.reserve(call("a"))
    book.reserve(call("b"))
    with pytest.raises(OverDayLimit):
        book.reserve(call("c"))
    book.paid("a", chid="c1", number=3, header="H")
    with pytest.raises(OverDayLimit):
        book.reserve(call("c", 30))
    book.taken_back("b")
    book.ended("a", state="ok", charged_florins=5, receipt="R")
    book.close()
    again = Ledger(tmp_path / "paid.sqlite", clock, LIMITS)
    assert again.spent_today() == 5
    assert (again.known("a").header, again.known("a").receipt, again.known("a").number) == ("H", "R", 3)
    assert again.find("b") is None
    with pytest.raises(OtherRequest):
        again.find("a", b"another")
    with pytest.raises(UnknownCall):
        again.known("nobody")
    again.taken_back("a")
    assert [one.oid for one in again.newest(5)] == ["a"]
    clock.advance(86_400)
    assert again.spent_today() == 0
    again.reserve(call("d", 50))
    again.reserve(call("e", 20))
    again.reserve(call("f", 30))
    with pytest.raises(OverDayLimit):
        again.raise_most("e", 21)
    again.close()


class Resolving:
    """p2pd: one node's record, with or without a coin link."""

    def __init__(self, papers: TestPapers, *, linked: bool) -> None:
        self.asked = 0
        self.ages: list[int] = []
        self.later: Resolved | None = None  # what the network says when it is asked anew
        link = CoinLink(did=papers.did, coin_pubkey=KEY.public_key.format(), at_ms=UnixMs(MADE_MS))
        coin = link_coin(papers.key, KEY.sign(coin_link_hash(link), hasher=None), link) if linked else None
        old = msgspec.msgpack.decode(decode_signed(papers.record(), max_bytes=4096).body, type=NodeRecord)
        record = msgspec.structs.replace(old, coin_link=coin)
        told: Resolved = DID_RESOLVE.example[1]
        self.told = msgspec.structs.replace(
            told, did=papers.did, log=encode_log(papers.log),
            node_record=canonical(sign(papers.key, Purpose.NODE_RECORD, record)),
        )  # fmt: skip

    async def call(self, _method, asked: Resolve, **_more) -> Resolved:
        self.asked += 1
        self.ages.append(asked.max_age_s)
        return self.told if asked.max_age_s or self.later is None else self.later


async def test_a_coin_key_is_the_one_that_both_hands_signed() -> None:
    """From the node record, kept for a while; a record without one is asked for anew, then a named error."""
    papers, clock = TestPapers("seller"), ManualClock(MADE_MS + 1_000)
    network = msgspec.structs.replace(NETWORK, inception_bits=0)
    p2pd = Resolving(papers, linked=True)
    keys = CoinKeys(p2pd, network, clock)
    assert [await keys.of(papers.did) for _ in range(2)] == [KEY.public_key.format()] * 2
    assert p2pd.asked == 1
    clock.advance(3_600)
    await keys.of(papers.did)
    assert p2pd.asked == 2
    bare = Resolving(papers, linked=False)
    with pytest.raises(BadOffer, match="names no coin key"):
        await CoinKeys(bare, network, clock, 0.0).of(papers.did)
    assert bare.ages == [600, 0, 0, 0, 0, 0, 0]
    bare.later = p2pd.told
    assert await CoinKeys(bare, network, clock, 0.0).of(papers.did) == KEY.public_key.format()
    p2pd.told = msgspec.structs.replace(p2pd.told, node_record=None)
    with pytest.raises(BadOffer, match="names no coin key"):
        await CoinKeys(p2pd, network, clock, 0.0).of(papers.did)


class Connection:
    """What the reaper does to one."""

    def __init__(self) -> None:
        self.transport, self.ended = self, 0

    def force_close(self) -> None:
        self.ended += 1

    def abort(self) -> None:
        self.ended += 1


def test_the_longest_quiet_are_cut_when_there_are_too_many() -> None:
    """A flood of connections that say nothing does not keep the others out."""
    early, late = ([Connection() for _ in range(count)] for count in (CONNECTIONS_MAX, 3))
    reaper = Reaper(head_s=10)
    reaper.look(SimpleNamespace(connections=early), 0.0)
    reaper.look(SimpleNamespace(connections=[*early, *late]), 1.0)
    assert [one.ended for one in early[:4]] == [2, 2, 2, 0]
    assert [one.ended for one in late] == [0, 0, 0]
    assert reaper.cut == 3


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No node, no gateway, no endpoint: each error names what to do."""
    for name in ("DUXNET_NODE", "DUXNET_GATEWAY", "DUXNET_GATEWAY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NoNodeNamed):
        Node(tmp_path)
    with pytest.raises(NoGateway, match="duxnet gateway"):
        gateway_of(tmp_path)
    (tmp_path / "token").write_text("t\n")
    monkeypatch.setenv("DUXNET_GATEWAY", "http://127.0.0.1:1/")
    monkeypatch.setenv("DUXNET_GATEWAY_TOKEN", str(tmp_path / "token"))
    assert gateway_of() == GatewayAt("http://127.0.0.1:1", "t")
    assert "status 500" in refusal(500, "", "u").message
    for text in ("ftp://x", "http://", "http://h/?q=1", "http://u@h", "x"):
        with pytest.raises(BadUpstream):
            upstream_of(text)


def test_words_of_the_command_line(tmp_path: Path) -> None:
    """`HOST:PORT`, `NAME=VALUE` and `@FILE`; anything else says what to write."""
    assert place_of("127.0.0.1:8402") == ("127.0.0.1", 8402)
    assert place_of("[::1]:0") == ("::1", 0)
    assert pairs_of(("/a=1", "/b/c=0.5"), "--price-of") == {"/a": "1", "/b/c": "0.5"}
    assert pairs_of(("X-Name: a:b",), "--header", ":") == {"X-Name": "a:b"}
    (tmp_path / "sent").write_bytes(b"\x00\n")
    assert [body_of(text) for text in (None, "a", f"@{tmp_path / 'sent'}")] == [b"", b"a", b"\x00\n"]
    for wrong in (lambda: place_of("8402"), lambda: pairs_of(("a",), "--price-of"), lambda: body_of("@/nowhere")):
        with pytest.raises(BadParams):
            wrong()
