"""A node's configuration is what the daemons read."""

import os
from pathlib import Path

import pytest

from common.errors import BadParams
from common.network import NetworkProfile, load_profile
from common.rpc.method import DAEMONS
from common.settings import load_settings
from dux_cli.host import daemon_class
from dux_cli.init import check_way_to_chain
from dux_cli.node_dir import INSTALLED, NodeDir, RunBySystemd, default_node
from dux_cli.node_files import ChainLogin, chain_settings, write_config
from dux_cli.testnet import HELPERS, JUDGES, LocalNetwork

PROFILE = NetworkProfile(name="toy", chain="embedded", genesis="00" * 32, heights="demo")


@pytest.mark.parametrize("daemon", DAEMONS)
def test_every_daemon_accepts_the_configuration_that_init_writes(daemon: str, tmp_path: Path) -> None:
    """Each file passes the daemon's own settings: no unknown key, no wrong type."""
    folder = NodeDir(tmp_path)
    folder.config.mkdir()
    write_config(folder, PROFILE, index=2, port_base=32760, chain=ChainLogin("http://127.0.0.1:1234/"))
    settings = load_settings(folder.config, daemon, daemon_class(f"dux_{daemon}").settings_type_of(), {})
    assert settings.port_base == 32760
    if daemon == "p2pd":
        assert settings.egress_allow == {"flopd": ("127.0.0.1:1234",)}
        assert settings.listen_host == "127.1.2.1"
    assert load_profile(folder.config / settings.network_profile) == PROFILE


def test_a_light_wallet_knows_its_peers_and_may_reach_them_and_no_others(tmp_path: Path) -> None:
    """Named ones alone; else the network's seeds, and what they tell of; a coin node's RPC where it is asked for."""
    named = chain_settings(ChainLogin("http://127.0.0.1:1/", "u", Path("pw"), ("coin:7",)), "embedded")
    assert named == ({"source": "spv", "peers": ["coin:7"]}, ["coin:7"])
    by_seed, ways = chain_settings(ChainLogin(), "flopcoin-main")
    assert by_seed == {"source": "spv"}
    assert ways == ["seed.flopcoin.net:32552", "seed2.flopcoin.net:32552", "*:32552"]
    core, ways = chain_settings(ChainLogin("http://127.0.0.1:1/", "u", tmp_path), "embedded")
    assert core["source"] == "core"
    assert ways == ["127.0.0.1:1"]


@pytest.mark.parametrize(
    ("login", "family", "hint"),
    [
        (ChainLogin("http://127.0.0.1:1/", peers=("coin:7",)), "flopcoin-main", "one of them"),
        (ChainLogin(), "embedded", "--peer HOST:PORT"),
    ],
)
def test_a_node_is_not_made_without_one_way_to_its_chain(login: ChainLogin, family: str, hint: str) -> None:
    """The error says which option to give."""
    with pytest.raises(BadParams, match=hint):
        check_way_to_chain(login, family)


def test_no_secret_stands_in_a_configuration(tmp_path: Path) -> None:
    """A test network's login is in files named by the configuration, and readable by their owner alone."""
    network = LocalNetwork(tmp_path / "net")
    network.make()
    login = (network.chain / "rpc.auth").read_text().strip().split(":")[1]
    for helper in range(HELPERS):
        for file in network.helper(helper).config.iterdir():
            assert login not in file.read_text()
    assert (network.chain / "rpc.auth").stat().st_mode & 0o077 == 0


def test_a_test_network_names_its_helpers_and_gives_each_newcomer_a_place_of_its_own(tmp_path: Path) -> None:
    """Custodians, arbiters and bootstrap are the helpers; numbers are never given twice."""
    network = LocalNetwork(tmp_path / "net")
    network.make()
    profile = network.profile()
    assert len(profile.arbiters) == len(profile.fund.custodians) == JUDGES
    assert len(profile.bootstrap) == HELPERS
    assert [network.join(NodeDir(tmp_path / name)) for name in ("a", "b")] == [HELPERS, HELPERS + 1]


def test_a_user_without_a_node_means_the_installed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`duxnet status` on a Dux OS machine asks the node that systemd runs; an own node and DUXNET_NODE go before it."""
    installed, home = tmp_path / "etc", {"XDG_DATA_HOME": str(tmp_path / "home")}
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # root's own node has a fixed place
    own = tmp_path / "home/duxnet/node"
    assert default_node(home, installed) == own
    installed.mkdir()
    (installed / "common.yaml").touch()
    assert default_node(home, installed) == installed
    assert default_node(home | {"DUXNET_NODE": "/elsewhere"}, installed) == Path("/elsewhere")
    (own / "config").mkdir(parents=True)
    (own / "config/common.yaml").touch()
    assert default_node(home, installed) == own


def test_the_installed_node_lies_where_systemd_puts_it() -> None:
    """Named by its settings; its logs are in folders of their daemons; `up` and `down` leave it to systemctl."""
    node = NodeDir(INSTALLED)
    assert (node.config, node.data, node.run) == (INSTALLED, Path("/var/lib/duxnet"), Path("/run/duxnet"))
    assert node.log("flopd") == Path("/var/log/duxnet/flopd/flopd.log")
    with pytest.raises(RunBySystemd, match="systemctl stop duxnet"):
        node.must_be_ours("stop")
