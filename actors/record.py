"""The note in the state directory by which the commands find a running Balance, and the lock beside it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from actors import processes
from balance import __version__
from balance.clock import iso
from balance.config import Settings
from balance.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Record:
    """How to reach a Balance; kept as ``cluster.json`` in the state directory.

    Attributes
    ----------
    address : str
        Ray's address; empty while Ray starts.
    dashboard_url : str
        Where Ray's dashboard is; empty if it does not run.
    host_pid, host_created : int, float
        The host process and when it was created, so that a recycled pid is not taken for it; 0 where
        Balance was attached to a cluster that it does not own.
    started_at : str
        ISO 8601.
    version : str
        Of Balance.
    actors : list of dict
        What each actor answered when Balance came up; empty while they start.
    processes : list of (int, float)
        Pid and time of creation of every process of the cluster that the host owns: two of Ray's agents
        outlive a host that was killed by a minute.
    """

    address: str
    dashboard_url: str
    host_pid: int
    host_created: float
    started_at: str
    version: str
    actors: list[dict[str, Any]]
    processes: list[tuple[int, float]]

    @classmethod
    def of_host(cls) -> Record:
        """Return the note of this process, which is about to start a cluster."""
        me = psutil.Process()
        return cls("", "", me.pid, me.create_time(), iso(time.time()), __version__, [], [])

    @classmethod
    def of_guest(cls, address: str, dashboard_url: str) -> Record:
        """Return the note of a Balance on a cluster that is not ours."""
        return cls(address, dashboard_url, 0, 0.0, iso(time.time()), __version__, [], [])

    @property
    def owned(self) -> bool:
        """Whether a host process of ours owns the cluster."""
        return self.host_pid > 0

    @property
    def state(self) -> Literal["starting", "ready", "dead"]:
        """How the host stands; a cluster that is not ours counts as ``ready``."""
        if not self.owned:
            return "ready"
        if self.host() is None:
            return "dead"
        return "ready" if self.actors else "starting"

    def host(self) -> psutil.Process | None:
        """Return the host process; None if it is gone, or there never was one."""
        return processes.same_process(self.host_pid, self.host_created) if self.owned else None


def _path(settings: Settings) -> Path:
    return Path(settings.state_dir) / "cluster.json"


def _load(settings: Settings) -> Record | None:
    try:
        return Record(**json.loads(_path(settings).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError):
        # Notes are replaced as a whole, so this one is of another version: nothing that this one could use.
        return None
    except OSError as error:
        raise ConfigurationError(
            f"the state directory {settings.state_dir!r} can't be read ({error.strerror}); name another one with "
            "--state-dir or BALANCE_STATE_DIR",
            state_dir=settings.state_dir,
        ) from None


def read_record(settings: Settings) -> Record | None:
    """Return the note of the Balance on this state directory; None if there is none.

    What a host left that was killed (its note, its lock file, its last processes) is cleared away first.
    """
    record = _load(settings)
    if record is None or record.state != "dead":
        return record
    with host_lock(settings) as free:
        if free and _load(settings) == record:
            processes.end(found for pid, created in record.processes if (found := processes.same_process(pid, created)))
            forget_record(settings, record)
    again = _load(settings)
    return again if again is not None and again.state != "dead" else None


def write_record(settings: Settings, record: Record) -> None:
    """Leave the note, atomically."""
    path = _path(settings)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(asdict(record), indent=1))
    draft.replace(path)


def forget_record(settings: Settings, record: Record) -> None:
    """Take this note away; one that another host, or for another cluster, has left meanwhile stays."""
    kept = _load(settings)
    if kept is not None and kept.host_pid == record.host_pid and (record.owned or kept.address == record.address):
        _path(settings).unlink(missing_ok=True)


def lock_path(settings: Settings) -> Path:
    """Return where the lock file is while there is one."""
    return Path(settings.state_dir) / "host.lock"


@contextlib.contextmanager
def host_lock(settings: Settings) -> Iterator[bool]:
    """Hold the right to be the one host on this state directory; yields whether it was free.

    The lock ends with its holder, however that ends; the file is taken away by who holds it, so a file that
    was locked and is not the one under that name any more does not count.
    """
    settings.writable_state_dir()
    path = lock_path(settings)
    while True:
        with path.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            if not _is(path, handle.fileno()):
                continue
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return


def _is(path: Path, descriptor: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False
