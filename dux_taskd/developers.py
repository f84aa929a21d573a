"""Where a service's developer is paid its royalty: at the address of its own node record."""

from __future__ import annotations

from common.contracts.registry import NODE_SHOW, NodeName
from common.contracts.store import ServiceView
from common.rpc.client import Client


async def developer_address(registryd: Client, service: ServiceView) -> str:
    """The address; empty for a service without a royalty.

    Raises:
        NotFound: the developer's node is known nowhere, so nobody can be paid: ask later.
    """
    if not service.developer or not service.royalty_bps:
        return ""
    return (await registryd.call(NODE_SHOW, NodeName(node_id=service.developer))).wallet_address
