"""Connections for httpcore that go nowhere but where they may, and end when they have to.

httpcore asks this backend for a connection by the host's name; the name is resolved and checked here, and the
connection goes to the very address that was checked, while the ``Host`` header and the TLS handshake keep the name.
Each read and write gets what is left of the time: a server that sends a byte a second, also within its headers, does
not hold the caller for longer.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import httpcore

from balance.adapters.sources.addresses import pinned_address

if TYPE_CHECKING:
    from balance.clock import Clock


class PinnedNetwork(httpcore.NetworkBackend):
    """The network for one exchange.

    Parameters
    ----------
    clock : Clock
    deadline_s : float
        On the clock's `now`; reads and writes after it raise httpcore's timeouts.
    allow_private : bool
        Whether hosts on loopback and private networks may be reached.
    """

    def __init__(self, *, clock: Clock, deadline_s: float, allow_private: bool) -> None:
        self._clock = clock
        self._deadline_s = deadline_s
        self._allow_private = allow_private
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 (the deadline is the timeout of everything)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to a host that is allowed; `AccessRefused` and `SourceUnavailable` as of `pinned_address`."""
        address = pinned_address(host, port, allow_private=self._allow_private)
        stream = self._network.connect_tcp(
            address, port, timeout=self.left(), local_address=local_address, socket_options=socket_options
        )
        return _Stream(stream, self)

    def left(self) -> float:
        """Return how many seconds are left; none raise httpcore's `ReadTimeout`."""
        left = self._deadline_s - self._clock.now()
        if left <= 0:
            raise httpcore.ReadTimeout("the time for the whole exchange is over")
        return left


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, network: PinnedNetwork) -> None:
        self._stream = stream
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 (as above)
        return self._stream.read(max_bytes, timeout=self._network.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 (as above)
        self._stream.write(buffer, timeout=self._network.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 (as above)
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname=server_hostname, timeout=self._network.left())
        return _Stream(secured, self._network)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
