"""Several daemons that are one, on a Redis or Valkey: what one daemon decides alone, Redis decides for all.

    publish -> a node's channel tree -> one script in Redis: order, idempotency, history, broadcast
            -> every node that follows the channel -> its tree applies it -> its own subscribers

scripts.py    what runs inside Redis, each script at once or not at all
entries.py    what a channel's log is made of, as bytes
keys.py       what is called what in Redis
places.py     where Redis is, as a URL says it
line.py       the one connection over which scripts go and broadcasts come, in the order of Redis
links.py      such a line to each master of a Redis Cluster
node.py       a node among nodes: its lease, the epoch, who follows what, whose members are gone
versions.py   of which version each node is
memory.py     whether Redis still has what it had
estate.py     where a node has members, so that another takes them away when it is gone: burials.py
tree.py       a channel's tree that applies the log instead of deciding alone
upkeep.py     what it keeps up besides: board.py and estate.py
board.py      what each node says of itself: who follows what there, who is where (counts.py, whereabouts.py)
copy.py       a channel's state, of which some is elsewhere
replica.py    who is present, as the log says it
archive.py    history, read from Redis
hub.py        the channels of a node
words.py      what is told to all nodes, and remembered: orders.py, users.py
budgets.py    rates that hold for all of them together
shelf.py      what clients put down: groups, actions on messages (apps.py: apps that were added)
wildcards.py  which channels there are, for who follows them by a prefix
survey.py     what is asked of all of them; audits.py: what only each of them knows
joining.py    what of a daemon's parts is another here
facts.py      what webhooks are to be told, written together with what it is about
hooks.py      the one node that sends webhooks; outbox.py: from where, and who takes it over

Rule 1: nothing of consensus, membership or replication is made by hand. Redis runs one script after the other:
        that is the one order, and its broadcasts leave in that order.
Rule 2: what a node tells is what the log says. It applies its own publishes when they come back, as all others do.
Rule 3: no cluster section, no import of this folder.
"""
