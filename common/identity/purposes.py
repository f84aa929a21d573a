"""Every use of a hash or a signature by name, so that no signature serves twice.

A purpose is part of the bytes that are hashed or signed. `OWNER` says which daemon may ask p2pd to sign for it, or
that the node's owner may (`cli`); a purpose without an owner is only ever hashed.
"""

from __future__ import annotations

from enum import StrEnum


class Purpose(StrEnum):
    """What a hash or a signature is for."""

    # Identity, in common/identity.
    EVENT = "event"
    NEXT_KEY = "next-key"
    NODE_ID = "node-id"
    INCEPTION_WORK = "inception-work"
    NODE_RECORD = "node-record"
    COIN_LINK = "coin-link"
    CLAIM_LEAF = "claim-leaf"
    CLAIM_NODE = "claim-node"
    CLAIM_ROOT = "claim-root"
    CLAIM_SHOWN = "claim-shown"
    # The overlay of p2pd.
    RECORD = "record"
    RECORD_KEY = "record-key"
    GOSSIP = "gossip"
    GOSSIP_ID = "gossip-id"
    STAMP = "stamp"
    MAIL = "mail"
    MAIL_ID = "mail-id"
    MAIL_KEY = "mail-key"
    MAIL_PARCEL = "mail-parcel"
    MAIL_ACK = "mail-ack"
    BLOB_CHUNK = "blob-chunk"
    BLOB_NODE = "blob-node"
    STORAGE_RECEIPT = "storage-receipt"
    # Money and agreement: escrowd and flopd.
    CONTRACT = "contract"
    ESCROW_OFFER = "escrow-offer"
    ESCROW_TERMS = "escrow-terms"
    ESCROW_SALT = "escrow-salt"
    ESCROW_ACCEPT = "escrow-accept"
    ESCROW_AUDIT = "escrow-audit"
    ESCROW_STATEMENT = "escrow-statement"
    ESCROW_VOTE = "escrow-vote"
    ESCROW_DRAW = "escrow-draw"
    ESCROW_DRAW_NONCE = "escrow-draw-nonce"
    ESCROW_RESULT = "escrow-result"
    ESCROW_BLOB = "escrow-blob"
    CHANNEL = "channel"
    CHANNEL_TERMS = "channel-terms"
    CHANNEL_SESSION = "channel-session"
    CHANNEL_VOUCHER = "channel-voucher"
    CHANNEL_ANSWER = "channel-answer"
    CHANNEL_ACK = "channel-ack"
    CHANNEL_REQUEST = "channel-request"
    CHANNEL_RESPONSE = "channel-response"
    CHANNEL_OFFER = "channel-offer"
    CHANNEL_HELLO = "channel-hello"
    CHANNEL_HELLO_BACK = "channel-hello-back"
    CHANNEL_FINAL = "channel-final"
    CHANNEL_ASK = "channel-ask"
    DRAW = "draw"
    BEACON = "beacon"
    BOND = "bond"  # signed by flopd's own coin key, never by p2pd
    # Work: taskd.
    JOB = "job"
    JOB_INPUT = "job-input"
    JOB_OUTPUT = "job-output"
    PACKAGE = "package"
    LIMITS = "limits"
    OUTPUT_COMMITMENT = "output-commitment"
    WORK_RECEIPT = "work-receipt"
    SETTLED_RECEIPT = "settled-receipt"
    RECEIPT_FACTS = "receipt-facts"
    RECEIPT_LOT = "receipt-lot"  # signed by flopd's coin key of the contract, never by p2pd
    # The market: stored and registryd.
    SERVICE = "service"
    SERVICE_ID = "service-id"
    RATING = "rating"
    REGISTRATION = "registration"
    HEARTBEAT = "heartbeat"
    REPUTATION = "reputation"
    ATTESTATION = "attestation"
    SIGHTING = "sighting"
    LOOK = "look"  # never signed: p2pd proves what its look key draws from it
    MEASURE = "measure"  # the same
    STANDING_NOTE = "standing-note"
    BENCHMARK = "benchmark"
    AUDIT_REQUEST = "audit-request"
    AUDIT_VERDICT = "audit-verdict"
    SERVICE_DONE = "service-done"
    QUOTE_SEEN = "quote-seen"
    BOND_TOLD = "bond-told"
    TPM_NONCE = "tpm-nonce"
    NETWORK_PROFILE = "network-profile"  # by the key file before there is a p2pd
    # The airdrop: airdropd.
    AIRDROP_EVIDENCE = "airdrop-evidence"
    AIRDROP_PROPOSAL = "airdrop-proposal"
    AIRDROP_SIGNATURE = "airdrop-signature"
    AIRDROP_WITNESS = "airdrop-witness"  # a custodian's word about nodes: presence, age, standing
    FUND_CEREMONY = "fund-ceremony"  # custodians' fund keys, signed by these keys themselves
    SWEEP = "sweep"
    PARAMETERS = "parameters"  # signed by founders, as the profile


OWNER: dict[Purpose, str] = {
    Purpose.EVENT: "p2pd",
    Purpose.NODE_RECORD: "p2pd",
    Purpose.COIN_LINK: "p2pd",
    Purpose.RECORD: "p2pd",
    Purpose.GOSSIP: "p2pd",
    Purpose.MAIL: "p2pd",
    Purpose.MAIL_ACK: "p2pd",
    Purpose.STORAGE_RECEIPT: "p2pd",
    Purpose.ESCROW_TERMS: "escrowd",
    Purpose.ESCROW_ACCEPT: "escrowd",
    Purpose.ESCROW_AUDIT: "escrowd",
    Purpose.ESCROW_STATEMENT: "escrowd",
    Purpose.ESCROW_VOTE: "escrowd",
    Purpose.CHANNEL_OFFER: "escrowd",
    Purpose.CHANNEL_ASK: "escrowd",
    Purpose.JOB: "taskd",
    Purpose.WORK_RECEIPT: "taskd",
    Purpose.SETTLED_RECEIPT: "taskd",
    Purpose.SERVICE: "stored",
    Purpose.RATING: "stored",
    Purpose.REGISTRATION: "registryd",
    Purpose.HEARTBEAT: "registryd",
    Purpose.REPUTATION: "registryd",
    Purpose.ATTESTATION: "registryd",
    Purpose.CLAIM_ROOT: "registryd",
    Purpose.CLAIM_SHOWN: "registryd",
    Purpose.SIGHTING: "registryd",
    Purpose.LOOK: "registryd",
    Purpose.MEASURE: "registryd",
    Purpose.BENCHMARK: "registryd",
    Purpose.AUDIT_REQUEST: "registryd",
    Purpose.AUDIT_VERDICT: "registryd",
    Purpose.SERVICE_DONE: "registryd",
    Purpose.QUOTE_SEEN: "registryd",
    Purpose.BOND_TOLD: "registryd",
    Purpose.AIRDROP_EVIDENCE: "airdropd",
    Purpose.AIRDROP_PROPOSAL: "airdropd",
    Purpose.AIRDROP_SIGNATURE: "airdropd",
    Purpose.AIRDROP_WITNESS: "airdropd",
    # What a founder agrees to, by the command line.
    Purpose.NETWORK_PROFILE: "cli",
    Purpose.PARAMETERS: "cli",
}
