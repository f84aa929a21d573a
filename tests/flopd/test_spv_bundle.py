"""Checkpoint bundles: made from a wallet's own headers, believed by a new wallet, refused when they are no piece."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from common.errors import BadSettings
from dux_flopd import spv_bundle
from dux_flopd.spv_bundle import base_of, main, make_bundle, read_bundle
from dux_flopd.spv_chain import HeaderChain, genesis_base
from dux_flopd.spv_store import HeaderFile
from tests.flopd.spv_kit import EMBEDDED, a_node, add, chain_for, headers_of


@pytest.fixture
def with_genesis(monkeypatch: pytest.MonkeyPatch) -> HeaderChain:
    """The embedded network as if its file named the genesis of this chain, and a wallet that has its headers."""
    node = a_node("bundle", 100)
    genesis = node.chain.active[0].block.header.raw.hex()
    fields = {name: getattr(EMBEDDED, name) for name in EMBEDDED.__struct_fields__}
    network = type(EMBEDDED)(**fields | {"genesis": genesis})
    monkeypatch.setattr(spv_bundle, "coin_network", lambda _name: network)
    chain = chain_for(node, network)
    add(chain, headers_of(node))
    return chain


def test_a_bundle_is_made_checked_and_believed(
    with_genesis: HeaderChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The documented command: what it writes, a new wallet starts from, with the same work at the same tip."""
    file = HeaderFile(tmp_path, genesis_base(with_genesis.raw_at(0)), "ab" * 32)
    with_genesis.same_up_to = 0
    file.save(with_genesis)
    headers, bundle = next(tmp_path.iterdir()), tmp_path / "bundle.json"
    words = ["--network", "embedded", "--headers", str(headers), "--bundle", str(bundle)]
    assert main(["make", *words, "--depth", "20"]) == 0
    assert "heights 17 to 80" in capsys.readouterr().out
    assert main(["check", *words]) == 0
    network = spv_bundle.coin_network("embedded")
    base = base_of(network, str(bundle))
    assert base is not None
    new = HeaderChain(network, base)
    assert new.restore(with_genesis.raws_above(80)) == 20
    assert (new.tip.hash, new.tip.work) == (with_genesis.tip.hash, with_genesis.tip.work)
    other = bytearray(headers.read_bytes())
    other[90 * 80 + 70] ^= 1
    headers.write_bytes(bytes(other))
    assert main(["check", *words]) == 2
    assert "does not link" in capsys.readouterr().err


def test_a_bundle_of_another_chain_is_told(with_genesis: HeaderChain, tmp_path: Path) -> None:
    """Its headers link to each other and are not those of this wallet's chain."""
    bundle = tmp_path / "bundle.json"
    made = make_bundle(with_genesis, "embedded", 20)
    bundle.write_bytes(msgspec.json.encode(msgspec.structs.replace(made, work="ffffff")))
    file = HeaderFile(tmp_path, genesis_base(with_genesis.raw_at(0)), "ab" * 32)
    with_genesis.same_up_to = 0
    file.save(with_genesis)
    headers = next(path for path in tmp_path.iterdir() if path.suffix == ".dat")
    assert main(["check", "--network", "embedded", "--headers", str(headers), "--bundle", str(bundle)]) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": "flopcoin-main"}, "not of embedded"),
        ({"headers": ("00" * 80,) * 3}, "at least 11"),
        ({"headers": ("00" * 80,) * 12}, "do not link"),
        ({"work": "zz"}, "work"),
    ],
)
def test_what_is_no_bundle_is_refused(change: dict[str, object], words: str) -> None:
    """By name, before a header is taken from it."""
    node = a_node("bundle", 30)
    chain = chain_for(node)
    add(chain, headers_of(node))
    plain = msgspec.to_builtins(make_bundle(chain, "embedded", 5)) | change
    with pytest.raises(BadSettings, match=words):
        read_bundle(EMBEDDED, msgspec.json.encode(plain), "b")


def test_a_bundle_has_the_work_that_the_network_is_known_to_have() -> None:
    """A cheap chain, bundled, is no beginning."""
    node = a_node("bundle", 30)
    chain = chain_for(node)
    add(chain, headers_of(node))
    data = msgspec.json.encode(make_bundle(chain, "embedded", 5))
    fields = {name: getattr(EMBEDDED, name) for name in EMBEDDED.__struct_fields__}
    with pytest.raises(BadSettings, match="less work"):
        read_bundle(type(EMBEDDED)(**fields | {"work_min": "ffff"}), data, "b")
    with pytest.raises(ValueError, match="fewer than 11"):
        make_bundle(chain, "embedded", 25)


def test_without_a_bundle_a_wallet_starts_at_the_genesis_that_it_knows() -> None:
    """Or, where the network's file names none, asks its peers for it."""
    from common.chain.coin_network import coin_network  # noqa: PLC0415 - beside its only use

    main_base = base_of(coin_network("flopcoin-main"), "")
    assert main_base is not None
    assert main_base.height == 0
    assert base_of(EMBEDDED, "") is None
