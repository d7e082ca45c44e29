"""10,000 requests for data, with a broker that restarts, a collector ``kill -9`` every second, and malformed messages.

    python tests/bench/bench_data_soak.py [--broker embedded] [--broker kafka] [--requests 10000] [--json FILE]

Of the requests 30 % ask for what another one asks for (some of them are the same message once more), 2 % of all
messages are none.  Each asks for an address of an HTTP server on loopback that counts.  When a third is answered, the
broker is killed and comes back: Kafka itself, or the actor that has the embedded log.

The account is drawn up from what lies on the topics: a request is answered by one message for each time that it was
sent, what is malformed has one letter, and no address was fetched twice.  Kafka needs what ``tests/integration`` needs
to start one (Java and Maven).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from harness.machine import Machine
from harness.table import Report
from harness.visits import visit

LIMIT_S = 1800.0


def report(found: dict[str, dict[str, Any]], machine: Machine) -> Report:
    """Make the table, and hold the account against nought."""
    columns = ["broker", "messages", "malformed", "distinct", "fetches", "letters", "kills", "seconds", "a second"]
    table = Report("Data requests, a collector killed every second, and a restart of the broker", columns, machine)
    for broker, each in found.items():
        account = each["account"]
        sent = account["messages"] + account["malformed"]
        cells = [account[name] for name in ("messages", "malformed", "distinct", "fetches", "letters")]
        table.add(broker, *cells, each["kills"], round(each["took_s"], 1), round(sent / each["took_s"]))
        for name, count in account["wrong"].items():
            table.bar(f"{broker}: {name}: 0", str(count), met=count == 0)
        fetched, distinct = account["fetches"], account["distinct"]
        table.bar(f"{broker}: fetches at most distinct", f"{fetched} of {distinct}", met=fetched <= distinct)
        table.facts[f"{broker}: examples of what is wrong"] = account["examples"]
    return table


def measure(broker: str, requests: int, seed: int, collectors: int) -> dict[str, Any]:
    """Run one soak in a process of its own."""
    print(f"{requests} requests on {broker} ...", file=sys.stderr, flush=True)
    given = {"broker": broker, "requests": requests, "seed": seed, "collectors": collectors, "kill_every_s": 1.0}
    [found] = visit("data_soak_balance", given, timeout_s=LIMIT_S)
    return found


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--broker", action="append", choices=["embedded", "kafka"], help="both when left out")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--collectors", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    machine = Machine.here("ray", "confluent-kafka")
    found = {
        broker: measure(broker, given.requests, given.seed, given.collectors)
        for broker in given.broker or ["embedded", "kafka"]
    }
    table = report(found, machine)
    table.show(given.json)
    sys.exit(0 if table.met else 1)


if __name__ == "__main__":
    main()
