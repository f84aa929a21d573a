"""registryd: who is in the network, how they fare, and what they have earned in trust.

It guards the list of nodes, their signed heartbeats, and the receipts that reputations are counted from. It checks
every receipt's payment on the chain through flopd, and every signature through p2pd. It acts for its own node's name
only.
It never holds money, a key or a job, and it never takes anybody's word for a score.
"""
