"""The mailbox put together: its keys, what it answers to other nodes and to this node's daemons, its loops."""

from __future__ import annotations

from common.contracts import p2p_mail
from common.contracts.peer_mail import MAIL_ACK, MAIL_COLLECT, MAIL_NOTICE, MAIL_STORE
from common.parts import Parts
from dux_p2pd.keeper import Keeper
from dux_p2pd.mail_keys import MailboxKeys
from dux_p2pd.mail_table import MailTable
from dux_p2pd.mailbox import Mailbox
from dux_p2pd.overlay import Overlay, stamp_bits
from dux_p2pd.postbox import Postbox
from dux_p2pd.resolver import Resolver
from dux_p2pd.settings import P2pdSettings


def mailbox_keys(parts: Parts[P2pdSettings]) -> MailboxKeys:
    """The keys from their file; where nothing is on disk, in memory."""
    folder = None if parts.store_in_memory else parts.data_dir
    return MailboxKeys(folder, parts.random, now_ms=parts.clock.unix_ms())


def open_mailbox(
    parts: Parts[P2pdSettings], keys: MailboxKeys, keeper: Keeper, net: Overlay, resolver: Resolver, table: MailTable
) -> Mailbox:
    """Everything from the keys to the methods."""
    bits = stamp_bits(parts)
    postbox = Postbox(table, net.directory, net.dht, net.peers, net.tasks, clock=parts.clock, log=parts.log, bits=bits)
    mailbox = Mailbox(
        table,
        keys,
        keeper,
        postbox,
        resolver,
        net.dht,
        net.peers,
        directory=net.directory,
        tasks=net.tasks,
        clock=parts.clock,
        log=parts.log,
        bits=bits,
    )
    net.router.answer(MAIL_STORE, mailbox.on_store)
    net.router.answer(MAIL_COLLECT, postbox.on_collect)
    net.router.answer(MAIL_ACK, postbox.on_ack)
    net.router.answer(MAIL_NOTICE, mailbox.on_notice)
    parts.table.serve(p2p_mail.MAIL_SEND, mailbox.send)
    parts.table.serve(p2p_mail.MAIL_LIST, mailbox.letters)
    parts.table.serve(p2p_mail.MAIL_DROP, mailbox.drop)
    parts.background("letters out", mailbox.run_outbox)
    parts.background("letters in", mailbox.run_collection)
    return mailbox
