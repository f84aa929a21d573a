"""RPC methods that change something: transactions and blocks sent in, mining, reorganisations by hand, the time."""

from __future__ import annotations

from common.chain.address import BadAddress, address_to_script, p2pkh_script
from common.chain.invalid import Invalid
from common.chain.params import EMBEDDED
from common.chain.wire import DecodeError, decode_block, decode_tx, shown
from dux_sim.chain import miner
from dux_sim.chain.args import (
    ALREADY_IN_CHAIN,
    DESERIALIZATION_ERROR,
    INTERNAL_ERROR,
    INVALID_PARAMETER,
    NOT_FOUND,
    VERIFY_ERROR,
    VERIFY_REJECTED,
    Args,
    RpcError,
)
from dux_sim.chain.errors import AlreadyInChain, MiningGaveUp, MissingInputs
from dux_sim.chain.node import Node
from dux_sim.chain.rpc_queries import Queries

GENERATE_MAX = 2_000
NOBODY = p2pkh_script(bytes(20))  # no key has this hash, as far as anyone knows


def mining_script(address: str | None) -> bytes:
    """The script that coinbases pay; without an address, one that nobody can spend."""
    return NOBODY if address is None else address_to_script(address, EMBEDDED)


class Actions:
    """The doing half of the RPC table."""

    def __init__(self, node: Node, queries: Queries) -> None:
        """Act on this node."""
        self._node = node
        self._queries = queries

    def sendrawtransaction(self, args: Args) -> str:
        """Take in a transaction as a peer would; the second argument lifts the guard against absurd fees.

        It may be true, as Flopcoin Core has it, or 0, which is litecoind's "no greatest fee rate".
        """
        try:
            tx = decode_tx(args.hex(0))
        except DecodeError as error:
            raise RpcError(DESERIALIZATION_ERROR, f"TX decode failed: {error}") from error
        wanted = args.any(1)
        any_fee = wanted is True or (wanted is not False and wanted == 0)
        try:
            self._node.submit_tx(tx, any_fee=any_fee)
        except MissingInputs as error:
            raise RpcError(VERIFY_ERROR, "Missing inputs") from error
        except AlreadyInChain as error:
            raise RpcError(ALREADY_IN_CHAIN, "transaction already in block chain") from error
        except Invalid as error:
            raise RpcError(VERIFY_REJECTED, str(error)) from error
        return shown(tx.txid)

    def submitblock(self, args: Args) -> str | None:
        """Take in a block; answers nothing when it is taken, else the reason why not."""
        try:
            self._node.submit_block(decode_block(args.hex(0)))
        except DecodeError as error:
            raise RpcError(DESERIALIZATION_ERROR, f"Block decode failed: {error}") from error
        except Invalid as error:
            return error.reason
        return None

    def generate(self, args: Args) -> list[str]:
        """Mine blocks to the profile's address; the third argument says whether merged mined (1) or not (0)."""
        return self._mine(args, mining_script(self._node.profile.mine_to), tries_at=1)

    def generatetoaddress(self, args: Args) -> list[str]:
        """Mine blocks to an address."""
        try:
            script = mining_script(args.text(1))
        except BadAddress as error:
            raise RpcError(NOT_FOUND, f"Error: Invalid address: {error}") from error
        return self._mine(args, script, tries_at=2)

    def _mine(self, args: Args, script: bytes, tries_at: int) -> list[str]:
        count = args.whole(0)
        if count > GENERATE_MAX:
            raise RpcError(INVALID_PARAMETER, f"at most {GENERATE_MAX} blocks at a time")
        tries = min(args.whole(tries_at, miner.TRIES_MAX), miner.TRIES_MAX)
        merged = None if args.any(tries_at + 1) is None else args.flag(tries_at + 1, default=False)
        try:
            return [shown(name) for name in self._node.mine(script, count, tries_max=tries, merged=merged)]
        except MiningGaveUp as error:
            message = f"no block within {tries} hashes: setmocktime further ahead, Digishield made blocks harder"
            raise RpcError(INTERNAL_ERROR, message) from error

    def invalidateblock(self, args: Args) -> None:
        """Treat a block as invalid."""
        try:
            self._node.exclude(self._queries.entry(args, 0))
        except Invalid as error:
            raise RpcError(INVALID_PARAMETER, error.reason) from error

    def reconsiderblock(self, args: Args) -> None:
        """Undo `invalidateblock`."""
        self._node.reconsider(self._queries.entry(args, 0))

    def setmocktime(self, args: Args) -> None:
        """Set the chain's time in seconds since 1970; 0 lets it follow the blocks again."""
        self._node.clock.fixed_s = args.whole(0)
