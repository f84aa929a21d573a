"""Side-by-side benchmarks: DuxNet's own figure, a peer's in the same run, and the goal, in one row.

Everything here measures real daemons as their users meet them; nothing in the product imports it.
"""
