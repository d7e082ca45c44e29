"""Random mixes of fractional and whole GPUs on two to four logical nodes of a real Ray: placed against optimum.

    python tests/bench/bench_gpu_mixes.py [--mixes 500] [--rivals 100] [--seed 1] [--json FILE]

All demands of a mix are made at the same moment.  The optimum is the largest number of them that fits at once,
by brute force over all subsets and arrangements.  See ``peers/mixes.py`` for what "placed" and "hung" mean; the
rivals play the first mixes only, because each that hangs is waited for.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from harness.machine import Machine
from harness.table import Report
from harness.visits import visit

GPUS = (1, 2, 3, 4)
LIMIT_S = 0.7


def measure(mixes: int, rivals: int, seed: int) -> list[dict[str, Any]]:
    """Return what became of each mix, for Balance and its rivals."""
    given = {"gpus": GPUS, "mixes": mixes, "rivals": rivals, "seed": seed, "limit_s": LIMIT_S}
    return visit("mixes", given, timeout_s=1800.0)


def report(found: list[dict[str, Any]], machine: Machine) -> Report:
    """Make the table, and set Balance against the bar."""
    table = Report(
        f"GPU mixes: nodes of {', '.join(map(str, GPUS))} devices, hung after {LIMIT_S:g} s without a start",
        [
            "who",
            "mixes",
            "asked",
            "optimum",
            "placed",
            "placed/optimum",
            "mixes at the optimum",
            "hung",
            "s a mix",
            "s till all is back, at most",
        ],
        machine,
    )
    for name in dict.fromkeys(each["row"] for each in found):
        mine = [each for each in found if each["row"] == name]
        asked, best, placed, hung = (sum(each[what] for each in mine) for what in ("asked", "best", "placed", "hung"))
        reached = sum(each["placed"] == each["best"] for each in mine)
        seconds = sum(each["s"] for each in mine) / len(mine)
        share, back = placed / best, max(each["back_s"] for each in mine)
        table.add(name, len(mine), asked, best, placed, f"{share:.4f}", reached, hung, f"{seconds:.2f}", f"{back:.2f}")
        if name == "Balance":
            table.bar("placed / optimum = 1.0 in every mix", f"{reached} of {len(mine)}", met=reached == len(mine))
            table.bar("no hung admission", str(hung), met=hung == 0)
    return table


@pytest.mark.cluster
@pytest.mark.benchmark(group="placement")
def test_as_many_are_placed_as_fit(benchmark: Any) -> None:
    """The bar: the optimum in every mix, and what is granted starts."""
    table = report(benchmark.pedantic(measure, args=(500, 100, 1), rounds=1), Machine.here("ray"))
    print(f"\n{table}")
    assert table.met


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mixes", type=int, default=500)
    parser.add_argument("--rivals", type=int, default=100, help="so many of them are played by the rivals too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    machine = Machine.here("ray")
    table = report(measure(given.mixes, given.rivals, given.seed), machine)
    print(table)
    if given.json is not None:
        given.json.write_text(table.to_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
