"""What the client promises its user, on a scheduler without Ray: results, errors, and no future that hangs."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from balance.client import Client, TaskFuture
from balance.errors import (
    ClusterError,
    Conflict,
    DependencyCycle,
    InvalidValue,
    NotCompleted,
    NotReady,
    NotYet,
    TaskCancelled,
    TaskDenied,
    TaskFailed,
    UnknownId,
    UpstreamFailed,
)

SOON_S = 20.0


@pytest.fixture
def client(office: Any) -> Iterator[Client]:
    with Client(link=office) as client:
        yield client


def test_results_come_in_the_order_of_the_arguments(client: Client, office: Any) -> None:
    """`map` and `gather` are `[f(x) for x in xs]`; all tasks go in one message."""
    futures = client.map(pow, range(500), range(500))
    assert client.gather(futures, SOON_S) == [n**n for n in range(500)]
    assert office.calls.count("submit_bulk") == 1
    assert [future.state for future in futures] == ["completed"] * 500 and len({future.id for future in futures}) == 500


def test_one_call_with_keywords(client: Client) -> None:
    """`submit` passes arguments on as they are, and a future tells of its task."""
    future = client.submit(sorted, [3, 1, 2], reverse=True)
    assert future.result(SOON_S) == [3, 2, 1] and future.done() and future.exception() is None
    assert "sorted" in future.id and "completed" in repr(future)


def test_nothing_to_do_is_nothing_to_send(client: Client, office: Any) -> None:
    """No tasks, no message."""
    assert client.map(len, []) == [] and client.submit_many([]) == [] and client.gather([]) == []
    assert "submit_bulk" not in office.calls


def test_many_calls_of_many_kinds_keep_their_order(client: Client) -> None:
    """`submit_many` takes whatever mixture of functions, each with its own arguments."""
    calls = [(len, ["abc"]), (max, (1, 5)), (len, [""]), (dict, (), {"a": 1}), (list,)]
    assert client.gather(client.submit_many(calls), SOON_S) == [3, 5, 0, {"a": 1}, []]


def test_a_failure_is_raised_where_the_result_is_asked_for(client: Client) -> None:
    """What a task raised arrives as `TaskFailed`, with its traceback; others are not harmed."""
    good, bad = client.submit_many([(int, ["7"]), (int, ["seven"])])
    assert good.result(SOON_S) == 7
    with pytest.raises(TaskFailed, match="invalid literal") as caught:
        bad.result(SOON_S)
    assert "Traceback" in caught.value.traceback and caught.value.details["task_id"] == bad.id
    with pytest.raises(TaskFailed):
        client.gather([good, bad], SOON_S)
    first, second = client.gather([good, bad], SOON_S, return_exceptions=True)
    assert first == 7 and isinstance(second, TaskFailed)


def test_what_could_never_run_is_denied(client: Client) -> None:
    """A demand above every node is denied with what lacks."""
    with pytest.raises(TaskDenied) as caught:
        client.options(cpu=3).submit(int).result(SOON_S)
    assert caught.value.details["error"]["resource"] == "cpu" and caught.value.details["error"]["lacking"] == 1.0


def test_options_are_what_the_scheduler_sees(client: Client, office: Any) -> None:
    """Priority, tenant, name and the rest arrive; what is left out is the default; options don't stick."""
    office.idle = True
    future = client.options(priority=1, tenant="lab", name="fit", cpu=0.5).submit(int)
    plain = client.submit(int)
    status = client.status(future)
    assert (status["priority"], status["tenant"], status["name"]) == (1, "lab", "fit")
    assert (client.status(plain.id)["priority"], client.status(plain.id)["tenant"]) == (3, "default")
    assert [task["task_id"] for task in client.tasks(tenant="lab")] == [future.id]
    assert client.explain(future)["status"] == "running"
    office.work()


