"""The RPC table: which methods there are, their arguments' names, and what answers them.

Promises: every refusal is an `RpcError` with Core's code; an unknown method names the known ones. Waiting methods and
`stop` belong to the server, for they need an event loop.
"""

from __future__ import annotations

from collections.abc import Callable

from dux_sim.chain.args import INVALID_REQUEST, METHOD_NOT_FOUND, Args, RpcError
from dux_sim.chain.node import Node
from dux_sim.chain.rpc_actions import Actions
from dux_sim.chain.rpc_queries import Queries

Handler = Callable[[Args], object]


class RpcTable:
    """Answers calls on one node."""

    def __init__(self, node: Node) -> None:
        """All methods on this node."""
        look = Queries(node)
        act = Actions(node, look)
        self.methods: dict[str, tuple[tuple[str, ...], Handler]] = {
            "getblockcount": ((), look.getblockcount),
            "getbestblockhash": ((), look.getbestblockhash),
            "getblockhash": (("height",), look.getblockhash),
            "getblock": (("blockhash", "verbosity"), look.getblock),
            "getblockheader": (("blockhash", "verbose"), look.getblockheader),
            "getrawtransaction": (("txid", "verbose", "blockhash"), look.getrawtransaction),
            "decoderawtransaction": (("hexstring",), look.decoderawtransaction),
            "getrawmempool": (("verbose",), look.getrawmempool),
            "getmempoolinfo": ((), look.getmempoolinfo),
            "gettxout": (("txid", "n", "include_mempool"), look.gettxout),
            "gettxoutsetinfo": ((), look.gettxoutsetinfo),
            "getblockchaininfo": ((), look.getblockchaininfo),
            "getchaintips": ((), look.getchaintips),
            "getnetworkinfo": ((), look.getnetworkinfo),
            "getmininginfo": ((), look.getmininginfo),
            "sendrawtransaction": (("hexstring", "allowhighfees"), act.sendrawtransaction),
            "submitblock": (("hexdata", "dummy"), act.submitblock),
            "generate": (("nblocks", "maxtries", "auxpow"), act.generate),
            "generatetoaddress": (("nblocks", "address", "maxtries", "auxpow"), act.generatetoaddress),
            "invalidateblock": (("blockhash",), act.invalidateblock),
            "reconsiderblock": (("blockhash",), act.reconsiderblock),
            "setmocktime": (("timestamp",), act.setmocktime),
        }

    def call(self, method: object, params: object) -> object:
        """The answer of a method.

        Raises:
            RpcError: refused, with Core's code.
        """
        if not isinstance(method, str):
            raise RpcError(INVALID_REQUEST, "Missing method")
        if method not in self.methods:
            raise RpcError(
                METHOD_NOT_FOUND, f"Method not found: {method[:40]}; known: {', '.join(sorted(self.methods))}"
            )
        names, handler = self.methods[method]
        return handler(Args(names, params))
