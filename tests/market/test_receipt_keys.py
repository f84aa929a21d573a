"""Receipts under the keys of the contract: what a script shows, whose word a key's is, which of two stories counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.chain.channel import channel_script
from common.chain.script import BRANCH_ARBITERS, BRANCH_COOP, BRANCH_REFUND, multisig_script
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, parse
from common.codec import canonical
from common.errors import BadParams
from common.receipt_keys import (
    INPUTS_READ_MAX,
    LotSpent,
    Strength,
    lot_keys,
    lots_in,
    lots_spent,
    of_other_lots,
    strength,
    word_fault,
)
from common.receipts import (
    RECEIPT_BYTES_MAX,
    Attested,
    LotKeys,
    SettledReceipt,
    facts_id,
    opened_receipt,
    receipt_in,
    without_key,
)
from common.units import Did, Florins
from tests.attacks.registry import attack
from tests.market.keyed import LOT, OTHER_LOT, keyed, public, script, spend
from tests.market.makers import ARBITERS, BUYER, STRANGER, changed, did, lost, receipt

BY_SELLER, BY_BUYER = receipt(), receipt(signer=BUYER)


def sealed(body: SettledReceipt) -> Attested:
    """In an envelope whose signature nobody looks at here."""
    return Attested(body=canonical(body), did=body.signer, key_seq=0, signature=b"s" * 64)


# both versions


def test_both_versions_are_read() -> None:
    """A receipt with a key and one without come back as they were, and tell the same facts."""
    with_key = keyed(BY_SELLER)
    for one in (BY_SELLER, with_key):
        assert receipt_in(sealed(one)) == one
        assert opened_receipt(canonical(sealed(one)))[1] == one
    assert facts_id(with_key) == facts_id(BY_SELLER)
    assert without_key(with_key) == BY_SELLER
    assert len(canonical(with_key)) < RECEIPT_BYTES_MAX
    with pytest.raises(BadParams, match="SettledReceipt"):
        receipt_in(sealed(changed(with_key, lot=LotKeys(buyer=b"", seller=b""))))


# scripts


@pytest.mark.parametrize("result_hash", [b"", b"\x07" * 32])
@pytest.mark.parametrize("arbiters", [3, 7])
def test_a_lots_script_shows_its_parties(result_hash: bytes, arbiters: int) -> None:
    """E and E+h, with the smallest and the largest panel."""
    assert lot_keys(script(result_hash=result_hash, arbiters=arbiters)) == LOT


@attack("registry", tries="scripts that only look like a contract's", meets="they show nobody's keys")
def test_no_other_script_shows_keys() -> None:
    """A channel's, a panel's, a cut one, one with a byte changed, keys that are none, one too long."""
    sound = script()
    assert lot_keys(channel_script(LOT.buyer, LOT.seller, 5_000)) is None
    assert lot_keys(multisig_script(2, (LOT.buyer, LOT.seller, public("arbiter 0")))) is None
    assert all(lot_keys(sound[:at]) is None for at in range(len(sound)))
    free = [public(f"arbiter {number}") for number in range(3)] + [(5_000).to_bytes(2, "little")]
    others = {at for part in free for at in range(sound.index(part), sound.index(part) + len(part))}
    for at in set(range(len(sound))) - others:  # another panel or T makes another script of the same two
        assert lot_keys(sound[:at] + bytes([sound[at] ^ 0x60]) + sound[at + 1 :]) != LOT
    assert lot_keys(sound + b"\x61") is None
    assert lot_keys(sound + b"\x61" * 600) is None
    assert lot_keys(script(LotKeys(buyer=b"\x02" + b"\xff" * 32, seller=LOT.seller))) is None
    assert lot_keys(script(LotKeys(buyer=LOT.buyer, seller=b"\x05" * 33))) is None


@given(st.binary(max_size=600))
def test_any_bytes_are_read_without_harm(data: bytes) -> None:
    """What stands on a chain may be anything."""
    assert lot_keys(data) is None
    tx = Tx((TxInput(Outpoint("ab" * 32, 0), data),), (TxOutput(Florins(1), b""),))
    assert lots_spent(tx) == ()
    assert lots_in(data) == ()


def test_a_transaction_shows_the_lots_that_it_spends() -> None:
    """In the order of its inputs; no more of them are read than a contract's spend has, and no longer ones."""
    assert lots_in(spend(LOT, OTHER_LOT)) == (LotSpent(LOT, BRANCH_COOP), LotSpent(OTHER_LOT, BRANCH_COOP))
    for branch in (BRANCH_ARBITERS, BRANCH_REFUND):
        assert lots_in(spend(LOT, branch=branch)) == (LotSpent(LOT, branch),)
    many = spend(*[LOT] * INPUTS_READ_MAX, OTHER_LOT)
    assert OTHER_LOT not in [lot.keys for lot in lots_in(many)]
    sound = parse(spend(LOT))
    padded = sound.signed([b"\x4d\xd0\x07" + b"\0" * 2_000 + sound.inputs[0].script_sig])
    assert lots_spent(padded) == ()


