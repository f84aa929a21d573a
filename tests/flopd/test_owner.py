"""What an owner keeps beside the node's money: accounts, watched addresses, shared addresses, bonds."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from common.chain.address import address_to_script
from common.chain.bond import BondProof, bond_script, proof_problem, reclaim_digest, reclaim_sig, reclaim_tx
from common.chain.psbt import from_text, to_text
from common.chain.settle import MissingSignature
from common.chain.tx import serialize
from common.codec import from_canonical
from common.contracts.wallet import (
    WALLET_ACCOUNT,
    WALLET_ACCOUNTS,
    WALLET_BOND_MAKE,
    WALLET_BOND_RECLAIM,
    WALLET_BOND_REGISTER,
    WALLET_BONDS,
    WALLET_NEW_ADDRESS,
    WALLET_PARTIAL_FINISH,
    WALLET_PARTIAL_MAKE,
    WALLET_PARTIAL_SHOW,
    WALLET_PARTIAL_SIGN,
    WALLET_SEND,
    WALLET_SHARED,
    WALLET_SHARED_KEY,
    WALLET_SHARED_MAKE,
    WALLET_WATCH,
    WALLET_WATCHED,
    NewAddress,
)
from common.contracts.wallet_accounts import OpenAccount, WatchOnly
from common.contracts.wallet_bonds import BondName, MakeBond
from common.contracts.wallet_errors import (
    BadPartial,
    BondLocked,
    InsufficientFunds,
    KeyNotOurs,
    NoSuchAccount,
    NotShared,
)
from common.contracts.wallet_shared import (
    FinishPartial,
    MakePartial,
    MakeShared,
    NewSharedKey,
    PartialView,
    Payee,
    ShowPartial,
    SignPartial,
)
from common.keygen import BRANCH_BOND
from common.rpc.method import Empty
from common.units import FLOP, Florins
from tests.chain.contract_kit import public_key
from tests.flopd.coin_node import Refused
from tests.flopd.test_payments import bank_address, funded
from tests.flopd.test_tools import to_bank
from tests.flopd.wallets import WalletNode


async def paid_to(wallet: WalletNode, address: str, florins: int) -> None:
    wallet.bench.pay((address_to_script(address, wallet.bench.family), florins))
    wallet.bench.mine()
    await wallet.synced()


async def test_an_account_holds_what_daemons_cannot_spend_and_another_wallet_can_watch(
    wallet: WalletNode, tmp_path: Path
) -> None:
    """Its coins are not the node's; its payments come from it alone; its public key shows all of it elsewhere."""
    watcher = WalletNode(tmp_path / "watcher", wallet.bench)
    from_height = wallet.bench.height
    async with wallet.running(), watcher.running():
        await funded(wallet, 2 * FLOP)
        with pytest.raises(NoSuchAccount):
            await wallet.call(WALLET_NEW_ADDRESS, NewAddress(request_id="a", account=1))
        opened = await wallet.call(WALLET_ACCOUNT, OpenAccount(request_id="b", name="savings"))
        assert (opened.number, opened.name) == (1, "savings")
        addresses = [
            (await wallet.call(WALLET_NEW_ADDRESS, NewAddress(request_id=f"c{at}", account=1))).address
            for at in range(25)
        ]
        await paid_to(wallet, addresses[15], 7 * FLOP)
        assert (await wallet.balance()).total_florins == 2 * FLOP
        with pytest.raises(InsufficientFunds):
            await wallet.call(WALLET_SEND, to_bank(wallet, "d", 3 * FLOP))
        told = await watcher.call(
            WALLET_WATCH, WatchOnly(request_id="w", account_key=opened.public_key, from_height=from_height)
        )
        assert told.confirmed_florins == 7 * FLOP
        await paid_to(wallet, addresses[24], FLOP)  # seen only by who looks twenty beyond the one that was paid
        sent = await wallet.call(WALLET_SEND, to_bank(wallet, "e", 3 * FLOP, account=1))
        await wallet.in_node(sent.txid)
        wallet.bench.mine()
        await wallet.synced()
        await watcher.synced()
        held = {view.number: view.confirmed_florins for view in (await wallet.call(WALLET_ACCOUNTS, Empty())).accounts}
        assert held == {0: 2 * FLOP, 1: 8 * FLOP - 3 * FLOP - int(sent.fee_florins)}
        shown = (await watcher.call(WALLET_WATCHED, Empty())).watched
        assert [(one.name, one.confirmed_florins) for one in shown] == [(opened.public_key, held[1])]
        assert (await watcher.balance()).total_florins == 0


