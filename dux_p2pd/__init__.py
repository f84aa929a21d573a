"""The only process of a node that speaks to the outside network.

It guards the node's identity key and every outside socket. It relays peer calls, gossip and records between the node's
daemons and other nodes, each with the other side's proved DID. It never handles money, decides policy or runs code.
"""
