"""`duxnet escrow audit CONTRACT`: whether one contract's state follows from what was signed, and from the chain.

A node's contract, or a file of anybody's: by this node's keys and chain, or, where there is no node, by the logs in the
file and a coin node. What could not be asked is said, and ends the command with an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import BadParams, DuxError
from dux_cli.case_signatures import CaseSignatures
from dux_cli.command import EXIT_FAILED, new_request_id
from dux_cli.out_files import write_out
from dux_cli.output import counted

if TYPE_CHECKING:
    from pathlib import Path

    from common.chain.contract import Contract
    from common.contracts.wallet_chain import Coins
    from dux_cli.case_alone import LogSignatures
    from dux_cli.command import Session
    from dux_escrowd.case_file import CaseFile
    from dux_escrowd.observe import OnChain

FOUND = ("everything follows from what was signed, and from the chain", "no fault, but not all of it was checked")


@dataclass(frozen=True, kw_only=True)
class AuditWish:
    """What is to be audited: this node's contract, or a file; by which coin node, where no node is there."""

    contract_id: str = ""
    source: Path | None = None
    out: Path | None = None
    coin_node: str = ""
    login: Path | None = None


def audit_contract(session: Session, wish: AuditWish) -> None:
    """Run the audit of one contract and tell what it found.

    Raises:
        BadParams: it is no such file. SystemExit: there are problems, or not all was checked.
    """
    from msgspec.structs import replace

    from common.codec import from_json
    from dux_cli.case_alone import LogSignatures
    from dux_escrowd.case_file import CaseFile, audited

    body = _file_of(session, wish)
    if wish.out is not None:
        write_out(wish.out, body)
    try:
        case = from_json(body, CaseFile)
    except BadParams as error:
        what = "no contract as `duxnet escrow audit CONTRACT --out FILE` keeps it"
        raise BadParams(detail=f"{wish.source} is {what}: {error.fields['detail']}") from error
    alone = wish.source is not None and not session.node.exists()
    signatures = LogSignatures(case.logs) if alone else CaseSignatures(session, case.logs)
    outputs, why = _on_chain(session, case, wish, alone=alone)
    told = audited(case, signatures.is_right, outputs)
    told = replace(told, unchecked=(*told.unchecked, *_without_log(signatures)))
    lines = [
        ("contract hash", told.cid),
        ("seen by", told.seen_by),
        ("state", told.state),
        ("outcome", f"{told.outcome} (the same from every party's file)"),
        ("checked", f"{counted(told.statements, 'statement')}, {counted(told.facts, 'fact')}"),
        ("found", "; ".join(told.problems) or FOUND[bool(told.unchecked)]),
        *(("not checked", item) for item in told.unchecked),
        *([("next", why)] if why else []),
        *([("on trust", "keys are by the file's own logs: a node knows of later recoveries")] if alone else []),
        *(
            ("recovered", f"{did} has recovered or closed its name since: believe its dates with care")
            for did in sorted(signatures.stopped)
        ),
    ]
    session.out.record(told, lines, name=wish.contract_id or told.cid)
    if told.problems or told.unchecked:
        raise SystemExit(EXIT_FAILED)


def _file_of(session: Session, wish: AuditWish) -> bytes:
    from common.contracts.escrow import ContractRef
    from common.contracts.escrow_cases import CASE_FILE
    from dux_escrowd.case_file import CASE_FILE_BYTES_MAX

    if wish.source is None:
        return session.ask(CASE_FILE, ContractRef(contract_id=wish.contract_id)).file
    if wish.source.stat().st_size > CASE_FILE_BYTES_MAX:
        raise BadParams(detail=f"the file is larger than {CASE_FILE_BYTES_MAX} bytes")
    return wish.source.read_bytes()


def _without_log(signatures: CaseSignatures | LogSignatures) -> list[str]:
    missing = getattr(signatures, "missing", set[str]())
    return [f"the signatures of {did}: its log is not in the file, and no node was asked" for did in sorted(missing)]


def _on_chain(
    session: Session, case: CaseFile, wish: AuditWish, *, alone: bool
) -> tuple[tuple[OnChain, ...] | None, str]:
    """What a chain shows on the contract's script; None and what to do when none can be asked."""
    from common.chain.contract import CONTRACT_BYTES_MAX, Contract
    from common.codec import from_canonical
    from dux_escrowd.case_chain import outputs_of

    contract = from_canonical(case.contract, Contract, max_bytes=CONTRACT_BYTES_MAX)
    if alone and not wish.coin_node:
        return None, "there is no node here: name a coin node with --coin-node, or make a node (`duxnet init`)"
    try:
        coins = _by_coin_node(session, contract, wish) if wish.coin_node else _by_own_node(session, contract)
    except DuxError as error:
        return None, f"the chain cannot be asked: {error.message}; ask again when it can"
    return outputs_of(contract, coins), ""


def _by_own_node(session: Session, contract: Contract) -> Coins:
    from common.chain.contract import lot_output_script
    from common.contracts.wallet_chain import CHAIN_COINS, CHAIN_WATCH, ScriptAsked, WatchScripts
    from common.units import BlockHeight

    script = lot_output_script(contract)
    watch = WatchScripts(
        request_id=new_request_id("audit"), scripts=[script], from_height=BlockHeight(contract.heights.start)
    )
    session.ask(CHAIN_WATCH, watch, deadline_s=300.0)
    return session.ask(CHAIN_COINS, ScriptAsked(script=script))


def _by_coin_node(session: Session, contract: Contract, wish: AuditWish) -> Coins:
    from common.chain.contract import lot_output_script
    from dux_cli.case_alone import coins_of

    user, _, password = (wish.login.read_text().strip() if wish.login else "").partition(":")
    script, start = lot_output_script(contract), int(contract.heights.start)
    return session.run(coins_of(script, start, wish.coin_node, (user, password)))
