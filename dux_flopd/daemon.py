"""flopd's assembly: parts meet here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from common.accounts import TOKEN_ACCOUNT
from common.chain.coin_network import coin_network
from common.chain.heights import heights_profile
from common.chain.params import ChainFamily, family_named
from common.community_fund import fund_scripts_of
from common.contracts.wallet import CHAIN_EVENTS
from common.contracts.wallet_errors import WalletLocked
from common.daemon import DuxOSDaemon
from common.errors import BadSettings
from common.keygen import BRANCH_RECEIVE, WalletSecrets, open_wallet
from common.node_ports import EGRESS_OFFSET
from common.parts import Parts
from common.store import Store
from common.token_session import TokenAway
from dux_flopd.backup import WalletBackup
from dux_flopd.bond_methods import BondMethods
from dux_flopd.both_methods import BothMethods
from dux_flopd.bump_methods import BumpMethods
from dux_flopd.chain_methods import ChainMethods
from dux_flopd.chain_store import ChainStore
from dux_flopd.channel_methods import ChannelMethods
from dux_flopd.channel_spends import ChannelSpends
from dux_flopd.coin_link import CoinLinker
from dux_flopd.contract_methods import ContractMethods
from dux_flopd.effects import Broadcaster
from dux_flopd.fund_methods import FundMethods
from dux_flopd.jws_methods import JwsMethods
from dux_flopd.keyring import TOKEN_FILE, Keyring
from dux_flopd.methods import WalletMethods
from dux_flopd.model import FollowedScript, ScriptKind
from dux_flopd.node_rpc import CoinNode, Proxy
from dux_flopd.owner_methods import OwnerMethods
from dux_flopd.proof_methods import ProofMethods
from dux_flopd.recovery import Recoverer
from dux_flopd.restore_methods import RestoreMethods
from dux_flopd.scanner import Scanner
from dux_flopd.schema import MIGRATIONS
from dux_flopd.settings import FlopSettings
from dux_flopd.shared_methods import SharedMethods
from dux_flopd.source import ChainSource
from dux_flopd.spv_parts import SpvWish, dial_by, spv_source
from dux_flopd.store import WalletStore
from dux_flopd.tool_methods import ToolMethods
from dux_flopd.unlock import environment, open_keys, terminal
from dux_flopd.view import ChainView
from dux_flopd.wallet import Wallet


class FlopDaemon(DuxOSDaemon[FlopSettings]):
    """The wallet of one node."""

    name = "flopd"
    settings_type = FlopSettings

    async def assemble(self, parts: Parts[FlopSettings]) -> None:
        """Keys, store, view, methods, loops."""
        settings, network = parts.settings, parts.network
        family = family_named(network.chain)
        keyring = self.open_keyring(parts)
        store = parts.store(MIGRATIONS)
        view = ChainView(ChainStore(store))
        node = self.open_source(parts, view, family)
        parts.stack.push_async_callback(node.close)
        scanner = Scanner(
            node,
            view,
            genesis=network.genesis,
            from_height=self._scan_from(keyring),
            poll_ms=settings.poll_ms,
            log=parts.log,
        )
        wallet = Wallet(WalletStore(store), view, keyring, family, settings)
        self._open_token(parts, keyring, wallet)
        self._follow_own(store, wallet)
        broadcaster = Broadcaster(node, wallet.store, view, scanner, parts.log)
        WalletMethods(wallet, scanner, network.genesis).serve(parts.table)
        chain = ChainMethods(view, scanner, node, wallet.store)
        chain.serve(parts.table)
        BumpMethods(wallet, chain).serve(parts.table)
        OwnerMethods(wallet, chain).serve(parts.table)
        SharedMethods(wallet, chain).serve(parts.table)
        BondMethods(wallet, network, parts.own_did).serve(parts.table)
        ProofMethods(view, node).serve(parts.table)
        ContractMethods(wallet, scanner, network).serve(parts.table)
        BothMethods(wallet).serve(parts.table)
        RestoreMethods(wallet, scanner, network).serve(parts.table)
        FundMethods(wallet, network).serve(parts.table)
        JwsMethods(keyring, parts.neighbour("p2pd")).serve(parts.table)
        self._back_up(parts, store, keyring)
        step_blocks = heights_profile(network.heights).bond_step_blocks
        recoverer = Recoverer(wallet, scanner, step_blocks, settings.scan_from_height, parts.log)
        recoverer.serve(parts.table)
        parts.background("recovery", recoverer.run)
        parts.problems.append(lambda: recoverer.problem)
        channels = ChannelMethods(wallet, scanner, network)
        channels.serve(parts.table)
        ChannelSpends(wallet, channels).serve(parts.table)
        tools = ToolMethods(wallet, self.key_opener(parts), parts.clock)
        tools.serve(parts.table)
        parts.background("lock", tools.watch)
        parts.serve_events(CHAIN_EVENTS, store)
        parts.outbox(store, broadcaster.perform, broadcaster.refused)
        parts.background("scanner", scanner.run)
        parts.background("rebroadcast", broadcaster.keep_alive)
        parts.background("coin link", CoinLinker(keyring, parts.neighbour("p2pd"), parts.log).run)
        parts.problems.append(lambda: scanner.problem)
        parts.on_reload.append(wallet.approve)
        parts.gauges["height"] = lambda: float(view.height)
        parts.gauges["synced"] = lambda: float(scanner.is_synced)

    def _back_up(self, parts: Parts[FlopSettings], store: Store, keyring: Keyring) -> None:
        """Encrypted copies of the books, on the timer that every daemon has; a simulated wallet has no disk."""
        named = parts.settings.wallet_backup_dir
        backup = WalletBackup(
            store,
            keyring,
            Path(named) if named else parts.data_dir / "backup",
            parts.settings.backup_interval,
            randomness=parts.random,
            clock=parts.clock,
            log=parts.log,
        )
        backup.serve(parts.table)
        parts.problems.append(lambda: backup.problem)
        if not parts.store_in_memory:
            parts.background("wallet backup", backup.run)

    def _open_token(self, parts: Parts[FlopSettings], keyring: Keyring, wallet: Wallet) -> None:
        """The account whose keys lie in a PKCS#11 token, where there is one; the library is an extra."""
        if not (parts.data_dir / TOKEN_FILE).exists():
            return
        from dux_flopd.coin_token import load_token  # noqa: PLC0415 - its library is an extra

        try:
            token = load_token(parts.data_dir)
        except TokenAway as error:  # the rest of the wallet goes on without that account
            told = f"{error.message} Then start flopd again."
            parts.problems.append(lambda: told)
            return
        parts.stack.callback(token.close)
        keyring.token = token
        with wallet.store.store.transaction() as tx:
            wallet.owner_store.open_account(tx, TOKEN_ACCOUNT, "token")

    def open_source(self, parts: Parts[FlopSettings], view: ChainView, family: ChainFamily) -> ChainSource:
        """Where the chain comes from, by the settings."""
        settings = parts.settings
        if settings.source == "core":
            return self.chain_source(family)
        source = spv_source(
            coin_network(family.name),
            parts.network.genesis,
            SpvWish(settings.peers, settings.checkpoint_bundle, settings.whole_blocks),
            view,
            parts.data_dir,
            dial=dial_by(self._proxy()),
            random=parts.random,
            clock=parts.clock,
            log=parts.log,
        )
        parts.background("coin peers", source.run)
        return source

    def chain_source(self, family: ChainFamily) -> ChainSource:
        """Where the chain comes from: a coin node's RPC. A simulator's subclass hands in its own."""
        waiting_ms = self.settings.waiting_ms
        return CoinNode(self.settings.node_url, self._login(), family, self._proxy(), waiting_ms=waiting_ms)

    def open_keyring(self, parts: Parts[FlopSettings]) -> Keyring:
        """The keys from their sealed file; the simulator hands in others."""
        wallet_file, unlock = self._key_files(parts)
        keyring = Keyring(str(unlock))
        parts.stack.callback(keyring.shut)
        secrets = open_keys(wallet_file, unlock, environment(), terminal())
        if secrets is None:
            parts.problems.append(lambda: "" if keyring.is_open else "the keys are sealed: `duxnet wallet unlock`")
            parts.log.warning("wallet locked")
        else:
            keyring.open(secrets)
        return keyring

    def key_opener(self, parts: Parts[FlopSettings]) -> Callable[[bytes], WalletSecrets]:
        """How the sealed file is opened while the daemon runs: by a passphrase, or by what opens it unattended."""
        wallet_file, unlock = self._key_files(parts)

        def opened(passphrase: bytes) -> WalletSecrets:
            if passphrase:
                return open_wallet(wallet_file, passphrase)
            secrets = open_keys(wallet_file, unlock, environment(), None)
            if secrets is None:
                raise WalletLocked(unlock_file=str(unlock))
            return secrets

        return opened

    def _key_files(self, parts: Parts[FlopSettings]) -> tuple[Path, Path]:
        unlock = parts.settings.unlock_file
        return parts.data_dir / "wallet.key", Path(unlock) if unlock else parts.data_dir / "unlock.key"

    def _scan_from(self, keyring: Keyring) -> int:
        birth = keyring.birth_height() if keyring.is_open else 0
        return max(self.settings.scan_from_height, birth)

    def _follow_own(self, store: Store, wallet: Wallet) -> None:
        """Own scripts and the fund's are followed from the first block read; the first address was told by keygen."""
        with store.transaction() as tx:
            wallet.keep_gap(tx, 0)
            if wallet.keyring.is_open and wallet.store.last_seen(tx, BRANCH_RECEIVE) < 0:
                wallet.fresh(tx, BRANCH_RECEIVE, "first")
            for script in fund_scripts_of(self.network.fund):
                wallet.view.follow(tx, FollowedScript(script, ScriptKind.FUND, 0, 0, ""), 0)

    def _login(self) -> tuple[str, str]:
        """User and password of the coin node; a file with `user:password` (a cookie) needs no `node_user`."""
        if not self.settings.node_password_file:
            return self.settings.node_user, ""
        path = Path(self.settings.node_password_file)
        try:
            text = path.read_text().strip()
        except OSError as error:
            raise BadSettings(path="node_password_file", detail=f"{path}: {error.strerror}") from error
        if self.settings.node_user:
            return self.settings.node_user, text.removeprefix(f"{self.settings.node_user}:")
        user, _, password = text.partition(":")
        return user, password

    def _proxy(self) -> Proxy | None:
        if not self.settings.egress:
            return None
        token_file = Path(self.settings.run_dir) / "p2pd" / f"{self.name}.token"
        port = self.settings.port_base + EGRESS_OFFSET
        return Proxy(self.settings.host, port, self.name, token_file)