async def test_an_address_is_watched_and_its_holder_signs_what_the_watcher_prepares(
    wallet: WalletNode, tmp_path: Path
) -> None:
    """A coordinator without keys makes the payment; the wallet that has the key reviews and signs it."""
    watcher = WalletNode(tmp_path / "watcher", wallet.bench)
    async with wallet.running(), watcher.running():
        address = wallet.made.address
        seen = await watcher.call(WALLET_WATCH, WatchOnly(request_id="w", address=address, label="shop"))
        assert (seen.name, seen.label) == (address, "shop")
        await paid_to(wallet, address, 5 * FLOP)
        await watcher.synced()
        payee = Payee(address=bank_address(wallet.bench), amount_florins=Florins(FLOP))
        made = await watcher.call(WALLET_PARTIAL_MAKE, MakePartial(source=address, payees=(payee,)))
        assert made.inputs[0].ours is False
        reviewed = await wallet.call(WALLET_PARTIAL_SHOW, ShowPartial(psbt=made.psbt))
        assert (reviewed.txid, reviewed.warnings) == (made.txid, [])
        assert int(reviewed.leaves_us_florins) == FLOP + int(reviewed.fee_florins)
        signed = await sign(wallet, made)
        assert signed.complete
        sent = await watcher.call(WALLET_PARTIAL_FINISH, FinishPartial(request_id="f", psbts=(signed.psbt,)))
        await watcher.in_node(sent.txid)
        with pytest.raises(NotShared):
            await watcher.call(WALLET_PARTIAL_MAKE, MakePartial(source=bank_address(wallet.bench), payees=(payee,)))


async def sign(wallet: WalletNode, view: PartialView) -> PartialView:
    asked = SignPartial(request_id=f"sign {view.psbt[-60:]}", psbt=view.psbt, txid=view.txid)
    return await wallet.call(WALLET_PARTIAL_SIGN, asked)


async def test_two_wallets_share_an_address_and_spend_from_it_together(wallet: WalletNode, tmp_path: Path) -> None:
    """Both see the same address; each signs what it reviewed; the coin's own nodes read the file and take the spend."""
    other = WalletNode(tmp_path / "other", wallet.bench)
    async with wallet.running(), other.running():
        keys = [
            (await one.call(WALLET_SHARED_KEY, NewSharedKey(request_id="k", label="till"))).public_key
            for one in (wallet, other)
        ]
        keys.append(public_key("third"))
        views = [
            await one.call(WALLET_SHARED_MAKE, MakeShared(request_id="m", needed=2, public_keys=order, label="till"))
            for one, order in ((wallet, tuple(keys)), (other, tuple(reversed(keys))))
        ]
        assert views[0].address == views[1].address
        with pytest.raises(KeyNotOurs):
            await wallet.call(
                WALLET_SHARED_MAKE,
                MakeShared(request_id="n", needed=1, public_keys=(public_key("x"), public_key("y"))),
            )
        await paid_to(wallet, views[0].address, 6 * FLOP)
        await other.synced()
        assert [one.confirmed_florins for one in (await other.call(WALLET_SHARED, Empty())).shared] == [6 * FLOP]
        payee = Payee(address=bank_address(wallet.bench), amount_florins=Florins(2 * FLOP))
        blank = await wallet.call(WALLET_PARTIAL_MAKE, MakePartial(source=views[0].address, payees=(payee,)))
        asked = SignPartial(request_id="s", psbt=_changed(blank.psbt), txid=blank.txid)
        with pytest.raises(BadPartial, match="reviewed"):
            await other.call(WALLET_PARTIAL_SIGN, asked)
        mine, theirs = await sign(wallet, blank), await sign(other, blank)
        assert [(item.signed, item.needed) for item in theirs.inputs] == [(1, 2)]
        with pytest.raises(MissingSignature):
            await wallet.call(WALLET_PARTIAL_FINISH, FinishPartial(request_id="f", psbts=(mine.psbt,)))
        if wallet.bench.family.name == "litecoin-regtest":
            both = wallet.bench.rpc("combinepsbt", [mine.psbt, theirs.psbt])
            assert wallet.bench.rpc("decodepsbt", both)["tx"]["txid"] == blank.txid
            assert wallet.bench.rpc("finalizepsbt", both)["complete"] is True
        finish = FinishPartial(request_id="g", psbts=(mine.psbt, theirs.psbt))
        sent = await wallet.call(WALLET_PARTIAL_FINISH, finish)
        await wallet.in_node(sent.txid)
        wallet.bench.mine()
        await wallet.synced()
        left = (await wallet.call(WALLET_SHARED, Empty())).shared[0]
        assert int(left.confirmed_florins) == 4 * FLOP - int(sent.fee_florins)


