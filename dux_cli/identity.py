"""`duxnet identity …`: the node's name, its keys, and what only the holder of the phrase can do to it.

Promise: the phrase is read by this command alone, used for one event, and handed to no daemon; p2pd gets the signed
log and, after a recovery, the operational keys of the next account. Source: transport_identity.md §2.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.errors import BadParams, CallerMistake, NeighbourDown
from dux_cli.claims import attest, challenge, claims, disclose, issuers, verify
from dux_cli.command import DuxGroup, Session, pass_session
from dux_cli.did_param import NodeDid
from dux_cli.out_files import OutFile, write_out
from dux_cli.output import counted, note

if TYPE_CHECKING:
    from common.contracts.p2p import OwnIdentity, Resolved
    from common.identity.log import Log
    from common.units import Did
    from dux_p2pd.session import Address

LOG_FILE_MAX = 131_072
EVENT_WORDS = {"icp": "made", "rot": "key changed", "rec": "taken back with the phrase", "end": "closed"}
SOUND = "sound"


class NoExtra(CallerMistake):
    """A token needs {library}, which is not installed: DUXNET_EXTRAS=token ./duxnet … adds it, for `up` as well."""

    code = 1155
    key = "no-extra"


@click.group(cls=DuxGroup)
def identity() -> None:
    """This node's name: its keys, its event log, recovery and end."""


@identity.command()
@click.argument("did", type=NodeDid(), default="")
@click.option("--event-log", "log_out", type=OutFile(), help="Write the event log there, too.")
@pass_session
def show(session: Session, did: str, log_out: Path | None) -> None:
    """A name as the network knows it: state, keys, event log (`duxnet identity document` has its W3C form)."""
    from common.contracts.p2p import IDENTITY_OWN
    from common.identity.log import decode_log
    from common.rpc.method import Empty

    own = None if did else session.ask(IDENTITY_OWN, Empty())
    found = _resolved(session, did)
    log = decode_log(found.log, now_ms=1 << 52, inception_bits=0)
    if log_out is not None:
        write_out(log_out, found.log)
    lines = [("DID", found.did), ("state", state_of(found.ended, found.frozen, found.disputed))]
    if own and own.standing == "recovered elsewhere":
        lines.append(("this node", "without its keys since it was recovered elsewhere: `duxnet identity recover`"))
    lines += [("confirmed", _confirmed(found.age_s, found.sources))]
    if found.proof:
        lines.append(("proof", f"{len(found.proof)} bytes show two events at one place (--json has them)"))
    for event in log.events:
        when = "" if event.kind == "icp" else f" on {_day(event.at_ms)}"  # that of a beginning is the same for all
        lines.append((f"event {event.seq}", f"{EVENT_WORDS[event.kind]}{when}, key {event.key.hex()[:16]}…"))
    session.out.record(found, lines, name=found.did)


@identity.command("document")
@click.argument("did", type=NodeDid(), default="")
@pass_session
def document_of(session: Session, did: str) -> None:
    """The DID document of a name, this node's without one: W3C JSON, made of event log and node record when asked.

    \b
    duxnet identity document             keys, endpoints and coin address of this node
    duxnet identity document DID         of another

    It is unsigned: the log is the truth (`duxnet identity show DID --event-log FILE`).
    """
    import json

    found = _resolved(session, did)
    document, state = json.loads(found.document), state_of(found.ended, found.frozen, found.disputed)
    if found.node_record is None:
        note("no node record is known (a day after its node was last there): the document names keys alone")
    if state != SOUND:
        note(f"the name is {state}")
    if session.out.as_json:
        session.out.json(document)
    else:
        session.out.text(found.did if session.out.quiet else json.dumps(document, indent=2))


def _resolved(session: Session, did: str) -> Resolved:
    """What the network knows of a name; of this node's, where none is named."""
    from common.contracts.p2p import DID_RESOLVE, P2P_INFO, Resolve
    from common.contracts.p2p_errors import PeerUnknown, TooFewSources
    from common.peers import MONEY_SOURCES
    from common.rpc.method import Empty
    from common.units import Did

    wanted = Did(did) if did else session.ask(P2P_INFO, Empty()).did
    try:
        return session.ask(DID_RESOLVE, Resolve(did=wanted, max_age_s=600, min_sources=MONEY_SOURCES))
    except (PeerUnknown, TooFewSources):
        return session.ask(DID_RESOLVE, Resolve(did=wanted, max_age_s=600))


def state_of(ended: bool, frozen: bool, disputed: bool) -> str:  # noqa: FBT001 - as the contract has them
    """The state in words."""
    if ended:
        return "closed for good"
    if frozen:
        return "frozen for good: two recoveries of one epoch are known; the phrase is in two hands"
    return "disputed: two rotations of one key are known; `duxnet identity recover` clears it" if disputed else SOUND


