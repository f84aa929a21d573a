"""escrowd guards contracts: who agreed to what, what each side said, which step is due at which height, the 95/5 rule.

It decides by a table (`rules`) that knows no clock, no disk and no network; everything else carries facts to the
table and its orders away. It never holds a key (flopd signs what it rebuilds), never speaks to a peer directly (p2pd
does), never runs code (taskd does), and never moves a coin that the table did not order.
"""
