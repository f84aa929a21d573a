"""Histories of the overlay: a thousand p2pds that come, go, lie and are parted, judged by what they answered.

Only p2pd runs here, with its sessions, DHT, gossip and peer calls; the other daemons of a node are a household that
answers what reaches them. Money has histories of its own. Source: network.md; settled.md 26 and 27.
"""
