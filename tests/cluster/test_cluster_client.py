"""The client on real Ray: thousands of tasks, other tasks' results as arguments, and a scheduler that is killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from balance import AsyncClient, Client
from balance.errors import Conflict, InvalidValue, NotYet, TaskCancelled, TaskDenied, TaskFailed, UnknownId

pytestmark = pytest.mark.cluster

SOON_S = 60.0


@pytest.fixture
def client(balance_cluster: Any) -> Iterator[Client]:
    with Client() as client:
        yield client


def square(number: int) -> int:
    return number * number


def when(gate: Path) -> Callable[[int], int]:
    """Return a task that ends once a file is there, with what it was given."""
    where = str(gate)

    def task(value: int) -> int:
        import time
        from pathlib import Path

        while not Path(where).exists():
            time.sleep(0.01)
        return value

    return task


def test_five_thousand_tasks(client: Client, unique: Any) -> None:
    """Ids, priorities, durable acknowledgement and results in order, for thousands in one call."""
    numbers = range(5000)
    prefix = unique("many")
    ids, priorities = [f"{prefix}-{n}" for n in numbers], [1 + n % 5 for n in numbers]
    futures = client.map(square, numbers, ids=ids, priorities=priorities)
    assert client.gather(futures, SOON_S) == [n * n for n in numbers]
    assert client.status(f"{prefix}-77")["status"] == "completed"
    again = client.map(square, numbers, ids=ids)
    assert client.gather(again, SOON_S) == [n * n for n in numbers]
    assert client.status(f"{prefix}-77")["attempt"] == 1


def test_the_scheduler_dies_half_way(client: Client, balance_cluster: Any, signals: Path) -> None:
    """After `kill -9` everything submitted before, during and after the restart is answered."""
    gate = signals / "gate"
    held = client.submit(when(gate), -1)
    futures = client.map(square, range(3000))
    done = client.submit(square, 9)
    assert done.result(SOON_S) == 81
    before = balance_cluster.kill("scheduler")
    after = client.submit(square, 5)
    gate.touch()
    assert client.gather(futures, SOON_S) == [n * n for n in range(3000)]
    assert (held.result(SOON_S), after.result(SOON_S)) == (-1, 25)
    assert client.future(done.id).result(SOON_S) == 81
    balance_cluster.is_back("scheduler", before)


def test_results_of_other_tasks_are_arguments(client: Client) -> None:
    """A future among the arguments, however deep, is its task's result, large or small; a failed one fails the task."""
    small, large = client.submit(square, 3), client.submit(bytes, 300_000)
    total = client.submit(lambda parts, more: parts["a"][0] + len(more), {"a": [small]}, more=large)
    assert total.result(SOON_S) == 9 + 300_000
    assert client.submit(len, large).result(SOON_S) == 300_000 == len(large.result(SOON_S))
    broken = client.submit(square, "x")
    with pytest.raises(Exception, match="upstream_failed"):
        client.submit(square, broken).result(SOON_S)


def test_what_goes_wrong_says_what_it_is(client: Client, unique: Any) -> None:
    """Failures, denials, conflicts and unknown ids arrive as their own errors, with what the task printed."""

    def noisy() -> None:
        print("so far so good")
        raise KeyError("on purpose")

    with pytest.raises(TaskFailed, match="on purpose") as caught:
        client.submit(noisy).result(SOON_S)
    assert "so far so good" in caught.value.traceback and "in noisy" in caught.value.traceback
    with pytest.raises(TaskDenied, match="could never run"):
        client.options(cpu=1000).submit(square, 1).result(SOON_S)
    named = client.options(task_id=unique("named"))
    named.submit(square, 1)
    with pytest.raises(Conflict):
        named.submit(square, 2)
    with pytest.raises(UnknownId):
        client.future(unique("nobody"))
    with pytest.raises(InvalidValue, match="pickled"):
        client.submit(square, threading.Lock())
    printed = client.submit(lambda: print("hello"))
    assert printed.result(SOON_S) is None and printed.output == "hello\n"


