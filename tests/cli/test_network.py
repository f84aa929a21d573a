"""A network of one's own on paper: cards, profile, signatures, versions; forged and missing ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from common.charter import profile_bytes, read_signatures, signatures_file, signers
from common.network import load_profile, save_profile
from common.settings import load_settings
from dux_cli.command import run_main
from dux_cli.main import duxnet
from dux_p2pd.settings import P2pdSettings

pytestmark = pytest.mark.patient

NOW_MS = 1_800_000_000_000


class Desk:
    """Types commands and reads what they print."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self._capsys = capsys

    def types(self, *words: str, node: str = "", code: int = 0) -> str:
        self._capsys.readouterr()
        found = run_main(duxnet, [*words, *(["--node", str(self.home / node)] if node else [])])
        said = self._capsys.readouterr()
        assert found == code, said.out + said.err
        return said.out if code == 0 else said.out + said.err

    def found(self, *names: str) -> Path:
        """Founders' cards and a profile of them, unsigned."""
        for index, name in enumerate(names):
            card = str(self.home / f"{name}.card")
            self.types("network", "founder", "--card", card, "--index", str(index + 1), node=name)
        cards = [word for name in names for word in ("--founder", str(self.home / f"{name}.card"))]
        self.types("network", "create", "--name", "ours", *cards, str(self.home / "ours.yaml"))
        return self.home / "ours.yaml"


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


CHAIN = ("--chain-url", "http://127.0.0.1:1/")


def test_a_network_is_joined_when_more_than_half_of_its_council_has_signed(desk: Desk) -> None:
    """Three founders are council, custodians, arbiters, bootstrap; one signature is too few, two let a node in."""
    file = desk.found("a", "b", "c")
    profile = load_profile(file)
    cards = [yaml.safe_load((desk.home / f"{name}.card").read_text()) for name in "abc"]
    dids = [card["did"] for card in cards]
    assert sorted(dids) == list(profile.council) == sorted(profile.arbiters)
    assert [(one.did, one.pubkey) for one in profile.fund.custodians] == [(c["did"], c["fund_pubkey"]) for c in cards]
    assert (profile.fund.threshold, profile.version) == (2, 1)
    assert [one.address for one in profile.bootstrap] == [card["endpoint"] for card in cards]
    assert not any("phrase" in card or "secret" in str(card) for card in cards)
    desk.types("network", "sign", str(file), node="a")
    assert "1 of its council's 3, 2 are needed" in desk.types(
        "init", "--network", str(file), *CHAIN, node="joins", code=3
    )
    desk.types("network", "sign", str(file), node="b")
    desk.types("network", "sign", str(file), node="b")
    assert len(read_signatures(file)) == 2
    shown = json.loads(desk.types("network", "show", str(file), "--json"))
    assert shown["signed_by"] == sorted(dids[:2])
    desk.types("init", "--network", str(file), "--index", "9", *CHAIN, node="joins")
    told = json.loads(desk.types("init", "--network", str(file), "--index", "1", *CHAIN, "--json", node="a"))
    assert (told["did"], told["phrase"]) == (dids[0], "")
    assert load_profile(desk.home / "a/config/network.yaml") == profile
    assert "is no founder" in desk.types("network", "sign", str(file), node="joins", code=3)


def test_what_is_changed_after_signing_is_not_signed(desk: Desk) -> None:
    """Another tax, another council, a forged or borrowed signature: none counts; spelling the file anew does."""
    file = desk.found("a", "b")
    for name in "ab":
        desk.types("network", "sign", str(file), node=name)
    profile, found = load_profile(file), read_signatures(file)
    assert signers(profile, found, now_ms=NOW_MS) == set(profile.council)
    for changed in (replace(profile, tax_bps=100), replace(profile, council=profile.council[:1])):
        assert signers(changed, found, now_ms=NOW_MS) == set()
    one, other = found
    for forged in (
        replace(one, did=other.did),
        replace(one, log=other.log),
        replace(one, signature=other.signature),
        replace(one, signature="zz"),
        replace(one, log="00"),
        replace(one, key_seq=1),
    ):
        assert signers(profile, [forged], now_ms=NOW_MS) == set()
    plain: Any = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(plain, sort_keys=True, default_flow_style=True))
    assert profile_bytes(load_profile(file)) == profile_bytes(profile)
    signatures_file(file).write_text("- nonsense")
    assert "expected" in desk.types("init", "--network", str(file), *CHAIN, node="x", code=3).lower()


