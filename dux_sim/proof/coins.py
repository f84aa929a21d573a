"""Chains of real blocks on which histories are played: the embedded one in process, and litecoind as a program.

Each has a purse of outputs that one known key owns. Loopback only; the program that was started is stopped by its id.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from common.chain.address import pay_to_key, script_to_address
from common.chain.invalid import Invalid
from common.chain.params import EMBEDDED, LITECOIN_REGTEST
from common.chain.script import key_sig
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, parse, serialize, sighash, txid
from common.chain.wire import decode_tx
from common.units import FLOP, Florins
from dux_sim.chain.node import Node
from dux_sim.chain.profile import ChainProfile, Premine
from dux_sim.proof.keys import public_key, signed

PURSE_SCRIPT = pay_to_key(public_key("purse"))
MINER_SCRIPT = pay_to_key(public_key("miner"))
PURSE_FEE = FLOP // 100
START_WAIT_S = 30.0
RPC_TIMEOUT_S = 60.0
MATURE_BLOCKS = 1_400  # litecoind's regtest knows CHECKLOCKTIMEVERIFY from 1,351 on


class Refusal(Exception):
    """The chain does not take this transaction."""


class Chain(Protocol):
    """What playing a history needs of a chain."""

    name: str
    purse: Purse

    @property
    def height(self) -> int:
        """The tip."""
        ...

    def mine(self) -> None:
        """A block with what waits."""
        ...

    def send(self, tx: Tx) -> None:
        """Hand a transaction over.

        Raises:
            Refusal: with the node's words.
        """
        ...

    def replace(self, count: int, tx: Tx) -> None:
        """The last `count` blocks go, and as many others come, the first of them with this transaction alone."""
        ...


class Purse:
    """Outputs to fund lots with: all of one size, each used once."""

    def __init__(self, outpoints: list[Outpoint], value: int) -> None:
        self._free, self.value = outpoints, value

    def take(self) -> Outpoint:
        """One more."""
        return self._free.pop()

    def payment(self, outpoint: Outpoint, script: bytes, florins: int, *, twin: bool = False) -> Tx:
        """Pay a script; the twin pays the same from the same output under another id."""
        rest = self.value - florins - PURSE_FEE * (2 if twin else 1)
        outputs = (TxOutput(Florins(florins), script), TxOutput(Florins(rest), PURSE_SCRIPT))
        return purse_signed(Tx((TxInput(outpoint),), outputs))


def purse_signed(tx: Tx) -> Tx:
    """The transaction with the purse's signatures."""
    digests = [sighash(tx, at, PURSE_SCRIPT) for at in range(len(tx.inputs))]
    return tx.signed([key_sig(signed("purse", digest), public_key("purse")) for digest in digests])


class EmbeddedChain:
    """The embedded chain, in this process."""

    name = "embedded"

    def __init__(self, outputs: int, value: int) -> None:
        address = script_to_address(PURSE_SCRIPT, EMBEDDED) or ""
        premine = tuple(Premine(address, str(value)) for _ in range(outputs))
        self.node = Node(ChainProfile(name="escrow proof", premine=premine, auxpow_every=0))
        self.node.mine(MINER_SCRIPT, 2)
        paid = txid(parse(self.node.chain.active[0].block.txs[1].raw))
        self.purse = Purse([Outpoint(paid, at) for at in range(outputs)], value)

    @property
    def height(self) -> int:
        """The tip."""
        return int(self.node.chain.tip.height)

    def mine(self) -> None:
        """A block."""
        self.node.mine(MINER_SCRIPT)

    def send(self, tx: Tx) -> None:
        """Hand a transaction over."""
        try:
            self.node.submit_tx(decode_tx(serialize(tx)))
        except Invalid as error:
            raise Refusal(str(error)) from error

    def replace(self, count: int, tx: Tx) -> None:
        """Other blocks in the place of the last ones; the mempool forgets what they held."""
        self.node.exclude(self.node.chain.active[-count])
        for waiting in list(self.node.pool.waiting):
            if waiting in self.node.pool.waiting:
                self.node.pool.drop_with_descendants(waiting)
        self.send(tx)
        self.node.mine(MINER_SCRIPT, count)


