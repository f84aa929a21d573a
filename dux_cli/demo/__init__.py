"""`duxnet demo`: the whole paid job between six real nodes on this machine, from nothing, and then the bad days.

It starts a coin chain and the nodes' own processes, acts as a user would (over the daemons' RPC), breaks things as the
world does (signals, a lying program), and reads the outcome back from the chain.
"""
