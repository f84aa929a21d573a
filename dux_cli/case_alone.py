"""The audit of a contract's file on a machine without a node: keys by the logs in the file, the chain by a coin node.

A signer's name is the hash of its log's first event, so a log that is another's, or was bent, is none of that name's.
What a log in a file cannot tell is what its owner has done since: that is said, not passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.chain.params import EMBEDDED
from common.chain.tx import Outpoint
from common.contracts.wallet_chain import Coins, CoinView, SpendView
from common.errors import DuxError
from common.identity.keys import is_signed
from common.identity.log import Log, decode_log
from common.units import BlockHeight, Did
from dux_flopd.blocks import parse_block
from dux_flopd.node_rpc import CoinNode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from common.identity.purposes import Purpose
    from common.receipts import Attested
    from dux_flopd.blocks import BlockTx

NOW_MS = 2**53  # whoever checks a file has no clock to distrust its logs by


class LogSignatures:
    """Signatures by the event logs that the file brings. `missing`: signers of which it brings none."""

    def __init__(self, kept: Mapping[str, bytes]) -> None:
        self._logs = {did: _log(did, data) for did, data in kept.items()}
        self.missing: set[Did] = set()
        self.stopped: set[Did] = set()

    def is_right(self, purpose: Purpose, one: Attested) -> bool:
        """Whether a key of the signer's log has made it; where the file has no log of the signer, nobody can say."""
        if one.did not in self._logs:
            self.missing.add(Did(one.did))
            return True
        log = self._logs[one.did]
        key = log.key_of(one.key_seq) if log is not None else None
        return key is not None and is_signed(key, purpose, one.body, one.signature)


def _log(did: str, data: bytes) -> Log | None:
    """The log of this name; None: it is none of it."""
    try:
        log = decode_log(data, now_ms=NOW_MS, inception_bits=0)
    except DuxError:
        return None
    return log if log.did == did else None


class Scan:
    """All coins on a script with what spent them, from blocks read one after the other."""

    def __init__(self, script: bytes) -> None:
        self._script = script
        self._found: dict[Outpoint, CoinView] = {}

    def take(self, height: int, txs: tuple[BlockTx, ...]) -> None:
        """One more block."""
        at = BlockHeight(height)
        for one in txs:
            for item in one.tx.inputs:
                held = self._found.get(item.outpoint)
                if held is not None:
                    spend = SpendView(txid=one.txid, height=at, raw=one.raw, script_sig=item.script_sig)
                    self._found[item.outpoint] = CoinView(
                        held.outpoint, held.value_florins, held.height, held.position, spend
                    )
            for vout, output in enumerate(one.tx.outputs):
                if output.script == self._script:
                    point = Outpoint(one.txid, vout)
                    self._found[point] = CoinView(point, output.value_florins, at, one.position, None)

    def coins(self, tip: int) -> Coins:
        """What was found up to this height."""
        return Coins(coins=list(self._found.values()), tip=BlockHeight(tip))


async def coins_of(script: bytes, from_height: int, url: str, login: tuple[str, str]) -> Coins:
    """What a coin node's blocks from a height on show on a script.

    Raises:
        DuxError: the coin node does not answer, or gives no blocks.
    """
    coin_node, scan = CoinNode(url, login, EMBEDDED), Scan(script)
    try:
        tip = (await coin_node.tip()).height
        for height in range(from_height, tip + 1):
            name = await coin_node.block_hash(height)
            if name is not None:
                scan.take(height, parse_block(await coin_node.block(name)).txs)
    finally:
        await coin_node.close()
    return scan.coins(tip)
