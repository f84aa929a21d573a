"""The coin nodes that flopd must work with, started for a test run, and a bank on each that pays the wallets.

The bank signs with its own known key and keeps its own coins; none of flopd's signing is in it. Blocks can be crafted
by hand, so that a stranger's version of a transaction gets into one.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from common.chain import difficulty, merkle
from common.chain.address import pay_to_key, script_to_address
from common.chain.params import EMBEDDED, FLOPCOIN_REGTEST, LITECOIN_REGTEST, ChainFamily
from common.chain.script import key_sig
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, serialize, sighash, txid
from common.chain.wire import Header, unshown
from common.units import FLOP, Florins
from dux_flopd.blocks import parse_block
from dux_sim.chain import block_rules, consensus
from tests.chain.contract_kit import private_key, public_key, sign_digest
from tests.ports import free_ports

BANK = "bank"
BANK_SCRIPT = pay_to_key(public_key(BANK))
BANK_FEE = FLOP // 50
MATURE_BLOCKS = 1400  # litecoind knows CLTV from 1351 on
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
START_WAIT_S = 30.0
MINERS = itertools.count()


class Refused(Exception):
    """The node's own error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


@dataclass
class CoinBench:
    """A running node and the bank's coins on it."""

    name: str
    family: ChainFamily
    url: str
    user: str
    password: str
    password_file: Path
    genesis: str = ""
    p2p: str = ""  # where it serves light wallets
    source: str = "core"  # how the wallets of a test see it
    coins: list[tuple[Outpoint, int]] = field(default_factory=list)

    def rpc(self, method: str, *params: Any) -> Any:
        """One call; `Refused` for the node's own error."""
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        body = json.dumps({"jsonrpc": "1.0", "id": 1, "method": method, "params": list(params)}).encode()
        request = urllib.request.Request(self.url, body, {"Authorization": f"Basic {login}"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            answer = json.loads(error.read() or b'{"error": {"code": 0, "message": "no answer"}}')
        if answer["error"]:
            raise Refused(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    @property
    def height(self) -> int:
        """The node's tip."""
        return int(self.rpc("getblockcount"))

    def mine(self, count: int = 1) -> list[str]:
        """Blocks, each call with another miner: a block made anew after a reorganisation is never the one that went."""
        if self.family is FLOPCOIN_REGTEST:
            return [self._mine_dated() for _ in range(count)]
        address = script_to_address(pay_to_key(public_key(f"miner-{next(MINERS)}")), self.family)
        return list(self.rpc("generatetoaddress", count, address))

    def _mine_dated(self) -> str:
        """Flopcoin's regtest retargets: a block far enough from the last one is easy again (facts, trap 4)."""
        head = self.rpc("getblockheader", self.rpc("getbestblockhash"))
        self.rpc("setmocktime", int(head["time"]) + 3)
        return str(self.rpc("generatetoaddress", 1, script_to_address(BANK_SCRIPT, self.family))[0])

    def pay(self, *outputs: tuple[bytes, int], send: bool = True) -> Tx:
        """A payment by the bank, handed to the node."""
        need = sum(value for _, value in outputs) + BANK_FEE
        chosen, have = [], 0
        while have < need:
            chosen.append(self.coins.pop(0))
            have += chosen[-1][1]
        paid = [TxOutput(Florins(value), script) for script, value in outputs]
        tx = self.bank_tx([point for point, _ in chosen], [*paid, TxOutput(Florins(have - need), BANK_SCRIPT)])
        if send:
            self.rpc("sendrawtransaction", serialize(tx).hex())
            self.coins.append((Outpoint(txid(tx), len(paid)), have - need))
        return tx

    def bank_tx(self, points: list[Outpoint], outputs: list[TxOutput]) -> Tx:
        """A transaction that spends the bank's coins, signed."""
        tx = Tx(tuple(TxInput(point) for point in points), tuple(outputs))
        key = public_key(BANK)
        return tx.signed([key_sig(sign_digest(BANK, sighash(tx, at, BANK_SCRIPT)), key) for at in range(len(points))])

    def outputs_in_tip(self, wanted: str) -> list[tuple[bytes, int]]:
        """Script and value of the outputs of a transaction in the last block; empty when it is not there."""
        raw = self.rpc("getblock", self.rpc("getbestblockhash"), *_as_hex(self))
        found = [item.tx for item in parse_block(bytes.fromhex(raw)).txs if item.txid == wanted]
        return [(output.script, int(output.value_florins)) for tx in found for output in tx.outputs]

    def roll_back(self, count: int) -> int:
        """Take the last blocks off the best chain; returns the height that is left."""
        height = self.height
        self.rpc("invalidateblock", self.rpc("getblockhash", height - count + 1))
        return height - count

    def craft(self, *txs: Tx) -> str:
        """A block with exactly these transactions on the tip: by hand, as a miner could."""
        best = self.rpc("getbestblockhash")
        parent = self._header(best)
        grandparent = self._header(parent[4:36][::-1].hex())
        height = self.height + 1
        script = _push_height(height) + b"\x07by hand"
        coinbase = Tx((TxInput(Outpoint("00" * 32, 0xFFFFFFFF), script, 0xFFFFFFFF),), (TxOutput(Florins(0), b"\x6a"),))
        hashes = [unshown(txid(tx)) for tx in (coinbase, *txs)]
        root = merkle.root_of(hashes)[0]
        raw = self._worked(parent, grandparent, best, root)
        body = bytes([len(hashes)]) + b"".join(serialize(tx) for tx in (coinbase, *txs))
        answer = self.rpc("submitblock", (raw + body).hex())
        if answer is not None:
            raise Refused(0, str(answer))
        return str(self.rpc("getbestblockhash"))

    def _header(self, block_hash: str) -> bytes:
        return bytes.fromhex(self.rpc("getblockheader", block_hash, False))[:80]

    def _worked(self, parent: bytes, grandparent: bytes, best: str, root: bytes) -> bytes:
        time_s = int.from_bytes(parent[68:72], "little") + 60
        version, bits = 0x20000000, int.from_bytes(parent[72:76], "little")
        if self.family is EMBEDDED:
            version = consensus.CHAIN_ID << 16 | consensus.BLOCK_VERSION_BASE
            bits = block_rules.next_bits(_parsed(parent), _parsed(grandparent))
        for nonce in range(200_000):
            raw = struct.pack("<i32s32sIII", version, unshown(best), root, time_s, bits, nonce)
            if difficulty.meets(raw, bits, consensus.POW_LIMIT):
                return raw
        raise AssertionError("no nonce found")


def _parsed(raw: bytes) -> Header:
    version, prev, root, time_s, bits, nonce = struct.unpack("<i32s32sIII", raw)
    return Header(version=version, prev=prev, merkle_root=root, time_s=time_s, bits=bits, nonce=nonce)


def _push_height(height: int) -> bytes:
    if height <= 16:
        return bytes([0x50 + height])
    data = height.to_bytes((height.bit_length() + 8) // 8, "little")
    return bytes([len(data)]) + data


def high_s(tx: Tx) -> Tx:
    """A stranger's copy: the same payment with each signature's s turned around; only consensus takes it."""
    scripts = []
    for item in tx.inputs:
        length = item.script_sig[0]
        der, rest = item.script_sig[1:length], item.script_sig[1 + length :]
        turned = _turned(der) + b"\x01"
        scripts.append(bytes([len(turned)]) + turned + rest)
    return tx.signed(scripts)


def _turned(der: bytes) -> bytes:
    r_end = 4 + der[3]
    s = ORDER - int.from_bytes(der[r_end + 2 : r_end + 2 + der[r_end + 1]], "big")
    s_bytes = s.to_bytes(33, "big")
    s_bytes = s_bytes if s_bytes[1] & 0x80 else s_bytes[1:]
    body = der[2:r_end] + bytes([2, len(s_bytes)]) + s_bytes
    return bytes([0x30, len(body)]) + body


@contextmanager
def embedded(folder: Path) -> Iterator[CoinBench]:
    """The embedded chain as a process, with a premine for the bank."""
    port, p2p, address = free_ports(), free_ports(), script_to_address(BANK_SCRIPT, EMBEDDED)
    premine = [{"address": address, "amount_florins": str(1_000 * FLOP)} for _ in range(60)]
    profile = folder / "chain.yaml"
    profile.write_text(yaml.safe_dump({"name": "flopd tests", "premine": premine}))
    command = [sys.executable, "-m", "dux_sim.chaind", "--profile", str(profile)]
    command += ["--listen", f"127.0.0.1:{port}", "--p2p", f"127.0.0.1:{p2p}", "--data", str(folder / "data")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline().split()
        auth = folder / "data" / "rpc.auth"
        user, _, password = auth.read_text().strip().partition(":")
        bench = CoinBench("embedded", EMBEDDED, ready[1], user, password, auth, ready[2], f"127.0.0.1:{p2p}")
        paid = parse_block(bytes.fromhex(bench.rpc("getblock", bench.genesis, 0))).txs[1]
        bench.coins = [(Outpoint(paid.txid, at), int(o.value_florins)) for at, o in enumerate(paid.tx.outputs)]
        bench.mine(2)  # a crafted block looks at two blocks before it
        yield bench
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def litecoind(folder: Path) -> Iterator[CoinBench]:
    """Litecoind -regtest with the flags of the facts."""
    flags = ["-fallbackfee=0.001", "-peerbloomfilters=1", "-vbparams=mweb:9999999999:99999999999"]
    flags += ["-rpcthreads=16", "-whitelist=noban@127.0.0.1"]  # it tells of transactions at once, not in a trickle
    with _daemon("litecoind", LITECOIN_REGTEST, folder, flags) as bench:
        bench.rpc("generatetoaddress", MATURE_BLOCKS, script_to_address(BANK_SCRIPT, bench.family))
        _collect_coinbases(bench, range(1, 140))
        yield bench


@contextmanager
def flopcoind(folder: Path) -> Iterator[CoinBench]:
    """The real coin's daemon on its regtest, where one is at hand."""
    with _daemon(os.environ["DUX_FLOPCOIND"], FLOPCOIN_REGTEST, folder, []) as bench:
        bench.mine(150)
        _collect_coinbases(bench, range(1, 140))
        yield bench


def _collect_coinbases(bench: CoinBench, heights: range) -> None:
    for height in heights:
        raw = bytes.fromhex(bench.rpc("getblock", bench.rpc("getblockhash", height), *_as_hex(bench)))
        coinbase = parse_block(raw).txs[0]
        bench.coins.append((Outpoint(coinbase.txid, 0), int(coinbase.tx.outputs[0].value_florins)))


def _as_hex(bench: CoinBench) -> list[Any]:
    return [False] if bench.family is FLOPCOIN_REGTEST else [0]


@contextmanager
def _daemon(binary: str, family: ChainFamily, folder: Path, flags: list[str]) -> Iterator[CoinBench]:
    rpc_port, port = free_ports(), free_ports()
    password_file = folder / "password"
    password_file.write_text("p")
    command = [binary, "-regtest", f"-datadir={folder}", "-server", "-rpcuser=u", "-rpcpassword=p"]
    command += [f"-rpcport={rpc_port}", "-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1", f"-port={port}"]
    command += ["-bind=127.0.0.1", "-listen=1", "-dnsseed=0", "-discover=0", "-acceptnonstdtxn=0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url, p2p = f"http://127.0.0.1:{rpc_port}", f"127.0.0.1:{port}"
    bench = CoinBench(family.name, family, url, "u", "p", password_file, p2p=p2p)
    try:
        bench.genesis = _first_answer(bench, process)
        yield bench
    finally:
        process.terminate()
        process.wait(30)


def _first_answer(bench: CoinBench, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + START_WAIT_S
    while time.monotonic() < until:
        assert process.poll() is None, f"{bench.name} ended with {process.returncode}"
        try:
            return str(bench.rpc("getblockhash", 0))
        except (OSError, Refused):
            time.sleep(0.1)
    raise AssertionError(f"{bench.name} did not answer within {START_WAIT_S} s")


def missing(name: str) -> str:
    """Why this node cannot be started here, or an empty string."""
    if name == "litecoind" and not shutil.which("litecoind"):
        return "litecoind is not installed (apt-get install litecoind)"
    if name == "flopcoind" and not os.environ.get("DUX_FLOPCOIND"):
        return "DUX_FLOPCOIND names no flopcoind"
    return ""


STARTERS = {"embedded": embedded, "litecoind": litecoind, "flopcoind": flopcoind}

__all__ = ["STARTERS", "CoinBench", "Refused", "high_s", "missing", "private_key"]
