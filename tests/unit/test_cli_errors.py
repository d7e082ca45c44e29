"""What a user does wrong on the command line costs one line, an exit code, and nothing half-started.  No Ray here."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import psutil
import pytest

from actors import cli, console
from actors.checks import check_ray_version, refusal, send_token
from actors.host import wait_until_ready
from actors.processes import end, wait
from actors.record import Record, forget_record, host_lock, lock_path, read_record, write_record
from balance.config import Settings
from balance.errors import ClusterError, InvalidValue

Balance = Callable[..., tuple[int, str]]


@pytest.fixture
def balance(capsys: pytest.CaptureFixture[str]) -> Balance:
    """Run the command line in this process: returns its exit code and its one line of complaint."""

    def run(*arguments: object) -> tuple[int, str]:
        code = cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1, said
        return code, said

    return run


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=str(tmp_path / "state"))


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours that waits for ever."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


def record_of(process: subprocess.Popen[bytes], **fields: object) -> Record:
    """Return the note of a host that is `process`."""
    created = psutil.Process(process.pid).create_time()
    return replace(Record.of_host(), host_pid=process.pid, host_created=created, **fields)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("bogus", "balance --help"),
        ("up --bogus", "balance up --help"),
        ("up --num-cpus nan", "balance up --help"),
        ("up --dashboard-port 99999", "balance up --help"),
        ("status --address", "balance"),
        ("explain --last 0", "balance explain --help"),
        ("demo --seconds x", "balance demo --help"),
        ("demo --seconds 1", "balance demo --help"),
        ("replay", "balance replay --help"),
        ("replay t.csv --speed 0", "balance replay --help"),
        ("submit", "balance submit --help"),
    ],
)
def test_a_wrong_command_line_points_at_the_right_help(balance: Balance, line: str, names: str) -> None:
    """Exit code 2, and where to read on."""
    code, said = balance(*line.split())
    assert code == 2
    assert names in said


@pytest.mark.parametrize("command", ["status", "actors", "explain", "submit math:sqrt"])
def test_what_asks_a_balance_that_does_not_run_says_how_to_start_it(balance: Balance, command: str) -> None:
    """Nothing runs here: exit code 1, and the command that changes that."""
    code, said = balance(*command.split(), "--state-dir", "/nonexistent")
    assert code == 1
    assert "balance up" in said


def test_down_where_nothing_runs_is_no_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`down` brings about a state; where that is so already, all is well."""
    assert cli.main(["down", "--state-dir", str(tmp_path)]) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["file", "file/below", "/proc/balance"])
def test_a_state_directory_that_cannot_be_written_stops_up_at_once(
    balance: Balance, tmp_path: Path, where: str
) -> None:
    """A file in the way, a file as a parent, a file system that takes none: named, and nothing is started."""
    (tmp_path / "file").touch()
    code, said = balance("up", "--state-dir", tmp_path / where)
    assert code == 1
    assert str(tmp_path / where) in said
    assert "--state-dir" in said


def test_a_dashboard_port_in_use_stops_up_at_once(balance: Balance, tmp_path: Path) -> None:
    """The port is named, and what to do; no host has been started."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, said = balance("up", "--state-dir", tmp_path, "--dashboard-port", port)
    assert code == 1
    assert f"port {port}" in said
    assert not (tmp_path / "host.log").exists()


@pytest.mark.parametrize("address", ["local", "ray://127.0.0.1:10001", "10.0.0.5", "host:99999", "a b:1", ""])
def test_an_address_that_is_none_is_refused_before_anything_is_tried(address: str) -> None:
    """Only host:port and auto: `local` would start a Ray, and Ray's client protocol lacks what Balance needs."""
    from actors.checks import reachable

    with pytest.raises(InvalidValue, match="host:port"):
        reachable(address)


