"""One contract as a file, and its audit on any machine: who signed what, and that the state follows from it.

Promise: the audit needs the file, somebody who can tell right signatures, and what a chain shows on the contract's
script; with them it says whether the contract follows from terms and acceptances, the lots begin as the terms say,
every statement chain is whole, every fact that another's word led to is backed by that word, the log of facts gives the
state that the file claims, and the chain shows the same coins and spends. What could not be held against anything
stands in `unchecked`. `outcome` is made of what all sides must agree on (contract, how the coin was spent, by which
transaction, for how much), so it is the same from every party's file.

Pure. Source: escrow_protocol.md §7; money.md §1 law 6.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from msgspec import Struct, json
from msgspec.structs import replace

from common.chain.contract import CONTRACT_BYTES_MAX, Contract, cid
from common.codec import from_canonical
from common.errors import DuxError
from common.identity.purposes import Purpose
from common.receipts import Attested
from dux_escrowd import facts as f
from dux_escrowd.agreement import ACCEPT_BYTES_MAX, TERMS_BYTES_MAX, Accept, Terms, deal_of, seal_problem
from dux_escrowd.case_chain import chain_problems
from dux_escrowd.hearing import Ear, fact_of, named_in
from dux_escrowd.model import Lot, Role, State
from dux_escrowd.observe import OnChain
from dux_escrowd.replay import LoggedFact
from dux_escrowd.rules import decide
from dux_escrowd.statements import NO_PREV, Heard, opened_statement, statement_problem

CASE_FILE_BYTES_MAX = 8_388_608
NO_CHAIN = "coins and spends, as the file tells them: no chain was asked"
IsSigned = Callable[[Purpose, Attested], bool]
HEARD = (
    f.Ready, f.StartSaid, f.LateOkSaid, f.DeliverySaid, f.ReleaseSaid, f.CancelAsked, f.CancelSaid, f.DisputeSaid,
    f.AnswerSaid, f.VoteCommitted, f.VoteRevealed, f.AwardSaid,
)  # fmt: skip


class CaseFile(Struct, frozen=True, kw_only=True):
    """All that one node holds of a contract; secrets (r, K, salts of votes) are not in it."""

    network: str
    me: str
    contract: bytes
    by_buyer: bytes
    by_seller: bytes
    accepts: tuple[bytes, ...]
    statements: tuple[bytes, ...]
    births: tuple[Lot, ...]
    facts: tuple[LoggedFact, ...]
    logs: dict[str, bytes] = {}  # by signer: its event log when the file was made, for keys that a recovery took out


class CaseAudit(Struct, frozen=True, kw_only=True):
    """What the audit found; `problems` empty: everything follows."""

    cid: str
    seen_by: str
    state: str
    outcome: str  # hex, the same from every party's file
    statements: int
    signers: tuple[str, ...]
    facts: int
    problems: tuple[str, ...]
    unchecked: tuple[str, ...] = ()  # what the file says and nothing here could be held against


def audited(case: CaseFile, is_signed: IsSigned, outputs: Sequence[OnChain] | None = None) -> CaseAudit:
    """The audit of a file; `outputs`: all that the auditor's own chain shows on the contract's script, None: no chain.

    Raises:
        BadParams: something in it is none of what it should be.
    """
    contract = from_canonical(case.contract, Contract, max_bytes=CONTRACT_BYTES_MAX)
    heard = [opened_statement(data) for data in case.statements]
    lots, replay_problems = _replayed(case)
    problems = [
        *_agreement_problems(case, contract, is_signed),
        *_chain_problems(case, contract, heard, is_signed),
        *_birth_problems(case, contract),
        *replay_problems,
        *_short_problems(lots),
        *(chain_problems(tuple(lots.values()), outputs) if outputs is not None else ()),
        *_unbacked(case, contract, heard),
    ]
    main = lots.get(0)
    return CaseAudit(
        cid=cid(contract).hex(),
        seen_by=case.me,
        state=main.state.value if main else "",
        outcome=outcome_of(contract, main),
        statements=len(heard),
        signers=tuple(sorted({one.statement.signer for one in heard})),
        facts=len(case.facts),
        problems=tuple(problems),
        unchecked=(*_unheard(heard), *(() if outputs is not None else (NO_CHAIN,))),
    )


def outcome_of(contract: Contract, lot: Lot | None) -> str:
    """What all sides must agree on, as a hash (hex)."""
    spend = lot.spend if lot else None
    told = [cid(contract).hex(), lot.coin.outpoint if lot and lot.coin else ""]
    told += [spend.exit.value, spend.txid, str(spend.gross_florins)] if spend else ["unspent", "", ""]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()


def _agreement_problems(case: CaseFile, contract: Contract, is_signed: IsSigned) -> list[str]:
    signed = [from_canonical(body, Attested, max_bytes=TERMS_BYTES_MAX) for body in (case.by_buyer, case.by_seller)]
    terms = [from_canonical(one.body, Terms, max_bytes=TERMS_BYTES_MAX) for one in signed]
    bodies = [from_canonical(body, Attested, max_bytes=TERMS_BYTES_MAX) for body in case.accepts]
    accepts = [from_canonical(one.body, Accept, max_bytes=ACCEPT_BYTES_MAX) for one in bodies]
    seated = [accept for accept in accepts if accept.arbiter in contract.arbiters]
    laws = {
        "buyer and seller did not sign the same terms": terms[0] == terms[1],
        "the terms are of other parties": [one.did for one in signed] == [contract.buyer.did, contract.seller.did],
        "a signature of the terms is wrong": all(is_signed(Purpose.ESCROW_TERMS, one) for one in signed),
        "a signature of an acceptance is wrong": all(is_signed(Purpose.ESCROW_ACCEPT, one) for one in bodies),
        "an acceptance is another's": all(
            one.did == accept.arbiter.did for one, accept in zip(bodies, accepts, strict=True)
        ),
    }
    problem = seal_problem(terms[0], contract, seated)
    return [law for law, holds in laws.items() if not holds] + ([problem] if problem else [])


def _chain_problems(case: CaseFile, contract: Contract, heard: Sequence[Heard], is_signed: IsSigned) -> list[str]:
    problems: list[str] = []
    last: dict[str, tuple[int, bytes]] = {}
    for one in heard:
        said, signer = one.statement, one.statement.signer
        wrong = statement_problem(said, net=case.network, cid=cid(contract), named=named_in(contract))
        seq, prev = last.get(signer, (-1, NO_PREV))
        if wrong:
            problems.append(f"statement {said.seq} of {signer}: {wrong}")
        if (said.seq, said.prev) != (seq + 1, prev):
            problems.append(f"the chain of {signer} has a gap or a fork at {said.seq}")
        if not is_signed(Purpose.ESCROW_STATEMENT, one.attested):
            problems.append(f"the signature of statement {said.seq} of {signer} is wrong")
        last[signer] = (said.seq, one.hash)
    return problems


def _birth_problems(case: CaseFile, contract: Contract) -> list[str]:
    """Lots that do not begin as the terms say: nobody's word is taken for what was agreed, nor for a later state."""
    terms = from_canonical(
        from_canonical(case.by_buyer, Attested, max_bytes=TERMS_BYTES_MAX).body, Terms, max_bytes=TERMS_BYTES_MAX
    )
    roles = {one.did: Role.ARBITER for one in contract.arbiters}
    roles |= {contract.seller.did: Role.SELLER, contract.buyer.did: Role.BUYER}
    role = roles.get(case.me)
    if role is None:
        return ["the file is of nobody in the contract"]
    main = Lot(contract_id=terms.contract_id.hex(), me=case.me, role=role, deal=deal_of(terms))
    panel = tuple(arbiter.did for arbiter in contract.arbiters)
    stray = replace(main, panel=panel, state=State.FUNDED_SEEN)
    numbers = [birth.number for birth in case.births]
    problems = [] if numbers == list(range(len(numbers))) and numbers else ["the lots are not numbered from 0 on"]
    for birth in case.births:
        right = replace(stray, number=birth.number, coin=birth.coin) if birth.number else main
        if birth != right:
            problems.append(f"lot {birth.number} does not begin as the terms say")
    return problems


