"""Which digests a wallet may have signed: every way out of its contracts, and the word whose contract it is.

The list is made from outside the wallet, from the contract it adopted and the outputs that were on its script.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from common.chain.contract import CONTRACT_BYTES_MAX, Contract, lot_output_script
from common.chain.fees import FEE_LADDER
from common.chain.settle import lot_digest, signature_is_right
from common.chain.templates import Award, BadTemplate, Cancel, Refund, Release, Side, Template, build
from common.chain.tx import Outpoint
from common.codec import from_canonical
from common.receipt_keys import contract_word, word_digest
from common.units import Florins
from dux_escrowd.hearing import award_template, outpoint_of
from dux_escrowd.model import AwardKey
from dux_escrowd.statements import Heard
from dux_escrowd.words import SaidAward, SaidCancel, SaidRelease
from dux_sim.world.node import SimNode

Seen = tuple[str, int, bytes, int]  # txid, vout, script and value of an output that was in some block


class Rebuilder:
    """Finds what a signature was for, the likely ones first; what was found once is remembered."""

    def __init__(self, coins: list[Seen]) -> None:
        self._coins = coins
        self._known: dict[tuple[bytes, bytes], None] = {}
        self._unread: dict[bytes, Iterator[bytes]] = {}

    def is_legitimate(self, node: SimNode, index: int, digest: bytes) -> bool:
        """Whether key `index` of the node may sign this digest."""
        rows = node.disk("flopd").rows("SELECT body FROM contracts WHERE key_number = ?", index)
        return any(self._gives(bytes(row["body"]), digest) for row in rows)

    def _gives(self, body: bytes, digest: bytes) -> bool:
        if (body, digest) in self._known:
            return True
        unread = self._unread.setdefault(body, self._digests(body))
        for found in unread:
            self._known[body, found] = None
            if found == digest:
                return True
        return False

    def _digests(self, body: bytes) -> Iterator[bytes]:
        contract = from_canonical(body, Contract, max_bytes=CONTRACT_BYTES_MAX)
        yield word_digest(contract_word(contract))
        script = lot_output_script(contract)
        mine = [(Outpoint(txid, vout), value) for txid, vout, locked, value in self._coins if locked == script]
        for rung in range(len(FEE_LADDER)):
            for template in templates_of(contract):
                for outpoint, value in mine:
                    try:
                        yield lot_digest(contract, build(contract, outpoint, value, template, rung))
                    except BadTemplate:
                        continue


def templates_of(contract: Contract) -> Iterator[Template]:
    """Every way out with the amounts that anybody in these histories names: nothing, or the price."""
    price = Florins(int(contract.price_florins))
    yield from (Release(price), Cancel(), Refund())
    seats = range(len(contract.arbiters))
    for size in reversed(range(len(contract.arbiters) + 1)):
        for panel in combinations(seats, size):
            for gross in (Florins(0), price):
                for side in Side:
                    yield Award(gross, side, panel)


def is_junk(contract: Contract, outpoint: str, value_florins: int, heard: Heard) -> bool:
    """Whether a statement about this coin carries a signature that is not its signer's of the way out it names."""
    said, signer = heard.said, heard.statement.signer
    if not isinstance(said, SaidRelease | SaidCancel | SaidAward) or said.outpoint != outpoint:
        return False
    keys = {contract.buyer.did: contract.buyer.key, contract.seller.did: contract.seller.key}
    keys |= {arbiter.did: arbiter.key for arbiter in contract.arbiters}
    for rung, signature in enumerate(said.signatures):
        tx = build(contract, outpoint_of(outpoint), value_florins, _template(contract, said), rung)
        if not signature_is_right(contract, tx, keys[signer], signature):
            return True
    return False


def _template(contract: Contract, said: SaidRelease | SaidCancel | SaidAward) -> Template:
    if isinstance(said, SaidRelease):
        return Release(said.gross_florins)
    if isinstance(said, SaidCancel):
        return Cancel()
    key = AwardKey(said.outpoint, int(said.gross_florins), tuple(sorted(said.revealed)))
    return award_template(contract, key)
