"""Histories of money: contracts from the offer to the last block, under every fault, and the laws at their end.

Only the daemons that money needs: p2pd, flopd and escrowd of each node. What the owners and their taskds would do is a
script drawn from the seed. Source: settled.md 26, money.md §1.
"""
