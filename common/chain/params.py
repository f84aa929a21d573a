"""The coin families as data: prefixes, genesis, and the rules of each that a wallet has to know.

Promises nothing about the present state of a chain. Networks are told apart by their genesis hash and by nothing else:
Flopcoin's network magic equals that of regtest chains (facts, trap 2).
"""

from __future__ import annotations

import msgspec

from common.errors import CallerMistake

COIN_TYPE_MAIN = 3  # m/44'/3'/…: Dogecoin's number, Flopcoin has none of its own (facts §3)
COIN_TYPE_TEST = 1


class UnknownFamily(CallerMistake):
    """There is no coin family {name!r}; those known are {known}."""

    code = 2010
    key = "unknown-coin-family"


class ChainFamily(msgspec.Struct, frozen=True, kw_only=True):
    """What a wallet must know about one coin network."""

    name: str
    genesis: str  # hex as RPC shows it; empty: the network profile names it (the embedded chain)
    p2pkh_prefix: int
    p2sh_prefixes: tuple[int, ...]  # the first one is written, all are read
    wif_prefix: int
    bip32_public: bytes
    bip32_private: bytes
    coin_type: int
    maturity_blocks: int  # of coinbase outputs, at the heights where a wallet spends them
    cltv_height: int  # CHECKLOCKTIMEVERIFY binds from here on
    replaces: bool  # BIP125 replacement works, so the fee ladder can be climbed
    is_test: bool
    message_title: str = "Dogecoin Signed Message:\n"  # of signed messages; Flopcoin's own was not measured
    broadcast_arguments: tuple[bool | int, ...] = ()  # after the transaction: «the fee is meant», as the node says it


_TEST_PUBLIC = bytes.fromhex("043587cf")
_TEST_PRIVATE = bytes.fromhex("04358394")

FLOPCOIN_MAIN = ChainFamily(
    name="flopcoin-main",
    genesis="1f1037762db00882d3353b8d9dcfd52fc93cbc2d694c62f1ecd6a209cf9d30d0",
    p2pkh_prefix=35,
    p2sh_prefixes=(22,),
    wif_prefix=158,
    bip32_public=bytes.fromhex("02facafd"),
    bip32_private=bytes.fromhex("02fac398"),
    coin_type=COIN_TYPE_MAIN,
    maturity_blocks=240,
    cltv_height=111_000,
    replaces=True,
    is_test=False,
    broadcast_arguments=(True,),
)
FLOPCOIN_TEST = ChainFamily(
    name="flopcoin-test",
    genesis="f4a99d0171235dab2cc2efb14055b86f96c9eda1653ff0a3b2153146391fe300",
    p2pkh_prefix=56,
    p2sh_prefixes=(76,),
    wif_prefix=184,
    bip32_public=_TEST_PUBLIC,
    bip32_private=_TEST_PRIVATE,
    coin_type=COIN_TYPE_TEST,
    maturity_blocks=30,
    cltv_height=0,
    replaces=True,
    is_test=True,
    broadcast_arguments=(True,),
)
FLOPCOIN_REGTEST = ChainFamily(
    name="flopcoin-regtest",
    genesis="e0950eaa6e8ee8c50f8291b47d83aa59763936adc96ec60bdfb72d513bd4f1d4",
    p2pkh_prefix=111,
    p2sh_prefixes=(196,),
    wif_prefix=239,
    bip32_public=_TEST_PUBLIC,
    bip32_private=_TEST_PRIVATE,
    coin_type=COIN_TYPE_TEST,
    maturity_blocks=6,
    cltv_height=0,
    replaces=True,
    is_test=True,
    broadcast_arguments=(True,),
)
LITECOIN_REGTEST = ChainFamily(
    name="litecoin-regtest",
    genesis="530827f38f93b43ed12af0b3ad25a288dc02ed74d6d7857862df51fc56c416f9",
    p2pkh_prefix=111,
    p2sh_prefixes=(58, 196),
    wif_prefix=239,
    bip32_public=_TEST_PUBLIC,
    bip32_private=_TEST_PRIVATE,
    coin_type=COIN_TYPE_TEST,
    maturity_blocks=100,
    cltv_height=1351,
    replaces=False,
    is_test=True,
    message_title="Litecoin Signed Message:\n",
    broadcast_arguments=(0,),
)
EMBEDDED = ChainFamily(
    name="embedded",
    genesis="",
    p2pkh_prefix=111,
    p2sh_prefixes=(196,),
    wif_prefix=239,
    bip32_public=_TEST_PUBLIC,
    bip32_private=_TEST_PRIVATE,
    coin_type=COIN_TYPE_TEST,
    maturity_blocks=240,
    cltv_height=0,
    replaces=True,
    is_test=True,
)

FAMILIES = {
    family.name: family for family in (FLOPCOIN_MAIN, FLOPCOIN_TEST, FLOPCOIN_REGTEST, LITECOIN_REGTEST, EMBEDDED)
}


def family_named(name: str) -> ChainFamily:
    """The family of this name.

    Raises:
        UnknownFamily: there is none.
    """
    if name not in FAMILIES:
        raise UnknownFamily(name=name, known=", ".join(FAMILIES))
    return FAMILIES[name]
