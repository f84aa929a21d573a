"""Coin nouns that two daemons or more need: networks, addresses, scripts, fees, heights, contracts.

All of it is pure: bytes in, bytes out. Keys live in flopd alone; this package verifies signatures and never makes one.
"""
