"""stored: what can be bought in this network, and what buyers said of it.

It guards this node's own offers and its index of everybody's, fed by gossip, by asking peers after an absence, and by
the DHT. It checks each offer's signature and form before it shows it, and counts a rating only when the chain has seen
the payment that it cites. It never runs code, holds no money and no key.
"""