def _confirmed(age_s: int, sources: int) -> str:
    if not sources:
        return "by nobody else lately: this is what is held here"
    return f"{age_s} s ago by {counted(sources, 'independent node')}"


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M")


@identity.command()
@click.option("--transport", is_flag=True, help="Another key of the connections as well, at once.")
@pass_session
def rotate(session: Session, *, transport: bool) -> None:
    """Bring the next signing key into use now (it changes by itself every 90 days)."""
    from common.contracts.p2p import IDENTITY_ROTATE, Rotate

    tell(session, session.ask(IDENTITY_ROTATE, Rotate(transport=transport), deadline_s=60.0))


phrase_option = click.option(
    "--phrase-file", type=click.Path(exists=True, path_type=Path), help="A file with the phrase; else you are asked."
)
log_option = click.option(
    "--event-log", "log_in", type=click.Path(exists=True, path_type=Path), help="Its log; else the network is asked."
)
ask_option = click.option("--ask", multiple=True, help="host:port of a node to ask, beside the network's own.")


@identity.command()
@phrase_option
@log_option
@ask_option
@click.option("--since", type=int, help="The last event that was yours; later ones are undone. Else: all were yours.")
@pass_session
def recover(
    session: Session, *, phrase_file: Path | None, log_in: Path | None, ask: tuple[str, ...], since: int | None
) -> None:
    """Take the name back with the recovery phrase: new keys, the old ones count no more.

    \b
    duxnet identity recover --phrase-file phrase.txt             the machine was lost, or its keys may be known
    duxnet identity recover --phrase-file phrase.txt --since 3   events after 3 were a thief's
    """
    from common.clock import SystemClock
    from common.identity.branch import BRANCH_FILE, encode_branch
    from common.identity.recovery import recovered
    from dux_p2pd.key_source import TOKEN_FILE

    words = _phrase(phrase_file)
    seed, net, log = _log_of(session, words, log_in, ask)
    branch = recovered(seed, net=net, log=log, now_ms=SystemClock().unix_ms(), since=since)
    folder = session.node.must_exist().data / "p2pd"
    _leave(folder, BRANCH_FILE, encode_branch(branch))
    (folder / TOKEN_FILE).unlink(missing_ok=True)  # what it leads to are keys of the account left behind
    _hand_over(session, bytes.fromhex(branch.log), log.did)


@identity.command()
@phrase_option
@log_option
@ask_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def end(session: Session, *, phrase_file: Path | None, log_in: Path | None, ask: tuple[str, ...], yes: bool) -> None:
    """Close the name for good: nobody, its owner among them, does business under it again."""
    from common.clock import SystemClock
    from common.contracts.p2p import IDENTITY_TAKE_LOG, TakeLog
    from common.identity.log import encode_log
    from common.identity.recovery import ended

    words = _phrase(phrase_file)
    seed, net, log = _log_of(session, words, log_in, ask)
    if not yes:
        click.confirm(f"Close {log.did} for good? There is no way back.", abort=True, err=True)
    closed = ended(seed, net=net, log=log, now_ms=SystemClock().unix_ms())
    tell(session, session.ask(IDENTITY_TAKE_LOG, TakeLog(log=encode_log(closed)), deadline_s=60.0))


@identity.command()
@click.option("--module", required=True, help="The token's library, such as /usr/lib/softhsm/libsofthsm2.so.")
@click.option("--token", "label", required=True, help="The token's label.")
@click.option("--pin-file", required=True, type=click.Path(exists=True, path_type=Path), help="p2pd reads it, too.")
@click.option("--keys", default=40, show_default=True, help="How many keys: 40 are ten years of rotations.")
@pass_session
def token(session: Session, *, module: str, label: str, pin_file: Path, keys: int) -> None:
    """Move the signing keys into a PKCS#11 token, from which nobody can read them, and erase them here.

    \b
    duxnet identity token --module /usr/lib/softhsm/libsofthsm2.so --token duxnet --pin-file pin
    """
    from common.codec import json_bytes
    from common.contracts.p2p import DID_RESOLVE, IDENTITY_OWN, IDENTITY_TAKE_LOG, Resolve, TakeLog
    from common.identity.branch import BRANCH_FILE, operational_key, operational_seed
    from common.rpc.method import Empty
    from dux_p2pd.key_source import TOKEN_FILE, load_branch

    try:
        from dux_p2pd.token_keys import Token, TokenSettings
    except ModuleNotFoundError as error:
        raise NoExtra(library=error.name or "python-pkcs11") from error
    folder = session.node.must_exist().data / "p2pd"
    branch, own = load_branch(folder), session.ask(IDENTITY_OWN, Empty())
    log = session.ask(DID_RESOLVE, Resolve(did=own.did)).log
    settings = TokenSettings(module=module, token=label, pin_file=str(pin_file.absolute()), log=log.hex())
    opened = Token(settings)
    for seq in range(own.key_seq, own.key_seq + max(keys, 3)):
        opened.put(seq, operational_seed(branch, seq), operational_key(branch, seq).public)
    opened.close()
    _leave(folder, TOKEN_FILE, json_bytes(settings))
    told = session.ask(IDENTITY_TAKE_LOG, TakeLog(log=log), deadline_s=60.0)
    (folder / BRANCH_FILE).write_bytes(b"\0" * (folder / BRANCH_FILE).stat().st_size)
    (folder / BRANCH_FILE).unlink()
    tell(session, told)