@pytest.mark.parametrize(
    "options",
    [
        {"colour": "blue"},
        {"priority": 0},
        {"cpu": -1},
        {"gpu": 1.5},
        {"retries": -1},
        {"delay": float("nan")},
        {"tenant": ""},
        {"preemptible": True, "idempotent": False},
        {"timeout_s": 0},
    ],
)
def test_an_option_out_of_range_is_named_before_anything_is_sent(
    client: Client, office: Any, options: dict[str, Any]
) -> None:
    """A wrong option raises `InvalidValue` here, without a word to the scheduler."""
    with pytest.raises(InvalidValue):
        client.options(**options).submit(int)
    assert "submit_bulk" not in office.calls


def _mistakes() -> list[Any]:
    return [
        lambda client: client.submit("no function"),
        lambda client: client.submit(len, threading.Lock()),
        lambda client: client.submit(threading.Lock().acquire),
        lambda client: client.submit_many([len]),
        lambda client: client.submit_many([(len, "abc", 3)]),
        lambda client: client.map(len, ["a", "b"], ids=["one"]),
        lambda client: client.map(len, ["a", "b"], ids=["one", ""]),
        lambda client: client.map(len, ["a", "b"], priorities=[1]),
        lambda client: client.map(len, ["a", "b"], priorities=[1, 0]),
        lambda client: client.options(task_id="x").map(len, ["a", "b"]),
        lambda client: client.wait([], return_when="SOMETIME"),
        lambda client: client.future(""),
        lambda client: client.tasks(state="asleep"),
    ]


@pytest.mark.parametrize("number", range(len(_mistakes())))
def test_a_mistake_is_the_callers_own(client: Client, number: int) -> None:
    """Whatever can't be is refused with `InvalidValue`, and nothing of it is submitted."""
    with pytest.raises(InvalidValue):
        _mistakes()[number](client)
    assert client.tasks() == []


def test_the_same_id_is_the_same_task(client: Client, office: Any) -> None:
    """Submitted again under its id, during the run or after it, a task runs once and has one result."""
    office.idle = True
    named = client.options(task_id="sum-1")
    first, second = named.submit(sum, [1, 2]), named.submit(sum, [1, 2])
    assert first is second
    office.work()
    assert first.result(SOON_S) == 3
    third = named.submit(sum, [1, 2])
    assert third is not first and third.result(SOON_S) == 3
    assert client.status("sum-1")["attempt"] == 1


def test_another_call_under_a_known_id_is_a_conflict(client: Client, office: Any) -> None:
    """An id stands for one function with its arguments; the task that has it goes on, and so does its future."""
    office.idle = True
    first = client.options(task_id="x").submit(sum, [1, 2])
    for function, argument in ((sum, [1, 3]), (max, [1, 2])):
        with pytest.raises(Conflict, match="'x'"):
            client.options(task_id="x").submit(function, argument)
    with pytest.raises(Conflict, match="twice"):
        client.map(len, ["a", "b"], ids=["y", "y"])
    office.work()
    assert first.result(SOON_S) == 3
    with pytest.raises(Conflict):
        client.options(task_id="x").submit(max, [1, 2])


def test_a_bulk_is_accepted_as_a_whole_or_not_at_all(client: Client) -> None:
    """One bad task among many: none is submitted."""
    client.options(task_id="taken").submit(int).result(SOON_S)
    with pytest.raises(Conflict):
        client.map(len, ["a"] * 300, ids=[f"t{n}" for n in range(299)] + ["taken"])
    with pytest.raises(UnknownId, match="nowhere"):
        client.options(after=["nowhere"]).map(len, ["a"] * 300)
    assert [task["task_id"] for task in client.tasks()] == ["taken"]


def test_tasks_wait_for_those_they_name(client: Client, office: Any) -> None:
    """`after` takes futures and ids; a prerequisite that failed fails what waits for it."""
    office.idle = True
    first, broken = client.submit(int, "1"), client.submit(int, "one")
    then, never = client.options(after=[first]).submit(int), client.options(after=[first.id, broken]).submit(int)
    assert client.status(then)["status"] == "waiting"
    office.work()
    assert then.result(SOON_S) == 0
    with pytest.raises(UpstreamFailed, match="is failed"):
        never.result(SOON_S)


