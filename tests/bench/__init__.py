"""Measure a publish/subscribe server: `python -m tests.bench`, and kill one: `python -m tests.bench.kill`.

load.c        the generator: one thread of C that knows HTTP and WebSocket framing, and no protocol
ceiling.c     a server that does the least, to show what the generator can take
build.py      compiles the two
dialects.py   what the generator says, one table for each protocol
servers.py    what is measured: a Sower of its own, the ceiling, or a server that already runs
generator.py  drives the generator
scenarios.py  what is measured about it
report.py     the table and the JSON
kill.py       the loop that kills a daemon and looks for what it lost
ledger.py     what was acknowledged, and the comparison with what is there
"""
