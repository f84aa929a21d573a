"""The proof of the pay-per-call channel: the product's payer and payee tables among loss, crashes, copies and liars.

Stands on the search of `dux_sim.proof`; nothing here is a second table. docs/protocol/channel-proof.md says what is
proven, what is assumed, and which reductions are made.
"""
