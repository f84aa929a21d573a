"""What flopd answers when it does not pay, sign or know. Codes 2100 to 2149."""

from __future__ import annotations

from common.errors import CallerMistake, DuxError, NotFound, NotNow, Unavailable


class InsufficientFunds(CallerMistake):
    """The wallet has {have_florins}, {need_florins} are needed, fee included: receive some first."""

    code = 2101
    key = "insufficient-funds"


class CoinsPending(NotNow):
    """{need_florins} are needed, {have_florins} are free, {pending_florins} wait for a block: repeat then."""

    code = 2102
    key = "coins-pending"


class DustAmount(CallerMistake):
    """{amount_florins} cannot be paid: nodes refuse outputs under {least_florins}; pay more, or by channel."""

    code = 2103
    key = "dust-amount"


class OverLimit(CallerMistake):
    """{amount_florins} break the limit {limit} of {limit_florins}: raise it in flopd.yaml, or pay by hand."""

    code = 2104
    key = "over-limit"
    http_status = 403


class CoinNotFree(CallerMistake):
    """{outpoint} cannot be spent: it is not this wallet's, not ripe or bound already; see `duxnet wallet coins`."""

    code = 2106
    key = "coin-not-free"


class NotOwnAddress(CallerMistake):
    """{address} is no address of this wallet, so it has no key to sign with; see `duxnet wallet address`."""

    code = 2107
    key = "not-own-address"


class WalletLocked(NotNow):
    """The keys are sealed: `duxnet wallet unlock`, or the passphrase as credential `passphrase` or in {unlock_file}."""

    code = 2105
    key = "wallet-locked"


class DoesNotOpen(CallerMistake):
    """{path} does not open with this passphrase, or it was changed; try again, or restore from the recovery phrase."""

    code = 2031
    key = "does-not-open"


class ChainUnavailable(Unavailable):
    """The coin node at {endpoint} does not answer: {detail}. Is it running, and is the endpoint on the egress list?"""

    code = 2110
    key = "chain-unavailable"


class WrongChain(DuxError):
    """The coin node is on chain {found}, this network is {expected}: correct `node_url` in flopd.yaml."""

    code = 2111
    key = "wrong-chain"


class NodeRefused(CallerMistake):
    """The coin node refused {method}: {detail}."""

    code = 2112
    key = "node-refused"


class NotSynced(NotNow):
    """The wallet stands at height {height} and is still reading blocks that this rests on: repeat in a moment."""

    code = 2113
    key = "not-synced"


class ContractUnknown(NotFound):
    """The wallet has not adopted contract {cid}: call contract.adopt with the agreed contract first."""

    code = 2120
    key = "contract-unknown"


class KeyNotOurs(CallerMistake):
    """This wallet has no key for that: {reason}."""

    code = 2121
    key = "key-not-ours"


class KeyUsed(CallerMistake):
    """Key {index} is bound to another contract already: make a new one with contract.new_key."""

    code = 2122
    key = "key-used"


class NotAgreed(CallerMistake):
    """The wallet does not sign this: {reason}."""

    code = 2123
    key = "not-agreed"


class TooShallow(NotNow):
    """{outpoint} has {depth_blocks} confirmations, {needed_blocks} are needed: repeat when it lies deeper."""

    code = 2124
    key = "too-shallow"


class TooEarly(NotNow):
    """The refund can be broadcast from tip {height} on, the tip is {tip}: repeat then."""

    code = 2125
    key = "too-early"


class TooLate(CallerMistake):
    """The tip is past {height}: the result key shown now could be taken without pay; wait for the award."""

    code = 2126
    key = "too-late"


class BumpRefused(CallerMistake):
    """{txid} cannot be sped up: {reason}."""

    code = 2140
    key = "bump-refused"


class NothingToSweep(CallerMistake):
    """{address} holds no confirmed coins that are worth their fee; was it paid below height {from_height}?"""

    code = 2141
    key = "nothing-to-sweep"


class NoSuchAccount(CallerMistake):
    """This wallet has no account {number}: `duxnet wallet accounts` lists them, `duxnet wallet account` opens one."""

    code = 2142
    key = "no-such-account"


class AccountsFull(CallerMistake):
    """All {most} accounts are open: use one of them, see `duxnet wallet accounts`."""

    code = 2143
    key = "accounts-full"


class NotShared(CallerMistake):
    """{address} is neither shared nor watched by this wallet; see `duxnet wallet shared` and `… watched`."""

    code = 2144
    key = "not-shared"


class BadPartial(CallerMistake):
    """This partially signed transaction is refused: {reason}."""

    code = 2145
    key = "bad-partial"


class BondLocked(NotNow):
    """The bond is locked: it can be taken back from tip {until} on, the tip is {tip}."""

    code = 2146
    key = "bond-locked"
