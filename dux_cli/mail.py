"""`duxnet mail …`: letters to nodes that may be off. Sealed for their recipient, kept a week by the nodes near it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from common.errors import NotFound
from dux_cli.command import DuxGroup, Session, pass_session
from dux_cli.output import printable

if TYPE_CHECKING:
    from common.contracts.p2p_mail import LetterView


@click.group(cls=DuxGroup)
def mail() -> None:
    """Letters to other nodes and from them; a node that is off gets them when it comes back within a week.

    \b
    duxnet mail send did:dux:… --subject hello "back on Monday"
    duxnet mail list
    duxnet mail read ID
    """


@mail.command()
@click.argument("did")
@click.argument("text")
@click.option("--subject", default="", help="At most 64 characters.")
@pass_session
def send(session: Session, did: str, text: str, *, subject: str) -> None:
    """Seal a letter for a node and have it kept until it is fetched."""
    from common.contracts.p2p_mail import MAIL_SEND, SendMail
    from common.randomness import SystemRandomness, new_id
    from common.units import Did

    request_id = new_id(SystemRandomness(), "mail")
    letter = SendMail(request_id=request_id, to=Did(did), subject=subject, payload=text.encode())
    sent = session.ask(MAIL_SEND, letter, deadline_s=60.0)
    session.out.record(sent, [("letter", sent.id), ("state", "`duxnet mail list --sent` tells when it was fetched")])


@mail.command("list")
@click.option("--sent", is_flag=True, help="Those that this node sent, and whether they were fetched.")
@click.option("--after", default=0, help="Only letters with higher numbers; a page has a hundred.")
@pass_session
def list_(session: Session, *, sent: bool, after: int) -> None:
    """The letters that are here."""
    from common.contracts.p2p_mail import MAIL_LIST, ListMail

    found = session.ask(MAIL_LIST, ListMail(after=after, sent=sent))
    rows = [_row(one, sent=sent) for one in found.letters]
    whom = "to" if sent else "from"
    session.out.table(found, ("letter", "number", "written", whom, "subject", "state"), rows, empty="no letters")


def _row(one: LetterView, *, sent: bool) -> tuple[str, ...]:
    whom = one.recipient if sent else one.sender
    return (one.id[:16], str(one.number), _time(one), whom, printable(one.subject), _state(one, sent=sent))


@mail.command()
@click.argument("letter")
@pass_session
def read(session: Session, letter: str) -> None:
    """One letter, by the first digits of its id."""
    found = _find(session, letter)
    text = printable(found.payload.decode(errors="replace"))
    lines = [("from", found.sender), ("written", _time(found)), ("subject", printable(found.subject)), ("text", text)]
    session.out.record(found, lines)


@mail.command()
@click.argument("letter")
@pass_session
def drop(session: Session, letter: str) -> None:
    """Throw a letter away."""
    from common.contracts.p2p_mail import MAIL_DROP, DropMail
    from common.randomness import SystemRandomness, new_id

    found = _find(session, letter)
    request_id = new_id(SystemRandomness(), "drop")
    done = session.ask(MAIL_DROP, DropMail(request_id=request_id, ids=[found.id]))
    session.out.record(done, [("dropped", found.id)])


def _find(session: Session, start: str) -> LetterView:
    """The one letter whose id starts so; all pages are looked through."""
    from common.contracts.p2p_mail import MAIL_LIST, ListMail

    found: list[LetterView] = []
    after = -1
    while (page := session.ask(MAIL_LIST, ListMail(after=max(after, 0))).letters) and page[-1].number > after:
        found += [one for one in page if start and one.id.startswith(start.lower())]
        after = page[-1].number
    if len(found) != 1:
        raise NotFound(what="letter" if not found else "single letter", name=start)
    return found[0]


def _time(letter: LetterView) -> str:
    return datetime.fromtimestamp(letter.at_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M")


def _state(letter: LetterView, *, sent: bool) -> str:
    if not sent:
        return f"{len(letter.payload)} bytes"
    return "fetched" if letter.delivered else f"waits at {letter.stored_at} nodes"