def test_a_later_version_is_taken_when_the_council_before_it_has_signed(desk: Desk) -> None:
    """The same chain, a higher number, the old council's signatures; a new council cannot vote itself in."""
    file = desk.found("a", "b", "c")
    for name in "ab":
        desk.types("network", "sign", str(file), node=name)
    desk.types("init", "--network", str(file), *CHAIN, node="a")
    profile, later = load_profile(file), desk.home / "later.yaml"
    assert "no later version" in desk.types("network", "update", "--offline", str(file), node="a", code=3)
    save_profile(replace(profile, version=2, tax_bps=400), later)
    assert "0 of its council's 3" in desk.types("network", "update", "--offline", str(later), node="a", code=3)
    for name in "bc":
        desk.types("network", "sign", str(later), node=name)
    desk.types("network", "update", "--offline", str(later), node="a")
    assert load_profile(desk.home / "a/config/network.yaml").tax_bps == 400
    coup = desk.home / "coup.yaml"
    save_profile(replace(profile, version=3, council=profile.council[:1]), coup)
    name = next(n for n in "abc" if _did(desk, n) == profile.council[0])
    desk.types("network", "sign", str(coup), node=name)
    assert "1 of its council's 3" in desk.types("network", "update", "--offline", str(coup), node="a", code=3)


def test_who_leaves_the_council_signs_the_version_without_it(desk: Desk) -> None:
    """The council of the version before decides, those among it whom the new one names no more as well."""
    file = desk.found("a", "b", "c")
    for name in "ab":
        desk.types("network", "sign", str(file), node=name)
    profile, later = load_profile(file), desk.home / "later.yaml"
    save_profile(replace(profile, version=2, council=(profile.council[0],)), later)
    leave = [name for name in "abc" if _did(desk, name) != profile.council[0]]
    for index, name in enumerate(leave):
        assert "is no founder" in desk.types("network", "sign", str(later), node=name, code=3), "of no network yet"
        desk.types("init", "--network", str(file), "--index", str(index + 1), *CHAIN, node=name)
        desk.types("network", "sign", str(later), node=name)
    desk.types("network", "update", "--offline", str(later), node=leave[0])
    assert load_profile(desk.home / leave[0] / "config/network.yaml").council == (profile.council[0],)


def _did(desk: Desk, name: str) -> str:
    return str(yaml.safe_load((desk.home / f"{name}.card").read_text())["did"])


def test_what_does_not_fit_together_is_refused(desk: Desk) -> None:
    """One card twice, a threshold above the number of custodians, parameters outside their bounds, keys made twice."""
    desk.found("a", "b")
    cards = [str(desk.home / f"{name}.card") for name in "ab"]
    twice = ["--founder", cards[0], "--founder", cards[0]]
    assert "twice" in desk.types("network", "create", "--name", "x", *twice, str(desk.home / "x.yaml"), code=3)
    both = ["--founder", cards[0], "--founder", cards[1]]
    words = ["network", "create", "--name", "x", *both, str(desk.home / "x.yaml")]
    assert "threshold" in desk.types(*words, "--threshold", "3", code=3)
    parameters = desk.home / "more.yaml"
    parameters.write_text("tax_bps: 5000\n")
    assert "tax_bps" in desk.types(*words, "--parameters", str(parameters), code=3)
    parameters.write_text("tax_bps: 300\npresence: {apart: false}\n")
    desk.types(*words, "--parameters", str(parameters))
    assert load_profile(desk.home / "x.yaml").tax_bps == 300
    assert "keys" in desk.types("network", "founder", "--card", cards[0], node="a", code=3)


def test_a_node_is_a_light_wallet_s_unless_it_is_given_a_coin_node(desk: Desk) -> None:
    """Named peers and no others, or the coin's RPC; a network whose coin has no seeds asks for one of the two."""
    file = desk.found("a")
    desk.types("network", "sign", str(file), node="a")
    said = desk.types("init", "--network", str(file), node="none", code=3)
    assert "--peer HOST:PORT" in said
    desk.types("init", "--network", str(file), "--peer", "127.0.0.1:7", node="light")
    desk.types("init", "--network", str(file), *CHAIN, node="core")
    sources = {
        name: yaml.safe_load((desk.home / name / "config/flopd.yaml").read_text())["source"]
        for name in ("light", "core")
    }
    assert sources == {"light": "spv", "core": "core"}
    p2pd = yaml.safe_load((desk.home / "light/config/p2pd.yaml").read_text())
    assert p2pd["egress_allow"] == {"flopd": ["127.0.0.1:7"]}


LIES = [
    ({"endpoint": "nonsense"}, "is not host:port"),
    ({"did": "did:dux:" + "a" * 52}, "not of did:dux:aaaa"),
    ({"log": "zz"}, "its log is none"),
    ({"log": "00"}, "a.card: LogBytes"),
    ({"fund_pubkey": "02"}, "pubkey"),
]


