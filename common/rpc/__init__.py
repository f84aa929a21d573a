"""JSON-RPC 2.0 between the daemons of one node: contracts declared once; served, called and faked from them."""
