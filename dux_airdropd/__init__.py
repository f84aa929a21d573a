"""airdropd: hands the community fund back to the nodes that keep the network alive.

Guards: that a payout is the same florin by florin on every custodian's own recomputation, happens at most once per
cut-off, and can be recomputed by anyone from its proof file.
Never does: hold a key (flopd signs), decide by majority (a custodian signs only what it computed itself), or start a
payout on anybody's word: the chain starts it, when the fund reaches the threshold.

Source: money.md §6, settled.md 23 and 32.
"""
