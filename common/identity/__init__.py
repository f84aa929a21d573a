"""Who a node is: purposes, signatures, event logs, DIDs, node records.

Everything here is a pure function of bytes and a time that the caller hands in. It knows no disk, no network, no clock,
and it holds no key longer than a call; keeping keys is p2pd's and flopd's business.

Source: transport_identity.md §2, settled.md 8.
"""
