"""purse.*: keys of channels, their funding, and signatures on vouchers, messages, closes and refunds.

Everything that a chain could take is rebuilt here from the terms that both sides agreed (settled.md 6). Vouchers and
messages are signed without a write: RFC 6979 gives the same bytes again, and what they may add up to was approved with
the funding.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from msgspec import structs

from common.chain.address import script_to_address
from common.chain.channel import (
    HASH_TYPE_STATE,
    TERMS_BYTES_MAX,
    ChannelTerms,
    channel_output_script,
    chid,
    state_digest,
    state_fee,
    usable,
)
from common.chain.channel_heights import channel_profile
from common.chain.tx import Outpoint, TxOutput
from common.channel_messages import FINAL_BYTES_MAX, VOUCHER_BYTES_MAX, Final, Voucher, signed_digest
from common.codec import canonical, from_canonical
from common.contracts.wallet_channel import (
    PURSE_ADOPT,
    PURSE_FINAL,
    PURSE_FUND,
    PURSE_FUNDING,
    PURSE_KEY,
    PURSE_LOST_KEYS,
    PURSE_MESSAGES,
    PURSE_VOUCHERS,
    AdoptChannel,
    AdoptedChannel,
    ChannelAsked,
    ChannelFunded,
    ChannelKey,
    Envelopes,
    FinalSigned,
    FundChannel,
    FundingMade,
    KeysFound,
    LostKeys,
    NewChannelKey,
    SignFinal,
    SignMessages,
    SignVouchers,
    ToSign,
)
from common.contracts.wallet_errors import ContractUnknown, NotAgreed
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.network import NetworkProfile
from common.rpc.table import Ctx, MethodTable
from common.units import Florins
from dux_flopd.channel_rules import check_channel, check_own_side, may_sign
from dux_flopd.model import Coin, ContractKeyRow, ContractRow, FollowedScript, PaymentKind, ScriptKind
from dux_flopd.rules import check_limits, check_nonce
from dux_flopd.scanner import Scanner
from dux_flopd.wallet import Wallet

TERMS_REMEMBERED = 512


@lru_cache(maxsize=TERMS_REMEMBERED)
def read_terms(body: bytes) -> ChannelTerms:
    """Terms from their canonical bytes, read once for thousands of vouchers."""
    return from_canonical(body, ChannelTerms, max_bytes=TERMS_BYTES_MAX)


class ChannelMethods:
    """Handlers of purse.*, but for the ways out, which `channel_spends` has."""

    def __init__(self, wallet: Wallet, scanner: Scanner, network: NetworkProfile) -> None:
        self._wallet = wallet
        self._store = wallet.store
        self._view = wallet.view
        self._keys = wallet.keyring
        self._scanner = scanner
        self._network = network
        self._rows: dict[str, ContractRow] = {}  # of adopted channels: they never change
        self._values: dict[tuple[str, Outpoint], int] = {}  # of coins on their scripts: neither do these

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(PURSE_KEY, self.key)
        table.serve(PURSE_LOST_KEYS, self.lost_keys)
        table.serve(PURSE_ADOPT, self.adopt)
        table.serve(PURSE_FUND, self.fund)
        table.serve(PURSE_FUNDING, self.funding)
        table.serve(PURSE_VOUCHERS, self.vouchers)
        table.serve(PURSE_MESSAGES, self.messages)
        table.serve(PURSE_FINAL, self.final)

    async def key(self, params: NewChannelKey, ctx: Ctx) -> ChannelKey:
        """A key for one channel, and the script of the same number. The same nonce gets the same key."""
        check_nonce(params.nonce)
        with self._store.store.transaction() as tx:
            index = self._wallet.bound_key(tx, params.side, params.nonce, "channel")
            pubkey, script = self._keys.contract_public(index), self._keys.payout_script(index)
            answer = ChannelKey(index=index, pubkey=pubkey, script=script)
            ctx.remember(tx, answer)
        return answer

    async def lost_keys(self, params: LostKeys, ctx: Ctx) -> KeysFound:
        """Keys that an earlier life of this phrase may have used; each is bound once terms name it, and none before."""
        numbers = range(params.first, params.first + params.count)
        answer = KeysFound(
            keys=[
                ChannelKey(index=at, pubkey=self._keys.contract_public(at), script=self._keys.payout_script(at))
                for at in numbers
            ]
        )
        with self._store.store.transaction() as tx:
            ctx.remember(tx, answer)
        return answer

    async def adopt(self, params: AdoptChannel, ctx: Ctx) -> AdoptedChannel:
        """Take part in a channel: every law, our network, our key, our limits."""
        terms = read_terms(params.terms)
        check_channel(terms, self._network, self._view.height, lost=params.lost)
        pubkey, script = self._keys.contract_public(params.key_index), self._keys.payout_script(params.key_index)
        known = self._store.contract_key_at(params.key_index)
        found = ContractKeyRow(params.key_index, params.side, hashlib.sha256(pubkey).digest(), "")
        key = known or (found if params.lost else None)
        check_own_side(terms, params.side, key, pubkey=pubkey, script=script, index=params.key_index)
        name, output = chid(terms).hex(), channel_output_script(terms)
        address = script_to_address(output, self._wallet.family) or ""
        answer = AdoptedChannel(chid=name, output_script=output, address=address, fee_florins=state_fee(terms))
        with self._store.store.transaction() as tx:
            if params.side == "payer" and not params.lost:
                spent = self._store.spent_since(tx, ctx.caller, terms.payee)
                check_limits(self._wallet.settings, int(terms.cap_florins), spent, ctx.caller)
            if params.lost:
                self._wallet.hand_out_again(tx, params.key_index)
                if known is None:
                    self._store.add_contract_key(tx, found.index, found.purpose, found.nonce)
            self._store.adopt(tx, ContractRow(name, params.terms, params.side, params.key_index))
            if params.from_height is not None:
                self._view.follow(tx, FollowedScript(output, ScriptKind.LOT, 0, 0, params.side), params.from_height)
            tx.audit("channel adopted", {"chid": name, "side": params.side, "caller": ctx.caller})
            ctx.remember(tx, answer)
        self._scanner.look_again()
        return answer

    async def fund(self, params: FundChannel, ctx: Ctx) -> ChannelFunded:
        """Pay the channel once: a repetition, under any request_id, is told of the first payment.

        Also of one that this wallet's books do not know, because they are an older backup's: it lies on the script.
        """
        row, terms = self.channel(params.chid, "payer")
        earlier = self._store.live_payment(row.cid, PaymentKind.FUND_CHANNEL)
        if earlier is not None:
            return ChannelFunded(txid=earlier.txid, fee_florins=Florins(earlier.fee))
        there = self._view.store.paid_on(channel_output_script(terms), int(terms.cap_florins))
        if there is not None:
            return ChannelFunded(txid=there.outpoint.txid, fee_florins=Florins(0))
        if self._view.height >= terms.exp - channel_profile(terms.profile).margin_blocks:
            raise NotAgreed(reason=f"the channel ends at height {terms.exp}, too soon for any call")
        with self._store.store.transaction() as tx:
            payment = self._wallet.pay(
                tx,
                TxOutput(terms.cap_florins, channel_output_script(terms)),
                kind=PaymentKind.FUND_CHANNEL,
                request_id=params.request_id,
                caller=ctx.caller,
                counterparty=terms.payee,
                contract_id=row.cid,
            )
            answer = ChannelFunded(txid=payment.txid, fee_florins=Florins(payment.fee))
            ctx.remember(tx, answer)
        return answer

    async def funding(self, params: ChannelAsked, _ctx: Ctx) -> FundingMade:
        """The payment that a repetition of `fund` would be told of."""
        self.channel(params.chid, "payer")
        made = self._store.live_payment(params.chid, PaymentKind.FUND_CHANNEL)
        return FundingMade(txid="" if made is None else made.txid)

    async def vouchers(self, params: SignVouchers, _ctx: Ctx) -> Envelopes:
        """Fill in the coin part of each voucher and sign the whole."""
        return Envelopes(envelopes=[self._voucher(body) for body in params.vouchers])

    def _voucher(self, body: bytes) -> bytes:
        wanted = from_canonical(body, Voucher, max_bytes=VOUCHER_BYTES_MAX)
        row, terms = self.channel(wanted.chid.hex(), "payer")
        if wanted.network != terms.network:
            raise NotAgreed(reason="the voucher names another network")
        value = self.coin_value(row, terms, wanted.outpoint)
        digest = state_digest(terms, wanted.outpoint, value, int(wanted.cum_florins))
        voucher = structs.replace(wanted, coin_sig=self._keys.sign_channel(row.key_index, digest) + HASH_TYPE_STATE)
        return self._envelope(row, Purpose.CHANNEL_VOUCHER, canonical(voucher))

    async def messages(self, params: SignMessages, _ctx: Ctx) -> Envelopes:
        """Sign messages with their channels' keys."""
        return Envelopes(envelopes=[self._message(item) for item in params.messages])

    def _message(self, item: ToSign) -> bytes:
        row = self._row(item.chid)
        if not may_sign(row.role, item.purpose):
            raise NotAgreed(reason=f"a channel's {row.role} signs no {item.purpose}")
        return self._envelope(row, Purpose(item.purpose), item.body)

    def _envelope(self, row: ContractRow, purpose: Purpose, body: bytes) -> bytes:
        signature = self._keys.sign_channel(row.key_index, signed_digest(purpose, body))
        return canonical(Signed(body=body, sigs=(signature,)))

    async def final(self, params: SignFinal, _ctx: Ctx) -> FinalSigned:
        """Sign the last state; the rest goes to the change script, or opens an own channel that was adopted."""
        row, terms = self.channel(params.chid, "payer")
        value = self.coin_value(row, terms, params.outpoint)
        next_script = b""
        if params.next_chid:
            next_script = channel_output_script(self.channel(params.next_chid, "payer")[1])
        digest = state_digest(terms, params.outpoint, value, int(params.cum_florins), next_script)
        final = Final(
            v=1,
            chid=bytes.fromhex(params.chid),
            outpoint=params.outpoint,
            cum_florins=params.cum_florins,
            next_script=next_script,
            coin_sig=self._keys.sign_channel(row.key_index, digest) + HASH_TYPE_STATE,
        )
        body = canonical(final)
        if len(body) > FINAL_BYTES_MAX or int(params.cum_florins) > int(usable(terms, value)):
            raise NotAgreed(reason="the last state pays more than the coin carries")
        return FinalSigned(envelope=self._envelope(row, Purpose.CHANNEL_FINAL, body), next_script=next_script)

    # --- shared with the ways out -------------------------------------------------------------------------------------

    def channel(self, name: str, side: str) -> tuple[ContractRow, ChannelTerms]:
        """An adopted channel of this side.

        Raises:
            ContractUnknown, NotAgreed: there is none.
        """
        row = self._row(name)
        if row.role != side:
            raise NotAgreed(reason=f"this wallet is the channel's {row.role}; only the {side} may do this")
        return row, read_terms(row.body)

    def _row(self, name: str) -> ContractRow:
        row = self._rows.get(name) or self._store.contract(name)
        if row is None or row.role not in ("payer", "payee"):
            raise ContractUnknown(what="adopted channel", name=name, cid=name)
        self._rows[name] = row
        return row

    def coin_value(self, row: ContractRow, terms: ChannelTerms, outpoint: Outpoint) -> int:
        """The value of a coin on the channel's script, as the chain view has seen it."""
        value = self._values.get((row.cid, outpoint))
        if value is None:
            value = self._values[row.cid, outpoint] = self.coin(terms, outpoint).value
        return value

    def coin(self, terms: ChannelTerms, outpoint: Outpoint) -> Coin:
        """A coin on the channel's script.

        Raises:
            NotAgreed: the chain view knows none there.
        """
        coin = self._view.store.coin(outpoint)
        if coin is None or coin.script != channel_output_script(terms):
            raise NotAgreed(reason=f"{outpoint} is no output on this channel's script that the chain view knows")
        return coin
