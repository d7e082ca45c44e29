"""Copies against ``rsync --checksum``: a new one, one that is right already, one of which 1 % changed; and a kill.

    python tests/bench/bench_sync.py [--mib 1024] [--rounds 3] [--folder FOLDER] [--json FILE]

One file of random bytes, and a folder of 2,000 files of 64 KiB, from place to place on one disk, rsync and Balance in
turn.  Everything is written to disk before each copy.  Balance's copy is on the disk when it returns, rsync's is with
``--fsync`` only; the bar is against plain rsync.  rsync is a package of every distribution (Debian: ``rsync``); without
it the bench says so and ends.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.machine import Machine
from harness.table import Report, spread

from balance.adapters.copier import FsspecCopier

MIB = 2**20
BAR = 0.7
BLOCK_BYTES = 8 * MIB
FILES, FILE_BYTES = 2_000, 64 * 1024
CASES = ("new", "right already", "1 % changed")

KILLED = """
import sys
from balance.adapters.copier import FsspecCopier

def read_bytes():
    return int(open("/proc/self/io").read().split()[1])

def tell(done, total):
    if done == total // 2:
        print(before, flush=True)
    if done >= total * 3 // 4:
        sys.stdin.read()

copier = FsspecCopier()
before = read_bytes()
copier.copy(sys.argv[1], sys.argv[2], tell)
"""


def rsync(*options: str) -> Callable[[Path, Path], None]:
    """Return a copy by rsync; a folder's content goes into the other folder."""

    def copy(source: Path, target: Path) -> None:
        ending = "/" if source.is_dir() else ""
        subprocess.run(["rsync", "--checksum", "--recursive", *options, f"{source}{ending}", f"{target}"], check=True)

    return copy


def balance(source: Path, target: Path) -> None:
    """Copy with Balance."""
    report = FsspecCopier().copy(str(source), str(target))
    assert report.status in ("copied", "unchanged"), report


PEERS: dict[str, Callable[[Path, Path], None]] = {
    "rsync": rsync(),
    "rsync --fsync": rsync("--fsync"),
    "Balance": balance,
}


def write(path: Path, size_bytes: int) -> None:
    """Write random bytes."""
    with path.open("wb") as file:
        for done in range(0, size_bytes, MIB):
            file.write(os.urandom(min(MIB, size_bytes - done)))


def change(source: Path, rng: random.Random) -> None:
    """Change 1 %: of a file in a hundred places, of a folder every hundredth file."""
    if source.is_dir():
        for path in sorted(source.iterdir())[:: FILES // 20]:
            write(path, FILE_BYTES)
        return
    size = source.stat().st_size
    with source.open("r+b") as file:
        for _ in range(100):
            file.seek(rng.randrange(size - size // 10_000))
            file.write(os.urandom(size // 10_000))


def timed(copy: Callable[[Path, Path], None], source: Path, target: Path) -> float:
    """Return the seconds of one copy, on a disk that has nothing else to write."""
    os.sync()
    began = time.perf_counter()
    copy(source, target)
    return time.perf_counter() - began


def measure(source: Path, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Return the seconds of each peer in each case."""
    found: dict[tuple[str, str], list[float]] = {}
    rng = random.Random(1)
    targets = {name: source.with_name(f"target of {name}") for name in PEERS}
    for number in range(rounds):
        names = list(PEERS)[number % len(PEERS) :] + list(PEERS)[: number % len(PEERS)]
        for target in targets.values():
            remove(target)
        for case in CASES:
            if case == CASES[2]:
                change(source, rng)
            for name in names:
                print(f"round {number + 1}, {source.name}, {case}: {name}", file=sys.stderr, flush=True)
                found.setdefault((name, case), []).append(timed(PEERS[name], source, targets[name]))
    for target in targets.values():
        remove(target)
    return found


def remove(path: Path) -> None:
    """Take a file or a folder away."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copied_again(source: Path, target: Path) -> int:
    """Kill a copy half-way, finish it, and return how many bytes of the source were read twice."""
    remove(target)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(source), str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        before = int(child.stdout.readline())
        child.send_signal(signal.SIGSTOP)  # as it is now, with pieces under way
        while Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8").rsplit(") ", 1)[1][0] != "T":
            os.sched_yield()
        first = int(Path(f"/proc/{child.pid}/io").read_text(encoding="utf-8").split()[1]) - before
        child.kill()
    report = FsspecCopier().copy(str(source), str(target))
    assert report.status == "copied"
    assert FsspecCopier().digest(str(target)) == report.digest
    return first + report.copied_bytes - report.size_bytes


def measure_all(folder: Path, mib: int, rounds: int) -> Report:
    """Measure a file, a folder and a kill."""
    table = Report(
        f"{mib} MiB, and {FILES} files of {FILE_BYTES // 1024} KiB, from place to place: seconds, {rounds} rounds",
        ["what", "case", *PEERS, "rsync / Balance"],
        Machine.here("blake3", "xxhash", "fsspec"),
    )
    table.facts["rsync"] = subprocess.run(["rsync", "--version"], capture_output=True, text=True, check=True).stdout[
        :24
    ]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        file, tree = Path(name) / "file", Path(name) / "folder"
        write(file, mib * MIB)
        tree.mkdir()
        for number in range(FILES):
            write(tree / f"{number:05d}", FILE_BYTES)
        for source in (file, tree):
            found = measure(source, rounds)
            for case in CASES:
                medians = {peer: statistics.median(found[peer, case]) for peer in PEERS}
                ratio = medians["rsync"] / medians["Balance"]
                table.add(source.name, case, *(spread(found[peer, case]) for peer in PEERS), f"{ratio:.2f}")
                if source is file:
                    table.bar(f"a file, {case}: at least {BAR} of rsync's speed", f"{ratio:.2f}", met=ratio >= BAR)
        again = copied_again(file, Path(name) / "killed")
        table.facts["copied again after a kill half-way"] = f"{again} bytes; a block has {BLOCK_BYTES}"
        table.bar("at most one block copied again", f"{again} bytes", met=again <= BLOCK_BYTES + 2**16)
    return table


@pytest.mark.timeout(1200)
@pytest.mark.benchmark(group="sync")
def test_copies_are_nearly_as_fast_as_those_of_rsync(benchmark: Any, tmp_path: Path) -> None:
    """At least 0.7 of its speed with a file of 1 GiB, and a kill costs a block."""
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed (Debian: apt-get install rsync)")
    table = benchmark.pedantic(measure_all, args=(tmp_path, 1024, 1), rounds=1)
    print(f"\n{table}")
    assert table.met


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on which disk")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    if shutil.which("rsync") is None:
        sys.exit("rsync, the rival, is not installed (Debian: apt-get install rsync)")
    measure_all(given.folder, given.mib, given.rounds).show(given.json)


if __name__ == "__main__":
    main()