def _leave(folder: Path, name: str, data: bytes) -> None:
    """A file that p2pd alone reads, also where root writes it."""
    from common.keyfile import write_private

    write_private(folder / name, data)
    owner = folder.stat()
    os.chown(folder / name, owner.st_uid, owner.st_gid)


@identity.command("catch-up")
@ask_option
@pass_session
def catch_up(session: Session, *, ask: tuple[str, ...]) -> None:
    """After a backup was restored: take over rotations that this node made since."""
    from common.contracts.p2p import IDENTITY_TAKE_LOG, P2P_INFO, TakeLog
    from common.identity.log import encode_log
    from common.rpc.method import Empty

    did = session.ask(P2P_INFO, Empty()).did
    log = encode_log(_fetch(session, did, ask))
    tell(session, session.ask(IDENTITY_TAKE_LOG, TakeLog(log=log), deadline_s=60.0))


def _phrase(file: Path | None) -> str:
    return file.read_text().strip() if file else click.prompt("Recovery phrase", hide_input=True, err=True)


def _log_of(session: Session, words: str, log_in: Path | None, ask: tuple[str, ...]) -> tuple[bytes, int, Log]:
    """Seed, net and newest log of the name that the phrase makes."""
    from common.chain.params import family_named
    from common.clock import SystemClock
    from common.identity.branch import did_of_branch, make_branch
    from common.identity.log import decode_log
    from common.keygen import INCEPTION_MS
    from common.keys import seed_of

    network = session.node.must_exist().profile()
    seed, net, bits = seed_of(words), int(family_named(network.chain).is_test), network.inception_bits
    if log_in is not None:
        data = log_in.read_bytes()[: LOG_FILE_MAX + 1]
        return seed, net, decode_log(data, now_ms=SystemClock().unix_ms(), inception_bits=bits)
    branch = make_branch(seed, net=net, account=0, made_ms=INCEPTION_MS, inception_bits=bits)
    return seed, net, _fetch(session, did_of_branch(branch, bits), ask)


def _fetch(session: Session, did: Did, ask: tuple[str, ...]) -> Log:
    import logging
    import sys

    import structlog

    from common.clock import SystemClock
    from common.randomness import SystemRandomness
    from dux_p2pd.log_fetch import LogFetch

    errors_only = structlog.make_filtering_bound_logger(logging.ERROR)
    quiet = structlog.wrap_logger(structlog.PrintLogger(sys.stderr), wrapper_class=errors_only)
    fetch = LogFetch(session.node.profile(), clock=SystemClock(), random=SystemRandomness(), log=quiet)
    return session.run(fetch.fetch(did, _addresses(session, ask)))


def _addresses(session: Session, ask: tuple[str, ...]) -> list[Address]:
    """Where to ask: what the command names, the node's own bootstrap list, the network's."""
    from common.nets import may_listen_at
    from common.settings import load_settings
    from dux_p2pd.settings import P2pdSettings

    settings = load_settings(session.node.config, "p2pd", P2pdSettings, {})
    texts = [*ask, *(text.partition(" ")[0] for text in settings.bootstrap)]
    texts += [one.address for one in session.node.profile().bootstrap]
    found = [address for text in texts if (address := may_listen_at(text)) is not None]
    if not found:
        raise BadParams(detail="nobody to ask: name a node of the network with --ask host:port")
    return found


def _hand_over(session: Session, log: bytes, did: Did) -> None:
    """Give p2pd the log at whose end a recovery stands; where it does not run, it finds it at its next start."""
    from common.contracts.p2p import IDENTITY_TAKE_LOG, TakeLog

    try:
        own = session.ask(IDENTITY_TAKE_LOG, TakeLog(log=log), deadline_s=60.0)
    except NeighbourDown:
        told = {"did": did, "told": False}
        session.out.record(told, [("DID", did), ("told", "not yet: the new keys are in place, `duxnet up`")], name=did)
        return
    tell(session, own)


def tell(session: Session, own: OwnIdentity) -> None:
    """How the own name stands now."""
    key = f"number {own.key_seq}, since {_day(own.key_since_ms)}"
    session.out.record(own, [("DID", own.did), ("key", key), ("standing", own.standing)], name=own.did)


for _command in (attest, claims, issuers, challenge, disclose, verify):
    identity.add_command(_command)
