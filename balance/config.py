"""Settings: one frozen record, read from the environment (``BALANCE_*``) with documented defaults.

Nothing is read at import; `Settings.from_env` is called by whoever composes the system (the command
line, an actor, a class that was built with no arguments).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from balance.errors import ConfigurationError

PREFIX = "BALANCE_"
_WORDS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)


def _default_state_dir() -> str:
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return str(Path(base) / "balance")


@dataclass(frozen=True, slots=True)
class Settings:
    """How this Balance is set up.  Each field is ``BALANCE_<NAME>`` in the environment.

    Attributes
    ----------
    state_dir : str
        Where durable state lives: the database, the embedded log, logs.  ``BALANCE_STATE_DIR``.
    store_url : str
        SQLAlchemy URL of the store; empty for SQLite in `state_dir`.
    broker_url : str
        Where messages go; empty for the embedded log in `state_dir`.
    tick_s : float
        Seconds between two ticks of the balancing loop.
    autoscaling : bool
        Whether an autoscaler of Ray listens: nodes are asked of it before the demand is there.
    forecast_cpu_share : float
        The share of the machine's cores that fitting forecasts may take, on average.
    forecast_refresh_s : float
        After so many seconds the forecasters of a series are weighed anew; the more series there are, the less
        each of them may take.
    wiki_language : str
        The language of WIKI requests that name none.
    allow_private_urls : bool
        Whether sources may lie on loopback or private networks.
    allow_file_roots : str
        Folders, separated by ``:``, from which ``file:`` sources may be read; empty for none but
        those that a local caller registers itself.
    data_budget_bytes : int
        How much the data coordinator keeps in Ray's object store before it evicts.
    result_limit_bytes : int
        How large the pickled result of a task may be; a larger one fails its task.
    tasks_kept_s : float
        For how many seconds a task that is over is remembered, with its result; its id may be used again after that.
    tenants : str
        Who shares the cluster with a weight other than 1, as ``research=2,batch=0.5``.
    search_url : str
        Where WEB requests search: an address with ``{query}`` in it, answering with JSON as SearXNG does.
    news_feeds : str
        Feeds for NEWS requests that name none: addresses with blanks between.
    collect_interval_s : float
        Between two requests to one host; a host's own wish goes before if it is longer.
    collect_fresh_s : float
        How old a collected copy may be that its source is not asked about.
    collect_cache_bytes : int
        How much of what was collected is kept in `state_dir`.
    collectors : int
        How many actors answer data requests.
    api_headers : str
        Headers of credentials for API requests, as JSON by origin:
        ``{"https://api.example.org": {"Authorization": "Bearer ..."}}``; not shown when the settings are printed.
    twitter_token, telegram_token, youtube_key : str
        Credentials of yours, for requests to these sources; not shown when the settings are printed.

    Examples
    --------
    >>> Settings.from_env({"BALANCE_TICK_S": "2.5"}).tick_s
    2.5
    """

    state_dir: str = ""
    store_url: str = ""
    broker_url: str = ""
    tick_s: float = 10.0
    autoscaling: bool = False
    forecast_cpu_share: float = 0.5
    forecast_refresh_s: float = 60.0
    wiki_language: str = "fa"
    allow_private_urls: bool = False
    allow_file_roots: str = ""
    data_budget_bytes: int = 256 * 2**20
    result_limit_bytes: int = 64 * 2**20
    tasks_kept_s: float = 7 * 86_400.0
    tenants: str = ""
    search_url: str = ""
    news_feeds: str = ""
    collect_interval_s: float = 1.0
    collect_fresh_s: float = 300.0
    collect_cache_bytes: int = 2**30
    collectors: int = 2
    api_headers: str = field(default="", repr=False)
    twitter_token: str = field(default="", repr=False)
    telegram_token: str = field(default="", repr=False)
    youtube_key: str = field(default="", repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read the settings; `ConfigurationError` names a variable that can't be read.

        Parameters
        ----------
        environ : mapping, optional
            Where to read from; the process environment when left out.
        **overrides
            Fields that are set whatever the environment says; None means not set.
        """
        source = os.environ if environ is None else environ
        given: dict[str, Any] = {}
        for each in fields(cls):
            raw = source.get(PREFIX + each.name.upper())
            if raw is not None and raw != "":
                given[each.name] = _parse(each.name, raw, type(each.default))
        given.update({key: value for key, value in overrides.items() if value is not None})
        if given.get("collectors", 1) < 1:
            raise ConfigurationError(f"{PREFIX}COLLECTORS is {given['collectors']!r}; expected 1 or more")
        made = cls(**given)
        return made if made.state_dir else replace(made, state_dir=_default_state_dir())

    def database_url(self) -> str:
        """Return the store's URL: `store_url`, or SQLite in `state_dir`."""
        return self.store_url or f"sqlite:///{Path(self.state_dir) / 'balance.db'}"

    def log_url(self) -> str:
        """Return the broker's URL: `broker_url`, or the embedded log in `state_dir`."""
        return self.broker_url or f"embedded://{Path(self.state_dir) / 'log'}"

    def writable_state_dir(self) -> Path:
        """Create `state_dir` (mode 0700) and return it; `ConfigurationError` if it can't be written."""
        path = Path(self.state_dir)
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = path / f".writable-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink(missing_ok=True)  # another thread may have probed at the same time
        except OSError as error:
            raise ConfigurationError(
                f"the state directory {str(path)!r} can't be written ({error.strerror or error}); "
                f"name another one with --state-dir or {PREFIX}STATE_DIR",
                state_dir=str(path),
            ) from None
        return path


def _parse(name: str, raw: str, kind: type) -> Any:
    try:
        if kind is bool:
            return _WORDS[raw.strip().lower()]
        return kind(raw)
    except (KeyError, ValueError):
        expected = "true or false" if kind is bool else f"a value of type {kind.__name__}"
        raise ConfigurationError(
            f"{PREFIX}{name.upper()} is {raw!r}; expected {expected}",
            name=name,
            value=raw,
        ) from None
