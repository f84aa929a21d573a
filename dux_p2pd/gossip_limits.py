"""Every limit of gossip, with its unit and its reason, in one place.

Source: transport_identity.md §3.3, network.md §5; where a figure is ours, the comment says why.
"""

from __future__ import annotations

# the mesh of a topic
MESH_LOW = 6  # below, neighbours are grafted
MESH_WANTED = 7  # up to here
GRAFTS_PER_BEAT = 2
MESH_HIGH = 10  # above, neighbours are pruned; each one more costs a useless copy of every message
MESH_OUTBOUND = 2  # of them dialled by us: who only dials us cannot fill the mesh
MESH_BEST = 4  # of a mesh that is too large, so many stay for their score, the others by lot
MESH_PER_NET = 2  # of one /24 or /48, once the mesh has what it wants
LAZY_PEERS = 3  # neighbours outside the mesh that are told ids at each heartbeat: each is a stream, mostly for nothing
LAZY_BEATS = 2  # an id is told at so many heartbeats
BACKOFF_S = 60  # after a prune, no graft between the two for so long
FULL_BACKOFF_S = 10  # the same when the mesh was full: it then sheds some, to make room
SHED_EVERY_S = 30.0
BACKOFF_S_MAX = 3600  # longer ones are not believed
HEARTBEAT_S = 1.0
SOON_S = 0.1  # to the first heartbeat after a neighbour came or went
LOOK_S = 10.0  # meshes are looked over this often even when nobody came, left, grafted or pruned
OPPORTUNE_S = 60.0  # so often a mesh that gives little takes in neighbours that gave more
OPPORTUNE_PEERS = 2

# what is remembered
SEEN_S = 240.0  # twice the age at which a message is refused, so no copy is new again
SEEN_MAX = 65_536  # ids; at 200 messages a second this covers SEEN_S
KEPT_S = 120.0  # messages kept for who asks
KEPT_BYTES_MAX = 16 << 20
PEERS_REMEMBERED = 4096  # scores and back-offs of neighbours that left

# what one neighbour may do
IHAVE_PER_S = 500.0  # ids told
IHAVE_BURST = 1000.0
OFFERS_PER_BEAT = 450  # ids told to one neighbour at a heartbeat: heartbeats may come a little early
IWANT_PER_S = 500.0  # ids asked for; only such as were offered, each once
WANTED_MAX = 4096  # ids we wait for, from all
OFFERERS_MAX = 4  # neighbours remembered per id we wait for
WANT_S = 3.0  # a message that was offered comes within this, or the offer was a lie
OFFERED_MAX = 2048  # ids remembered as offered to one neighbour
LOGS_ASKED_MAX = 64  # messages waiting for their signer's event log, from all
LOGS_PER_PEER = 8
BURST_S = 10.0  # rates of topics allow for a burst of so many seconds

# sending
FRAME_BYTES_MAX = 65_536
FRAME_FILL_BYTES = 49_152  # a frame is begun anew above this
FRAME_LIGHT_BYTES = 16_384  # ids ride along below this: 500 ids offered and 500 wanted are 34 KB
IDS_PER_FRAME = 500
QUEUE_MESSAGES = 1024  # waiting for one slow neighbour; more are offered to it later by id
QUEUE_BYTES = 2 << 20
OWED_MAX = 8192  # ids to be offered later to one neighbour: at a meeting, all that are kept
GAP_S = 0.05  # between two frames to one neighbour, so that a busy network sends several messages at once
FLOW_S = 240.0  # a stream is begun anew after this; it may last 300 s
END_S = 1.0  # a stream that ends is given so long to be read
WRITE_S = 10.0  # a neighbour that takes nothing for so long is let go until it comes again

# the owner's verdict
QUEUE_VERDICTS = 512  # messages waiting for one owner; the oldest go first
ASKED_AT_ONCE = 8  # calls to one owner at a time
JUDGED_AT_ONCE = 32  # messages in one of them: 256 KiB at most; fewer for an owner that did not answer in time
AWAY_PAUSE_S = 1.0  # an owner that is away is asked again after this, until the message is too old

# scores
FIRST_WEIGHT = 0.1  # per message first had from a neighbour, per topic
FIRST_MAX = 50.0
FIRST_HALF_S = 300.0
INVALID_WEIGHT = -0.25  # times the square of invalid messages: 20 in a minute are below GRAYLIST_AT
INVALID_HALF_S = 600.0
BREACH_WEIGHT = -1.0  # times the square of breaches above BREACHES_FREE
BREACHES_FREE = 3.0
BREACH_HALF_S = 600.0
GOSSIP_AT = -10.0  # below, a neighbour's offers and wishes are not heard
GRAYLIST_AT = -90.0  # below, nothing of it is read
OPPORTUNE_AT = 1.0  # a mesh whose median gives less than this looks for better neighbours
