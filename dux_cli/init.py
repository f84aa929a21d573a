"""`duxnet init` and `duxnet phrase`: a new node's keys and configuration.

Promises: a folder that holds keys is never written over; the phrase is shown once, kept sealed until its owner says
that it is written down, then erased. Source: settled.md 1.
"""

from __future__ import annotations

import shutil
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from common.chain.coin_network import coin_network
from common.chain.params import EMBEDDED
from common.errors import BadParams, CallerMistake
from common.nets import may_listen_at
from common.node_ports import INDEX_MAX
from common.passphrase import check_strength
from common.settings import is_loopback
from dux_cli.command import DuxCommand, DuxGroup, Session, pass_session
from dux_cli.node_files import ChainLogin, outside_endpoint, port_base_of, write_config
from dux_cli.url_param import HttpUrl

if TYPE_CHECKING:
    from common.charter import Founder
    from common.keygen import KeysMade
    from common.network import NetworkProfile
    from dux_cli.node_dir import NodeDir

ADVICE = "write the phrase down: it alone can restore the node; then `duxnet phrase erase`"
LOCAL = "local"
FOUNDER_FILE = "founder.yaml"  # in the folder of a node whose keys were made before its network


class NodeExists(CallerMistake):
    """There is a node in {path} already; use another folder (--node DIR), or `duxnet up`."""

    code = 1126
    key = "node-exists"


class KeysOfFounder(CallerMistake):
    """`duxnet network founder` has made the keys in {path}: it takes a phrase and a passphrase; leave them out here."""

    code = 1154
    key = "keys-of-founder"


@click.command(cls=DuxCommand)
@click.option("--network", default=LOCAL, show_default=True, help="The network's YAML file; `local`: duxnet testnet's.")
@click.option(
    "--index",
    type=click.IntRange(0, INDEX_MAX),
    help="The node's number on this machine (ports and loopback address follow from it).",
)
@click.option(
    "--peer", "peers", multiple=True, metavar="HOST:PORT", help="A coin node to see the chain by; else the seeds."
)
@click.option(
    "--chain-url", type=HttpUrl(), default="", help="JSON-RPC of a coin node of yours, instead of the light wallet."
)
@click.option("--chain-user", default="", help="Its user name.")
@click.option("--chain-password-file", type=click.Path(exists=True, path_type=Path), help="A file with its password.")
@click.option("--listen", default="", help="Address at which other nodes reach this one; else a loopback address.")
@click.option("--phrase-file", type=click.Path(exists=True, path_type=Path), help="Restore the keys of this phrase.")
@click.option(
    "--passphrase-file", type=click.Path(exists=True, path_type=Path), help="Seal the keys with what it holds."
)
@click.option("--region", default="", help="Where it stands, in a word of its network; a founder's card may say it.")
@pass_session
def init(
    session: Session, *, network: str, index: int | None, peers: tuple[str, ...], chain_url: str, chain_user: str,
    chain_password_file: Path | None, listen: str, phrase_file: Path | None, passphrase_file: Path | None,
    region: str,
) -> None:  # fmt: skip
    """Make a node: its keys, its configuration, its place in a network.

    \b
    duxnet testnet up --detach                  a network on this machine …
    duxnet init                                 … and a node in it
    duxnet init --network main.yaml --listen 0.0.0.0
    duxnet init --network main.yaml --peer coin.example.org:32552
    duxnet init --network main.yaml --chain-url http://127.0.0.1:32551 \\
        --chain-user me --chain-password-file ~/coin.password
    """
    if session.node.exists():
        raise NodeExists(path=str(session.node.path))
    if (session.node.path / FOUNDER_FILE).exists() and (phrase_file or passphrase_file):
        raise KeysOfFounder(path=str(session.node.path))
    check_listen(listen)
    if network == LOCAL:
        place = local_place(session.node, index)
    else:
        login = ChainLogin(chain_url, chain_user, chain_password_file, peers)
        place = Place(read_profile(network), index or 0, port_base_of(index or 0), login)
        check_way_to_chain(login, place.profile.chain)
    made = make_node(
        session.node,
        place,
        listen=listen,
        phrase=phrase_file.read_text().strip() if phrase_file else "",
        passphrase=strong_passphrase(passphrase_file),
        region=region,
    )
    tell(session, made, phrase_file)


def strong_passphrase(file: Path | None) -> bytes:
    """The passphrase in a file, which is strong enough; none without a file.

    Raises:
        BadParams: it is too weak.
    """
    passphrase = file.read_text().strip() if file else ""
    if file:
        check_strength(passphrase)
    return passphrase.encode()


def check_listen(listen: str) -> None:
    """Nothing happens for addresses that a node can listen at, with commas between them.

    Raises:
        BadParams: one is none.
    """
    for one in filter(None, listen.split(",")):
        try:
            ip_address(one.strip())
        except ValueError as error:
            raise BadParams(detail=f"--listen: {one.strip()!r} is no IP address of this machine") from error


def check_way_to_chain(chain: ChainLogin, family: str) -> None:
    """Nothing happens for a node that can see its chain.

    Raises:
        BadParams: two ways, or none.
    """
    if chain.peers and chain.url:
        raise BadParams(detail="--peer is for the light wallet, --chain-url for your coin node's RPC: give one of them")
    if chain.is_light and not chain.peers and not coin_network(family).seeds:
        own = ", or --chain-url of what `duxnet network chain` runs" if family == EMBEDDED.name else ""
        raise BadParams(detail=f"nobody is known who serves {family}: add --peer HOST:PORT of a coin node{own}")


