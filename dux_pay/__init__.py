"""HTTP that is paid per call: any endpoint can be sold, and any client library with a small hook can buy.

The 402 exchange has the shape of x402 version 2; what is paid with are vouchers of a DuxNet channel, made and checked
by the node's own escrowd. This package holds no key, keeps no channel's books and listens on this machine alone.

Seller: `aiohttp_paid` (@paid), `asgi` (Paid), `proxy` (in front of an endpoint). Buyer: `purse` and `gateway` (the
node's local gateway, with the limits), `requests_auth` and `httpx_auth` (hooks), examples/pay_http (curl, JavaScript).
Source: channel_protocol.md §7, settled.md 24.
"""
