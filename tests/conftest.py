"""What every test may use: a clock that stands still until told, one real Ray, and a guard against leaks.

The environment is set when this file is read, before any test imports Ray: Ray reads most of it once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from hypothesis import HealthCheck, settings
from postgres_server import Databases, GivenServer, NoPostgres, PostgresServer

from balance.clock import FakeClock

_session_children: set[int] = set()
"""Servers that a test has started for all those after it."""

LEFT_OVER_S = 5.0
"""How long a thread or process that a test has told to end may take to do so."""


def _prepare_environment() -> None:
    """Make the run independent of the developer's own settings and clusters."""
    for name in [name for name in os.environ if name.startswith("BALANCE_") and not name.startswith("BALANCE_TEST_")]:
        del os.environ[name]
    os.environ.pop("RAY_ADDRESS", None)  # tests never join a cluster that happens to run
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # or each worker builds an environment of its own
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # its future default; silences a FutureWarning


_prepare_environment()

# The same examples on every run: a red build is about the change, never about luck.  To look for new ones:
# HYPOTHESIS_PROFILE=explore pytest tests/property
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that moves only when the test moves it."""
    return FakeClock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Databases]:
    """A PostgreSQL server: the one that ``BALANCE_TEST_POSTGRES`` names, or one of the suite's own."""
    if given := os.environ.get("BALANCE_TEST_POSTGRES"):
        server: GivenServer | PostgresServer = GivenServer(given)
    else:
        try:
            server = PostgresServer()
        except NoPostgres as reason:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(reason))
        _session_children.add(server.start())
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def _shared_database(postgres: Databases) -> str:
    return postgres.new_database()


@pytest.fixture(params=["sqlite in memory", "sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, on each of the databases that there are."""
    if request.param != "postgresql":
        return f"sqlite:///{tmp_path}/store.db" if request.param == "sqlite" else "sqlite://"
    from sqlalchemy import create_engine, text

    from balance.storage import Store
    from balance.storage.schema import metadata

    url: str = request.getfixturevalue("_shared_database")
    Store(url).close()  # to empty the tables takes a tenth of the time that it takes to create them
    tables = ", ".join(table.name for table in metadata.sorted_tables if table.name != "alembic_version")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
    engine.dispose()
    return url


@pytest.fixture(scope="session", autouse=True)
def _state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep whatever is built with no arguments away from the developer's own state directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[ModuleType]:
    """The suite's one real Ray (2 cores, 2 logical GPUs): yields the module ``ray``, connected.

    A start costs seconds, so tests share it: give actors and placement groups names of their own, and
    take away what you made.
    """
    import ray

    folder = tempfile.mkdtemp(prefix="bal-", dir="/tmp")  # short: Unix socket paths end at 107 bytes
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    ray.init(
        "local",
        num_cpus=2,
        num_gpus=2,
        namespace="balance-tests",
        include_dashboard=False,
        object_store_memory=128 * 2**20,
        _temp_dir=folder,
    )
    try:
        yield ray
    finally:
        after = psutil.Process().children(recursive=True)
        mine = [child for child in after if child.pid not in before and not _is_tracker(child)]
        ray.shutdown()
        _, left = psutil.wait_procs(mine, timeout=LEFT_OVER_S)
        shutil.rmtree(folder, ignore_errors=True)
    assert not left, f"Ray left processes behind: {left}"


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    """Fail a test that leaves a child process or a thread behind that would outlive it."""
    threads, children = set(threading.enumerate()), _children()
    yield
    left: list[object] = []
    for thread in set(threading.enumerate()) - threads:
        if not thread.daemon:
            thread.join(LEFT_OVER_S)
            left += [thread] if thread.is_alive() else []
    for pid in _children() - children - _session_children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child = psutil.Process(pid)
            if not _is_tracker(child):
                left += psutil.wait_procs([child], timeout=LEFT_OVER_S)[1]
    assert not left, f"the test left behind: {left}"


def _is_tracker(child: psutil.Process) -> bool:
    """Say whether a process is the one that multiprocessing keeps for as long as this one lives."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return "resource_tracker" in " ".join(child.cmdline())
    return False


def _children() -> set[int]:
    """Return the pids of the direct children, in tens of microseconds (psutil reads all of /proc)."""
    found: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            found.update(map(int, listing.read_text().split()))
    return found
