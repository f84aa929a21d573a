"""The proofs of money: the product's own tables in worlds of honest nodes, liars and accidents, explored.

The escrow's world stands here, the channel's in `channel`; search, processes, planting, report and the players on real
chains are shared. Stands on top of `dux_escrowd`, whose tables, voting, observation and replay it runs; nothing here is
a second table. docs/protocol/escrow-proof.md and channel-proof.md say what is proven, what is assumed, and which
reductions are made.
"""
