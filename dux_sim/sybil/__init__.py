"""Is the fund worth faking for: an attacker with any number of identities against the airdrop's own rules."""
