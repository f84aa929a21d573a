"""A small Flopcoin in one process: mainnet's rules, cheap blocks, time handed in.

Guards: that whatever is accepted here would be accepted by Flopcoin's mainnet at its present height (subsidy
10,000 FLOP, maturity 240, strict AuxPoW, CLTV, neither CSV nor SegWit), and would be relayed and mined there too.
Never does: hold a key, speak Flopcoin's peer protocol, read a clock (block time is handed in).
Layers: `wire`, `difficulty`, `auxpow`, `merkle`, `scripts`, `tx_rules`, `block_rules`, `policy` are pure; `state`,
`mempool` and `node` keep memory; `journal` keeps a file; `rpc`, `views` and `server` speak a coin node's JSON-RPC.
Source: settled.md 19; facts, flopcoin.md.
"""
