"""Fidelity bonds: coins that their owner cannot move before a height, and the proof that they are a node's.

    <until> CHECKLOCKTIMEVERIFY DROP <owner> CHECKSIG        as a script hash

Promises: who has the proof and the output it names knows, without asking the owner, how much is locked, until when, and
for which DID. A bond's last height stands on a fixed step, and its key's number in the phrase's tree is that height
divided by the step: the phrase alone brings every bond back. Does not know whether the output is on the chain.

Source: mechanisms.md §2.2 (E2), facts §2 (CLTV binds by consensus, CSV does not).
"""

from __future__ import annotations

from bitcoin.core import script as op
from bitcoin.core.script import CScript

from common.chain.address import pay_to_script
from common.chain.fees import fee_for, is_dust
from common.chain.heights import LOCKTIME_HEIGHT_MAX
from common.chain.script import PLACEHOLDER_SIG, BadScript, checked
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, sighash, size_with
from common.chain.verify import is_pubkey, is_signature
from common.codec import Canon, canonical
from common.errors import CallerMistake
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.units import Did, Florins

STEPS_AHEAD = 730  # on main two years of days: as far as a bond reaches, and as far as a restored wallet looks
PROOF_BYTES_MAX = 1_024


class BadBond(CallerMistake):
    """No such bond can be made or taken back: {reason}."""

    code = 2025
    key = "bad-bond"


class Bond(Canon, frozen=True):
    """A bond as the world sees it: which output is locked until when under which key, and whose it says it is."""

    network: str  # genesis of the coin chain
    did: Did
    owner: bytes  # the key that alone spends it, 33 bytes
    until: int  # the first height whose block may hold its spend is the one after
    outpoint: Outpoint


class BondProof(Canon, frozen=True):
    """A bond with its owner's signature: coin key and DID are one hand's."""

    bond: Bond
    signature: bytes  # DER with the hash type behind it, over `bond_digest`


def bond_script(owner: bytes, until: int) -> bytes:
    """The redeem script.

    Raises:
        BadScript: no key, or no height.
    """
    if not is_pubkey(owner):
        raise BadScript(reason="the owner's key is none")
    if not 0 < until < LOCKTIME_HEIGHT_MAX:
        raise BadScript(reason=f"{until} is not a height")
    return checked(bytes(CScript([until, op.OP_CHECKLOCKTIMEVERIFY, op.OP_DROP, owner, op.OP_CHECKSIG])), 1)


def bond_output_script(owner: bytes, until: int) -> bytes:
    """The output script that a bond's coins lie on."""
    return pay_to_script(bond_script(owner, until))


def until_of(number: int, step_blocks: int) -> int:
    """The last locked height of the bond with this key number."""
    return number * step_blocks


def number_for(until: int, tip: int, step_blocks: int) -> int:
    """The key number of the first bond that lasts at least until this height.

    Raises:
        BadBond: it is over already, or further away than a restored wallet looks.
    """
    number = -(-until // step_blocks)
    if until_of(number, step_blocks) <= tip:
        raise BadBond(reason=f"height {until} is reached already, the tip is {tip}")
    last = last_number(tip, step_blocks)
    if number > last:
        raise BadBond(reason=f"a bond lasts until height {until_of(last, step_blocks)} at most")
    return number


def last_number(tip: int, step_blocks: int) -> int:
    """The key number of the longest bond that is made at this tip."""
    return tip // step_blocks + STEPS_AHEAD


def bond_digest(bond: Bond) -> bytes:
    """What the bond's key signs (32 bytes); no transaction shares it."""
    return tagged_hash(Purpose.BOND, canonical(bond))


def proof_problem(proof: BondProof, network: str, did: str, script: bytes) -> str:
    """Why the proof shows nothing, or an empty string. `script`: of the output that it names, as the chain has it."""
    bond = proof.bond
    if bond.network != network:
        return "it is of another network"
    if bond.did != did:
        return "it names another node"
    if not is_pubkey(bond.owner) or not 0 < bond.until < LOCKTIME_HEIGHT_MAX:
        return "its key or its height is none"
    if bond_output_script(bond.owner, bond.until) != script:
        return "the output pays another script"
    return "" if is_signature(bond.owner, bond_digest(bond), proof.signature) else "its signature is wrong"


def reclaim_tx(owner: bytes, until: int, coins: tuple[tuple[Outpoint, int], ...], script: bytes, rate: int) -> Tx:
    """The unsigned spend of bonds of one key, all to one output script; its lock time lets no block hold it earlier.

    Raises:
        BadBond: there is nothing, or nothing is left after the fee.
    """
    inputs = tuple(TxInput(point) for point, _ in sorted(coins, key=lambda coin: (coin[0].txid, coin[0].vout)))
    blank = Tx(inputs, (TxOutput(Florins(0), script),), until)
    redeem = bond_script(owner, until)
    fee = fee_for(size_with(blank, [len(reclaim_sig(redeem, PLACEHOLDER_SIG))] * len(inputs)), rate)
    left = sum(value for _, value in coins) - int(fee)
    if not coins or is_dust(left):
        raise BadBond(reason="nothing is left of it after the fee")
    return Tx(inputs, (TxOutput(Florins(left), script),), until)


def reclaim_digest(tx: Tx, at: int, redeem: bytes) -> bytes:
    """What the bond's key signs for input `at`."""
    return sighash(tx, at, redeem)


def reclaim_sig(redeem: bytes, signature: bytes) -> bytes:
    """The input script of a reclaim."""
    return bytes(CScript([signature, redeem]))
