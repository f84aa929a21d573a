"""`duxnet identity attest|issuers|claims|challenge|disclose|verify`: prove one property without the rest."""

from __future__ import annotations

import re
from pathlib import Path

import click

from common.errors import BadParams
from dux_cli.command import EXIT_FAILED, DuxCommand, Session, new_request_id, pass_session
from dux_cli.did_param import NodeDid
from dux_cli.out_files import OutFile, write_out


class Nonce(click.ParamType[str]):
    """What `duxnet identity challenge` gave."""

    name = "NONCE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The nonce as written."""
        if not re.fullmatch("[0-9a-f]{64}", str(value)):
            self.fail(f"{value!r} is not what `duxnet identity challenge` gives: 64 of 0-9, a-f", param, ctx)
        return str(value)


@click.command(cls=DuxCommand)
@click.argument("peer", type=NodeDid())
@pass_session
def attest(session: Session, peer: str) -> None:
    """Have the node PEER attest what it knows of this one: tier, reputation, uptime, bond, measured parts."""
    from common.contracts.registry_claims import CLAIMS_ATTEST, AttestMe

    held = session.ask(CLAIMS_ATTEST, AttestMe(request_id=new_request_id("attest"), peer=peer))
    lines = [("by", held.issuer), ("can be shown", ", ".join(held.names)), ("until", held.expires)]
    session.out.record(held, lines, name=held.root.hex())


@click.command(cls=DuxCommand)
@pass_session
def claims(session: Session) -> None:
    """Attestations of this node, and what of them it can show."""
    from common.contracts.registry_claims import CLAIMS_LIST
    from common.rpc.method import Empty

    found = session.ask(CLAIMS_LIST, Empty())
    rows = [(one.issuer, ", ".join(one.names), one.expires) for one in found.attestations]
    session.out.table(found, ("by", "can be shown", "until"), rows, empty="none: `duxnet identity attest PEER`")


@click.command(cls=DuxCommand)
@click.argument("did", type=NodeDid())
@pass_session
def issuers(session: Session, did: str) -> None:
    """Who vouches for the node DID, as the network knows it; for what, only that node can show."""
    from common.contracts.registry_claims import CLAIMS_ISSUERS, IssuersOf

    found = session.ask(CLAIMS_ISSUERS, IssuersOf(node_id=did))
    rows = [(one.issuer, one.issued, one.expires) for one in found.issuers]
    session.out.table(found, ("by", "since", "until"), rows, empty="nobody, as far as the network tells")


@click.command(cls=DuxCommand)
@pass_session
def challenge(session: Session) -> None:
    """A fresh nonce to give to a node that is to prove something to you; use each once."""
    from common.randomness import SystemRandomness

    nonce = SystemRandomness().bytes(32).hex()
    session.out.record({"nonce": nonce}, [("nonce", nonce)], name=nonce)


@click.command(cls=DuxCommand)
@click.argument("name")
@click.option("--nonce", type=Nonce(), required=True, help="What the verifier gave: 64 hex digits.")
@click.option("--issuer", type=NodeDid(), default="", help="By this node's word only.")
@click.option("--output", type=OutFile(), required=True, help="Where to write it.")
@pass_session
def disclose(session: Session, *, name: str, nonce: str, issuer: str, output: Path) -> None:
    """Show one property, such as `tier>=2`, to who gave the nonce.

    \b
    duxnet identity disclose 'tier>=2' --nonce "$NONCE" --output proof.json
    """
    from common.codec import json_bytes
    from common.contracts.registry_claims import CLAIMS_DISCLOSE, Disclose

    shown = session.ask(CLAIMS_DISCLOSE, Disclose(name=name, nonce=nonce, issuer=issuer))
    write_out(output, json_bytes(shown) + b"\n")
    session.out.record(shown, [("shown", name), ("proof", str(output))], name=str(output))


@click.command(cls=DuxCommand)
@click.argument("file", type=click.Path(exists=True, path_type=Path, dir_okay=False))
@click.option("--nonce", type=Nonce(), required=True, help="What you gave for it.")
@pass_session
def verify(session: Session, *, file: Path, nonce: str) -> None:
    """Check a proof that a node has shown; exit code 1 when it proves nothing."""
    from common.codec import from_json
    from common.contracts.registry_claims import CLAIMS_VERIFY, Presentation, VerifyClaim

    try:
        shown = from_json(file.read_bytes(), Presentation)
    except BadParams as error:
        what = "no proof as `duxnet identity disclose` writes it"
        raise BadParams(detail=f"{file} is {what}: {error.fields['detail']}") from error
    told = VerifyClaim(presentation=shown, nonce=nonce)
    verdict = session.ask(CLAIMS_VERIFY, told)
    lines = [
        ("verdict", "proven" if verdict.valid else f"NOT proven: {verdict.reason}"),
        ("of", verdict.subject),
        ("property", f"{verdict.name} = {verdict.value}"),
        ("by the word of", verdict.issuer),
        ("valid", f"{verdict.issued} to {verdict.expires}"),
    ]
    session.out.record(verdict, lines, name=str(verdict.valid).lower())
    if not verdict.valid:
        click.get_current_context().exit(EXIT_FAILED)
