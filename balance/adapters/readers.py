"""Reads whatever a data source may be: files, object stores, the web, databases, Python readers.

=================================================  =========================================================
``/data/a.csv``, ``file://``, ``s3://``, ...        any fsspec URL: its bytes
``http://``, ``https://``                           the body, as bytes
``sqlite:///a.db?query=SELECT ...``, ``postgresql``  the rows, as a JSON list of records
``reader:NAME?arg=value``                           what the registered function returns: bytes or JSON
=================================================  =========================================================

What may be read depends on who asks.  A trusted reader stands for a caller in this process, who could
open the file anyway; one that is not trusted stands for a message from outside, and reads only what the
settings allow.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

from balance.adapters.sources.paths import PathPolicy
from balance.config import Settings
from balance.core.coordinator.payload import Payload
from balance.defaults import default
from balance.errors import AccessRefused, BalanceError, Conflict, InvalidValue, SourceUnavailable, UnknownId
from balance.types import check_id, check_number

if TYPE_CHECKING:
    from balance.clock import Clock

_SQL = frozenset({"sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql"})


class _Source(Protocol):
    def check(self, source: str) -> None: ...
    def read(self, source: str, max_bytes: int) -> Any: ...


class Readers:
    """Every kind of source behind two calls: `check` and `read`.

    Parameters
    ----------
    settings : Settings, optional
        ``allow_private_urls`` and ``allow_file_roots`` count here.
    trusted : bool, default False
        Whether to read any local file, any fsspec place and any database server.
    timeout_s : float, default 30
        For a whole HTTP exchange, or for a database's lock.
    clock : Clock, optional

    Notes
    -----
    `read` may be called from several threads.  Private web addresses need ``allow_private_urls`` even where
    the caller is trusted.

    Examples
    --------
    >>> readers = Readers()
    >>> readers.register("greet", lambda name: {"text": f"hello {name}"})
    >>> readers.read("reader:greet?name=Ada", max_bytes=1000).value()
    {'text': 'hello Ada'}
    >>> readers.read("file:///etc/passwd", max_bytes=1000)
    Traceback (most recent call last):
    ...
    balance.errors.AccessRefused: the file '/etc/passwd' lies outside the allowed folders (there are none); ...
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        trusted: bool = False,
        timeout_s: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings or Settings()
        self._trusted = trusted
        self._timeout_s = check_number("timeout_s", timeout_s, minimum=0)
        self._clock: Clock = clock or default("clock")
        self._functions: dict[str, Callable[..., Any]] = {}
        self._paths = PathPolicy(trusted=trusted, roots=self._settings.allow_file_roots.split(":"))

    def register(self, name: str, function: Callable[..., Any]) -> None:
        """Make ``reader:NAME?arg=value`` call ``function(arg="value")``; `Conflict` if the name is another's."""
        check_id("reader", name)
        if not callable(function) or set(name) & set("?&#"):
            raise InvalidValue("reader", name, "a name without ?, & and #, for a callable")
        if self._functions.setdefault(name, function) is not function:
            raise Conflict(f"the reader {name!r} is registered already", reader=name)

    def is_file(self, source: str) -> bool:
        """Say whether the source is a file that a copier can copy by itself."""
        return _kind(source) == "file"

    def check(self, source: str) -> None:
        """Raise `InvalidValue`, `UnknownId` or `AccessRefused` if the source could never be read."""
        check_id("source", source)
        if _kind(source) == "reader":
            self._call_of(source)
        else:
            self._source(_kind(source)).check(source)

    def read(self, source: str, max_bytes: int) -> Payload:
        """Read a source.

        Parameters
        ----------
        source : str
        max_bytes : int
            The most that it may deliver.

        Raises
        ------
        SourceUnavailable
            It did not deliver; trying again may help.
        AccessRefused
            It may not be read, or is too large.
        """
        check_id("source", source)
        kind = _kind(source)
        value = self._called(source) if kind == "reader" else self._source(kind).read(source, max_bytes)
        payload = Payload.of(value)
        if payload.size_bytes > max_bytes:
            raise AccessRefused(f"{source} has more than the {max_bytes} bytes that may be read", max_bytes=max_bytes)
        return payload

    def _called(self, source: str) -> Any:
        function, arguments = self._call_of(source)
        try:
            return function(**arguments)
        except BalanceError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise SourceUnavailable(f"{source} did not deliver ({said})", source=source) from error

    def _call_of(self, source: str) -> tuple[Callable[..., Any], dict[str, str]]:
        name, _, query = source.removeprefix("reader:").partition("?")
        if name not in self._functions:
            raise UnknownId("reader", name, self._functions)
        function = self._functions[name]
        arguments = dict(parse_qsl(query, keep_blank_values=True))
        try:
            inspect.signature(function).bind(**arguments)
        except TypeError as error:
            raise InvalidValue("source", source, f"the arguments of reader {name!r} ({error})") from None
        return function, arguments

    def _source(self, kind: str) -> _Source:
        # Imported here: who reads files only does not wait for httpx and SQLAlchemy.
        if kind == "http":
            from balance.adapters.sources.http import HttpSource  # noqa: PLC0415

            return HttpSource(
                clock=self._clock, allow_private=self._settings.allow_private_urls, timeout_s=self._timeout_s
            )
        if kind == "sql":
            from balance.adapters.sources.sql import SqlSource  # noqa: PLC0415

            return SqlSource(paths=self._paths, trusted=self._trusted, timeout_s=self._timeout_s, clock=self._clock)
        from balance.adapters.sources.files import FileSource  # noqa: PLC0415

        return FileSource(paths=self._paths, trusted=self._trusted)


def _kind(source: str) -> str:
    scheme = source.partition(":")[0].lower()
    if scheme == "reader":
        return "reader"
    if scheme in ("http", "https"):
        return "http"
    if scheme.partition("+")[0] in _SQL:
        return "sql"
    return "file"
