"""Several real p2pds on real sockets: joining, resolving, calling, records, gossip, loss."""

from __future__ import annotations

from common.contracts import p2p
from tests.p2pd.overlay_kit import network


async def test_nodes_that_know_one_bootstrap_node_find_all_others() -> None:
    """Discovery: who reaches one node of the network reaches all of it."""
    async with network(4) as nodes:
        for node in nodes:
            peers = await node.as_caller("cli").call(p2p.P2P_PEERS, p2p.Empty())
            assert {view.did for view in peers.peers} == {other.did for other in nodes} - {node.did}