class Litecoind:
    """`litecoind -regtest`, through its own RPC."""

    name = "litecoind"

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self._url, self._process = url, process
        self.purse = Purse([], 0)
        self._miners = 0

    def rpc(self, method: str, *params: Any) -> Any:
        """One call.

        Raises:
            Refusal: the node's own error.
        """
        login = base64.b64encode(b"u:p").decode()
        body = json.dumps({"jsonrpc": "1.0", "id": 1, "method": method, "params": list(params)}).encode()
        request = urllib.request.Request(self._url, body, {"Authorization": f"Basic {login}"})  # noqa: S310 - loopback
        try:
            with urllib.request.urlopen(request, timeout=RPC_TIMEOUT_S) as response:  # noqa: S310 - loopback
                return json.load(response)["result"]
        except urllib.error.HTTPError as error:
            told = json.loads(error.read() or b"{}").get("error") or {}
            raise Refusal(str(told.get("message"))) from error

    @property
    def height(self) -> int:
        """The tip."""
        return int(self.rpc("getblockcount"))

    def mine(self, count: int = 1) -> None:
        """Blocks, each call with another miner, so that a block made anew is never the one that went."""
        self._miners += 1
        script = pay_to_key(public_key(f"miner-{self._miners}"))
        self.rpc("generatetoaddress", count, script_to_address(script, LITECOIN_REGTEST))

    def send(self, tx: Tx) -> None:
        """Hand a transaction over."""
        self.rpc("sendrawtransaction", serialize(tx).hex(), 0)  # a step of the ladder is above its usual limit

    def replace(self, count: int, tx: Tx) -> None:
        """Other blocks in the place of the last ones: what those held waits again, so the first is put together."""
        self.rpc("invalidateblock", self.rpc("getblockhash", self.height - count + 1))
        self._miners += 1
        script = pay_to_key(public_key(f"miner-{self._miners}"))
        self.rpc("generateblock", script_to_address(script, LITECOIN_REGTEST), [serialize(tx).hex()])
        if count > 1:
            self.mine(count - 1)

    def fill(self, outputs: int, value: int) -> None:
        """A purse from the first coinbases."""
        address = script_to_address(PURSE_SCRIPT, LITECOIN_REGTEST)
        self.rpc("generatetoaddress", MATURE_BLOCKS, address)
        found: list[Outpoint] = []
        at = 1
        while len(found) < outputs:
            block = self.rpc("getblock", self.rpc("getblockhash", at), 2)
            coinbase, at = block["tx"][0], at + 1
            have = round(coinbase["vout"][0]["value"] * FLOP)
            count = min((have - PURSE_FEE) // value, outputs - len(found))
            paid = tuple(TxOutput(Florins(value), PURSE_SCRIPT) for _ in range(count))
            tx = purse_signed(Tx((TxInput(Outpoint(coinbase["txid"], 0)),), self._with_change(paid, have)))
            self.send(tx)
            found += [Outpoint(txid(tx), number) for number in range(count)]
        self.mine()
        self.purse = Purse(found, value)

    @staticmethod
    def _with_change(paid: tuple[TxOutput, ...], have: int) -> tuple[TxOutput, ...]:
        rest = have - PURSE_FEE - sum(int(output.value_florins) for output in paid)
        return (*paid, TxOutput(Florins(rest), MINER_SCRIPT)) if rest > PURSE_FEE else paid


def litecoind_missing() -> str:
    """Why litecoind cannot be asked here, or nothing."""
    return "" if shutil.which("litecoind") else "litecoind is not installed (apt-get install litecoind)"


@contextmanager
def litecoind(folder: Path, outputs: int, value: int) -> Iterator[Litecoind]:
    """A litecoind of its own with a filled purse, ended afterwards."""
    port = 20_000 + os.getpid() % 10_000
    flags = [f"-datadir={folder}", "-server", "-rpcuser=u", "-rpcpassword=p", f"-rpcport={port}"]
    flags += ["-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1", "-listen=0", "-dnsseed=0", "-discover=0"]
    flags += ["-acceptnonstdtxn=0", "-fallbackfee=0.001", "-vbparams=mweb:9999999999:99999999999"]
    command = ["litecoind", "-regtest", *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - own words
    try:
        chain = Litecoind(f"http://127.0.0.1:{port}", process)
        _wait(chain, process)
        chain.fill(outputs, value)
        yield chain
    finally:
        process.terminate()
        process.wait(START_WAIT_S)


def _wait(chain: Litecoind, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_WAIT_S
    while time.monotonic() < until and process.poll() is None:
        try:
            chain.rpc("getblockcount")
        except (OSError, Refusal):
            time.sleep(0.1)
        else:
            return
    raise Refusal(f"litecoind did not answer within {START_WAIT_S} s")
