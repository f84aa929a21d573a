"""What counts as evidence, and who is eligible by it (rule `full`; for `bonded` see bonded_rules.py).

Pure: signatures, block hashes and payments are looked up elsewhere and come in as `Facts`. The same items give the same
members on every machine, in whatever order they come.

A receipt under a key counts only where the payment spends a script with this key, and no receipt where that script was
taken by a branch that cannot end as it tells; of rival stories of one payment the
best attested counts, and of equals none: whoever names a stranger's payment gains nothing by it.

A limit of this rule is why it refuses `main`: identities cost nothing, so shares can be collected by many.

Source: settled.md 23 and 31, mechanisms.md §2.1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from common.chain.address import BadAddress, address_to_script
from common.chain.bond import PROOF_BYTES_MAX, BondProof, proof_problem
from common.chain.params import family_named
from common.codec import canonical, from_canonical
from common.errors import BadParams
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.quality import age_days, decayed, missed_tax_florins, quality_ppm
from common.receipt_keys import is_judged, lots_of, spend_fault, strength, word_fault
from common.receipts import (
    HEARTBEAT_BYTES_MAX,
    Attested,
    Heartbeat,
    LotKeys,
    NodeInfo,
    Outcome,
    SettledReceipt,
    facts_id,
    opened,
    opened_node,
    opened_receipt,
    receipt_fault,
)
from common.units import Did
from dux_airdropd.model import (
    ITEM_BYTES_MAX,
    BondSeen,
    BondShown,
    Facts,
    Figures,
    Item,
    Kind,
    Member,
    Refusal,
    Window,
    Witness,
    WitnessWord,
)

PURPOSES = {
    Kind.HEARTBEAT: Purpose.HEARTBEAT,
    Kind.NODE: Purpose.REGISTRATION,
    Kind.RECEIPT: Purpose.SETTLED_RECEIPT,
    Kind.WITNESS: Purpose.AIRDROP_WITNESS,
}

Body = Heartbeat | NodeInfo | SettledReceipt | WitnessWord


def item_id(item: Item) -> bytes:
    """The name of an item: 32 bytes, equal on every machine."""
    return tagged_hash(Purpose.AIRDROP_EVIDENCE, canonical(item))


def in_order(items: Iterable[Item]) -> tuple[Item, ...]:
    """Each item once, in the order of the ids."""
    return tuple(item for _, item in sorted({item_id(item): item for item in items}.items()))


def open_item(item: Item) -> tuple[Attested, Body]:
    """The envelope and the body of an item; nothing about them is believed yet.

    Raises:
        BadParams: the bytes are no such thing.
    """
    if item.kind is Kind.HEARTBEAT:
        return opened(item.data, Heartbeat, body_bytes_max=HEARTBEAT_BYTES_MAX)
    if item.kind is Kind.NODE:
        return opened_node(item.data)
    if item.kind is Kind.WITNESS:
        return opened(item.data, WitnessWord, body_bytes_max=ITEM_BYTES_MAX)
    return opened_receipt(item.data)


def open_bond(item: Item) -> tuple[BondShown, BondProof]:
    """A bond as it is shown, and its proof; nothing about them is believed yet.

    Raises:
        BadParams: the bytes are no such thing.
    """
    shown = from_canonical(item.data, BondShown, max_bytes=ITEM_BYTES_MAX)
    return shown, from_canonical(shown.proof, BondProof, max_bytes=PROOF_BYTES_MAX)


def witness_of(item: Item) -> Witness:
    """An item that verified, opened."""
    if item.kind is not Kind.BOND:
        return Witness(item_id(item), open_item(item)[1])
    shown, proof = open_bond(item)
    bond = proof.bond
    return Witness(item_id(item), BondSeen(bond.did, str(bond.outpoint), shown.value_florins, shown.height, bond.until))


def signer_of(body: Body) -> Did:
    """Whose word the body is."""
    if isinstance(body, SettledReceipt):
        return body.signer
    return body.witness if isinstance(body, WitnessWord) else body.did


def shape_fault(item: Item) -> str:
    """Why an item needs no looking up to be refused; empty when it does need it."""
    try:
        if item.kind is Kind.BOND:
            open_bond(item)
            return ""
        envelope, body = open_item(item)
    except BadParams as error:
        return error.message
    return "" if envelope.did == signer_of(body) else "somebody else signed it"


def item_fault(item: Item, facts: Facts, window: Window) -> str:
    """Why an item does not verify, or an empty string."""
    fault = shape_fault(item)
    if fault:
        return fault
    if item.kind is Kind.BOND:
        return _bond_fault(item, facts, window)
    body = open_item(item)[1]
    if not facts.signed:
        return "its signature is wrong"
    if body.network != window.network:
        return "it belongs to another network"
    return _body_fault(body, facts, window)


def _body_fault(body: Body, facts: Facts, window: Window) -> str:
    if isinstance(body, Heartbeat):
        return _heartbeat_fault(body, facts, window)
    if isinstance(body, WitnessWord):
        return _word_fault(body, window)
    return _receipt_fault(body, facts, window) if isinstance(body, SettledReceipt) else ""


def _word_fault(word: WitnessWord, window: Window) -> str:
    same = (word.cutoff_height, word.cutoff_hash) == (window.to_height, window.to_hash)
    return "" if same else "it is about another cut-off"


def _bond_fault(item: Item, facts: Facts, window: Window) -> str:
    shown, proof = open_bond(item)
    at = proof.bond.outpoint.vout
    if shown.height > window.to_height:
        return "its bond is younger than the cut-off"
    if facts.payment is None or facts.payment.height != shown.height or at >= len(facts.payment.outputs):
        return "the chain does not show its bond at that height"
    output = facts.payment.outputs[at]
    if output.value_florins != shown.value_florins:
        return "its bond holds another sum"
    return proof_problem(proof, window.network, proof.bond.did, output.script)


def _heartbeat_fault(beat: Heartbeat, facts: Facts, window: Window) -> str:
    if not window.from_height <= beat.height <= window.to_height:
        return "its block lies outside the window"
    return "" if beat.block_hash == facts.block_hash else "it cites a block that is not on the chain"


def _receipt_fault(receipt: SettledReceipt, facts: Facts, window: Window) -> str:
    fault = receipt_fault(receipt, window.network, window.taxes_bps, window.arbiters) or word_fault(receipt)
    if fault:
        return fault
    if not window.from_height <= receipt.height <= window.to_height:
        return "its payment lies outside the window"
    if facts.payment is None or facts.payment.height != receipt.height:
        return "the chain does not show its payment at that height"
    taxes = [int(out.value_florins) for out in facts.payment.outputs if out.script in window.tax_scripts]
    if receipt.gross_florins > 0 and int(receipt.tax_florins) not in taxes:
        return "its payment does not pay the community fund the tax"
    return spend_fault(receipt, facts.payment.lots) or ""


# who gets a share


def settled(receipts: Iterable[SettledReceipt], arbiters: frozenset[Did]) -> list[SettledReceipt]:
    """One receipt per settled contract, in the order of contract ids.

    Of one transaction one contract counts, the best attested, and none where two are attested equally well; an unpaid
    job counts by the seller's word or two arbiters'.
    """
    by_facts: dict[bytes, list[SettledReceipt]] = defaultdict(list)
    for receipt in receipts:
        by_facts[facts_id(receipt)].append(receipt)
    by_tx: dict[str, list[list[SettledReceipt]]] = defaultdict(list)
    for told in by_facts.values():
        if _word_is_enough(told, arbiters):
            by_tx[told[0].txid].append(told)
    by_contract: dict[bytes, list[list[SettledReceipt]]] = defaultdict(list)
    for claims in by_tx.values():
        for told in _best(claims, arbiters):
            by_contract[told[0].cid].append(told)
    return [told[0] for _, claims in sorted(by_contract.items()) for told in _apart(claims, arbiters)]


def _best(claims: Sequence[list[SettledReceipt]], arbiters: frozenset[Did]) -> list[list[SettledReceipt]]:
    """The best attested of rival claims to one transaction; none of several that are."""
    most = max(strength(told, arbiters) for told in claims)
    best = [told for told in claims if strength(told, arbiters) == most]
    return best if len(best) == 1 else []


def _apart(claims: Sequence[list[SettledReceipt]], arbiters: frozenset[Did]) -> list[list[SettledReceipt]]:
    """Of payments under one contract id the best attested, and with it those that are of other lots.

    As `of_other_lots` would say of every two, each of another transaction, but in one pass.
    """
    taken: list[list[SettledReceipt]] = []
    seen: set[LotKeys] = set()
    unkeyed = unpaid = False  # whether one without keys was taken, and one with keys of which nothing was paid
    for told in sorted(claims, key=lambda told: (-strength(told, arbiters), told[0].txid)):
        lots, pays = lots_of(told), told[0].gross_florins > 0
        if lots & seen or (unkeyed and not (lots and pays)) or (unpaid and not lots):
            continue
        taken.append(told)
        seen |= lots
        unkeyed, unpaid = unkeyed or not lots, unpaid or bool(lots and not pays)
    return taken


def _word_is_enough(told: Sequence[SettledReceipt], arbiters: frozenset[Did]) -> bool:
    first, signers = told[0], {receipt.signer for receipt in told}
    if first.gross_florins > 0 or first.outcome is Outcome.CANCELLED or first.seller in signers:
        return True
    return is_judged(first, signers, arbiters)


def quality_of(did: Did, receipts: Iterable[SettledReceipt], *, tip: int, tax_bps: int) -> int:
    """Q of a seller from these receipts at a height, in millionths; half a million without any."""
    good = bad = 0
    for receipt in receipts:
        if receipt.seller != did:
            continue
        age = age_days(receipt.height, tip)
        good += int(decayed(int(receipt.tax_florins), age))
        if receipt.outcome in (Outcome.AWARDED, Outcome.REFUNDED):
            missed = missed_tax_florins(receipt.price_florins, receipt.gross_florins, tax_bps)
            bad += int(decayed(int(missed), age))
    return quality_ppm(good, bad)


def census(witnesses: Iterable[Witness], window: Window, figures: Figures) -> tuple[list[Member], list[Refusal]]:
    """Who gets a share, in the order of DIDs, and why each other known node gets none.

    A member has a signed heartbeat and a paid job (as buyer or seller) in the window, a quality of at least the
    network's least, and a wallet address; beyond `max_nodes` the best quality counts, then the DID.
    """
    bodies = [witness.body for witness in sorted(witnesses, key=lambda witness: witness.item_id)]
    nodes = newest_nodes(body for body in bodies if isinstance(body, NodeInfo))
    alive = {body.did for body in bodies if isinstance(body, Heartbeat)}
    receipts = settled((body for body in bodies if isinstance(body, SettledReceipt)), window.arbiters)
    active = {did for receipt in receipts if receipt.gross_florins > 0 for did in (receipt.buyer, receipt.seller)}
    members: list[Member] = []
    refusals: list[Refusal] = []
    for did in sorted(alive | active | nodes.keys()):
        quality = quality_of(did, receipts, tip=window.to_height, tax_bps=window.tax_bps)
        script, reason = _standing(did, nodes.get(did), quality, alive, active, figures)
        address = nodes[did].wallet_address if did in nodes else ""
        if reason:
            refusals.append(Refusal(did, address, quality, reason))
        else:
            members.append(Member(did, address, script, quality))
    ranked = sorted(members, key=lambda member: (-member.quality_ppm, member.did))
    late = [Refusal(m.did, m.address, m.quality_ppm, "more nodes than shares") for m in ranked[figures.max_nodes :]]
    return sorted(ranked[: figures.max_nodes], key=lambda member: member.did), refusals + late


def newest_nodes(nodes: Iterable[NodeInfo]) -> dict[Did, NodeInfo]:
    """Each node's latest description; of two with one time, the one with the greater bytes."""
    found: dict[Did, NodeInfo] = {}
    for node in nodes:
        held = found.get(node.did)
        if held is None or (node.at_ms, canonical(node)) > (held.at_ms, canonical(held)):
            found[node.did] = node
    return found


def _standing(
    did: Did, node: NodeInfo | None, quality: int, alive: set[Did], active: set[Did], figures: Figures
) -> tuple[bytes, str]:
    """Where the node is paid, and why it is not (one of the two is empty)."""
    if node is None or node.withdrawn:
        return b"", "it is not registered"
    if did not in alive:
        return b"", "no heartbeat since the last cut-off"
    if did not in active:
        return b"", "no settled receipt since the last cut-off"
    if quality < figures.min_quality_ppm:
        return b"", "its reputation is too low"
    try:
        return address_to_script(node.wallet_address, family_named(figures.family)), ""
    except BadAddress:
        return b"", "its wallet address is not of this network"
