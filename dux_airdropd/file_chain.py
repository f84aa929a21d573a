"""The chain that a proof file carries: headers in a row, transactions on their way to a header's root.

Pure. What it cannot know: whether the headers are the best chain (their work is checked, except of merge mined ones,
whose work stands elsewhere), and whether something was left out. A coin node answers both (`node_problems`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from common.chain.beacon import beacon_heights, beacon_of, work_hash
from common.chain.difficulty import meets, target_of
from common.chain.merkle import root_by_branch
from common.chain.tx import Outpoint, Tx, parse, txid
from common.chain.wire import HEADER_BYTES, DecodeError, Header, Reader, read_header, shown
from common.errors import DuxError
from common.receipt_keys import lots_spent
from dux_airdropd.file_model import FundFile, TxShown
from dux_airdropd.model import FundCoin, Payment

AMBIGUOUS_BYTES = 64  # a transaction of this size may be two hashes (CVE-2017-12842)


class FileChain:
    """What a file shows of the chain, and what is wrong with it."""

    def __init__(self, file: FundFile, genesis: str) -> None:
        self.problems: list[str] = []
        self.merge_mined = 0
        self.low = file.headers_from
        self.headers = self._read(file.headers)
        if self.low == 0 and self.headers and shown(self.headers[0].hash) != genesis:
            self.problems.append("its headers do not begin with the network's first block")
        self.txs: dict[str, tuple[TxShown, Tx]] = {}
        for at, one in enumerate(file.txs):
            self._take(at, one)

    @property
    def top(self) -> int:
        """The height of the last header."""
        return self.low + len(self.headers) - 1

    def _read(self, data: bytes) -> list[Header]:
        if len(data) % HEADER_BYTES:
            self.problems.append("its headers are cut off")
        found: list[Header] = []
        for at in range(0, len(data) - HEADER_BYTES + 1, HEADER_BYTES):
            header = read_header(Reader(data[at : at + HEADER_BYTES]))
            if found and header.prev != found[-1].hash:
                self.problems.append(f"header {self.low + len(found)} does not follow the one before")
                break
            if header.has_auxpow:
                self.merge_mined += 1
            elif self.low + len(found) > 0 and not meets(header.raw, header.bits, target_of(header.bits)):
                self.problems.append(f"header {self.low + len(found)} has no work")
                break
            found.append(header)
        return found

    def _take(self, at: int, one: TxShown) -> None:
        try:
            tx = parse(one.raw)
        except (DuxError, DecodeError, ValueError):
            self.problems.append(f"transaction {at} cannot be read")
            return
        name = txid(tx)
        header = self._header_at(one.height)
        if header is None:
            self.problems.append(f"transaction {name[:16]} is at height {one.height}, of which there is no header")
        elif len(one.raw) == AMBIGUOUS_BYTES or one.index >= 1 << len(one.branch):
            self.problems.append(f"transaction {name[:16]} could be read in two ways")
        elif root_by_branch(bytes.fromhex(name)[::-1], one.branch, one.index) != header.merkle_root:
            self.problems.append(f"transaction {name[:16]} is not in block {one.height}")
        else:
            self.txs[name] = (one, tx)

    def _header_at(self, height: int) -> Header | None:
        at = height - self.low
        return self.headers[at] if 0 <= at < len(self.headers) else None

    def block_hash(self, height: int) -> str:
        """The block at a height; empty when the file has no header of it."""
        header = self._header_at(height)
        return "" if header is None else shown(header.hash)

    def payment(self, name: str, height: int) -> Payment | None:
        """A transaction's outputs and the lots it spends, if it is at that height."""
        found = self.txs.get(name)
        if found is None or found[0].height != height:
            return None
        return Payment(height, found[1].outputs, lots_spent(found[1]))

    def coins(self, script: bytes) -> list[FundCoin]:
        """Every shown output on a script, with the shown transaction that spent it."""
        spent = {item.outpoint: (name, one, tx) for name, (one, tx) in self.txs.items() for item in tx.inputs}
        found = []
        for name, (one, tx) in sorted(self.txs.items()):
            for vout, output in enumerate(tx.outputs):
                if output.script == script:
                    found.append(_coin(Outpoint(name, vout), int(output.value_florins), one.height, spent))
        return found

    def beacon(self, height: int) -> bytes | None:
        """The draw of a height; None where headers are missing, or their work stands in a parent chain."""
        found = [self._header_at(at) for at in beacon_heights(height)]
        own = [header for header in found if header is not None and not header.has_auxpow]
        return beacon_of(height, [work_hash(one.raw) for one in own]) if len(own) == len(found) else None


def _coin(point: Outpoint, value: int, height: int, spent: Mapping[Outpoint, tuple[str, TxShown, Tx]]) -> FundCoin:
    if point not in spent:
        return FundCoin(point, value, height)
    name, one, tx = spent[point]
    return FundCoin(point, value, height, one.height, name, tx.outputs)


# what a coin node adds


def node_problems(
    chain: FileChain, hashes: Mapping[int, str], coins: Iterable[FundCoin], claimed: Sequence[FundCoin], cutoff: int
) -> list[str]:
    """What a coin node's own blocks say against a file: another chain, or coins that the file leaves out or makes up.

    `hashes`: of the node's blocks by height; `coins`: all that a scan of its blocks found on the script.
    """
    for height in range(chain.low, chain.top + 1):
        if hashes.get(height, "") != chain.block_hash(height):
            return [f"block {height} is another one on the coin node's chain"]
    held = {coin.outpoint for coin in coins if _is_held(coin, cutoff)}
    told = {coin.outpoint for coin in claimed if _is_held(coin, cutoff)}
    found = [f"it leaves out the coin {point}" for point in sorted(map(str, held - told))]
    return found + [f"it makes up the coin {point}" for point in sorted(map(str, told - held))]


def _is_held(coin: FundCoin, height: int) -> bool:
    return (
        coin.height is not None and coin.height <= height and (coin.spent_height is None or coin.spent_height > height)
    )


class Scan:
    """All coins on a script, from blocks read one after the other."""

    def __init__(self, script: bytes) -> None:
        self._script = script
        self._found: dict[Outpoint, FundCoin] = {}

    def take(self, height: int, txs: Iterable[tuple[str, Tx]]) -> None:
        """One more block: transactions with their names."""
        for name, tx in txs:
            for item in tx.inputs:
                if item.outpoint in self._found:
                    held = self._found[item.outpoint]
                    self._found[item.outpoint] = FundCoin(
                        held.outpoint, held.value_florins, held.height, height, name, tx.outputs
                    )
            for vout, output in enumerate(tx.outputs):
                if output.script == self._script:
                    point = Outpoint(name, vout)
                    self._found[point] = FundCoin(point, int(output.value_florins), height)

    def coins(self) -> list[FundCoin]:
        """What was found."""
        return list(self._found.values())