def test_an_address_where_nothing_listens_is_said_at_once(balance: Balance, tmp_path: Path) -> None:
    """Ray would try for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    code, said = balance("up", "--state-dir", tmp_path, "--address", f"127.0.0.1:{port}")
    assert code == 1
    assert "nothing answers" in said


def test_a_cluster_that_is_gone_is_forgotten_by_down(
    balance: Balance, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Balance was a guest there: every command says what to do, and `down` does it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = f"127.0.0.1:{server.getsockname()[1]}"
    Path(settings.state_dir).mkdir()
    write_record(settings, Record.of_guest(gone, ""))
    for command in ("up", "status"):
        assert "'balance down' forgets it" in balance(command, "--state-dir", settings.state_dir)[1]
    assert cli.main(["down", "--state-dir", settings.state_dir]) == 0
    assert read_record(settings) is None


def test_a_server_that_is_no_ray_is_found_out(balance: Balance, tmp_path: Path) -> None:
    """Something listens but does not speak Ray's protocol; Ray would wait for minutes here, too."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        code, said = balance("status", "--state-dir", tmp_path, "--address", f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert code == 1
    assert "no Ray cluster" in said


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("submit sqrt", "module:function"),
        ("submit math:sqroot", "no attribute 'sqroot'"),
        ("submit nothing_like_that:f", "nothing_like_that"),
        ("submit math:pi", "a function"),
        ("submit missing.py:f", "missing.py"),
        ("submit math:sqrt 4 --cpu -1", "cpu is -1"),
        ("submit math:sqrt 4 --cpu nan", "cpu is nan"),
        ("submit math:sqrt 4 --memory 3foo", "memory is '3foo'"),
        ("submit math:sqrt 4 --memory=-1", "memory is -1"),
        ("submit math:sqrt 4 --priority 0", "priority is 0"),
    ],
)
def test_a_task_that_could_never_be_is_refused_before_connecting(balance: Balance, line: str, names: str) -> None:
    """The value and what was expected, although no Balance runs that could refuse it."""
    code, said = balance(*line.split())
    assert code == 1
    assert names in said


def test_a_file_whose_code_fails_is_the_users_to_mend(balance: Balance, tmp_path: Path) -> None:
    """Whatever the user's module raises while it is imported is told as one line, too."""
    (tmp_path / "broken.py").write_text("def f(: pass")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)")
    assert "SyntaxError" in balance("submit", f"{tmp_path}/broken.py:f")[1]
    assert "SystemExit" in balance("submit", f"{tmp_path}/leaves.py:f")[1]


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("missing.csv", None, "No such file"),
        ("empty.csv", "", "it is empty"),
        ("prose.txt", "Once upon a time\nthere was a log\n", "no line"),
        ("bad.csv", "timestamp,requests\n2024-01-01 00:00:00,3\nnonsense\n2024-01-01 00:01:00,2\n", "line 3"),
    ],
)
def test_a_trace_that_cannot_be_read_ends_before_anything_starts(
    balance: Balance, tmp_path: Path, name: str, text: str | None, names: str
) -> None:
    """A missing, an empty, a meaningless and, strictly, a malformed file: which one, which line, and why."""
    if text is not None:
        (tmp_path / name).write_text(text)
    code, said = balance("replay", tmp_path / name, "--strict", "--report", tmp_path / "report")
    assert code == 1
    assert names in said
    assert name in said
    assert not (tmp_path / "report").exists()


def test_a_report_that_cannot_be_written_is_known_before_the_run(balance: Balance, tmp_path: Path) -> None:
    """Nobody waits a minute for that."""
    (tmp_path / "file").touch()
    code, said = balance("demo", "--report", tmp_path / "file")
    assert code == 1
    assert "--report" in said


