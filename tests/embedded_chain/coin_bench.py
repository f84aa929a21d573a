"""A bench on which the same spends are made on the embedded chain and on a real litecoind, and their verdicts compared.

Transactions are built and signed here with coincurve and python-bitcoinlib, none of the code under test.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from bitcoin.core import CMutableTransaction, CMutableTxIn, CMutableTxOut, COutPoint, CTransaction, lx
from bitcoin.core.script import SIGHASH_ALL, CScript, RawSignatureHash
from coincurve import PrivateKey

from common.chain.address import hash160, p2pkh_script, p2sh_script, script_to_address
from common.chain.invalid import Invalid
from common.chain.params import EMBEDDED, LITECOIN_REGTEST
from common.chain.wire import decode_tx
from common.units import FLOP
from dux_sim.chain import miner
from dux_sim.chain.args import RpcError
from dux_sim.chain.consensus import subsidy_at
from dux_sim.chain.node import Node
from dux_sim.chain.profile import ChainProfile, Premine
from dux_sim.chain.rpc import RpcTable
from tests.ports import free_ports

N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
FEE = FLOP // 50
COINS = 120  # prepared outputs of 50 coins each
COIN_VALUE = 50 * FLOP
FINAL, WITH_LOCK = 0xFFFFFFFF, 0xFFFFFFFE
CLTV_HEIGHT = 1360  # litecoind knows CLTV and CSV by then


def key(name: str) -> PrivateKey:
    """A private key that follows from its name."""
    return PrivateKey(sha256(b"bench " + name.encode()).digest())


def pub(name: str) -> bytes:
    """Its compressed public key."""
    return key(name).public_key.format()


def pay(name: str) -> bytes:
    """The output script that pays its hash."""
    return p2pkh_script(hash160(pub(name)))


def p2sh(redeem: bytes) -> bytes:
    """The output script that pays a redeem script."""
    return p2sh_script(hash160(redeem))


def script(*items: int | bytes) -> bytes:
    """Opcodes (ints of 80 and more), small numbers and pushes as a script."""
    out = b""
    for item in items:
        out += bytes([item]) if isinstance(item, int) else bytes(CScript([item]))
    return out


class Coin:
    """An output that can be spent: where, what script, how much."""

    def __init__(self, txid: str, vout: int, lock: bytes, value: int) -> None:
        self.txid, self.vout, self.lock, self.value = txid, vout, lock, value


def build(
    coins: Sequence[Coin],
    outputs: Sequence[tuple[int, bytes]],
    *,
    lock_time: int = 0,
    sequence: int = FINAL,
    version: int = 1,
) -> CMutableTransaction:
    """An unsigned transaction."""
    inputs = [CMutableTxIn(COutPoint(lx(coin.txid), coin.vout), nSequence=sequence) for coin in coins]
    outs = [CMutableTxOut(value, CScript(lock)) for value, lock in outputs]
    return CMutableTransaction(inputs, outs, lock_time, version)


def sign(tx: CMutableTransaction, at: int, code: bytes, name: str, kind: int = SIGHASH_ALL) -> bytes:
    """A DER signature (low S) of one input, hash type appended."""
    digest, _ = RawSignatureHash(CScript(code), tx, at, kind)
    return key(name).sign(digest, hasher=None) + bytes([kind])


def with_high_s(signature: bytes) -> bytes:
    """The same signature with S on the other side of the curve's order."""
    der, kind = signature[:-1], signature[-1:]
    r_len = der[3]
    s = N - int.from_bytes(der[6 + r_len :], "big")
    raw = s.to_bytes(s.bit_length() // 8 + 1, "big")
    body = der[2 : 4 + r_len] + b"\x02" + bytes([len(raw)]) + raw
    return b"\x30" + bytes([len(body)]) + body + kind


def spend(coin: Coin, outputs: Sequence[tuple[int, bytes]], owner: str = "funder", **shape: int) -> CMutableTransaction:
    """A signed P2PKH spend."""
    tx = build([coin], outputs, **shape)
    tx.vin[0].scriptSig = CScript(script(sign(tx, 0, coin.lock, owner), pub(owner)))
    return tx


def raw(tx: CMutableTransaction) -> str:
    """The wire bytes in hexadecimal."""
    return str(CTransaction.from_tx(tx).serialize().hex())


def txid(tx: CMutableTransaction) -> str:
    """The name as people write it."""
    return bytes(CTransaction.from_tx(tx).GetTxid())[::-1].hex()


VERDICTS = (
    ("non-final", r"non-final|nonfinal|non-BIP68-final"),
    ("script", r"script-verify-flag|Script evaluated|block-validation-failed"),
    ("dust", r"dust"),
    ("fee", r"insufficient (priority|fee)|min relay fee|rate limited|mempool min fee"),
    ("missing", r"(?i)missing ?-?inputs|missingorspent"),
    ("conflict", r"txn-mempool-conflict|spends-conflicting"),
    ("immature", r"premature-spend"),
    ("size", r"tx-size"),
    ("belowout", r"in-belowout"),
    ("known", r"already in block chain|txn-already"),
    ("chain", r"too-long-mempool-chain"),
    ("decode", r"TX decode failed"),
    ("nonstandard", r"version|scriptpubkey|scriptsig|multi-op-return|nonstandard-inputs|bare-multisig"),
    ("amount", r"toolarge|outofrange|negative"),
    ("malformed", r"inputs-duplicate|vin-empty|vout-empty|coinbase|BIP30"),
)


def verdict_of(message: str) -> str:
    """The kind of refusal that both nodes word in their own way."""
    for name, pattern in VERDICTS:
        if re.search(pattern, message):
            return name
    return message


class Bench(Protocol):
    """A chain on which cases are tried."""

    name: str
    maturity: int

    def send(self, raw_tx: str) -> str:
        """The verdict of relay: ok, or the kind of refusal."""
        ...

    def in_block(self, raw_txs: Iterable[str]) -> str:
        """The verdict of consensus on a block that holds these transactions."""
        ...

    def mine(self, count: int = 1) -> None:
        """Mine what waits."""
        ...

    def height(self) -> int:
        """The height of the tip."""
        ...

    def coin(self) -> Coin:
        """A fresh output of 50 coins that pays `funder`."""
        ...

    def young_coinbase(self, depth: int) -> Coin:
        """A coinbase output that pays `funder` and will be `depth` deep in the next block."""
        ...


def funded(bench: Bench, lock: bytes, value: int = 10 * FLOP) -> Coin:
    """A confirmed output with this script."""
    coin = bench.coin()
    tx = spend(coin, [(value, lock), (coin.value - value - FEE, pay("change"))])
    assert bench.send(raw(tx)) == "ok"
    bench.mine()
    return Coin(txid(tx), 0, lock, value)


class EmbeddedBench:
    """The embedded chain, in process, through its RPC table."""

    name, maturity = "embedded", 240

    def __init__(self, blocks: int = 260) -> None:
        address = script_to_address(pay("funder"), EMBEDDED)
        assert address is not None
        premine = tuple(Premine(address, str(COIN_VALUE)) for _ in range(COINS))
        self.node = Node(ChainProfile(name="bench", premine=premine, mine_to=address))
        self.rpc = RpcTable(self.node)
        origin = self.node.chain.active[0].block.txs[1]
        self._coins = [Coin(origin.txid[::-1].hex(), vout, pay("funder"), COIN_VALUE) for vout in range(COINS)]
        self.node.mine(pay("funder"), blocks)

    def send(self, raw_tx: str) -> str:
        try:
            self.rpc.call("sendrawtransaction", [raw_tx])
        except RpcError as error:
            return verdict_of(error.message)
        return "ok"

    def in_block(self, raw_txs: Iterable[str]) -> str:
        tip = self.node.chain.tip
        txs = tuple(decode_tx(bytes.fromhex(item)) for item in raw_txs)
        reward = miner.coinbase_tx(tip.height + 1, subsidy_at(tip.height + 1), pay("funder"))
        block = miner.work(miner.assemble(tip, self.node.now_s(), (reward, *txs), merged=False))
        try:
            self.node.submit_block(block)
        except Invalid as error:
            return verdict_of(str(error))
        return "ok"

    def mine(self, count: int = 1) -> None:
        self.node.mine(pay("funder"), count)

    def height(self) -> int:
        return self.node.chain.tip.height

    def coin(self) -> Coin:
        return self._coins.pop()

    def young_coinbase(self, depth: int) -> Coin:
        tx = self.node.chain.active[self.height() + 1 - depth].block.txs[0]
        return Coin(tx.txid[::-1].hex(), 0, pay("funder"), tx.outputs[0].value_florins)


class LitecoindBench:
    """A real litecoind on regtest."""

    name, maturity = "litecoind", 100

    def __init__(self, url: str, auth: str) -> None:
        self._url = url
        self._login = "Basic " + base64.b64encode(auth.encode()).decode()
        self._address = script_to_address(pay("funder"), LITECOIN_REGTEST)
        for _ in range(2):
            self.call("generatetoaddress", CLTV_HEIGHT // 2, self._address)
        self._coins = [self._coinbase_at(height) for height in range(1, COINS + 1)]

    def call(self, method: str, *params: object) -> Any:
        """The result of an RPC call; refusals raise ValueError with the node's words."""
        body = json.dumps({"id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self._url, body, {"Authorization": self._login})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - loopback
                return json.load(answer, parse_float=Decimal)["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]["message"]) from error

    def _coinbase_at(self, height: int) -> Coin:
        block = self.call("getblock", self.call("getblockhash", height), 2)
        out = block["tx"][0]["vout"][0]
        return Coin(block["tx"][0]["txid"], 0, pay("funder"), int(out["value"] * FLOP))

    def send(self, raw_tx: str) -> str:
        try:
            self.call("sendrawtransaction", raw_tx, 0)
        except ValueError as error:
            return verdict_of(str(error))
        return "ok"

    def in_block(self, raw_txs: Iterable[str]) -> str:
        try:
            self.call("generateblock", self._address, list(raw_txs))
        except ValueError as error:
            return verdict_of(str(error))
        return "ok"

    def mine(self, count: int = 1) -> None:
        self.call("generatetoaddress", count, self._address)

    def height(self) -> int:
        return int(self.call("getblockcount"))

    def coin(self) -> Coin:
        return self._coins.pop()

    def young_coinbase(self, depth: int) -> Coin:
        return self._coinbase_at(self.height() + 1 - depth)


@contextmanager
def litecoind(directory: Path) -> Iterator[LitecoindBench]:
    """A litecoind with relay rules on and MWEB off, ended at exit."""
    port = free_ports()
    flags = ["-server", "-rpcuser=u", "-rpcpassword=p", f"-rpcport={port}", "-rpcbind=127.0.0.1", "-listen=0"]
    flags += ["-rpcallowip=127.0.0.1", "-dnsseed=0", "-acceptnonstdtxn=0", "-vbparams=mweb:9999999999:99999999999"]
    flags += ["-txindex=1", "-mempoolreplacement=1", "-disablewallet=1", "-printtoconsole=0"]
    process = subprocess.Popen(["litecoind", "-regtest", f"-datadir={directory}", *flags])
    try:
        yield _when_up(process, port)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _when_up(process: subprocess.Popen[bytes], port: int) -> LitecoindBench:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return LitecoindBench(f"http://127.0.0.1:{port}/", "u:p")
        except (urllib.error.URLError, ConnectionError, ValueError):
            time.sleep(0.1)
    raise AssertionError("litecoind did not answer within 60 s")
