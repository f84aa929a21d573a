"""What stands in for the world: a small Flopcoin chain, and faults and liars for tests and the demonstration.

No daemon imports it; a test network and the tests start it beside them.
"""