class Place:
    """Where a new node goes: its network, its number on this machine, its coin node."""

    def __init__(
        self, profile: NetworkProfile, index: int, port_base: int, chain: ChainLogin, *, quick: bool = False
    ) -> None:
        self.profile = profile
        self.index = index
        self.port_base = port_base
        self.chain = chain
        self._quick = quick

    def settings(self, address: str) -> dict[str, dict[str, Any]]:
        """More settings by daemon: with an address to be paid at, the node registers itself at its first start."""
        from dux_cli.testnet import quick_settings

        return quick_settings(address) if self._quick else {"registryd": {"wallet_address": address}}


def read_profile(name: str) -> NetworkProfile:
    """The network profile in a file; one that names a council is signed by it.

    Raises:
        NotSigned: by too few of it.
    """
    from common.charter import check_signed
    from common.clock import SystemClock
    from common.network import load_profile

    profile = load_profile(Path(name))
    check_signed(Path(name), profile, now_ms=SystemClock().unix_ms())
    return profile


def local_place(folder: NodeDir, index: int | None) -> Place:
    """The next free place in this machine's own test network."""
    from dux_cli.testnet import LocalNetwork

    testnet = LocalNetwork.default().must_exist()
    number = testnet.join(folder) if index is None else index
    return Place(testnet.profile(), number, testnet.port_base(number), testnet.chain_login(), quick=True)


def make_node(
    folder: NodeDir,
    place: Place,
    *,
    listen: str = "",
    phrase: str = "",
    passphrase: bytes = b"",
    region: str = "",
) -> KeysMade:
    """Keys and configuration of a node. The coin node's login is copied to where only flopd will read it."""
    from common.clock import SystemClock
    from common.keygen import KeysMade, make_keys
    from common.randomness import SystemRandomness
    from dux_cli.network import read_founder

    card = folder.path / FOUNDER_FILE
    told = read_founder(card) if card.exists() else None
    listen, reached = place_of_card(told, listen, place) if told else (listen, {})
    made = (
        KeysMade(did=told.did, address=told.address, fund_pubkey=told.fund_pubkey, phrase="")  # it was shown then
        if told
        else make_keys(
            folder.data,
            place.profile,
            randomness=SystemRandomness(),
            made_ms=SystemClock().unix_ms(),
            phrase=phrase,
            passphrase=passphrase,
        )
    )
    folder.config.mkdir(parents=True, exist_ok=True)
    extra = place.settings(made.address)
    write_config(
        folder,
        place.profile,
        index=place.index,
        port_base=place.port_base,
        chain=own_login(folder, place.chain),
        listen_host=listen,
        extra=extra | {"p2pd": extra.get("p2pd", {}) | reached},
        region=region or (told.region if told else ""),
    )
    return made


def place_of_card(told: Founder, listen: str, place: Place) -> tuple[str, dict[str, Any]]:
    """Where a founder's node listens, and more settings of p2pd: others look for it where its card says.

    An address of the loopback is listened at itself; for any other one it is every address of this machine, unless
    `--listen` says which.
    """
    address = may_listen_at(told.endpoint)
    if address is None or told.endpoint == outside_endpoint(place.index, place.port_base):
        return listen, {}
    host, port = address
    own = host if is_loopback(host) else "0.0.0.0"  # noqa: S104 - a founder is there to be reached
    return listen or own, {"listen_port": port, "endpoints": [told.endpoint]}


def own_login(folder: NodeDir, chain: ChainLogin) -> ChainLogin:
    """The same login with a copy of its password file below flopd's data."""
    if chain.is_light or chain.password_file is None:
        return chain
    copy = folder.data / "flopd" / "node.login"
    shutil.copyfile(chain.password_file, copy)
    copy.chmod(0o600)
    return ChainLogin(chain.url, chain.user, copy)


def tell(session: Session, made: KeysMade, phrase_file: Path | None = None) -> None:
    """Say what was made; the phrase among it, once. `phrase_file`: what it was restored from."""
    told = {"node": str(session.node.path), "did": made.did, "address": made.address, "phrase": made.phrase}
    session.out.record(
        told,
        [
            ("node", str(session.node.path)),
            ("DID", made.did),
            ("address", made.address),
            ("phrase", made.phrase),
            ("", ADVICE if made.phrase else ""),
            *(("next", step) for step in next_steps(phrase_file)),
        ],
        name=made.did,
    )


def next_steps(phrase_file: Path | None) -> tuple[str, ...]:
    """What to type after `init`. A restored name has rotated its keys: others take the phrase's first ones no more."""
    if phrase_file is None:
        return ("duxnet up --detach",)
    return f"duxnet identity recover --phrase-file {phrase_file}", "duxnet up --detach", "duxnet restore"


@click.group(cls=DuxGroup)
def phrase() -> None:
    """The words that restore this node: shown until you say that they are written down."""


@phrase.command()
@click.option("--passphrase-file", type=click.Path(exists=True, path_type=Path), help="What the keys were sealed with.")
@pass_session
def show(session: Session, passphrase_file: Path | None) -> None:
    """Show the phrase once more."""
    from common.keygen import read_phrase
    from dux_flopd.first_boot import opener_of

    data = session.node.must_exist().data
    opener = passphrase_file.read_bytes().strip() if passphrase_file else opener_of(data, ask_passphrase)
    words = read_phrase(data, opener)
    session.out.record({"phrase": words}, [("phrase", words)], name=words)


def ask_passphrase() -> str:
    """What a person types, unseen."""
    return str(click.prompt("Passphrase", hide_input=True, err=True))


@phrase.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def erase(session: Session, *, yes: bool) -> None:
    """Erase the sealed phrase from this machine: you have written it down."""
    from common.keygen import erase_phrase

    data = session.node.must_exist().data
    if not yes:
        click.confirm("Erase the phrase? Without your own copy the node can never be restored.", abort=True, err=True)
    erase_phrase(data)
    session.out.record({"erased": True}, [("phrase", "erased")])
