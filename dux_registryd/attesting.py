"""TPM quotes between nodes: this one's, shown to who was drawn to measure it, and others', checked and vouched for.

The quoted nonce is a hash over both names and the asker's own randomness, so that a quote serves one node, one asker,
once. One attestation key vouches for one node: the first that it was seen with.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from common.clock import Clock
from common.codec import Canon, canonical
from common.contracts.peer_benchmark import TPM_QUOTE, QuoteAnswer, QuoteAsk
from common.errors import DuxError, NotNow
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.randomness import Randomness
from common.receipts import Bytes32, DidText, attested, body_of
from common.standing import STATEMENT_BYTES_MAX, Kind, QuoteSeen
from common.tpm import check_quote
from common.units import Did, UnixMs
from dux_registryd.effects import Outside
from dux_registryd.statements import Statements
from dux_registryd.store import Book
from dux_registryd.tpm_device import TpmDevice

KEYS_LOOKED_AT = 5_000  # quotes among which a key is looked for


class NotQuoted(NotNow):
    """The TPM of {did} did not quote: {reason}."""

    code = 5015
    key = "not-quoted"


class QuoteNonce(Canon, frozen=True):
    """What a quote's nonce is the hash of."""

    target: DidText
    verifier: DidText
    nonce: Bytes32


def quoted_nonce(target: Did, verifier: Did, nonce: bytes) -> bytes:
    """The 32 bytes that the TPM is asked to quote."""
    return tagged_hash(Purpose.TPM_NONCE, canonical(QuoteNonce(target, verifier, nonce)))


class Attesting:
    """Both sides of a quote."""

    def __init__(
        self,
        book: Book,
        outside: Outside,
        statements: Statements,
        tpm: TpmDevice | None,
        is_drawn: Callable[[int, Did], Awaitable[bool]],
        *,
        network: str,
        clock: Clock,
        random: Randomness,
    ) -> None:
        self._book = book
        self._outside = outside
        self._statements = statements
        self._tpm = tpm
        self._is_drawn = is_drawn
        self._network = network
        self._clock = clock
        self._random = random

    async def show(self, ask: QuoteAsk, sender: Did) -> QuoteAnswer:
        """This machine's quote for a drawn challenger."""
        if self._tpm is None:
            return _refused("this node has no TPM")
        if not await self._is_drawn(ask.period, sender):
            return _refused("you were not drawn for it")
        try:
            quoted = await self._tpm.quote(quoted_nonce(await self._outside.own_did(), sender, ask.nonce))
        except DuxError as error:
            return _refused(error.message[:120])
        return QuoteAnswer(quoted.public, quoted.attest, quoted.signature, refused="")

    async def look(self, target: Did, period: int, proof: bytes) -> bool:
        """Ask a node for its quote by the right that a proof shows, check it, vouch for it; whether that is taken here.

        Raises:
            NotQuoted: it has no TPM, or it cannot be asked now.
            BadQuote: it proves nothing. Unavailable: the node does not answer.
        """
        nonce, own = self._random.bytes(32), await self._outside.own_did()
        answer = await self._outside.ask(target, TPM_QUOTE, QuoteAsk(period=period, nonce=nonce))
        if answer.refused:
            raise NotQuoted(did=target, reason=answer.refused)
        expected = quoted_nonce(target, own, nonce)
        quote = check_quote(answer.public, answer.attest, answer.signature, nonce=expected)
        seen = QuoteSeen(
            network=self._network,
            target=target,
            verifier=own,
            period=period,
            key_name=quote.key_name,
            pcr_digest=quote.pcr_digest,
            firmware=quote.firmware & (2**53 - 1),
            resets=quote.resets,
            at_ms=UnixMs(self._clock.unix_ms()),
            proof=proof,
        )
        return (await self._statements.say(Kind.QUOTE, seen)).word == "accept"

    def key_fault(self, seen: QuoteSeen) -> str | None:
        """One key vouches for one node, the first that it was seen with."""
        for kept in self._book.statements_of(Kind.QUOTE, KEYS_LOOKED_AT):
            other = body_of(attested(kept.note.body), QuoteSeen, STATEMENT_BYTES_MAX)
            if other.key_name == seen.key_name and other.target != seen.target:
                return f"its key vouches for {other.target} already"
        return None


def _refused(why: str) -> QuoteAnswer:
    return QuoteAnswer(b"", b"", b"", refused=why)
