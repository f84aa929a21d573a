"""Where foreign code runs: one `Runner` interface, the kinds `wasm` and `native`, and the probe of what may be offered.

Everything here fails closed: a kind that the probe has not seen to hold is not offered, and a run whose sandbox could
not be set up exactly as written has no result. Source: work.md §2, facts/sandboxes.md.
"""
