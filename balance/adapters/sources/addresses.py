"""Which network addresses may be reached.

A host name from a message may point at this machine or at its private network (server-side request
forgery).  So the name is resolved here, every address it has is checked, and the connection then goes to
the very address that was checked: a name that resolves differently the next time (DNS rebinding) gains
nothing.
"""

from __future__ import annotations

import ipaddress
import socket

from balance.errors import AccessRefused, SourceUnavailable

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


def is_public(address: str) -> bool:
    """Say whether an IP address is one of the public internet, also behind its IPv6 wrappings.

    Examples
    --------
    >>> [is_public(a) for a in ("93.184.215.14", "127.0.0.1", "10.1.2.3", "169.254.169.254", "::ffff:127.0.0.1")]
    [True, False, False, False, False]
    """
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is not None:
            return is_public(str(inner))
        if ip.teredo is not None:
            return False
    return ip.is_global and not ip.is_multicast


def pinned_address(host: str, port: int, *, allow_private: bool) -> str:
    """Resolve a host and return the address to connect to.

    Raises
    ------
    AccessRefused
        One of its addresses is not public, and private ones are not allowed.
    SourceUnavailable
        The name does not resolve.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SourceUnavailable(f"the host {host!r} can't be found ({error})", host=host) from None
    addresses = [str(entry[4][0]) for entry in found]
    refused = [] if allow_private else [address for address in addresses if not is_public(address)]
    if refused or not addresses:
        raise AccessRefused(
            f"the host {host!r} has the address {', '.join(refused)}, which is not on the public internet; "
            "allow such sources with BALANCE_ALLOW_PRIVATE_URLS=true",
            host=host,
            addresses=refused,
        )
    return addresses[0]
