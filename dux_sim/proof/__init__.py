"""The proof of the escrow: the product's own table in a world of honest nodes, liars and accidents, explored.

Stands on top of `dux_escrowd`, whose table, voting, observation and replay it runs; nothing here is a second table.
docs/protocol/escrow-proof.md says what is proven, what is assumed, and which reductions are made.
"""
