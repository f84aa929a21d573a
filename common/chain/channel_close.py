"""A close of a channel read from its bytes alone, by whoever is neither party: a watcher that is asked to keep it.

Promise: what is returned spends the first input's coin with both keys of a channel's script, and the judge of scripts
takes both signatures: only the two parties together could have made it. Whether the coin exists, the chain says. Pure.
"""

from __future__ import annotations

import msgspec
from bitcoin.core.script import CScript, CScriptInvalidError

from common.chain.address import pay_to_script
from common.chain.channel import BadState, ChannelName, channel_script
from common.chain.script import BadScript, pushes
from common.chain.script_judge import first_fault
from common.chain.tx import BadTransaction, parse
from common.codec import canonical
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash

BY_BOTH = b"\x01"  # which branch of the script the input takes


class Close(msgspec.Struct, frozen=True):
    """What a close shows: its channel, the output script of the coin that it spends, and the height EXP."""

    chid: bytes
    output_script: bytes
    exp: int


def read_close(raw: bytes, network: str) -> Close:
    """The channel that a fully signed close ends; `network`: genesis hash, hex.

    Raises:
        BadState: it is no close, or a signature is wrong.
    """
    try:
        _, _, branch, script = pushes(parse(raw).inputs[0].script_sig)
        _, payee_key, _, _, exp, _, _, _, payer_key, _ = CScript(script)
        exp = exp if isinstance(exp, int) else int.from_bytes(exp, "little")
        made = channel_script(payer_key, payee_key, exp)
    except (BadTransaction, BadScript, CScriptInvalidError, ValueError, TypeError, IndexError) as error:
        raise BadState(reason=f"these bytes are no close of a channel ({error})") from error
    if branch != BY_BOTH or made != script:
        raise BadState(reason="what these bytes spend is no channel, or not by both parties")
    coin = pay_to_script(script)
    fault = first_fault(raw, [(0, coin)])  # no signature of this coin says an amount
    if fault:
        raise BadState(reason=fault)
    name = canonical(ChannelName(network=network, script=script))
    return Close(bytes(tagged_hash(Purpose.CHANNEL, name)), coin, exp)
