"""What the wallet demands before it takes part in a channel, and which fee each step of a close has. Pure.

The laws of terms as such stand in `common/chain/channel_heights`; here are those that need to know whose wallet and
which network this is. Source: settled.md 6; channel_protocol.md §2, §3.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.chain.channel import ChannelTerms, chid
from common.chain.channel_heights import channel_profile, terms_problems
from common.chain.fees import FEE_LADDER
from common.contracts.wallet_errors import KeyNotOurs, KeyUsed, NotAgreed
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.units import FLOP
from dux_flopd.contract_rules import foreign
from dux_flopd.model import ContractKeyRow, OwnCoin
from dux_flopd.rules import coin_state

MESSAGES = {  # who signs what with a channel's key; none of it is a digest that a chain takes
    "payer": (Purpose.CHANNEL_HELLO, Purpose.CHANNEL_ASK),
    "payee": (Purpose.CHANNEL_ANSWER, Purpose.CHANNEL_HELLO_BACK, Purpose.CHANNEL_TERMS),
}
FEE_COIN_MAX_FLORINS = FLOP  # an input that is given to the miners whole


def check_channel(terms: ChannelTerms, network: NetworkProfile, tip: int, *, lost: bool = False) -> None:
    """Nothing happens for terms of our network that break no law; a `lost` channel was entered long ago.

    Raises:
        NotAgreed: with every law that is broken.
    """
    broken = foreign(terms, terms.profile, network, back=lost)
    entered = terms.exp - channel_profile(terms.profile).exp_default_blocks if lost else tip
    broken += [f"not so: {law}" for law in terms_problems(terms, entered)]
    if broken:
        raise NotAgreed(reason="; ".join(broken))


def check_own_side(
    terms: ChannelTerms, side: str, key: ContractKeyRow | None, *, pubkey: bytes, script: bytes, index: int
) -> None:
    """Nothing happens when this side's key and script are this wallet's, made for this, and bound to nothing else.

    Raises:
        KeyNotOurs, KeyUsed: they are not.
    """
    if key is None or key.purpose != side:
        raise KeyNotOurs(reason=f"no key number {index} was made for a {side}")
    if key.cid not in ("", chid(terms).hex()):
        raise KeyUsed(index=index)
    mine = (terms.payer_key, terms.change_script) if side == "payer" else (terms.payee_key, terms.payout_script)
    if mine != (pubkey, script):
        raise KeyNotOurs(reason=f"the channel's {side} has another key or script")


def may_sign(side: str, purpose: str) -> bool:
    """Whether a channel's key of this side signs messages of this purpose."""
    return any(purpose == allowed.value for allowed in MESSAGES.get(side, ()))


def extra_fee(base_fee_florins: int, step: int) -> int:
    """What a step adds to the fee of a state: the ladder of ways out, the last rung over and over."""
    return base_fee_florins * (FEE_LADDER[min(step, len(FEE_LADDER) - 1)] - 1)


def fee_coin(
    coins: Sequence[OwnCoin], need_florins: int, tip: int, maturity_blocks: int, *, earned_florins: int
) -> OwnCoin | None:
    """The smallest confirmed free coin of the node's account that pays a step's fee whole.

    None is better than one far too large, or than one worth what the close earns; other accounts are the owner's alone.
    """
    most = min(max(need_florins, FEE_COIN_MAX_FLORINS), earned_florins - 1)
    node = [item for item in coins if item.account == 0]
    free = [item for item in node if coin_state(item, tip, maturity_blocks) == "spendable"]
    fit = [item for item in free if need_florins <= item.coin.value <= most]
    return min(fit, key=lambda item: (item.coin.value, str(item.coin.outpoint)), default=None)
