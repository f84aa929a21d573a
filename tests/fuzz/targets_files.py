"""Parsers of what strangers hand over to be believed: proof files, contract files, presentations, a proxy's answers.

As in `targets`: a target returns, or raises for a finding. A file is fuzzed by its parts: the first byte says which
part of an honest file the rest takes the place of, so that a changed part does not end at the first length.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from msgspec import json
from msgspec.structs import replace
from python_socks.async_.asyncio import _proxy

from common.clock import ManualClock
from common.codec import canonical, from_canonical, from_json, json_bytes
from common.contracts import airdrop_fund as af
from common.contracts.registry_claims import ClaimVerdict, Presentation, VerifyClaim
from common.errors import DuxError
from common.identity.disclosure import ClaimRoot, ShownTo, claims_of, disclose, root_of
from common.identity.keys import is_signed
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.parameters import SweepParameters
from common.randomness import SeededRandomness
from common.receipts import Attested
from common.units import FLOP, Did, Florins, UnixMs
from dux_airdropd.file_model import FILE_BYTES_MAX, FundFile
from dux_airdropd.file_rules import Verdict, check_file
from dux_cli.case_alone import LogSignatures
from dux_escrowd.case_file import CaseAudit, CaseFile, audited, case_bytes
from dux_escrowd.model import Lot
from dux_escrowd.replay import LoggedFact
from dux_p2pd.outward import Through
from dux_p2pd.socks import Reply, SocksFault, Target
from dux_registryd.claims import ClaimDesk
from tests.airdrop.world import World
from tests.p2pd.wire_kit import MADE_MS, TestPapers
from tests.rules.test_escrow_cases import case_of

NOW_MS = MADE_MS + 1000
THEM = TestPapers("writer")
LOOP = asyncio.new_event_loop()
FILE_KINDS = ("airdrop", "sweep")

# proof files of the fund


async def _airdrop(folder: Path) -> tuple[bytes, NetworkProfile]:
    world = World(folder)
    await world.start()
    try:
        world.announce(*range(5))
        world.trade(0, 1)
        world.trade(2, 3)
        await world.run(12)
        return (await world.nodes[0].ask(af.AIRDROP_FILE, af.AirdropFileAsked(number=0))).file, world.network
    finally:
        await world.stop()


async def _sweep(folder: Path) -> tuple[bytes, NetworkProfile]:
    swept = SweepParameters(every_blocks=4, least_florins=Florins(FLOP))
    world = World(folder, nodes=4, custodians=3, collector=(2, 3), fund=FLOP, sweep=swept)
    await world.start()
    try:
        world.pay_fund(3 * FLOP)
        await world.run(9)
        (view,) = (await world.nodes[0].ask(af.FUND_SWEEPS, af.SweepsAsked())).sweeps
        return (await world.nodes[0].ask(af.SWEEP_FILE, af.SweepAsked(sweep_id=view.sweep_id))).file, world.network
    finally:
        await world.stop()


@cache
def honest_files() -> dict[str, tuple[FundFile, NetworkProfile, Verdict]]:
    """An honest file of either kind, the network that whoever checks it trusts, and what came of checking it."""
    found = {}
    for kind, made in zip(FILE_KINDS, (_airdrop, _sweep), strict=True):
        with tempfile.TemporaryDirectory(prefix="duxfuzz-") as folder:
            data, trusted = LOOP.run_until_complete(made(Path(folder)))
        file = from_canonical(data, FundFile, max_bytes=FILE_BYTES_MAX)
        found[kind] = file, trusted, check_file(data, kind=kind, trusted=trusted)
    return found


FILE_PARTS = ("profile", "sets", "proof", "before", "headers", "log", "tx", "whole")


def proof_verdict(data: bytes) -> tuple[Verdict, Verdict]:
    """What came of checking an honest file with one part replaced; and of the honest one."""
    at, body = divmod(data[0] if data else 0, len(FILE_KINDS)), data[1:]
    kind, part = FILE_KINDS[at[1]], FILE_PARTS[at[0] % len(FILE_PARTS)]
    file, trusted, honest = honest_files()[kind]
    if part in ("profile", "sets", "proof", "before", "headers"):
        told = canonical(replace(file, **{part: body}))
    elif part == "log":
        told = canonical(replace(file, logs=(body, *file.logs[1:])))
    elif part == "tx":
        told = canonical(replace(file, txs=(replace(file.txs[0], raw=body), *file.txs[1:])))
    else:
        told = body
    return check_file(told, kind=kind, trusted=trusted), honest


def proof_file(data: bytes) -> None:
    """Problems in words, never an exception; whatever holds in the trusted network is the payment that was made."""
    verdict, honest = proof_verdict(data)
    assert all(isinstance(problem, str) and problem for problem in verdict.problems)
    if verdict.holds:
        assert (verdict.txid, verdict.paid_florins) == (honest.txid, honest.paid_florins)


# files of contracts

CASE_PARTS = ("contract", "by_buyer", "by_seller", "accept", "statement", "log", "facts", "births", "whole")
CASE = case_of()


def case_audit(data: bytes) -> CaseAudit:
    """The audit, on a machine without a node, of an honest file with one part replaced.

    Raises:
        DuxError: it is no such file.
    """
    part, body = CASE_PARTS[(data[0] if data else 0) % len(CASE_PARTS)], data[1:]
    case = CASE
    if part in ("contract", "by_buyer", "by_seller"):
        case = replace(case, **{part: body})
    elif part == "accept":
        case = replace(case, accepts=(body, *case.accepts[1:]))
    elif part == "statement":
        case = replace(case, statements=(body, *case.statements[1:]))
    elif part == "log":
        case = replace(case, logs={case.me: body})
    elif part == "facts":
        case = replace(case, facts=from_json(body, tuple[LoggedFact, ...]))
    elif part == "births":
        case = replace(case, births=from_json(body, tuple[Lot, ...]))
    else:
        case = from_json(body, CaseFile)
    case = from_json(case_bytes(case), CaseFile)
    return audited(case, LogSignatures(case.logs).is_right)


def case_file(data: bytes) -> None:
    """An audit or a named error; what has no problem comes to a state, of the contract whose hash it tells."""
    with suppress(DuxError):
        told = case_audit(data)
        assert told.problems or told.state
        assert len(told.cid) == len(told.outcome) == 64


# presentations

CLAIMS = claims_of([("tier>=1", "true"), ("unsanctioned", "true")], SeededRandomness(2))
ROOT = ClaimRoot(
    v=1, subject=THEM.did, root=root_of(CLAIMS), issued_ms=UnixMs(NOW_MS - 1000), expires_ms=UnixMs(NOW_MS + 10**6)
)
NONCE = b"\xab" * 32


def _enveloped(purpose: Purpose, body: bytes) -> bytes:
    return canonical(Attested(body=body, did=THEM.did, key_seq=0, signature=THEM.key.sign(purpose, body)))


def _shown() -> ShownTo:
    leaf = disclose(CLAIMS, "tier>=1")
    assert leaf is not None
    return ShownTo(root=ROOT.root, disclosure=leaf, nonce=NONCE)


async def _is_theirs(purpose: Purpose, one: Attested, _at_ms: int) -> bool:
    return one.did == THEM.did and is_signed(THEM.key.public, purpose, one.body, one.signature)


DESK = ClaimDesk(
    cast("Any", None), cast("Any", SimpleNamespace(stands=_is_theirs, was_signed=_is_theirs)), cast("Any", None),
    cast("Any", None), clock=ManualClock(NOW_MS), random=SeededRandomness(1),
)  # fmt: skip


def claim_verdict(data: bytes) -> ClaimVerdict:
    """What a file proves; or an honest root with these bytes shown under it, signed by its subject or by nobody.

    Raises:
        DuxError: it is no presentation.
    """
    form, body = (data[0] if data else 0) % 4, data[1:]
    root, shown = _enveloped(Purpose.CLAIM_ROOT, canonical(ROOT)), _enveloped(Purpose.CLAIM_SHOWN, canonical(_shown()))
    told = Presentation(subject=THEM.did, root=root, shown=shown)
    if form == 0:
        told = from_json(body, Presentation)
    elif form == 1:
        told = replace(told, shown=_enveloped(Purpose.CLAIM_SHOWN, body))
    elif form == 2:
        told = replace(told, shown=body)
    else:
        told = replace(told, root=body)
    return LOOP.run_until_complete(DESK.verify(VerifyClaim(presentation=told, nonce=NONCE.hex()), cast("Any", None)))


def presentation(data: bytes) -> None:
    """A verdict or a named error; what is proven is a leaf under the root that was signed."""
    with suppress(DuxError):
        verdict = claim_verdict(data)
        if verdict.valid:
            assert (verdict.name, verdict.value) in {(one.name, one.value) for one in CLAIMS if one.name}
            assert (verdict.subject, verdict.issuer) == (THEM.did, THEM.did)


# what a SOCKS5 upstream answers

FAR = Target("far.example", 80)
LET_IN, REPLY_HEAD = b"\x05\x02\x01\0", b"\x05\0\0"  # method and its answer; connected


def socks_upstream(data: bytes) -> None:
    """A connection whose bytes are those behind the proxy's answer, or a code of RFC 1928 and why."""
    try:
        rest = LOOP.run_until_complete(_through(data))
    except SocksFault as fault:
        if fault.answer[1] not in set(Reply) - {Reply.DONE} or not str(fault):
            raise AssertionError(f"told the daemon {fault.answer!r}") from fault
        return
    assert data.endswith(rest)
    assert data.startswith((LET_IN + REPLY_HEAD, b"\x05\0" + REPLY_HEAD))