def _changed(text: str) -> str:
    """Somebody else is paid, by a coordinator who lies after the review."""
    found = from_text(text)
    first, *rest = found.tx.outputs
    lied = replace(first, value_florins=Florins(int(first.value_florins) + 1))
    return to_text(replace(found, tx=replace(found.tx, outputs=(lied, *rest))))


async def test_a_bond_is_locked_for_its_owner_too_until_its_height(wallet: WalletNode) -> None:
    """The network refuses an earlier spend; others can check the proof; at its height all but the fee comes back."""
    (wallet.folder / "data/flopd").mkdir(parents=True, exist_ok=True)
    (wallet.folder / "data/flopd/node.did").write_text("did:dux:bonded")
    async with wallet.running():
        await funded(wallet, 9 * FLOP)
        tip = wallet.bench.height
        made = await wallet.call(
            WALLET_BOND_MAKE, MakeBond(request_id="a", amount_florins=Florins(5 * FLOP), until=tip + 4)
        )
        assert tip + 4 <= made.until < tip + 14
        await wallet.in_node(made.txid)
        wallet.bench.mine()
        await wallet.synced()
        with pytest.raises(BondLocked):
            await wallet.call(WALLET_BOND_RECLAIM, BondName(request_id="b", number=made.number))
        bond = (await wallet.call(WALLET_BONDS, Empty())).bonds[0]
        assert (bond.locked_florins, bond.registered, bond.coins[0].proof) == (5 * FLOP, False, b"")
        await refused_early(wallet, made.number, int(made.until), bond.coins[0].outpoint)
        told = await wallet.call(WALLET_BOND_REGISTER, BondName(request_id="c", number=made.number))
        assert (await wallet.call(WALLET_BONDS, Empty(), "airdropd")).bonds == [told]
        proof = from_canonical(told.coins[0].proof, BondProof, max_bytes=1000)
        script = address_to_script(made.address, wallet.bench.family)
        assert proof_problem(proof, wallet.network.genesis, "did:dux:bonded", script) == ""
        assert (proof.bond.until, proof.bond.outpoint) == (made.until, told.coins[0].outpoint)
        wallet.bench.mine(int(made.until) - wallet.bench.height)
        await wallet.synced()
        back = await wallet.call(WALLET_BOND_RECLAIM, BondName(request_id="d", number=made.number))
        assert int(back.amount_florins) + int(back.fee_florins) == 5 * FLOP
        await wallet.in_node(back.txid)
        wallet.bench.mine()
        await wallet.synced()
        assert (await wallet.call(WALLET_BONDS, Empty())).bonds == []
        assert (await wallet.balance()).total_florins == 9 * FLOP - int(made.fee_florins) - int(back.fee_florins)


async def refused_early(wallet: WalletNode, number: int, until: int, point: object) -> None:
    """The owner's own key, a block too early: the coin's node says no."""
    keyring = wallet.daemon.open_keyring(wallet.daemon.parts)
    owner = keyring.public(BRANCH_BOND, number)
    home = address_to_script(wallet.made.address, wallet.bench.family)
    redeem = bond_script(owner, until)
    for lock in (until, until - 1):
        tx = replace(reclaim_tx(owner, until, ((point, 5 * FLOP),), home, 1_200_000), lock_time=lock)
        signed = tx.signed([reclaim_sig(redeem, keyring.sign_at(BRANCH_BOND, number, reclaim_digest(tx, 0, redeem)))])
        with pytest.raises(Refused):
            wallet.bench.rpc("sendrawtransaction", serialize(signed).hex())
