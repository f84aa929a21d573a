"""A whole network for hours: nodes with all seven daemons that trade, rate, beat and are handed the fund back.

What people would do is drawn from the seed; faults are sprinkled over the hours; then the world heals, and all laws are
judged. Source: settled.md 26, money.md §1.
"""
