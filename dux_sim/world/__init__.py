"""The simulated world: whole nodes in one process, on virtual time, an in-memory network and the embedded chain.

One seed gives one history, bit for bit. Time, chance, sockets, files of keys and the machine are handed in as parts, so
that the daemons run the code that they run everywhere. Knows the laws of no daemon. Source: settled.md 26 and 27.
"""