@pytest.mark.parametrize(("lie", "said"), LIES)
def test_a_card_that_lies_makes_no_network(desk: Desk, lie: dict[str, str], said: str) -> None:
    """A name that its log does not make, an address that nobody can dial, a key that is none: refused, nothing made."""
    card = desk.home / "a.card"
    desk.types("network", "founder", "--card", str(card), node="a")
    card.write_text(yaml.safe_dump(yaml.safe_load(card.read_text()) | lie))
    file = desk.home / "x.yaml"
    assert said in desk.types("network", "create", "--name", "x", "--founder", str(card), str(file), code=3)
    assert not file.exists()


def test_heights_and_addresses_of_a_profile_are_judged_wherever_it_is_read(desk: Desk) -> None:
    """Unknown heights and a bootstrap that is none are refused by create, founder, init and show."""
    file = desk.found("a")
    words = ["network", "create", "--name", "x", "--founder", str(desk.home / "a.card"), str(desk.home / "x.yaml")]
    assert "heights must be one of" in desk.types(*words, "--heights", "nosuch", code=3)
    card = str(desk.home / "b.card")
    assert "host:port" in desk.types("network", "founder", "--card", card, "--endpoint", "here", node="b", code=3)
    assert not (desk.home / "b").exists(), "no keys were made for a card that nobody could use"
    plain: Any = yaml.safe_load(file.read_text())
    for name, value, said in (("heights", "nosuch", "heights"), ("bootstrap", [{"address": "here"}], "bootstrap")):
        file.write_text(yaml.safe_dump(plain | {name: value}))
        assert said in desk.types("network", "show", str(file), code=3)
        assert said in desk.types("init", "--network", str(file), *CHAIN, node="j", code=3)


def test_a_profile_is_written_over_only_when_that_is_asked_for(desk: Desk) -> None:
    """A file that is there, signed perhaps, stays; with --force its signatures go with it."""
    file = desk.found("a")
    desk.types("network", "sign", str(file), node="a")
    held = file.read_bytes()
    words = ["network", "create", "--name", "other", "--founder", str(desk.home / "a.card"), str(file)]
    assert "--force" in desk.types(*words, code=3)
    assert (file.read_bytes(), len(read_signatures(file))) == (held, 1)
    desk.types(*words, "--force")
    assert (load_profile(file).name, read_signatures(file)) == ("other", ())


def test_what_the_founders_cards_say_stands_in_no_other_file(desk: Desk) -> None:
    """--parameters with keys of the cards, with no mapping and with no YAML: refused by the file's name."""
    desk.found("a")
    more = desk.home / "more.yaml"
    words = ["network", "create", "--name", "x", "--founder", str(desk.home / "a.card"), str(desk.home / "x.yaml")]
    for text, said in (("council: []\narbiters: []", "arbiters, council"), ("- 1", "no mapping"), ("{", "more.yaml")):
        more.write_text(text)
        assert said in desk.types(*words, "--parameters", str(more), code=3)
        assert json.loads(desk.types(*words, "--parameters", str(more), "--json", code=3))["error"]["message"]


def test_a_founder_listens_where_its_card_says(desk: Desk) -> None:
    """A public address is told to others and its port listened at everywhere; a loopback's at itself; --listen wins."""
    ports = {"public": "203.0.113.5:7001", "local": "127.0.0.1:7002", "named": "host.example:7003", "plain": ""}
    for index, (name, endpoint) in enumerate(ports.items()):
        words = ["--card", str(desk.home / f"{name}.card"), "--index", str(index + 1), "--endpoint", endpoint]
        desk.types("network", "founder", *words, node=name)
    cards = [word for name in ports for word in ("--founder", str(desk.home / f"{name}.card"))]
    file = desk.home / "ours.yaml"
    desk.types("network", "create", "--name", "ours", *cards, str(file))
    for name in ports:
        desk.types("network", "sign", str(file), node=name)
    found = {}
    for index, name in enumerate(ports):
        listen = ["--listen", "192.0.2.9"] if name == "named" else []
        desk.types("init", "--network", str(file), "--index", str(index + 1), *listen, *CHAIN, node=name)
        told = load_settings(desk.home / name / "config", "p2pd", P2pdSettings, {})
        found[name] = (told.listen_host, told.listen_port, told.endpoints)
    assert found == {
        "public": ("0.0.0.0", 7001, ("203.0.113.5:7001",)),  # noqa: S104 - what init writes
        "local": ("127.0.0.1", 7002, ("127.0.0.1:7002",)),
        "named": ("192.0.2.9", 7003, ("host.example:7003",)),
        "plain": ("127.1.4.1", 0, ()),
    }


