"""Statements: one chain per signer, each naming its number, its predecessor and how far the others were heard.

Pure. Promises: a statement has one byte form; a chain has no gap; two different statements with one number are
recognised as the proof of fault that they are; no agreement on an order between signers is ever needed, the state is
a fold over what is there. Whether a signature is right is asked of p2pd, before anything here is believed.

Source: escrow_protocol.md §7, settled.md 8.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from common.codec import Canon, canonical, from_canonical
from common.contracts.escrow import BadStatement
from common.contracts.peer_escrow import STATEMENT_BYTES_MAX, Head
from common.errors import BadParams
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.receipts import Attested
from common.units import Did
from dux_escrowd.orders import Word
from dux_escrowd.words import BODY_OF, Bytes32, Said, SaidRelease

SEQ_MAX = 64  # a contract's life has less than twenty statements per signer
NO_PREV = bytes(32)


class HeadRef(Canon, frozen=True):
    """The newest statement of another signer that this one had heard."""

    signer: Did
    hash: Bytes32


class Statement(Canon, frozen=True):
    """One signed sentence of one signer about one contract."""

    net: str
    cid: Bytes32
    signer: Did
    seq: Annotated[int, Meta(ge=0, lt=SEQ_MAX)]
    prev: Bytes32
    heads: Annotated[tuple[HeadRef, ...], Meta(max_length=9)]
    kind: Word
    body: Annotated[bytes, Meta(max_length=3_200)]
    height: Annotated[int, Meta(ge=0, lt=500_000_000)]
    block: Annotated[str, Meta(max_length=64)]


class Heard(Struct, frozen=True):
    """A statement that was opened: its envelope, its content, its hash."""

    attested: Attested
    statement: Statement
    said: Said
    hash: bytes


class Place(StrEnum):
    """Where a statement stands in what is held of its signer's chain."""

    NEXT = "next"
    KNOWN = "known"
    GAP = "gap"
    FORK = "fork"


def statement_hash(body: bytes) -> bytes:
    """The hash of a statement's canonical bytes (32 bytes)."""
    return bytes(tagged_hash(Purpose.ESCROW_STATEMENT, body))


def opened_statement(data: bytes) -> Heard:
    """The statement in an envelope; its signature is *not* checked here.

    Raises:
        BadParams: too long, another type, or not in its one byte form. BadStatement: the envelope names another signer.
    """
    attested = from_canonical(data, Attested, max_bytes=STATEMENT_BYTES_MAX)
    statement = from_canonical(attested.body, Statement, max_bytes=STATEMENT_BYTES_MAX)
    if attested.did != statement.signer:
        raise BadStatement(contract_id="", reason="the envelope names another signer than the statement")
    said = from_canonical(statement.body, BODY_OF[statement.kind], max_bytes=STATEMENT_BYTES_MAX)
    return Heard(attested, statement, said, statement_hash(attested.body))


def statement_problem(statement: Statement, *, net: str, cid: bytes, named: Iterable[str]) -> str | None:
    """Why this statement is none of this contract's, or None."""
    if statement.net != net:
        return "it is of another network"
    if statement.cid != cid:
        return "it is of another contract"
    if statement.signer not in set(named):
        return f"{statement.signer} is not named in the contract"
    if (statement.seq == 0) != (statement.prev == NO_PREV):
        return "its predecessor does not fit its number"
    return None


def place_of(statement: Statement, digest: bytes, hashes: list[bytes]) -> Place:
    """Where it stands; `hashes`: what is held of the signer's chain, in order."""
    if statement.seq < len(hashes):
        return Place.KNOWN if hashes[statement.seq] == digest else Place.FORK
    if statement.seq > len(hashes):
        return Place.GAP
    prev = hashes[-1] if hashes else NO_PREV
    return Place.NEXT if statement.prev == prev else Place.FORK


def next_statement(
    *,
    net: str,
    cid: bytes,
    signer: Did,
    hashes: list[bytes],
    heads: dict[Did, bytes],
    word: Word,
    said: Said,
    height: int,
    block: str,
) -> Statement:
    """The signer's next statement, to be signed.

    Raises:
        BadParams: its content is longer than a statement may be.
    """
    body = canonical(said)
    statement = Statement(
        net=net,
        cid=cid,
        signer=signer,
        seq=len(hashes),
        prev=hashes[-1] if hashes else NO_PREV,
        heads=tuple(HeadRef(did, heads[did]) for did in sorted(heads) if did != signer),
        kind=word,
        body=body,
        height=height,
        block=block,
    )
    from_canonical(canonical(statement), Statement, max_bytes=STATEMENT_BYTES_MAX)
    return statement


def is_fault(first: Heard, second: Heard) -> bool:
    """The two prove that their signer contradicted itself, if both signatures are right."""
    one, two = first.statement, second.statement
    same_place = (one.net, one.cid, one.signer, one.seq) == (two.net, two.cid, two.signer, two.seq)
    return same_place and first.hash != second.hash


def larger_release(first: Said, second: Said) -> SaidRelease | None:
    """The larger release of two contradicting statements: what counts against the buyer."""
    releases = [said for said in (first, second) if isinstance(said, SaidRelease)]
    return max(releases, key=lambda said: int(said.gross_florins), default=None)


def heads_of(chains: dict[Did, list[bytes]]) -> tuple[Head, ...]:
    """How far each chain is held, for an answer to whoever sent some."""
    return tuple(Head(did, len(chains[did])) for did in sorted(chains))


def fits_statement(said: Said) -> None:
    """Nothing happens for a body that a statement can carry.

    Raises:
        BadParams: with what is too long.
    """
    if len(canonical(said)) > 3_200:  # noqa: PLR2004 - the limit of Statement.body
        raise BadParams(detail=f"{type(said).__name__} is longer than a statement may be: put it into a blob")
    from_canonical(canonical(said), type(said), max_bytes=STATEMENT_BYTES_MAX)
