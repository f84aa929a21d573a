"""flopd guards the coin keys and the chain view of one node.

It follows a coin chain through a Bitcoin-family node, tells others what happens on the scripts they watch, and pays. It
signs only transactions that it built itself: a payment its owner asked for, or a way out of a contract that both sides
agreed and its policy allowed. A payment happens once, whatever is repeated, lost or restarted.

It never talks to a peer: its coin node is reached through p2pd's egress. It never shows a key, a phrase or a
passphrase, in no answer, log line or error.
"""
