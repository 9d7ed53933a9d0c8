"""`python -m tests.bench`: start Sower and its peers in turn, put the same load on each, print what they did."""

from __future__ import annotations

import argparse
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.bench.build import NoCompiler
from tests.bench.catalogue import SCENARIOS, Scenario
from tests.bench.dialects import DIALECTS, Target
from tests.bench.generator import LoadFailed, generator
from tests.bench.peers import SERVERS
from tests.bench.plots import save_plots
from tests.bench.report import as_ratios, as_table, medians, save
from tests.bench.scenarios import QUICK, Bench, Plan, Row
from tests.bench.servers import Server, ServerFailed, already_running


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: about a minute")
    parser.add_argument("--server", action="append", choices=SERVERS, help="only this one; may be repeated")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="this scenario; may be repeated")
    parser.add_argument("--subscribers", type=int, help="sockets on the fan-out channel")
    parser.add_argument("--crowd", type=int, help="sockets on the channel that is large")
    parser.add_argument("--idle", type=int, help="sockets for the memory figure")
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=1, help="all servers in turn, so often; then medians and ratios")
    parser.add_argument("--out", type=Path, help="a folder for bench.json and the plots (SVG)")
    running = parser.add_argument_group("a server that already runs, on 127.0.0.1")
    running.add_argument("--port", type=int, help="where it listens; no other server is started")
    running.add_argument("--pid", type=int, help="its process, for memory and processor time")
    running.add_argument("--dialect", choices=DIALECTS, default="native")
    running.add_argument("--key", default="")
    running.add_argument("--secret-file", type=Path, help="a file that holds the secret")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    _raise_file_limit()
    rows: list[Row] = []
    try:
        for row in _measure(options):
            print(f"{row.server}: {row.scenario}: {row.figure:,.1f} {row.unit}", file=sys.stderr)
            rows.append(row)
    except (NoCompiler, LoadFailed, ServerFailed) as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    finally:
        if rows:
            print(as_table(medians(rows)))
            print(as_ratios(medians(rows)))
    if options.out:
        for path in (save(rows, options.out), *save_plots(medians(rows), options.out)):
            print(path, file=sys.stderr)
    return 0


def _measure(options: argparse.Namespace) -> Iterator[Row]:
    """Rows of every round. The servers take turns within a round, so that a machine's drift meets all of them."""
    server_core, load_core = _cores()
    plan = _plan(options)
    left_out: set[str] = set()
    for _ in range(options.rounds):
        for name, block in _servers(options, server_core).items():
            if name in left_out:
                continue
            try:
                with block as server, generator(load_core) as load:
                    bench = Bench(server, load, partial(generator, load_core), plan)
                    for scenario in _scenarios(options, server):
                        yield from scenario.rows(bench)
            except ServerFailed as failure:
                if name == "sower" or options.port:
                    raise
                left_out.add(name)
                print(f"bench: {name} is left out: {failure}", file=sys.stderr)


def _scenarios(options: argparse.Namespace, server: Server) -> list[Scenario]:
    """Those that were asked for by name, else all that fit, as far as they are for this server."""
    asked = [SCENARIOS[name] for name in options.only or SCENARIOS]
    if not options.only and options.quick:
        asked = [scenario for scenario in asked if scenario.quick]
    return [scenario for scenario in asked if server.name == "sower" or not scenario.alone]


def _servers(options: argparse.Namespace, core: int | None) -> dict[str, AbstractContextManager[Server]]:
    if options.port:
        secret = options.secret_file.read_text().strip() if options.secret_file else ""
        target = Target(options.port, options.key, secret)
        return {"": nullcontext(already_running(target, options.dialect, options.pid))}
    return {name: SERVERS[name](core) for name in options.server or SERVERS}


def _plan(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else Plan()
    asked = {
        "subscribers": options.subscribers,
        "crowd": options.crowd,
        "idle": options.idle and (options.idle,),
        "seconds": options.seconds,
    }
    return replace(plan, **{name: value for name, value in asked.items() if value})


def _cores() -> tuple[int | None, int | None]:
    """One core for the server and another for the generator, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("bench: there is one core only, so server and generator share it", file=sys.stderr)
        return None, None
    return cores[0], cores[1]


def _raise_file_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())
