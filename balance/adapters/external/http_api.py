"""A JSON service over HTTP: retries that repeat nothing, a circuit breaker, limits of time, size and place.

An exchange is tried again only where that can't do something twice: methods that are idempotent (RFC 9110, section
9.2.2), requests with an ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header), and those that never reached
the service.  Waits grow exponentially with full jitter, so that many clients do not come back at once; a
``Retry-After`` (RFC 9110, section 10.2.3) is honoured.

Redirects are not followed: they are answers that the caller sees.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Dict
from urllib.parse import unquote, urlsplit

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from balance.adapters.external.circuit_breaker import CircuitBreaker
from balance.adapters.sources.addresses import pinned_address
from balance.config import Settings
from balance.defaults import default
from balance.errors import AccessRefused, InvalidValue, SourceUnavailable
from balance.interfaces.external import APIInterface
from balance.types import check_id, check_int, check_number

if TYPE_CHECKING:
    from balance.clock import Clock

MAX_BYTES = 16 * 2**20
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"})
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_LATER = frozenset({429, 502, 503, 504})
_BACKOFF_S, _BACKOFF_MAX_S = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class _Call:
    """One request, the same in every attempt."""

    method: str
    url: httpx.URL
    content: bytes | None
    headers: dict[str, str]
    is_repeatable: bool


class _Again(Exception):
    """The service did not deliver, and asking again can do no harm."""

    def __init__(self, error: SourceUnavailable) -> None:
        super().__init__(str(error))
        self.error = error


class HttpAPI(APIInterface):
    """Sends JSON to a service and reads JSON from it; usable from several threads.

    Parameters
    ----------
    base_url : str
        Every endpoint lies below it.
    headers : mapping of str to str, optional
        Sent with each request, such as ``Authorization``.
    timeout_s : float, default 10
        For one attempt.
    deadline_s : float, default 60
        For all attempts and the waits between them.
    attempts : int, default 4
    max_bytes : int, default 16 MiB
        The largest answer that is read.
    allow_private : bool, optional
        Whether the service may lie on loopback or a private network; as the settings say where left out.
    breaker : CircuitBreaker, optional
    on_response : callable, optional
        Gets what `receive_response` takes.
    clock : Clock, optional

    Examples
    --------
    >>> with HttpAPI(base_url="http://127.0.0.1:9/") as api:
    ...     api.send_request("models", {})
    Traceback (most recent call last):
    ...
    balance.errors.AccessRefused: the host '127.0.0.1' has the address 127.0.0.1, which is not on the public ...
    """

    def __init__(
        self,
        *,
        base_url: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        deadline_s: float = 60.0,
        attempts: int = 4,
        max_bytes: int = MAX_BYTES,
        allow_private: bool | None = None,
        breaker: CircuitBreaker | None = None,
        on_response: Callable[[dict[str, Any]], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._base = _base(base_url)
        self._timeout_s = check_number("timeout_s", timeout_s, minimum=0.001, what="number of seconds")
        self._deadline_s = check_number("deadline_s", deadline_s, minimum=0.001, what="number of seconds")
        self._attempts = check_int("attempts", attempts, minimum=1)
        self._max_bytes = check_int("max_bytes", max_bytes, minimum=1)
        self._allow_private = Settings.from_env().allow_private_urls if allow_private is None else allow_private
        self._clock: Clock = clock or default("clock")
        self.breaker = breaker or CircuitBreaker(clock=self._clock)
        self._on_response = on_response
        self._received = 0
        self._headers = {
            "User-Agent": "balance",
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # what is counted against the limit is what comes over the wire
            **(headers or {}),
        }
        self._client = httpx.Client(trust_env=False, follow_redirects=False)

    def __enter__(self) -> HttpAPI:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections; safe to call twice."""
        self._client.close()

    @property
    def received(self) -> int:
        """How many responses `receive_response` took."""
        return self._received

    def send_request(self, endpoint: str, payload: Dict[str, Any]) -> Dict[str, Any]:
        """POST `payload`, with an ``Idempotency-Key`` of its own that all attempts share.

        A service that does not know that header may do what it is asked for more than once; ask such a one with
        `request`, which without a key tries again only what never reached it.

        Returns
        -------
        dict
            As `request`.
        """
        return self.request("POST", endpoint, payload, idempotency_key=uuid.uuid4().hex)

    def receive_response(self, response_data: Dict[str, Any]) -> None:
        """Take what the service sends of its own accord (a webhook's JSON object) and hand it to ``on_response``."""
        _encoded("response_data", response_data)
        self._received += 1
        if self._on_response is not None:
            self._on_response(response_data)

    def request(
        self,
        method: str,
        endpoint: str,
        payload: dict[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Make one request and return the answer.

        Parameters
        ----------
        method : str
            ``GET``, ``POST``, ...
        endpoint : str
            Below the base URL, with a query if need be.
        payload : dict, optional
            JSON values.
        idempotency_key : str, optional
            Makes a POST or PATCH one that may be tried again.

        Returns
        -------
        dict
            ``status`` (``ok``, or ``rejected``: the service understood and said no, or points elsewhere),
            ``http_status`` (int), ``body`` (JSON; None if empty), ``location`` (str or None: where a redirect leads),
            ``attempts`` (int), ``elapsed_s``, ``idempotency_key`` (str or None).

        Raises
        ------
        InvalidValue
            The endpoint, the method or the payload is none that can be sent.
        AccessRefused
            The service is on a private network, or its answer is larger than ``max_bytes``.
        SourceUnavailable
            It did not answer in time, answered 5xx or nonsense, or the circuit is open; ``details["retry_in_s"]``
            says when to ask again, where that is known.
        """
        if method not in _METHODS:
            raise InvalidValue("method", method, " or ".join(sorted(_METHODS)))
        url = self._url(endpoint)
        content = None if payload is None else _encoded("payload", payload)
        headers = dict(self._headers)
        if content is not None:
            headers["Content-Type"] = "application/json"
        if idempotency_key is not None:
            if not (check_id("idempotency_key", idempotency_key).isascii() and idempotency_key.isprintable()):
                raise InvalidValue("idempotency_key", idempotency_key, "printable ASCII, as a header is")
            headers["Idempotency-Key"] = idempotency_key
        call = _Call(method, url, content, headers, method in _REPEATABLE or idempotency_key is not None)
        began = self._clock.now()
        deadline = began + self._deadline_s
        retrying = self._retrying(deadline)
        try:
            answer = retrying(self._attempt, call, deadline)
        except _Again as last:
            raise last.error from last.__cause__
        return {
            **answer,
            "attempts": retrying.statistics["attempt_number"],
            "elapsed_s": self._clock.now() - began,
            "idempotency_key": idempotency_key,
        }

    def _retrying(self, deadline: float) -> Retrying:
        jitter = wait_random_exponential(multiplier=_BACKOFF_S, max=_BACKOFF_MAX_S)
        enough = stop_after_attempt(self._attempts)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked_s = error.error.details.get("retry_in_s") if isinstance(error, _Again) else None
            return max(jitter(state), asked_s or 0.0)

        def stop(state: RetryCallState) -> bool:
            return enough(state) or self._clock.now() + state.upcoming_sleep >= deadline

        return Retrying(
            stop=stop, wait=wait, retry=retry_if_exception_type(_Again), sleep=self._clock.sleep, reraise=True
        )

    def _attempt(self, call: _Call, deadline: float) -> dict[str, Any]:
        url = call.url
        # Before the circuit is asked: a place that may not be reached says nothing of the service's health.
        port = url.port or (443 if url.scheme == "https" else 80)
        address = pinned_address(url.host, port, allow_private=self._allow_private)
        if not self.breaker.allow():
            raise SourceUnavailable(
                f"{url} did not answer lately and is not asked for now",
                url=str(url),
                retry_in_s=self.breaker.retry_in_s,
            )
        until = min(deadline, self._clock.now() + self._timeout_s)
        try:
            with self._client.stream(
                call.method,
                url.copy_with(host=address),
                content=call.content,
                headers={**call.headers, "Host": url.netloc.decode("ascii")},
                extensions={"sni_hostname": url.raw_host.decode("ascii")},
                timeout=max(0.001, until - self._clock.now()),
            ) as response:
                return self._answer(url, response, self._body(url, response, until), call.is_repeatable)
        except httpx.HTTPError as error:
            self.breaker.failed()
            never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            said = str(error) or type(error).__name__
            failure = SourceUnavailable(f"{url} did not answer ({said})", url=str(url))
            raise (_Again(failure) if call.is_repeatable or never_sent else failure) from error

    def _body(self, url: httpx.URL, response: httpx.Response, until: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > self._max_bytes:
                self.breaker.succeeded()
                raise AccessRefused(f"{url} answers more than the {self._max_bytes} bytes that are read", url=str(url))
            if self._clock.now() > until:
                raise httpx.ReadTimeout("the answer took too long")
        return bytes(body)

    def _answer(self, url: httpx.URL, response: httpx.Response, body: bytes, is_repeatable: bool) -> dict[str, Any]:
        status = response.status_code
        (self.breaker.failed if status >= 500 else self.breaker.succeeded)()
        if status >= 500 or status == 429:
            # 429 and 503 may say that nothing was done, but only a key or the method makes sure of it.
            failure = SourceUnavailable(
                f"{url} answered {status}",
                url=str(url),
                http_status=status,
                retry_in_s=self._retry_after_s(response.headers.get("retry-after")),
            )
            raise _Again(failure) if is_repeatable and status in _LATER else failure
        try:
            said = json.loads(body, parse_constant=_refuse) if body else None
        except (ValueError, RecursionError) as error:
            if response.is_success:
                raise SourceUnavailable(f"{url} answered no JSON ({error})", url=str(url), http_status=status) from None
            said = body[:1_000].decode("utf-8", "replace")  # the page of a proxy, which says why
        return {
            "status": "ok" if response.is_success else "rejected",
            "http_status": status,
            "body": said,
            "location": response.headers.get("location"),
        }

    def _retry_after_s(self, said: str | None) -> float | None:
        if said is None:
            return None
        if said.strip().isascii() and said.strip().isdigit():
            return float(said.strip()[:9])
        try:
            return max(0.0, parsedate_to_datetime(said).timestamp() - self._clock.wall())
        except (ValueError, TypeError, OverflowError):
            return None

    def _url(self, endpoint: str) -> httpx.URL:
        expected = "a path below the base URL, without a host, '..' or '#'"
        if not isinstance(endpoint, str) or not endpoint.isprintable() or "\\" in endpoint or "#" in endpoint:
            raise InvalidValue("endpoint", endpoint, expected)
        path = endpoint.partition("?")[0]
        leaves = any(unquote(part) in {".", ".."} for part in path.split("/"))
        if leaves or endpoint.startswith("//") or urlsplit(endpoint).scheme:
            raise InvalidValue("endpoint", endpoint, expected)
        try:
            return httpx.URL(f"{self._base}/{endpoint.lstrip('/')}" if endpoint.strip("/") else self._base)
        except httpx.InvalidURL:
            raise InvalidValue("endpoint", endpoint, expected) from None


def _base(url: str) -> str:
    expected = "an http(s) URL with a host, and without a user, a query or a fragment"
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError, ValueError):
        raise InvalidValue("base_url", url, expected) from None
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query or parsed.fragment:
        # Not the value itself: a URL with a user may hold a password.
        raise InvalidValue("base_url", f"{parsed.scheme}://{parsed.host}", expected)
    return str(parsed).rstrip("/")


def _encoded(name: str, payload: object) -> bytes:
    if not isinstance(payload, dict):
        raise InvalidValue(name, payload, "a dict of JSON values")
    try:
        return json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(name, payload, f"a dict of JSON values ({error})") from None


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
