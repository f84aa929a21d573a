"""The demo's coin chain as a process: the embedded one, or a real litecoind or flopcoind on regtest.

Promises: the chain listens on loopback only, mines when asked, and tells what every coin became. It knows no nodes.
Source of the start lines: the chain's own documentation and `facts` measured for it (docs/operations.md).
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from common.errors import Unavailable
from common.units import FLOP, Florins
from dux_cli.supervisor import child_environment

READY_WITHIN_S = 60.0
CALL_DEADLINE_S = 60.0
LITECOIN_FIRST_BLOCKS = 1400  # CLTV is active on its regtest from height 1351
FLOPCOIN_FIRST_BLOCKS = 260  # coinbases mature after 240 blocks on the main rules, 6 on regtest
GENERATE_AT_ONCE = 100


class ChainDown(Unavailable):
    """The demo's chain ({program}) did not come up: {detail}."""

    code = 1331
    key = "chain-down"


class ChainError(Unavailable):
    """The chain answered {method} with an error: {detail}."""

    code = 1332
    key = "chain-error"


class CoinChain:
    """A running coin node: its RPC and its process."""

    def __init__(
        self, program: str, folder: Path, host: str, port: int, *, allow: str = "", login: str = "", p2p_port: int = 0
    ) -> None:
        """`allow`: who may call a real node, as its `rpcallowip` (else `host`); `login`: `user:password`, else made.

        `p2p_port`: where it serves light wallets, on the same host; 0: it does not.
        """
        self.program = program
        self.folder = folder
        self.host = host
        self.port = port
        self.user, self.password_file = "", folder / "rpc.password"
        self.p2p_port = p2p_port
        self._allow = allow or host
        self._given = login
        self._login = ""
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._own_address = ""

    @property
    def url(self) -> str:
        """Where the node answers JSON-RPC."""
        return f"http://{self.host}:{self.port}/"

    @property
    def peers(self) -> tuple[str, ...]:
        """Where it is reached by light wallets."""
        return (f"{self.host}:{self.p2p_port}",) if self.p2p_port else ()

    async def start(self, profile: Path) -> None:
        """Start the node and wait until it answers.

        Raises:
            ChainDown: it does not, with the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        words = self._command(profile)
        with (self.folder / "chain.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(),
                process_group=0,
            )
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                while not await self._answers():
                    if self._process.returncode is not None:
                        raise ChainDown(program=self.program, detail=self._log_tail())
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise ChainDown(program=self.program, detail=self._log_tail()) from error

    def _command(self, profile: Path) -> list[str]:
        made = base64.b32encode(os.urandom(20)).decode()  # noqa: TID251 - a password for one run, not a simulated draw
        self.user, _, password = (self._given or f"demo:{made}").partition(":")
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(password)
        self.log_in(f"{self.user}:{password}")
        if self.program == "embedded":
            auth = self.folder / "rpc.auth"
            auth.touch(mode=0o600)
            auth.write_text(f"{self.user}:{password}\n")
            options = ["--listen", f"{self.host}:{self.port}", "--data", str(self.folder), "--auth", str(auth)]
            options += ["--p2p", *self.peers] if self.peers else []
            return [sys.executable, "-P", "-m", "dux_sim.chaind", "--profile", str(profile), *options]
        return [find_program(self.program), f"-conf={self._write_conf(password)}", f"-datadir={self.folder}"]

    def log_in(self, login: str) -> None:
        """Call the node as this `user:password`; `start` does it, a node that runs already wants it once."""
        self._login = base64.b64encode(login.encode()).decode()

    def _write_conf(self, password: str) -> Path:
        lines = [
            "regtest=1", "server=1", "dnsseed=0", "acceptnonstdtxn=0", f"rpcuser={self.user}",
            f"rpcpassword={password}", "rpcthreads=24", "rpcworkqueue=64",
        ]  # fmt: skip
        section = [f"rpcport={self.port}", f"rpcbind={self.host}", f"rpcallowip={self._allow}", "rpcallowip=127.0.0.1"]
        section += [f"port={self.p2p_port}", f"bind={self.host}"] if self.p2p_port else []
        lines += self._peer_lines()
        if self.program == "litecoind":
            lines += ["fallbackfee=0.001", "[regtest]", *section, "vbparams=mweb:9999999999:99999999999"]
        else:
            lines += section
        path = self.folder / "coin.conf"
        path.touch(mode=0o600)
        path.write_text("\n".join(lines) + "\n")
        return path

    def _peer_lines(self) -> list[str]:
        """Light wallets are let in, get filters, and hear of a transaction at once and not in a trickle."""
        if not self.p2p_port:
            return ["listen=0"]
        right = "noban@" if self.program == "litecoind" else ""
        return ["listen=1", "discover=0", "peerbloomfilters=1", f"whitelist={right}{self._allow}"]

    async def _answers(self) -> bool:
        try:
            await self.call("getblockcount")
        except (ChainError, ChainDown):
            return False
        return True

    def _log_tail(self) -> str:
        return (self.folder / "chain.log").read_text(errors="replace")[-400:].strip()

    async def call(self, method: str, *params: Any) -> Any:
        """One JSON-RPC call; numbers with a point come back as Decimal.

        Raises:
            ChainDown: no answer. ChainError: an error answer.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(headers={"Authorization": f"Basic {self._login}"})
        body = msgspec.json.encode({"jsonrpc": "1.0", "id": 1, "method": method, "params": params})
        try:
            async with asyncio.timeout(CALL_DEADLINE_S), self._session.post(self.url, data=body) as response:
                answer = msgspec.json.Decoder(float_hook=Decimal).decode(await response.read())
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise ChainDown(program=self.program, detail=str(error)) from error
        if answer.get("error"):
            raise ChainError(method=method, detail=str(answer["error"].get("message")))
        return answer["result"]

    async def height(self) -> int:
        """The tip's height."""
        return int(await self.call("getblockcount"))

    async def mine(self, count: int) -> None:
        """Mine blocks now."""
        while count > 0:
            some = 1 if self.program == "flopcoind" else min(count, GENERATE_AT_ONCE)
            if self.program == "embedded":
                await self.call("generate", some)
            else:
                await self._let_time_pass()
                await self.call("generatetoaddress", some, await self._miner_address())
            count -= some

    async def _let_time_pass(self) -> None:
        """Flopcoin's regtest retargets: three seconds between blocks keep its difficulty at the minimum."""
        if self.program == "flopcoind":
            tip = await self.call("getblock", await self.call("getbestblockhash"))
            await self.call("setmocktime", int(tip["time"]) + 3)

    async def _miner_address(self) -> str:
        if not self._own_address:
            arguments = ("miner", "legacy") if self.program == "litecoind" else ("miner",)
            self._own_address = str(await self.call("getnewaddress", *arguments))
        return self._own_address

    async def _open_wallet(self) -> None:
        """The miner's wallet, made at the first start of this chain."""
        if "demo" not in [one["name"] for one in (await self.call("listwalletdir"))["wallets"]]:
            await self.call("createwallet", "demo")
        elif "demo" not in await self.call("listwallets"):
            await self.call("loadwallet", "demo")

    async def ripen(self) -> int:
        """Mine until the miner has coins and every rule is active; the height below which no node has a coin."""
        if self.program == "embedded":
            return 0
        if self.program == "litecoind":
            await self._open_wallet()
        wanted = LITECOIN_FIRST_BLOCKS if self.program == "litecoind" else FLOPCOIN_FIRST_BLOCKS
        await self.mine(wanted - await self.height())
        return await self.height()

    async def endow(self, payments: Sequence[tuple[str, Florins]]) -> None:
        """Give the nodes and the fund their first coins: a premine already did on the embedded chain."""
        for address, amount in payments if self.program != "embedded" else ():
            await self.call("sendtoaddress", address, float(Decimal(int(amount)) / FLOP))
        await self.mine(1)

    async def transaction(self, txid: str, height: int | None) -> dict[str, Any]:
        """A transaction in the chain, decoded; `height` is the block it lies in."""
        if height is None:
            found: dict[str, Any] = await self.call("getrawtransaction", txid, True)
            return found
        block = await self.call("getblock", await self.call("getblockhash", height), 2)
        return next(tx for tx in block["tx"] if tx["txid"] == txid)

    async def total(self) -> tuple[int, int]:
        """The tip's height, and the sum of all unspent outputs there, florins."""
        found = await self.call("gettxoutsetinfo")
        return int(found["height"]), to_florins(found["total_amount"])

    async def stop(self) -> None:
        """End the node by its own id: SIGTERM, then SIGKILL after ten seconds."""
        if self._session is not None:
            await self._session.close()
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def find_program(name: str) -> str:
    """The coin node's binary: `DUX_FLOPCOIND` for flopcoind, else on the PATH.

    Raises:
        ChainDown: there is none, with the way to get one.
    """
    named = os.environ.get("DUX_FLOPCOIND", "") if name == "flopcoind" else ""
    found = named or shutil.which(name)
    if not found:
        how = "apt-get install litecoind" if name == "litecoind" else "set DUX_FLOPCOIND to its path"
        raise ChainDown(program=name, detail=f"no such program; {how}, or use --chain embedded")
    return found


def to_florins(amount: Any) -> int:
    """A coin node's decimal amount in florins."""
    return int((Decimal(str(amount)) * FLOP).to_integral_value())