async def _through(data: bytes) -> bytes:
    """What a daemon reads after the proxy said all this at once and hung up.

    Raises:
        SocksFault: there is no connection.
    """
    near, far = socket.socketpair()
    near.setblocking(False)
    far.sendall(data)
    far.shutdown(socket.SHUT_WR)

    async def given(**_how: Any) -> socket.socket:
        return near

    straight, _proxy.connect_tcp = _proxy.connect_tcp, given  # type: ignore[assignment]
    try:
        reader, writer = await Through(Target("127.0.0.1", 9050), frozenset(), str).connect("flopd", FAR)
        try:
            return await reader.read()
        finally:
            writer.close()
    finally:
        _proxy.connect_tcp = straight
        far.close()
        near.close()


FILE_TARGETS = {one.__name__: one for one in (proof_file, case_file, presentation, socks_upstream)}


def file_seeds() -> dict[str, list[bytes]]:
    """Honest bytes."""
    proofs = []
    for at, (file, _trusted, _verdict) in enumerate(honest_files().values()):
        parts = (file.profile, file.sets, file.proof, file.before, file.headers, *file.logs[:1], file.txs[0].raw)
        names = FILE_PARTS if file.logs else [name for name in FILE_PARTS if name != "log"]
        for name, told in zip(names, parts, strict=False):
            proofs.append(bytes([FILE_PARTS.index(name) * len(FILE_KINDS) + at]) + told)
    root, shown = _enveloped(Purpose.CLAIM_ROOT, canonical(ROOT)), canonical(_shown())
    signed = _enveloped(Purpose.CLAIM_SHOWN, shown)
    presented = Presentation(subject=Did(THEM.did), root=root, shown=signed)
    wholes = (CASE.contract, CASE.by_buyer, CASE.by_seller, CASE.accepts[0], CASE.statements[0])
    return {
        "proof_file": proofs,
        "case_file": [
            *(bytes([part]) + whole for part, whole in enumerate(wholes)),
            bytes([CASE_PARTS.index("facts")]) + json.encode(CASE.facts),
            bytes([CASE_PARTS.index("births")]) + json.encode(CASE.births),
        ],
        "presentation": [b"\0" + json_bytes(presented), b"\x01" + shown, b"\x02" + signed, b"\x03" + root],
        "socks_upstream": [
            LET_IN + REPLY_HEAD + b"\x01" + bytes(6) + b"hello",
            LET_IN + REPLY_HEAD + b"\x03\x04name\0\x50",
            LET_IN + REPLY_HEAD + b"\x04" + bytes(18),
            b"\x05\0" + REPLY_HEAD + b"\x01" + bytes(6),
            LET_IN + b"\x05\xf0\0\x01" + bytes(6),
        ],
    }
