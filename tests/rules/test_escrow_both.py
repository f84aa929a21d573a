"""An arbiter's word for an award of lot and bond: right only with both signatures of what this node builds itself."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from common.chain.bond_award import LotCoin, build_both, digests_of_both
from common.codec import canonical
from common.receipts import Attested
from common.units import Did, Florins
from dux_escrowd.case_file import is_backed
from dux_escrowd.facts import AwardSaid
from dux_escrowd.hearing import Ear, fact_of
from dux_escrowd.model import AwardKey, Coin, Role, State
from dux_escrowd.orders import Word
from dux_escrowd.statements import Heard, next_statement, statement_hash
from dux_escrowd.words import SaidAward
from tests.chain.contract_kit import sign_digest
from tests.chain.test_lots import pair
from tests.rules.test_escrow_table import lot as lot_in

LOT, BOND, COIN, BONDED = pair()
WHO = LOT.arbiter_names[0]
DID = f"did:dux:{WHO}"
PANEL = tuple(sorted(arbiter.did for arbiter in LOT.contract.arbiters))
STANDS = lot_in(
    State.ANSWERED, Role.ARBITER, panel=PANEL, coin=Coin(str(COIN.outpoint), COIN.value_florins, 105),
    bond=str(BONDED.outpoint),
)  # fmt: skip


def word(**changes: Any) -> SaidAward:
    """What an honest arbiter says."""
    tx = build_both(COIN, BONDED, (0, 1, 2))
    of_lot, of_bond = digests_of_both(COIN, BONDED, tx)
    said = SaidAward(
        str(COIN.outpoint), Florins(0), tuple(Did(did) for did in PANEL), (sign_digest(WHO, of_lot),),
        str(BONDED.outpoint), sign_digest(f"{WHO}-bond", of_bond),
    )  # fmt: skip
    return replace(said, **changes)


def statement_of(said: SaidAward, by: str = DID) -> Heard:
    statement = next_statement(
        net="00" * 32, cid=bytes(32), signer=Did(by), hashes=[], heads={}, word=Word.AWARD, said=said, height=120,
        block="00" * 32,
    )  # fmt: skip
    attested = Attested(canonical(statement), Did(by), 0, b"s" * 64)
    return Heard(attested, statement, said, statement_hash(canonical(statement)))


def heard(said: SaidAward, *, bond: LotCoin | None = BONDED, stands: Any = STANDS, by: str = DID) -> AwardSaid:
    fact = fact_of(statement_of(said, by), Ear(LOT.contract, stands, 120, bond))
    assert isinstance(fact, AwardSaid)
    return fact


def test_both_signatures_of_the_rebuilt_award_are_wanted() -> None:
    """Right: the key names the bond. One signature missing or swapped, a stranger, another bond or gross: not valid."""
    fact = heard(word())
    assert fact.valid
    assert fact.key == AwardKey(str(COIN.outpoint), 0, PANEL, str(BONDED.outpoint))
    right = word()
    assert not heard(word(bond_signature=right.signatures[0])).valid
    assert not heard(word(signatures=(right.bond_signature,))).valid
    assert not heard(word(bond_signature=b"")).valid
    assert not heard(word(), by="did:dux:stranger").valid
    assert not heard(word(), bond=None).valid
    assert not heard(word(bond="cc" * 32 + ":7")).valid
    assert not heard(word(gross_florins=Florins(100_000_000))).valid
    other = LotCoin(LOT.contract, BONDED.outpoint, BONDED.value_florins)
    assert not heard(word(), bond=other).valid


def test_a_coin_that_the_lot_does_not_rest_on_is_not_judged() -> None:
    """The table refuses it by its outpoint; nothing is built for it."""
    assert heard(word(), stands=replace(STANDS, coin=None)).valid
    assert heard(word(), stands=replace(STANDS, coin=Coin("ee" * 32 + ":0", 1, 100))).valid


def test_an_audit_asks_who_said_it_where_the_bond_has_a_file_of_its_own() -> None:
    """The award's fact is backed by its signer's statement; by another's, or for other arbiters, it is not."""
    fact = heard(word())
    assert is_backed(fact, LOT.contract, STANDS, [statement_of(word())])
    other = next(did for did in PANEL if did != DID)
    assert not is_backed(fact, LOT.contract, STANDS, [statement_of(word(), by=other)])
    assert not is_backed(fact, LOT.contract, STANDS, [statement_of(word(revealed=()))])