def test_no_founders_keys_are_left_whose_words_nobody_has_seen(desk: Desk) -> None:
    """A card without a place: nothing is made, no empty card stays; made twice, the error names card and words."""
    desk.types("network", "founder", "--card", "/proc/nope/card", node="a", code=3)
    assert not (desk.home / "a/data").exists()
    bad = desk.home / "bad.txt"
    bad.write_text("no phrase at all")
    card = desk.home / "a.card"
    desk.types("network", "founder", "--card", str(card), "--phrase-file", str(bad), node="a", code=3)
    assert not card.exists()
    desk.types("network", "founder", "--card", str(card), node="a")
    said = desk.types("network", "founder", "--card", str(desk.home / "other.card"), node="a", code=3)
    assert str(desk.home / "a/founder.yaml") in said
    assert "duxnet phrase show" in said
    assert not (desk.home / "other.card").exists()


def test_a_restored_node_is_told_to_take_its_name_back_before_it_starts(desk: Desk) -> None:
    """`init --phrase-file` names the three steps in their order; `init` without one only `up`."""
    file = desk.found("a")
    desk.types("network", "sign", str(file), node="a")
    words = ["init", "--network", str(file), *CHAIN]
    fresh = json.loads(desk.types(*words, "--json", node="fresh"))
    phrase = desk.home / "words.txt"
    phrase.write_text(fresh["phrase"])
    said = desk.types(*words, "--phrase-file", str(phrase), node="again").splitlines()
    steps = [line.partition("\t")[2] for line in said if line.startswith("next")]
    assert steps == [f"duxnet identity recover --phrase-file {phrase}", "duxnet up --detach", "duxnet restore"]
    shown = desk.types("restore", "--help")
    assert shown.index("init --phrase-file") < shown.index("identity recover --phrase-file") < shown.index("duxnet up")


PASSPHRASE = "correct horse battery staple 7 florins"


def test_a_founders_keys_are_sealed_when_they_are_made(desk: Desk) -> None:
    """`network founder` takes passphrase and phrase; `init` after it refuses them, instead of leaving keys unsealed."""
    secret = desk.home / "pp"
    secret.write_text(PASSPHRASE + "\n")
    sealed = ["--passphrase-file", str(secret)]
    card = str(desk.home / "a.card")
    told = json.loads(desk.types("network", "founder", "--card", card, *sealed, "--json", node="a"))
    assert not (desk.home / "a/data/flopd/unlock.key").exists()
    desk.found("b")
    assert (desk.home / "b/data/flopd/unlock.key").exists()
    file = desk.home / "ours.yaml"
    desk.types("network", "sign", str(file), node="b")
    words = ["init", "--network", str(file), *CHAIN]
    for option in ("--passphrase-file", "--phrase-file"):
        assert "network founder" in desk.types(*words, option, str(secret), node="b", code=3)
        assert not (desk.home / "b/config").exists()
    secret.write_text("12345")
    desk.types("network", "founder", "--card", card, *sealed, node="weak", code=3)
    secret.write_text(told["phrase"])
    again = ["network", "founder", "--card", card, "--phrase-file", str(secret), "--json"]
    restored = json.loads(desk.types(*again, node="c"))
    assert restored["card"]["did"] == told["card"]["did"]


def test_a_region_goes_from_the_card_to_profile_and_daemons(desk: Desk) -> None:
    """A founder's region is its bootstrap's; its node, and one that names its own, tell p2pd and registryd."""
    card, file = desk.home / "a.card", desk.home / "ours.yaml"
    desk.types("network", "founder", "--card", str(card), "--region", "eu", node="a")
    desk.types("network", "create", "--name", "ours", "--founder", str(card), str(file))
    assert [one.region for one in load_profile(file).bootstrap] == ["eu"]
    assert " eu\n" in desk.types("network", "show", str(file))
    desk.types("network", "sign", str(file), node="a")
    assert "what `duxnet network chain` runs" in desk.types("init", "--network", str(file), node="c", code=3)
    desk.types("init", "--network", str(file), *CHAIN, node="a")
    desk.types("init", "--network", str(file), *CHAIN, "--region", "us", node="b")
    desk.types("init", "--network", str(file), *CHAIN, node="c")
    for name, region in (("a", "eu"), ("b", "us"), ("c", None)):
        for daemon in ("p2pd", "registryd"):
            found = yaml.safe_load((desk.home / name / f"config/{daemon}.yaml").read_text())
            assert found.get("region") == region


def test_a_node_listens_at_addresses(desk: Desk) -> None:
    """Names and nonsense are refused before there are keys; several addresses are taken."""
    file = desk.found("a")
    desk.types("network", "sign", str(file), node="a")
    words = ["init", "--network", str(file), *CHAIN]
    assert "no IP address" in desk.types(*words, "--listen", "nonsense", node="b", code=3)
    assert not (desk.home / "b").exists()
    desk.types(*words, "--listen", "127.0.0.1, ::1", node="b")
