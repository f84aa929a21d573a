"""Fidelity bonds of this wallet: made, told of, shown, and taken back (common/chain/bond.py says what one is)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.chain.bond import BadBond
from common.chain.tx import Outpoint
from common.codec import Wire
from common.contracts.wallet_errors import BondLocked, CoinsPending, InsufficientFunds, WalletLocked
from common.errors import NotFound
from common.rpc.method import Empty, Method
from common.units import BlockHeight, Florins

READERS = ("cli", "module", "airdropd", "registryd")
_TXID = "5e" * 32
_ADDRESS = "2N2Pe2JqmdRvCBh4rtSAtvAfcEfMwPCXUSR"


class MakeBond(Wire, frozen=True):
    """Lock coins until at least this height; the wallet takes the next step of the network's table."""

    request_id: str
    amount_florins: Florins
    until: Annotated[int, Meta(gt=0)]


class BondMade(Wire, frozen=True):
    """Locked: from tip `until` on it can be taken back, and by nobody before."""

    number: int
    txid: str
    address: str
    amount_florins: Florins
    fee_florins: Florins
    until: BlockHeight


class BondName(Wire, frozen=True):
    """One bond, by its number."""

    request_id: str
    number: Annotated[int, Meta(ge=0)]


class BondCoin(Wire, frozen=True):
    """One locked output. `proof`: canonical bytes of a `BondProof` naming this node, once the bond is registered."""

    outpoint: Outpoint
    value_florins: Florins
    height: BlockHeight | None
    proof: bytes


class BondView(Wire, frozen=True):
    """A bond: all unspent coins locked until the same height. `registered`: daemons may tell others of it."""

    number: int
    address: str
    until: BlockHeight
    locked_florins: Florins
    registered: bool
    coins: list[BondCoin]


class Bonds(Wire, frozen=True):
    """Bonds that hold coins, the earliest to end first."""

    bonds: list[BondView]
    tip: BlockHeight


class BondTaken(Wire, frozen=True):
    """Taken back, on its way to a fresh own address."""

    txid: str
    amount_florins: Florins
    fee_florins: Florins


_COIN = BondCoin(outpoint=Outpoint(_TXID, 0), value_florins=Florins(5_000_000_000), height=BlockHeight(245), proof=b"")
_BOND = BondView(
    number=700,
    address=_ADDRESS,
    until=BlockHeight(1_008_000),
    locked_florins=Florins(5_000_000_000),
    registered=False,
    coins=[_COIN],
)

WALLET_BOND_MAKE: Method[MakeBond, BondMade] = Method(
    name="wallet.bond_make",
    params=MakeBond,
    result=BondMade,
    summary="Lock coins in a fidelity bond until a height.",
    callers=("cli",),
    once=True,
    raises=(BadBond, InsufficientFunds, CoinsPending, WalletLocked),
    example=(
        MakeBond(request_id="bond-1", amount_florins=Florins(5_000_000_000), until=1_007_000),
        BondMade(
            number=700,
            txid=_TXID,
            address=_ADDRESS,
            amount_florins=Florins(5_000_000_000),
            fee_florins=Florins(1_000_000),
            until=BlockHeight(1_008_000),
        ),
    ),
)

WALLET_BONDS: Method[Empty, Bonds] = Method(
    name="wallet.bonds",
    params=Empty,
    result=Bonds,
    summary="Own fidelity bonds, with the proofs of those that are registered.",
    callers=READERS,
    raises=(WalletLocked,),
    example=(Empty(), Bonds(bonds=[_BOND], tip=BlockHeight(250))),
)

WALLET_BOND_REGISTER: Method[BondName, BondView] = Method(
    name="wallet.bond_register",
    params=BondName,
    result=BondView,
    summary="Bind a bond to this node's DID by signed proofs, for other nodes to see.",
    callers=("cli",),
    once=True,
    raises=(NotFound, WalletLocked),
    example=(BondName(request_id="register-1", number=700), _BOND),
)

WALLET_BOND_RECLAIM: Method[BondName, BondTaken] = Method(
    name="wallet.bond_reclaim",
    params=BondName,
    result=BondTaken,
    summary="Take a bond back once its height is reached.",
    callers=("cli",),
    once=True,
    raises=(NotFound, BondLocked, BadBond, WalletLocked),
    example=(
        BondName(request_id="reclaim-1", number=700),
        BondTaken(txid=_TXID, amount_florins=Florins(4_999_000_000), fee_florins=Florins(1_000_000)),
    ),
)
