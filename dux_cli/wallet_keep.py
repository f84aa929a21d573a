"""`duxnet wallet …`: keeping it: backup and restore, passphrase, token, a coin node of one's own, is all well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from common.errors import BadParams, CallerMistake, DuxError
from dux_cli.chain_words import in_words
from dux_cli.command import EXIT_FAILED, DuxCommand, Session, new_request_id, pass_session
from dux_cli.output import flop

if TYPE_CHECKING:
    from common.contracts.wallet_recovery import Recovery
    from common.keygen import WalletSecrets
    from dux_cli.node_dir import NodeDir

BACKUP_OLD_S = 3 * 86_400  # three days
RPC_PORTS = {"flopcoin-main": 32551, "flopcoin-test": 44555, "flopcoin-regtest": 18332}
PASSWORD_BYTES = 24


class NodeRuns(CallerMistake):
    """The node in {path} runs: end it first (`duxnet down`), then {what}."""

    code = 1146
    key = "node-runs"


class ConfigExists(CallerMistake):
    """{path} exists already: use its login (node_user, node_password_file in flopd.yaml), or move it away."""

    code = 1147
    key = "coin-config-exists"


@click.command(cls=DuxCommand)
@pass_session
def backup(session: Session) -> None:
    """Copy the wallet's books, encrypted, now; the timer does it every `backup_interval` seconds.

    The phrase alone brings the coins back; this brings back labels, history, contracts and payments under way.
    """
    from common.contracts.wallet import WALLET_BACKUP
    from common.rpc.method import Empty

    made = session.ask(WALLET_BACKUP, Empty(), deadline_s=60.0)
    session.out.record(made, [("written", made.path), ("size", f"{made.bytes} bytes")], name=made.path)


@click.command(cls=DuxCommand)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--passphrase-file", type=click.Path(exists=True, path_type=Path), help="What the keys are sealed with.")
@pass_session
def restore(session: Session, file: Path, passphrase_file: Path | None) -> None:
    """Put the books of a backup in place. The node is off, and its keys are there (`duxnet init --phrase-file`).

    \b
    duxnet init --phrase-file words.txt && duxnet identity recover --phrase-file words.txt
    duxnet wallet restore wallet.dux && duxnet up
    """
    from common.clock import SystemClock
    from common.keys import SubKey
    from dux_flopd.backup import restore_books

    node = _stopped(session.node.must_exist(), "restore")
    secrets = _open_keys(node, passphrase_file)
    store = node.data / "flopd" / "flopd.sqlite"
    restore_books(file, secrets.sub_key(SubKey.BACKUP), store, SystemClock())
    _give_to(store, node.data / "flopd")
    told = {"restored": str(store), "from": str(file)}
    session.out.record(told, [*told.items(), ("next", "duxnet up")], name=str(store))


@click.command(cls=DuxCommand)
@click.option("--old-file", type=click.Path(exists=True, path_type=Path), help="The old one; else the unlock file.")
@click.option("--new-file", type=click.Path(exists=True, path_type=Path), help="The new one; else you are asked.")
@pass_session
def passphrase(session: Session, old_file: Path | None, new_file: Path | None) -> None:
    """Seal the keys with another passphrase. From then on somebody has to unlock the wallet at each start.

    \b
    duxnet wallet passphrase
    """
    from common.keygen import change_passphrase
    from common.passphrase import check_strength
    from common.randomness import SystemRandomness

    node = _stopped(session.node.must_exist(), "change the passphrase")
    old = _opener(node, old_file)
    new = new_file.read_text().strip() if new_file else _asked_twice()
    check_strength(new)
    sealed = change_passphrase(node.data, old, new.encode(), node.profile().key_file_costs, SystemRandomness())
    told = {"sealed": [str(path) for path in sealed]}
    lines = [("sealed", str(path)) for path in sealed] or [("sealed", "it was done before")]
    session.out.record(told, [*lines, ("next", "duxnet up, then duxnet wallet unlock")], name="\n".join(told["sealed"]))


@click.command(cls=DuxCommand)
@click.option("--module", required=True, help="The token's library, such as /usr/lib/softhsm/libsofthsm2.so.")
@click.option("--token", "label", required=True, help="The token's label.")
@click.option("--pin-file", required=True, type=click.Path(exists=True, path_type=Path), help="flopd reads it, too.")
@click.option("--phrase-file", type=click.Path(exists=True, path_type=Path), help="The phrase; else you are asked.")
@click.option("--keys", default=100, show_default=True, help="How many receiving, and as many change keys.")
@pass_session
def token(session: Session, *, module: str, label: str, pin_file: Path, phrase_file: Path | None, keys: int) -> None:
    """Keep account 9 of the phrase in a PKCS#11 token, which signs and never gives its keys away.

    \b
    duxnet wallet token --module /usr/lib/softhsm/libsofthsm2.so --token duxnet --pin-file pin
    duxnet down && duxnet up --detach && duxnet wallet address --account 9
    """
    from common.accounts import TOKEN_ACCOUNT
    from common.chain.params import family_named
    from common.keygen import BRANCH_CHANGE, BRANCH_RECEIVE
    from common.keys import account_node, seed_of
    from dux_flopd.coin_token import CoinTokenSettings, put_keys

    node = session.node.must_exist()
    words = phrase_file.read_text().strip() if phrase_file else click.prompt("Phrase", hide_input=True, err=True)
    family = family_named(node.profile().chain)
    account = account_node(seed_of(words), family.coin_type, TOKEN_ACCOUNT)
    settings = CoinTokenSettings(
        module=module, token=label, pin_file=str(pin_file.absolute()), public_key=account.public,
        chain_code=account.chain_code,
    )  # fmt: skip
    folder = node.data / "flopd"
    fresh = put_keys(folder, settings, account, (BRANCH_RECEIVE, BRANCH_CHANGE), keys)
    _give_to(folder / "token.json", folder)
    told = {"token": label, "account": TOKEN_ACCOUNT, "keys": fresh}
    lines = [("token", label), ("account", str(TOKEN_ACCOUNT)), ("new keys", str(fresh))]
    session.out.record(told, [*lines, ("next", "duxnet down && duxnet up")], name=label)


@click.command("setup-core", cls=DuxCommand)
@click.option("--datadir", type=click.Path(path_type=Path), default=Path("~/.flopcoin"), show_default=True)
@click.option("--rpc-port", type=int, help="Where the coin node answers; else its network's own port.")
@pass_session
def setup_core(session: Session, datadir: Path, rpc_port: int | None) -> None:
    """Let this node see the chain by a coin node of yours: its flopcoin.conf, and the settings here.

    \b
    duxnet wallet setup-core && flopcoind -daemon && duxnet down && duxnet up --detach && duxnet wallet check
    """
    from common.keyfile import write_private
    from common.randomness import SystemRandomness

    node, conf = session.node.must_exist(), datadir.expanduser() / "flopcoin.conf"
    if conf.exists():
        raise ConfigExists(path=str(conf))
    port = rpc_port or RPC_PORTS.get(node.profile().chain)
    if port is None:
        raise BadParams(detail=f"{node.profile().chain} has no port of its own: add --rpc-port N")
    password = SystemRandomness().bytes(PASSWORD_BYTES).hex()
    write_private(conf, _coin_conf(node.profile().chain, port, password).encode())
    login = node.data / "flopd" / "node.login"
    write_private(login, f"duxnet:{password}\n".encode())
    _give_to(login, node.data / "flopd")
    _use_core(node, port, login)
    told = {"written": [str(conf), str(login)], "node_url": f"http://127.0.0.1:{port}"}
    lines = [("written", str(conf)), ("login", str(login)), ("coin node", f"http://127.0.0.1:{port}")]
    session.out.record(told, [*lines, ("next", "flopcoind -daemon, then duxnet down && duxnet up")], name=str(conf))


def _coin_conf(chain: str, port: int, password: str) -> str:
    """What a coin node needs to serve this node and nobody else."""
    networks = {"flopcoin-test": ["testnet=1"], "flopcoin-regtest": ["regtest=1"]}
    lines = [
        "# Made by `duxnet wallet setup-core`.",
        *networks.get(chain, []),
        "server=1",
        "rpcuser=duxnet",
        f"rpcpassword={password}",
        f"rpcport={port}",
        "rpcbind=127.0.0.1",
        "rpcallowip=127.0.0.1",
        "rpcthreads=16",
    ]
    return "\n".join(lines) + "\n"


def _use_core(node: NodeDir, port: int, login: Path) -> None:
    """flopd asks the coin node, and p2pd lets it; whatever else stands in the two files stays."""  # noqa: D403
    changes: dict[str, dict[str, Any]] = {
        "flopd": {"source": "core", "node_url": f"http://127.0.0.1:{port}", "node_password_file": str(login)},
        "p2pd": {"egress_allow": {"flopd": [f"127.0.0.1:{port}"]}},
    }
    from common.yaml_file import read_yaml
    from dux_cli.node_files import write_yaml

    for name, wanted in changes.items():
        path = node.config / f"{name}.yaml"
        found = (read_yaml(path) if path.exists() else None) or {}
        found.pop("node_user", None)
        merged = found.get("egress_allow", {}) | wanted["egress_allow"] if name == "p2pd" else None
        write_yaml(node, name, found | wanted | ({"egress_allow": merged} if merged else {}))


@click.command(cls=DuxCommand)
@pass_session
def check(session: Session) -> None:
    """Is all well with the wallet? Each check with what was found; exit code 1 when one of them fails."""
    found = session.run(_checks(session))
    told = {"checks": [{"what": what, "ok": ok, "found": text} for what, ok, text in found]}
    rows = [(what, "yes" if ok else "NO", text) for what, ok, text in found]
    session.out.table(told, ("check", "well", "found"), rows)
    if not all(ok for _, ok, _ in found):
        raise SystemExit(EXIT_FAILED)


async def _checks(session: Session) -> list[tuple[str, bool, str]]:
    """What is asked, in the order in which things are mended."""
    from common.contracts.wallet import CHAIN_STATUS, WALLET_BALANCE, WALLET_STATUS
    from common.rpc.method import Empty

    try:
        status = await session.call(WALLET_STATUS, Empty())
        chain = await session.call(CHAIN_STATUS, Empty())
        held = await session.call(WALLET_BALANCE, Empty())
    except DuxError as error:
        return [("flopd answers", False, error.message)]
    expected = session.node.profile().genesis
    peers = f"{len(chain.peers)} of {chain.peers_wanted} coin nodes" if chain.source == "spv" else chain.endpoint
    age_s = _backup_age_s(session.node)
    return [
        ("flopd answers", True, f"{status.family}, {flop(held.total_florins)}"),
        ("the chain is this network's", status.genesis == expected, status.genesis),
        ("the chain is reached", status.height >= 0 and not status.problems, "; ".join(status.problems) or peers),
        ("it is read to the tip", status.synced, f"height {status.height}, headers {chain.header_height}"),
        ("nothing looks wrong", not chain.warnings, "; ".join(in_words(word) for word in chain.warnings) or peers),
        ("it can pay", status.unlocked, "unlocked" if status.unlocked else "locked: `duxnet wallet unlock`"),
        (
            "it is backed up",
            age_s is not None and age_s < BACKUP_OLD_S,
            "never: `duxnet wallet backup`" if age_s is None else f"{age_s // 60} minutes ago",
        ),
    ]


def _backup_age_s(node: NodeDir) -> int | None:
    """How old the newest encrypted copy is; None when there is none, or where nobody but flopd may look."""
    from common.clock import SystemClock
    from common.settings import load_settings
    from dux_flopd.backup import NEWEST
    from dux_flopd.settings import FlopSettings

    named = load_settings(node.config, "flopd", FlopSettings, {}).wallet_backup_dir
    path = (Path(named) if named else node.data / "flopd" / "backup") / NEWEST
    try:
        return int(SystemClock().unix_ms() // 1000 - path.stat().st_mtime)
    except OSError:
        return None


@click.command(cls=DuxCommand)
@click.option("--from-height", default=0, help="Blocks below are not read.")
@click.option("--request-id", default="", help="Repeat an earlier call's id.")
@pass_session
def recover(session: Session, from_height: int, request_id: str) -> None:
    """Look again for everything that the phrase can have: all accounts, all bonds. `duxnet wallet recovery` tells.

    A node made by `duxnet init --phrase-file` does it by itself, once.
    """
    from common.contracts.wallet import WALLET_RECOVER
    from common.contracts.wallet_recovery import Recover

    name = request_id or new_request_id("recover")
    _tell_recovery(session, session.ask(WALLET_RECOVER, Recover(request_id=name, from_height=from_height)))


@click.command(cls=DuxCommand)
@pass_session
def recovery(session: Session) -> None:
    """What the phrase has brought back, and whether the wallet is still looking."""
    from common.contracts.wallet import WALLET_RECOVERY
    from common.rpc.method import Empty

    _tell_recovery(session, session.ask(WALLET_RECOVERY, Empty()))


def _tell_recovery(session: Session, view: Recovery) -> None:
    words = {"never": "nothing was restored here", "looking": "still looking", "done": "done"}
    session.out.record(
        view,
        [
            ("state", words[view.state]),
            ("from height", str(view.from_height)),
            ("accounts", ", ".join(map(str, view.accounts))),
            ("bonds", str(view.bonds)),
            ("coins", flop(view.found_florins)),
        ],
        name=view.state,
    )


def _stopped(node: NodeDir, what: str) -> NodeDir:
    """The node, which does not run.

    Raises:
        NodeRuns: flopd is there.
    """
    from dux_cli.supervisor import recorded_pid

    if any(recorded_pid(node, name) is not None for name in ("flopd", "host")):
        raise NodeRuns(path=str(node.path), what=what)
    return node


def _opener(node: NodeDir, file: Path | None) -> bytes:
    from dux_cli.init import ask_passphrase
    from dux_flopd.first_boot import opener_of

    return file.read_bytes().strip() if file else opener_of(node.data, ask_passphrase)


def _open_keys(node: NodeDir, passphrase_file: Path | None) -> WalletSecrets:
    from common.keygen import WALLET_FILE, open_wallet

    return open_wallet(node.data / WALLET_FILE, _opener(node, passphrase_file))


def _asked_twice() -> str:
    return str(click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True))


def _give_to(path: Path, folder: Path) -> None:
    """What was written here belongs to whom the folder belongs to, also where root wrote it."""
    import os

    owner = folder.stat()
    os.chown(path, owner.st_uid, owner.st_gid)


COMMANDS = (backup, restore, passphrase, token, setup_core, check, recover, recovery)
