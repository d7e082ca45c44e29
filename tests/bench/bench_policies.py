"""The policies on a real Ray with two logical devices: no starvation of large tasks, shares by weight.

    python tests/bench/bench_policies.py [--json FILE]

Large tasks (two devices) stand among an excess of small ones (one device, half a second).  On plain Ray,
which starts whatever fits, they wait until no small one is left.  Then three tenants with weights 1:2:4
each ask for more than there is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest
from harness.machine import Machine
from harness.table import Report
from harness.visits import visit

PEERS = {"balance": "policies_balance", "ray": "policies_ray"}
GIVEN = {"large": 3, "tail": 16, "run_s": 0.5, "share_s": 0.25, "each": 110, "settle_s": 3.0}
LATE_S = 0.15
"""What starting a task may take beside the run that it waits for."""
WANTED = {"a": 1 / 7, "b": 2 / 7, "c": 4 / 7}


def measure() -> list[dict[str, Any]]:
    """Return what each peer measured."""
    found: list[dict[str, Any]] = []
    for name, script in PEERS.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        found += visit(script, GIVEN)
    return found


def report(found: list[dict[str, Any]], machine: Machine) -> Report:
    """Make the table, and set it against the bars."""
    table = Report("Large tasks, and shares", ["who", "what", "figures", "devices in use"], machine)
    for each in found:
        in_use = f"{each['in_use']:.1%}"
        if each["what"] == "large":
            waits = ", ".join(f"{wait:.2f}" for wait in each["waited_s"])
            table.add(each["row"], "waited after its turn, s", waits, in_use)
            table.add(each["row"], "overtaken by", ", ".join(map(str, each["overtaken"])), "")
        else:
            shares = ", ".join(f"{tenant} {share:.1%}" for tenant, share in each["shares"].items())
            table.add(each["row"], "shares, weights 1:2:4", shares, in_use)
        if each["row"] != "Balance":
            continue
        if each["what"] == "large":
            longest = max(each["waited_s"])
            limit = GIVEN["run_s"] + LATE_S
            table.bar(f"a large task starts within one run ({limit:g} s)", f"{longest:.2f} s", met=longest <= limit)
            table.bar("devices in use meanwhile, at least 90 %", in_use, met=each["in_use"] >= 0.9)
        else:
            off = max(abs(share / WANTED[tenant] - 1) for tenant, share in each["shares"].items())
            table.bar("shares within 3 % of the weights", f"{off:.1%}", met=off <= 0.03)
    return table


@pytest.mark.cluster
@pytest.mark.benchmark(group="policies")
def test_policies_hold_on_ray(benchmark: Any) -> None:
    """The bars, on whatever machine this runs."""
    table = report(benchmark.pedantic(measure, rounds=1), Machine.here("ray"))
    print(f"\n{table}")
    assert table.met


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    table = report(measure(), Machine.here("ray"))
    print(table)
    if given.json is not None:
        given.json.write_text(table.to_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
