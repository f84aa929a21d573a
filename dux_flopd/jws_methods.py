"""wallet.sign_offer and wallet.sign_receipt: x402's signed forms, under the coin key of this node's DID.

Law 4 holds here too: flopd writes what it signs. A JWS's text can be no transaction's digest, because the text is
longer than 32 bytes and begins with its own head.
"""

from __future__ import annotations

from common.contracts.wallet_jws import (
    WALLET_SIGN_OFFER,
    WALLET_SIGN_RECEIPT,
    JwsSigned,
    OfferToSign,
    ReceiptToSign,
)
from common.jws import KEY_FRAGMENT, Claims, OfferClaims, ReceiptClaims, digest_of, sealed, signing_input
from common.keygen import BRANCH_RECEIVE
from common.peers import Peers
from common.rpc.client import Client
from common.rpc.table import Ctx, MethodTable
from common.units import Did
from dux_flopd.keyring import Keyring


class JwsMethods:
    """Handlers; the DID is asked of p2pd once."""

    def __init__(self, keyring: Keyring, p2pd: Client) -> None:
        self._keyring = keyring
        self._peers = Peers(p2pd)
        self._did: Did | None = None

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(WALLET_SIGN_OFFER, self.sign_offer)
        table.serve(WALLET_SIGN_RECEIPT, self.sign_receipt)

    async def sign_offer(self, params: OfferToSign, _ctx: Ctx) -> JwsSigned:
        """What a resource costs, paid to this node's coin key."""
        claims = OfferClaims(
            resource_url=params.resource_url,
            scheme=params.scheme,
            network=params.network,
            asset=params.asset,
            pay_to=self._coin_key().hex(),
            amount=str(int(params.amount_florins)),
            valid_until=params.valid_until_s,
            valid_to=params.valid_to,
        )
        return await self._signed(claims)

    async def sign_receipt(self, params: ReceiptToSign, _ctx: Ctx) -> JwsSigned:
        """What was paid for a call."""
        claims = ReceiptClaims(
            network=params.network,
            resource_url=params.resource_url,
            payer=params.payer,
            issued_at=params.issued_at_s,
            transaction="",
            amount=str(int(params.amount_florins)),
            outcome=params.outcome.value,
            call=params.call,
            answer=params.answer,
        )
        return await self._signed(claims)

    def _coin_key(self) -> bytes:
        return self._keyring.public(BRANCH_RECEIVE, 0)

    async def _signed(self, claims: Claims) -> JwsSigned:
        self._did = self._did or (await self._peers.info()).did
        text = signing_input(self._did + KEY_FRAGMENT, claims)
        signed = sealed(text, self._keyring.sign_link(digest_of(text)))
        return JwsSigned(jws=signed, did=self._did, coin_key=self._coin_key())