def _short_problems(lots: dict[int, Lot]) -> list[str]:
    early = 0 in lots and lots[0].state in (State.DRAFT, State.DRAWING)
    return ["the contract is sealed, and the facts do not come so far"] if early else []


def _unheard(heard: Sequence[Heard]) -> list[str]:
    """Statements that others' statements name and the file does not have."""
    known = {one.hash for one in heard}
    missing = {ref.signer for one in heard for ref in one.statement.heads if ref.hash not in known}
    return [f"a statement of {signer} that another names is not in the file" for signer in sorted(missing)]


def _replayed(case: CaseFile) -> tuple[dict[int, Lot], list[str]]:
    """The lots that follow from the facts, and where they do not."""
    lots = {lot.number: lot for lot in case.births}
    for at, line in enumerate(case.facts):
        lot = lots.get(line.number)
        if lot is None:
            return lots, [f"fact {at} is of an unknown lot"]
        try:
            lots[line.number], _orders = decide(lot, line.fact)
        except DuxError as error:
            return lots, [f"fact {at} does not fit: {error.message}"]
        if lots[line.number].state is not line.state:
            return lots, [f"fact {at} leads to {lots[line.number].state.value}, not to {line.state.value}"]
    return lots, []


def _unbacked(case: CaseFile, contract: Contract, heard: Sequence[Heard]) -> list[str]:
    """Facts that name another's word which is not among the statements."""
    lots = {lot.number: lot for lot in case.births}
    problems: list[str] = []
    for at, line in enumerate(case.facts):
        lot, fact = lots.get(line.number), line.fact
        if lot is None:
            return problems
        if isinstance(fact, HEARD) and not is_backed(fact, contract, lot, heard):
            problems.append(f"fact {at} ({type(fact).__name__}) is backed by no statement")
        try:
            lots[line.number], _orders = decide(lot, fact)
        except DuxError:
            return problems
    return problems


def is_backed(fact: f.Fact, contract: Contract, lot: Lot, heard: Sequence[Heard]) -> bool:
    """Some signed statement means this fact; of an award with a bond only its signer is asked (the bond has a file)."""
    for one in heard:
        meant = fact_of(one, Ear(contract, lot, fact.at))
        if isinstance(fact, f.AwardSaid) and isinstance(meant, f.AwardSaid) and fact.key.bond:
            meant = replace(meant, valid=fact.valid)
        if meant == fact:
            return True
    return False


def case_bytes(case: CaseFile) -> bytes:
    """The file."""
    return json.encode(case)
