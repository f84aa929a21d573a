"""wallet.*: labels, signed messages, lock and unlock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from common.chain.address import address_to_script, is_p2pkh
from common.chain.message import encode_signature, message_digest, signer_script
from common.clock import Clock
from common.contracts.wallet_errors import NotOwnAddress
from common.contracts.wallet_tools import (
    WALLET_LABEL,
    WALLET_LOCK,
    WALLET_SIGN_MESSAGE,
    WALLET_UNLOCK,
    WALLET_VERIFY_MESSAGE,
    Label,
    LockState,
    MessageSigned,
    MessageVerdict,
    SignMessage,
    Unlock,
    VerifyMessage,
)
from common.keygen import WalletSecrets
from common.network import HASH_BYTES, is_hex
from common.rpc.method import Done, Empty
from common.rpc.table import Ctx, MethodTable
from common.units import UnixMs
from dux_flopd.wallet import Wallet

Open = Callable[[bytes], WalletSecrets]  # by a passphrase; an empty one: by what opens the keys unattended


class ToolMethods:
    """Handlers beside payments; the only holder of when the keys are to be let go."""

    def __init__(self, wallet: Wallet, open_keys: Open, clock: Clock) -> None:
        self._wallet = wallet
        self._open = open_keys
        self._clock = clock
        self._until_ms: UnixMs | None = None
        self._changed = asyncio.Event()

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(WALLET_LABEL, self.label)
        table.serve(WALLET_SIGN_MESSAGE, self.sign_message)
        table.serve(WALLET_VERIFY_MESSAGE, self.verify_message)
        table.serve(WALLET_UNLOCK, self.unlock)
        table.serve(WALLET_LOCK, self.lock)

    async def label(self, params: Label, _ctx: Ctx) -> Done:
        """The owner's word for an address or a transaction.

        Raises:
            BadAddress: the name is neither.
        """
        if not is_hex(params.name, HASH_BYTES):
            address_to_script(params.name, self._wallet.family)
        with self._wallet.store.store.transaction() as tx:
            self._wallet.store.put_label(tx, params.name, params.label)
        return Done()

    async def sign_message(self, params: SignMessage, _ctx: Ctx) -> MessageSigned:
        """Sign with the key of an own address."""
        family = self._wallet.family
        place = self._wallet.store.own_place(address_to_script(params.address, family))
        if place is None:
            raise NotOwnAddress(address=params.address)
        signed = self._wallet.keyring.sign_message(*place, message_digest(params.message, family))
        with self._wallet.store.store.transaction() as tx:
            tx.audit("message signed", {"address": params.address})
        return MessageSigned(address=params.address, signature=encode_signature(signed))

    async def verify_message(self, params: VerifyMessage, _ctx: Ctx) -> MessageVerdict:
        """Whether the holder of the address signed."""
        script = address_to_script(params.address, self._wallet.family)
        if not is_p2pkh(script):
            return MessageVerdict(valid=False, reason="the address pays a script, which cannot sign")
        if signer_script(params.message, params.signature, self._wallet.family) != script:
            return MessageVerdict(valid=False, reason="the signature is of another key, or of another message")
        return MessageVerdict(valid=True, reason="")

    async def unlock(self, params: Unlock, _ctx: Ctx) -> LockState:
        """Open the keys: the hard work is done beside the loop."""
        secrets = await asyncio.to_thread(self._open, params.passphrase.encode())
        until = UnixMs(self._clock.unix_ms() + params.for_s * 1000) if params.for_s else None
        self._wallet.keyring.open(secrets)
        self._set(until, "wallet unlocked")
        return LockState(unlocked=True, until_ms=until)

    async def lock(self, _params: Empty, _ctx: Ctx) -> LockState:
        """Let go of the keys."""
        self._wallet.keyring.shut()
        self._set(None, "wallet locked")
        return LockState(unlocked=False, until_ms=None)

    async def watch(self) -> None:
        """Lock when the time is over. Runs until cancelled."""
        while True:
            self._changed.clear()
            await self._wait()
            if self._until_ms is not None and self._clock.unix_ms() >= self._until_ms:
                self._wallet.keyring.shut()
                self._set(None, "wallet locked: its time is over")

    async def _wait(self) -> None:
        left_ms = None if self._until_ms is None else max(0, self._until_ms - self._clock.unix_ms())
        try:
            async with asyncio.timeout(None if left_ms is None else left_ms / 1000):
                await self._changed.wait()
        except TimeoutError:
            return

    def _set(self, until: UnixMs | None, what: str) -> None:
        self._until_ms = until
        with self._wallet.store.store.transaction() as tx:
            self._wallet.keep_gap(tx, self._wallet.view.height + 1)
            tx.audit(what, {"until_ms": until or 0})
        self._changed.set()
