"""What is checked before anything starts, so that an error is one line and leaves nothing behind."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import psutil

from balance import __version__
from balance.errors import ClusterError, InvalidValue

RAY_VERSIONS = (2, 60)
"""The Ray release (major, minor) that this Balance is built and tested with."""

REACH_TIMEOUT_S = 3.0


def check_ray_version(version: str) -> None:
    """Raise `ClusterError` if Balance is not made for this Ray.

    Examples
    --------
    >>> check_ray_version("2.60.0")
    >>> check_ray_version("2.9.3")
    Traceback (most recent call last):
    balance.errors.ClusterError: Ray 2.9.3 is installed; ... needs Ray 2.60: install it with 'uv sync'...
    """
    parts = version.split(".")
    if tuple(int(part) if part.isdigit() else -1 for part in parts[:2]) != RAY_VERSIONS:
        wanted = ".".join(map(str, RAY_VERSIONS))
        raise ClusterError(
            f"Ray {version} is installed; Balance {__version__} needs Ray {wanted}: install it with 'uv sync', "
            f"or 'pip install \"ray[default]=={wanted}.*\"' on every node",
            found=version,
            wanted=wanted,
        )


def check_port_free(port: int, what: str) -> None:
    """Raise `ClusterError` if somebody listens on this port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ClusterError(
                f"port {port} for {what} can't be used ({error.strerror}); name another one, or 0 to let Ray choose",
                port=port,
            ) from None


def reachable(address: str) -> None:
    """Raise unless something listens at `address`; ``auto`` is left to Ray, which looks for a cluster itself.

    Raises
    ------
    InvalidValue
        `address` is neither ``auto`` nor ``host:port``.
    ClusterError
        Nothing listens there, or no Ray.

    Examples
    --------
    >>> reachable("ray://127.0.0.1:10001")
    Traceback (most recent call last):
    balance.errors.InvalidValue: address is 'ray://127.0.0.1:10001'; expected 'auto', or host:port of ...
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not re.fullmatch(r"[\w.-]+|\[[0-9a-fA-F:.]+\]", host) or not port.isdecimal() or int(port) > 65535:
        raise InvalidValue("address", address, "'auto', or host:port of the cluster's head node, such as 10.0.0.5:6379")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_TIMEOUT_S) as connection:
            if not os.environ.get("RAY_USE_TLS") and not _speaks_http2(connection):
                raise ClusterError(
                    f"what answers at {address!r} is no Ray cluster; name the address that 'ray start --head' printed",
                    address=address,
                )
    except OSError as error:
        raise ClusterError(
            f"nothing answers at {address!r} ({error.strerror or error}); name a cluster that runs with --address or "
            "RAY_ADDRESS, start one with 'ray start --head', or leave both out for one of Balance's own",
            address=address,
        ) from None


def _speaks_http2(connection: socket.socket) -> bool:
    """Say whether a server greets as gRPC does (RFC 9113, 3.4); Ray itself would wait minutes for that."""
    empty_settings = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    try:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + empty_settings)
        greeting = connection.recv(9)
    except OSError:
        return False
    return len(greeting) == 9 and greeting[3] == 4


def send_token(address: str, own: str | None) -> None:
    """Let Ray send this user's token to a cluster on this machine; must come before Ray is imported.

    Ray sends it unasked only to a cluster that it found by itself.  A token goes to no other machine, unless
    ``RAY_AUTH_MODE`` says so.

    Parameters
    ----------
    address : str
        Where to connect to.
    own : str or None
        The address of the cluster that a host of ours owns.
    """
    if address == own or (_on_this_machine(address) and _has_token()):
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _on_this_machine(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    known = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    return host == "localhost" or host.startswith("127.") or host in known


def _has_token() -> bool:
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").is_file()


def refusal(address: str, error: Exception) -> ClusterError:
    """Return what to tell the user when Ray did not connect to `address`.

    Examples
    --------
    >>> print(refusal("10.0.0.5:6379", RuntimeError("Version mismatch: the cluster\\n  Ray: 2.9\\nthis process ...")))
    the Ray cluster at '10.0.0.5:6379' does not fit (Version mismatch: the cluster Ray: 2.9 this process ...); ...
    """
    said = " ".join(f"{error} {error.__cause__ or ''}".split())
    if "InvalidAuthToken" in said or "auth_token" in said:
        return ClusterError(
            f"the Ray cluster at {address!r} asks for a token; put it into RAY_AUTH_TOKEN and set RAY_AUTH_MODE=token",
            address=address,
        )
    if "ersion mismatch" in said:
        return ClusterError(
            f"the Ray cluster at {address!r} does not fit ({said[:300]}); install the same versions on both sides",
            address=address,
        )
    if address == "auto":
        return ClusterError("no Ray cluster runs on this machine; start one with 'ray start --head', or 'balance up'")
    return ClusterError(
        f"what answers at {address!r} is no Ray cluster that can be joined ({' '.join(str(error).split())[:300]}); "
        "name the address that 'ray start --head' printed",
        address=address,
    )
