"""Measure a publish/subscribe server: `python -m tests.bench`, and kill one: `python -m tests.bench.kill`.

load.c        the generator: one thread of C that knows HTTP and WebSocket framing, and no protocol (template.h,
              histogram.h: its texts with holes, and its latencies)
ceiling.c     a server that does the least, to show what the generator can take
build.py      compiles the two
dialects.py   what the generator says, one table for each protocol
servers.py    what is measured: a Sower of its own, the ceiling, or a server that already runs
generator.py  drives the generator
peers.py      the peers: nginx with nchan, soketi, a plain broadcaster (plain.py)
catalogue.py  all scenarios by name
scenarios.py  what is measured about every server
scale.py      what is measured about Sower alone: many connections, a day, a stalled client
records.py    a daemon with a million clients whose sockets are stubs
report.py     the table and the JSON
plots.py      lines over the number of sockets
kill.py       the loop that kills a daemon and looks for what it lost
ledger.py     what was acknowledged, and the comparison with what is there
"""