# words


def test_each_party_signs_with_its_own_key() -> None:
    """The buyer's receipt under the buyer's key, the seller's under the seller's; one without a key has no fault."""
    assert [word_fault(one) for one in (BY_SELLER, keyed(BY_SELLER), keyed(BY_BUYER))] == [None, None, None]


@attack(
    "registry",
    tries="a party's key signature under another name, contract or network, or under the other's key",
    meets="it is not signed by that key",
)
def test_a_word_holds_for_nothing_else() -> None:
    """Names, contract, network and keys are all in what is signed."""
    word = keyed(BY_SELLER)
    for stolen in (
        changed(word, seller=STRANGER, signer=STRANGER),
        changed(word, buyer=STRANGER),
        changed(word, cid=b"\x02" * 32),
        changed(word, network="00" * 32),
        changed(word, signer=BUYER),
        changed(word, lot=OTHER_LOT),
        changed(word, lot=LotKeys(buyer=public("thief"), seller=LOT.seller)),
        changed(word, lot_signature=b""),
        keyed(BY_SELLER, network="00" * 32),
    ):
        assert word_fault(stolen) == "it is not signed by the key of the contract that it names"
    arbiter = changed(word, signer=ARBITERS[0])
    assert word_fault(arbiter) == "only buyer and seller have a key of the contract"


def test_a_word_outlives_a_reorganisation() -> None:
    """The spend may come back as another transaction, at another height: the key's word is the same."""
    again = keyed(receipt(txid="ce" * 32, height=104))
    assert changed(again, txid=BY_SELLER.txid, height=BY_SELLER.height) == keyed(BY_SELLER)


# which of two counts


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ([], Strength.NOBODY),
        ([receipt(signer=name) for name in (STRANGER, ARBITERS[0], ARBITERS[0])], Strength.NOBODY),
        ([BY_SELLER, BY_SELLER, receipt(signer=STRANGER)], Strength.ONE_PARTY),
        ([BY_SELLER, BY_BUYER, receipt(signer=ARBITERS[0])], Strength.BOTH_PARTIES),
        ([keyed(BY_BUYER), BY_SELLER], Strength.BUYERS_KEY),
        ([keyed(BY_SELLER), BY_BUYER], Strength.SELLERS_KEY),
        ([keyed(BY_SELLER), *(receipt(signer=name) for name in ARBITERS[:2])], Strength.ARBITERS),
        ([keyed(BY_SELLER), keyed(BY_BUYER)], Strength.BOTH_KEYS),
        ([keyed(BY_SELLER), keyed(BY_BUYER, OTHER_LOT)], Strength.SELLERS_KEY),
        ([keyed(BY_SELLER, OTHER_LOT), keyed(BY_SELLER), keyed(BY_BUYER)], Strength.BOTH_KEYS),
    ],
)
def test_how_well_a_story_is_attested(told: list[SettledReceipt], found: Strength) -> None:
    """Keys before arbiters before words; both keys only of one lot; nobody's word counts twice."""
    assert strength(told, ARBITERS) is found
    assert strength(told[::-1], ARBITERS) is found


def test_arbiters_judge_no_contract_of_their_own() -> None:
    """Two of the network's who are the parties are parties, and one beside a party is one."""
    names = {"buyer": ARBITERS[0], "seller": ARBITERS[1]}
    told = [receipt(signer=name, **names) for name in ARBITERS[:2]]
    assert strength(told, ARBITERS) is Strength.BOTH_PARTIES
    assert strength([*told, receipt(signer=ARBITERS[2], **names)], ARBITERS) is Strength.BOTH_PARTIES


def test_keys_tell_contracts_apart_and_ids_do_not() -> None:
    """Two payments under one id are two contracts where the chain shows keys of one that the other has not."""
    names: dict[str, Did] = {"buyer": did("k"), "seller": did("l"), "signer": did("l")}
    squatter = [keyed(receipt(txid="ce" * 32, **names), OTHER_LOT)]
    assert of_other_lots([keyed(BY_SELLER)], squatter)
    assert of_other_lots([BY_SELLER], squatter)
    assert of_other_lots(squatter, [BY_SELLER])
    nothing = [keyed(lost(txid="ce" * 32, **names), OTHER_LOT)]
    assert not of_other_lots([BY_SELLER], nothing)
    assert not of_other_lots(nothing, [BY_SELLER])
    assert of_other_lots([keyed(BY_SELLER)], nothing)
    assert not of_other_lots([BY_SELLER], [receipt(txid="ce" * 32, **names)])
    assert not of_other_lots([keyed(BY_SELLER)], [changed(squatter[0], txid=BY_SELLER.txid)])
    assert not of_other_lots([keyed(BY_SELLER)], [keyed(receipt(txid="ce" * 32))])