def test_a_prerequisite_may_be_long_forgotten(client: Client) -> None:
    """The engine forgets what is over; the store does not, and a task can still wait for it."""
    good, bad = client.submit(int, "1"), client.submit(int, "one")
    client.gather(client.map(len, ["a"] * 200), SOON_S)
    assert {good.id, bad.id}.isdisjoint(task["task_id"] for task in client.tasks())
    assert client.options(after=[good]).submit(int).result(SOON_S) == 0
    with pytest.raises(UpstreamFailed):
        client.options(after=[bad]).submit(int).result(SOON_S)
    assert client.status(good)["status"] == "completed"
    assert "invalid literal" in client.explain(bad)["reason"]


def test_tasks_of_one_submission_may_depend_on_each_other(client: Client) -> None:
    """A chain in one message, in whatever order; a circle is refused."""
    future = client.options(task_id="b", after=["b"])
    with pytest.raises(DependencyCycle):
        future.submit(int)


def test_results_stream_as_they_come(client: Client, office: Any) -> None:
    """`stream` yields first what is there, then each future once, as its task ends."""
    done = client.submit(int)
    done.result(SOON_S)
    office.idle = True
    low, high = client.submit(int), client.options(priority=1).submit(int)
    stream = client.stream([low, high, done, done], SOON_S)
    assert next(stream) is done
    office.work()
    assert {next(stream), next(stream)} == {low, high}
    assert list(stream) == []


def test_waiting_ends_when_it_is_told_to(client: Client, office: Any) -> None:
    """`wait` returns at the first end, at the first failure, at the time limit, or when all is over."""
    good = client.submit(int)
    assert client.wait([good], SOON_S) == ([good], [])
    office.idle = True
    kept = client.submit(int)
    assert client.wait([good, kept], SOON_S, "FIRST_COMPLETED") == ([good], [kept])
    assert client.wait([kept], 0.01) == ([], [kept])
    office.idle = False
    bad = client.submit(int, "x")
    done, _ = client.wait([bad, good, kept], SOON_S, "FIRST_EXCEPTION")
    assert bad in done


def test_what_takes_too_long_is_not_yet(client: Client, office: Any) -> None:
    """A time limit raises a `TimeoutError` and harms nothing."""
    office.idle = True
    future = client.submit(int)
    for ask in (
        lambda: future.result(0.01),
        lambda: future.exception(0.01),
        lambda: client.gather([future], 0.01),
        lambda: list(client.stream([future], 0.01)),
    ):
        with pytest.raises(TimeoutError) as caught:
            ask()
        assert isinstance(caught.value, NotYet)
    office.work()
    assert future.result(SOON_S) == 0


def test_cancelling(client: Client, office: Any) -> None:
    """What waits or runs is cancelled, what is over is not; an unknown id cancels nothing."""
    over = client.submit(int)
    over.result(SOON_S)
    office.idle = True
    running, waiting = client.options(cpu=2).submit(int), client.options(cpu=2).submit(int)
    with pytest.raises(UnknownId, match="nobody"):
        client.cancel([running, "nobody"])
    assert client.cancel([over, running, waiting.id]) == [False, True, True]
    for future in (running, waiting):
        with pytest.raises(TaskCancelled):
            future.result(SOON_S)


@pytest.mark.parametrize("method", ["status", "explain", "cancel", "future"])
def test_an_unknown_id_is_said_to_be_unknown(client: Client, method: str) -> None:
    """Every question about no task raises `UnknownId`, with the nearest ids there are."""
    client.options(task_id="fit-1").submit(int).result(SOON_S)
    with pytest.raises(UnknownId, match="fit-2"):
        getattr(client, method)("fit-2")


def test_a_task_of_another_client_can_be_awaited(client: Client, office: Any) -> None:
    """`future` follows a task that was submitted elsewhere, before its end or after it."""
    office.idle = True
    with Client(link=office) as other:
        over = other.submit(int, "1")
        running = other.options(task_id="r").submit(int, "2")
        office.work()
        assert client.future(over.id).result(SOON_S) == 1
        assert running.result(SOON_S) == 2
    assert client.future("r").result(SOON_S) == 2


