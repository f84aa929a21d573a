"""Histories of the community fund: paid jobs lift it over its threshold, and it is handed back under every fault."""