def test_what_nobody_foresaw_is_one_line_too(
    balance: Balance, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours names its place; all of it is there for who asks."""

    def broken(_: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(console, "settings_for", broken)
    code, said = balance("status")
    assert code == 1
    assert "KeyError: 'lost' (at test_cli_errors.py:" in said
    monkeypatch.setenv("BALANCE_TRACEBACK", "1")
    assert cli.main(["status"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_no_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 130 and one word."""

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(console, "settings_for", interrupted)
    assert cli.main(["status"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_help_and_version_are_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """`balance` alone shows what there is."""
    assert cli.main([]) == cli.main(["--help"]) == cli.main(["version"]) == 0
    assert capsys.readouterr().out.count("Commands:") == 2


# -- Ray that does not fit ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2.59.1", "3.60.0", "2.6", "3.0.0.dev0", "unknown"])
def test_a_ray_of_another_release_is_refused_with_the_command_that_mends_it(version: str) -> None:
    """Private behaviour changes with every minor release, so none but the tested one will do."""
    with pytest.raises(ClusterError, match=r"needs Ray 2\.60: install it with 'uv sync'"):
        check_ray_version(version)


@pytest.mark.parametrize(
    ("raised", "names"),
    [
        (RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.3\n"), "Ray: 2.9.3"),
        (RuntimeError("RPC error: InvalidAuthToken: token is missing"), "RAY_AUTH_TOKEN"),
        (ConnectionError("Failed to connect to Ray cluster at a:1"), "no Ray cluster"),
    ],
)
def test_what_ray_says_of_a_cluster_becomes_what_to_do(raised: Exception, names: str) -> None:
    """Another version, a token that is missing, no cluster: each has its own way out, on one line."""
    message = str(refusal("a:1", raised))
    assert names in message
    assert "'a:1'" in message
    assert "\n" not in message


def test_a_token_goes_to_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster elsewhere gets this user's token only if the user says so."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    send_token("192.0.2.77:6379", None)
    assert "RAY_AUTH_MODE" not in os.environ
    send_token("127.0.0.1:6379", None)
    assert os.environ.pop("RAY_AUTH_MODE") == "token"


# -- the note and the lock ----------------------------------------------------------------------------------


def test_what_a_killed_host_left_is_cleared_away(settings: Settings, child: subprocess.Popen[bytes]) -> None:
    """After kill -9 of a host the next look ends its processes and removes its note and its lock file."""
    host = subprocess.Popen([sys.executable, "-c", "pass"])
    Path(settings.state_dir).mkdir()
    left = [(child.pid, psutil.Process(child.pid).create_time())]
    write_record(settings, record_of(host, address="a:1", actors=[{}], processes=left))
    lock_path(settings).touch()
    host.wait()
    assert read_record(settings) is None
    assert child.wait(timeout=5) == -signal.SIGKILL
    assert list(Path(settings.state_dir).iterdir()) == []


def test_a_pid_that_was_given_to_another_process_is_not_taken_for_the_host(
    settings: Settings, child: subprocess.Popen[bytes]
) -> None:
    """The note names pid and time of creation; a stranger of that pid is left in peace."""
    Path(settings.state_dir).mkdir()
    stranger = replace(record_of(child), host_created=1.0, processes=[(child.pid, 1.0)])
    write_record(settings, stranger)
    assert read_record(settings) is None
    assert child.poll() is None


def test_a_note_that_cannot_be_understood_counts_as_none(settings: Settings) -> None:
    """One of another version, or half of one, does not stop anybody."""
    Path(settings.state_dir).mkdir()
    for text in ("{", "[]", json.dumps({"address": "a:1"})):
        (Path(settings.state_dir) / "cluster.json").write_text(text)
        assert read_record(settings) is None


def test_a_host_that_starts_is_waited_for(settings: Settings, child: subprocess.Popen[bytes], balance: Balance) -> None:
    """Its note says so: `status` points at `up`, which waits, and gives up when the host does."""
    Path(settings.state_dir).mkdir()
    starting = record_of(child)
    write_record(settings, starting)
    assert read_record(settings) == starting
    assert "still starting" in balance("status", "--state-dir", settings.state_dir)[1]
    ready = replace(starting, address="a:1", actors=[{"role": "scheduler"}])
    write_record(settings, ready)
    assert wait_until_ready(settings) == ready
    child.kill()
    child.wait()
    with pytest.raises(ClusterError, match="gave up"):
        wait_until_ready(settings)


def test_a_state_directory_has_one_host(settings: Settings) -> None:
    """Who holds the lock is the host, and takes the file away in the end."""
    with host_lock(settings) as first, host_lock(settings) as second:
        assert (first, second) == (True, False)
    assert not lock_path(settings).exists()


def test_a_lock_on_a_file_that_was_taken_away_does_not_count(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The former host ends between our opening of its file and our locking: the next would lock another file."""
    locked: list[int] = []
    lock = fcntl.flock

    def late(handle: IO[str], operation: int) -> None:
        if not locked:
            lock_path(settings).unlink()
        locked.append(handle.fileno())
        lock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with host_lock(settings) as free:
        assert free
        assert len(locked) == 2
        assert lock_path(settings).exists()


def test_the_note_of_another_is_never_taken_away(settings: Settings, child: subprocess.Popen[bytes]) -> None:
    """Leaving one cluster forgets that one, not the host that this state directory has."""
    Path(settings.state_dir).mkdir()
    ours = record_of(child)
    write_record(settings, ours)
    forget_record(settings, Record.of_guest("elsewhere:1", ""))
    forget_record(settings, Record.of_host())
    assert read_record(settings) == ours
    forget_record(settings, ours)
    assert read_record(settings) is None


# -- processes ----------------------------------------------------------------------------------------------


def test_an_ended_process_counts_as_gone_before_anybody_asks(child: subprocess.Popen[bytes]) -> None:
    """In a container there may be nobody who collects the dead; waiting for that took ten seconds once."""
    process = psutil.Process(child.pid)
    assert not wait([process], timeout_s=0)
    end([process])
    assert process.status() == psutil.STATUS_ZOMBIE
    assert wait([process], timeout_s=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_beneath_and_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    """Wherever the interpreter is, the process ends with 130 and one word; its child is gone, its cleanup done."""
    script = f"""
import pathlib, subprocess, sys
from actors import processes
mark = pathlib.Path({str(tmp_path / "mark")!r}); mark.touch()
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
processes.die_on_signals(mark.unlink)
class Swallows:
    def __del__(self):  # KeyboardInterrupt raised in here would be lost
        with processes.silent_stderr():
            print(child.pid, flush=True)
            child.wait()
Swallows()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        child = psutil.Process(int(process.stdout.readline()))
        process.send_signal(number)
        assert process.wait(timeout=10) == 130
        assert process.stderr.read() == "interrupted\n"
    assert wait([child], timeout_s=5)
    assert not (tmp_path / "mark").exists()