def test_whatever_the_scheduler_dies_of_nothing_is_lost(client: Client, office: Any) -> None:
    """Killed with tasks queued, running and over, it answers for all of them after its restart."""
    early = client.map(int, range(120))
    client.gather(early, SOON_S)
    office.idle = True
    futures = client.map(int, range(300))
    office.crash()
    office.work()
    assert client.gather(futures, SOON_S) == list(range(300))
    office.idle = True
    kept = client.submit(int, 7)
    office.crash()
    office.crash()
    office.work()
    assert kept.result(SOON_S) == 7


def test_what_ended_while_nobody_listened_is_told_after_a_restart(client: Client, office: Any) -> None:
    """Ends that the client has not heard of when the scheduler dies come out of the store."""
    office.idle = True
    futures = client.map(int, range(100))
    listener = threading.Thread(target=lambda: client.gather(futures, SOON_S))
    listener.start()
    office.work()
    office.crash()
    listener.join(SOON_S)
    assert client.gather(futures, SOON_S) == list(range(100))


def test_a_client_outlasts_a_scheduler_that_is_away(client: Client, office: Any) -> None:
    """Calls that find no scheduler are made again; tasks are submitted once."""
    office.unreachable = 3
    future = client.submit(int, 5)
    assert future.result(SOON_S) == 5
    assert len(client.tasks()) == 1


def test_a_scheduler_that_stays_away_ends_the_wait(
    client: Client, office: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its patience a client says so in every future, and takes them up again when asked."""
    monkeypatch.setattr("balance.client.client.PATIENCE_S", 0.05)
    monkeypatch.setattr("balance.client.client.PAUSE_S", 0.01)
    office.idle = True
    future = client.submit(int, 5)
    office.unreachable = 10**6
    office.crash()
    with pytest.raises(ClusterError, match="kept"):
        future.result(SOON_S)
    assert future.state == "unknown"
    with pytest.raises(ClusterError):
        client.submit(int)
    office.unreachable = 0
    again = client.future(future.id)
    office.work()
    assert again.result(SOON_S) == 5


def test_a_function_is_sent_once(client: Client, office: Any) -> None:
    """Later bulks carry its hash only; a scheduler that does not have it any more asks for it."""
    carried: list[int] = []
    send = office._send

    def watched(method: str, arguments: Any) -> Any:
        if method == "submit_bulk":
            carried.append(len(arguments[1].functions))
        return send(method, arguments)

    office._send = watched
    for _ in range(2):
        client.submit(int).result(SOON_S)
    assert carried == [1, 0]
    with contextlib.closing(sqlite3.connect(office.path)) as database, database:
        database.execute("DELETE FROM functions")
    office.crash()
    assert client.submit(int).result(SOON_S) == 0
    assert carried == [1, 0, 0, 1]


def test_a_closed_client_says_so(office: Any) -> None:
    """Closing leaves tasks alone and ends every wait; twice is fine."""
    office.idle = True
    client = Client(link=office)
    future = client.submit(int)
    client.close()
    client.close()
    for ask in (lambda: future.result(1), lambda: client.submit(int), lambda: client.status(future)):
        with pytest.raises(NotReady, match="closed"):
            ask()
    assert not any(thread.name == "balance-client" for thread in threading.enumerate())
    with Client(link=office) as other:
        assert other.status(future)["status"] == "running"
        office.work()
        assert other.future(future.id).result(SOON_S) == 0


def test_a_future_travels_as_an_argument_only(client: Client) -> None:
    """Pickled anywhere else it would hang in the air, so that is refused."""
    import pickle

    future: TaskFuture[int] = client.submit(int)
    with pytest.raises(TypeError, match="argument of a task"):
        pickle.dumps(future)
    assert future.result(SOON_S) == 0


def test_errors_say_how_a_task_ended() -> None:
    """Each way to end without a result has its error, and they pickle with what they know."""
    import pickle

    for state in ("failed", "cancelled", "denied", "timed_out", "upstream_failed"):
        error = NotCompleted.of("t", state, "because", {"kind": "error"})
        assert type(error) is not NotCompleted
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error) and copy.details == error.details