def test_results_stream_in_the_order_in_which_tasks_end(client: Client, signals: Path) -> None:
    """A slow task does not keep the others' results back; one that is cancelled ends as cancelled."""
    half = client.options(cpu=0.5)
    slow = half.submit(when(signals / "gate"), 1)
    quick = half.map(square, range(20))
    with pytest.raises(NotYet):
        slow.result(0.2)
    stream = client.stream([slow, *quick], SOON_S)
    assert {next(stream) for _ in quick} == set(quick)
    assert client.cancel([slow, quick[0]]) == [True, False]
    assert next(stream) is slow
    with pytest.raises(TaskCancelled):
        slow.result()


def test_asyncio(balance_cluster: Any, signals: Path) -> None:
    """The same on asyncio: many coroutines wait at once, and nothing blocks the loop."""

    async def main() -> None:
        async with AsyncClient() as client:
            futures = await client.map(square, range(1000))
            assert await client.gather(futures, SOON_S) == [n * n for n in range(1000)]
            assert await futures[7] == 49
            slow = await client.options(cpu=0.5).submit(when(signals / "gate"), 1)
            with pytest.raises(NotYet):
                await client.gather([slow], 0.1)
            singles = await asyncio.gather(*(client.options(cpu=0.5).submit(square, n) for n in range(20)))
            ended = [future.result() async for future in client.stream(singles, SOON_S)]
            assert sorted(ended) == [n * n for n in range(20)]
            assert await client.cancel(slow) == [True]
            with pytest.raises(TaskCancelled):
                await slow
            assert (await client.status(slow))["status"] == "cancelled"

    asyncio.run(main())


PROGRAM = """
import sys
from balance import Client

def work(number):
    import time
    time.sleep(0.01)
    return number + 1

client = Client()
futures = client.map(work, range(50), ids=[f"{sys.argv[1]}-{n}" for n in range(50)])
print("submitted", flush=True)
if len(sys.argv) > 2:
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
print(sum(client.gather(futures, 60)))
"""


def test_a_program_that_dies_leaves_its_tasks_running(
    client: Client, balance_cluster: Any, unique: Any, tmp_path: Path
) -> None:
    """Tasks outlive who submitted them; the program, run again, finds them under their ids and gets their results."""
    import os

    (tmp_path / "program.py").write_text(PROGRAM)
    prefix, address = unique("program"), balance_cluster.ray.get_runtime_context().gcs_address

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, str(tmp_path / "program.py"), prefix, *arguments]
        env = {**os.environ, "RAY_ADDRESS": address}
        return subprocess.run(line, check=False, env=env, capture_output=True, text=True, timeout=100)

    assert "submitted" in run("die").stdout
    assert client.future(f"{prefix}-49").result(SOON_S) == 50
    done = run()
    assert done.stdout.split() == ["submitted", str(sum(range(1, 51)))], done.stderr
    assert "Traceback" not in done.stderr
    assert client.status(f"{prefix}-0")["attempt"] == 1


def test_the_command_line_lists_and_explains(
    client: Client, unique: Any, signals: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tasks`, `explain` and `cancel` on what runs and what waits, in the process that is connected already."""
    import contextlib

    from actors import cli, system

    monkeypatch.setattr(system, "running", lambda *_: contextlib.nullcontext())
    tenant = unique("tenant")
    mine = client.options(tenant=tenant, cpu=2)
    running = mine.options(task_id=unique("running")).submit(when(signals / "gate"), 1)
    waiting = mine.options(task_id=unique("waiting")).submit(square, 2)
    until = time.monotonic() + SOON_S
    while client.status(running)["status"] != "running":
        assert time.monotonic() < until
        time.sleep(0.05)
    assert cli.main(["tasks", "--tenant", tenant]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [[running.id, "running"], [waiting.id, "queued"]]
    assert cli.main(["explain", waiting.id]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{waiting.id} queued") and "cpu" in said and "submitted" in said
    assert cli.main(["cancel", waiting.id, running.id]) == 0
    assert capsys.readouterr().out.count("is cancelled") == 2
    assert cli.main(["cancel", waiting.id]) == 1
    capsys.readouterr()
    assert cli.main(["explain", waiting.id + "x"]) == 1
    assert waiting.id in capsys.readouterr().err
