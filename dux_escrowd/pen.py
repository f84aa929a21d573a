"""What both sides of an agreement write alike: keys, rows, the first lot, the completed contract.

Promise: everything written here follows from what was signed. Source: escrow_protocol.md §5.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from common.chain.contract import ALONE, Contract, LotKind, Stage, cid
from common.codec import from_canonical
from common.contracts import wallet_contract as wallet
from common.contracts.escrow import TermsDiffer
from common.contracts.peer_escrow import OfferedStage
from common.identity.purposes import Purpose
from common.receipts import Attested
from common.store import Tx
from common.units import Did
from dux_escrowd import agreement as deal
from dux_escrowd.desk import Desk
from dux_escrowd.facts import PanelSeated, TermsSigned
from dux_escrowd.model import Lot, Role
from dux_escrowd.records import CONTRACT, TERMS
from dux_escrowd.store import Agreed


class Step(msgspec.Struct, frozen=True):
    """One step of an agreement on its way through the outbox; `reason` makes a quote a refusal."""

    contract_id: str
    to: str = ""
    accept: bool = True
    reason: str = ""


class Pen:
    """Writes agreements down."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._book = desk.book
        self._shelf = desk.book.shelf

    async def key(
        self, contract_id: str, purpose: Literal["buyer", "seller", "arbiter"], nonce: bytes
    ) -> wallet.ContractKey:
        """A fresh key of this wallet; the same nonce gives the same key."""
        ask = wallet.NewContractKey(request_id=f"{contract_id}/key/{nonce.hex()[:16]}", purpose=purpose, nonce=nonce)
        return await self._desk.flopd.call(wallet.CONTRACT_NEW_KEY, ask)

    def open(
        self,
        tx: Tx,
        contract_id: str,
        role: Role,
        stage: str,
        *,
        buyer: Did,
        seller: Did,
        height: int,
        place: OfferedStage | Stage = ALONE,
    ) -> None:
        """A new contract."""
        row = Agreed(
            contract_id=contract_id, role=role, stage=stage, buyer=buyer, seller=seller, created_ms=tx.now_ms(),
            created_height=height, key_index=None, cid=None, script=None, address=None, salt=None, preimage=None,
            reason="", evidence=b"", follow=0, series=place.series.hex(), number=place.number,
            bond=int(place.kind is LotKind.BOND),
        )  # fmt: skip
        self._shelf.open(tx, row)

    def begin(self, tx: Tx, row: Agreed, terms: deal.Terms, signed: dict[Did, bytes], height: int) -> None:
        """Both have signed: the lot exists."""
        for did, body in signed.items():
            self._shelf.keep(tx, row.contract_id, TERMS, body, did)
        lot = Lot(contract_id=row.contract_id, me=self._desk.me, role=row.role, deal=deal.deal_of(terms))
        self._book.begin(tx, lot)
        self._shelf.note(tx, row.contract_id, stage="lot", follow=1)
        self._book.learn(tx, row.contract_id, TermsSigned(at=height))

    def complete(self, tx: Tx, row: Agreed, contract: Contract, height: int) -> None:
        """The panel is seated: the contract is whole."""
        self._shelf.keep(tx, row.contract_id, CONTRACT, contract)
        self._shelf.note(tx, row.contract_id, cid=cid(contract).hex())
        panel = tuple(arbiter.did for arbiter in contract.arbiters)
        self._book.learn(tx, row.contract_id, PanelSeated(at=height, panel=panel))

    async def right_accept(self, terms: deal.Terms, data: bytes) -> deal.Accept:
        """The acceptance in these bytes, signed by its arbiter for these terms.

        Raises:
            TermsDiffer, BadStatement: it is not.
        """
        attested = from_canonical(data, Attested, max_bytes=deal.TERMS_BYTES_MAX)
        accept = from_canonical(attested.body, deal.Accept, max_bytes=deal.ACCEPT_BYTES_MAX)
        if accept.terms_hash != deal.terms_hash(terms) or attested.did != accept.arbiter.did:
            raise TermsDiffer(contract_id=terms.contract_id.hex(), reason="an acceptance is for other terms")
        problem = deal.seat_problem(terms, accept)
        if problem:
            raise TermsDiffer(contract_id=terms.contract_id.hex(), reason=problem)
        await self._desk.require_signed(Purpose.ESCROW_ACCEPT, attested, terms.contract_id.hex())
        return accept
