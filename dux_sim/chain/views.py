"""Blocks and transactions as the JSON that coin nodes answer.

Pure. Amounts are exact decimals of FLOP with eight places, as Core prints them: read them as decimals, never as floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from bitcoin.core.script import OPCODE_NAMES, CScriptOp

from common.chain import difficulty
from common.chain.address import script_to_address
from common.chain.params import EMBEDDED
from common.chain.wire import AuxPow, OutPoint, Tx, TxOut, encode_header, shown
from dux_sim.chain import consensus, scripts
from dux_sim.chain.state import ChainState, Entry

JsonObject = dict[str, Any]
COIN = Decimal(100_000_000)
PLACES = Decimal("0.00000001")


def amount(florins: int) -> Decimal:
    """Florins as FLOP with exactly eight places."""
    return (Decimal(florins) / COIN).quantize(PLACES)


def asm(script: bytes) -> str:
    """A script in words: opcodes by name, pushes in hexadecimal, `[error]` where it is cut short."""
    words, at = [], 0
    while at < len(script):
        opcode, at = script[at], at + 1
        if 0 < opcode <= scripts.OP_PUSHDATA4:
            width = {0x4C: 1, 0x4D: 2, 0x4E: 4}.get(opcode, 0)
            length = int.from_bytes(script[at : at + width], "little") if width else opcode
            data, at = script[at + width : at + width + length], at + width + length
            words.append(data.hex() if len(data) == length else "[error]")
        else:
            words.append("0" if opcode == 0 else str(OPCODE_NAMES.get(CScriptOp(opcode), "OP_UNKNOWN")))
    return " ".join(words)


def script_view(script: bytes) -> JsonObject:
    """An output script."""
    view: JsonObject = {"asm": asm(script), "hex": script.hex(), "type": scripts.kind_of(script)}
    address = script_to_address(script, EMBEDDED)
    if address is not None:
        view |= {"reqSigs": 1, "addresses": [address]}
    return view


def out_view(out: TxOut, vout: int) -> JsonObject:
    """An output of a transaction."""
    return {"value": amount(out.value_florins), "n": vout, "scriptPubKey": script_view(out.script)}


def tx_view(tx: Tx) -> JsonObject:
    """A transaction with all it says itself."""
    vin: list[JsonObject] = []
    for txin in tx.inputs:
        if tx.is_coinbase:
            vin.append({"coinbase": txin.script_sig.hex(), "sequence": txin.sequence})
            continue
        script = {"asm": asm(txin.script_sig), "hex": txin.script_sig.hex()}
        where = {"txid": shown(txin.prevout.txid), "vout": txin.prevout.vout}
        vin.append({**where, "scriptSig": script, "sequence": txin.sequence})
    return {
        "txid": shown(tx.txid),
        "hash": shown(tx.txid),
        "size": len(tx.raw),
        "vsize": len(tx.raw),
        "version": tx.version,
        "locktime": tx.lock_time,
        "vin": vin,
        "vout": [out_view(out, vout) for vout, out in enumerate(tx.outputs)],
        "hex": tx.raw.hex(),
    }


def confirmations(chain: ChainState, entry: Entry) -> int:
    """How deep the block lies, itself counted; -1 off the active chain."""
    return chain.tip.height - entry.height + 1 if chain.is_active(entry) else -1


def header_view(chain: ChainState, entry: Entry) -> JsonObject:
    """A header and its place in the chain."""
    header = entry.block.header
    view: JsonObject = {
        "hash": shown(entry.hash),
        "confirmations": confirmations(chain, entry),
        "height": entry.height,
        "version": header.version,
        "versionHex": f"{header.version & 0xFFFFFFFF:08x}",
        "merkleroot": shown(header.merkle_root),
        "time": header.time_s,
        "mediantime": entry.median_time_s,
        "nonce": header.nonce,
        "bits": f"{header.bits:08x}",
        "difficulty": ratio(header.bits),
        "chainwork": f"{entry.work:064x}",
        "nTx": len(entry.block.txs),
    }
    if entry.parent is not None:
        view["previousblockhash"] = shown(entry.parent.hash)
    if chain.is_active(entry) and entry is not chain.tip:
        view["nextblockhash"] = shown(chain.active[entry.height + 1].hash)
    return view


def block_view(chain: ChainState, entry: Entry, *, whole: bool) -> JsonObject:
    """A block with the names of its transactions, or with the whole of them."""
    block = entry.block
    view = header_view(chain, entry) | {"size": len(block.raw), "strippedsize": len(block.raw)}
    view["tx"] = [tx_view(tx) if whole else shown(tx.txid) for tx in block.txs]
    if block.auxpow is not None:
        view["auxpow"] = auxpow_view(block.auxpow)
    return view


def auxpow_view(proof: AuxPow) -> JsonObject:
    """The proof by the parent chain."""
    return {
        "tx": tx_view(proof.coinbase),
        "index": proof.index,
        "chainindex": proof.chain_index,
        "merklebranch": [shown(step) for step in proof.branch],
        "chainmerklebranch": [shown(step) for step in proof.chain_branch],
        "parentblock": proof.parent.raw.hex(),
    }


def raw_header(entry: Entry) -> str:
    """The header as `headers` carries it, AuxPoW included."""
    return encode_header(entry.block.header, entry.block.auxpow).hex()


def ratio(bits: int) -> float:
    """How many times harder than the easiest target, as a float for people."""
    return consensus.POW_LIMIT / max(difficulty.target_of(bits), 1)


def coin_view(chain: ChainState, coin_at: Mapping[OutPoint, Any], outpoint: OutPoint) -> JsonObject | None:
    """An unspent output; None when there is none."""
    coin = coin_at.get(outpoint)
    if coin is None:
        return None
    depth = chain.tip.height - coin.height + 1
    return {
        "bestblock": shown(chain.tip.hash),
        "confirmations": max(depth, 0),
        "value": amount(coin.out.value_florins),
        "scriptPubKey": script_view(coin.out.script),
        "coinbase": coin.is_coinbase,
    }
