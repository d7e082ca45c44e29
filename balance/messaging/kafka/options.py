"""Where a Kafka is and how it is spoken to: a broker URL read into the client's properties.

``kafka://host:9092,host2?security.protocol=SASL_SSL&sasl.mechanism=SCRAM-SHA-512&sasl.username=…&sasl.password=…``:
after the ``?`` stands any property of librdkafka (its CONFIGURATION.md lists them), percent-encoded, with the
exception of those that hold what the port promises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from balance.errors import ConfigurationError
from balance.messaging.broker import MAX_RECORD_BYTES

DEFAULT_PORT = 9092
#: What a batch takes beyond its records: a record at the limit still fits.
MAX_BATCH_BYTES = MAX_RECORD_BYTES + 2**16
#: How long a message may take to be acknowledged, everything included.
DELIVERY_TIMEOUT_S = 30.0
#: How long a transaction may be open, and a message of it on its way.
TRANSACTION_S = 10.0
#: Bounds of what librdkafka holds: to be sent, and fetched ahead by one consumer.
SEND_BUFFER_KIB = 64 * 2**10
FETCH_BUFFER_KIB = 8 * 2**10

#: Properties that are Balance's own: with other values, acknowledged would not mean durable, or messages get lost.
_OURS = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "delivery.report.only.error",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "isolation.level",
        "message.max.bytes",
        "metadata.broker.list",
        "partition.assignment.strategy",
        "request.required.acks",
        "transaction.timeout.ms",
        "transactional.id",
    }
)
_SERVER = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """A broker URL, read.

    Attributes
    ----------
    servers : str
        ``host:port``, separated by commas.
    given : dict of str to str
        librdkafka properties from the URL; never shown, since they may hold a password.

    Examples
    --------
    >>> options = KafkaOptions.parse("kafka://one,two:9093?sasl.username=me&sasl.password=s%26cret")
    >>> options
    KafkaOptions(servers='one:9092,two:9093')
    >>> options.given["sasl.password"]
    's&cret'
    """

    servers: str
    given: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> KafkaOptions:
        """Read a ``kafka://`` URL.

        Raises
        ------
        ConfigurationError
            It names no server, or an option that is Balance's own.
        """
        parts = urlsplit(url)
        # Neither the whole URL nor an option's value is repeated: they may hold a password.
        shape = "expected kafka://HOST[:PORT][,HOST...][?PROPERTY=VALUE&...]"
        servers = parts.netloc.split(",")
        if "@" in parts.netloc:
            raise ConfigurationError(f"a user in the broker URL goes into its options (sasl.username=...); {shape}")
        if parts.scheme != "kafka" or parts.path not in {"", "/"} or not all(map(_SERVER.fullmatch, servers)):
            raise ConfigurationError(f"the broker URL names {parts.netloc + parts.path!r}; {shape}")
        try:
            given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError:
            raise ConfigurationError(f"the options of the broker URL can't be read; {shape}") from None
        if refused := sorted(_OURS & given.keys()):
            raise ConfigurationError(f"the broker URL may not set {', '.join(refused)}: Balance's promises hang on it")
        named = [server if re.search(r":\d+$", server) else f"{server}:{DEFAULT_PORT}" for server in servers]
        return cls(",".join(named), given)

    def admin(self) -> dict[str, Any]:
        """Return the properties that every client gets."""
        return {
            "bootstrap.servers": self.servers,
            "client.id": "balance",
            "reconnect.backoff.max.ms": 1_000,  # a broker that is back is found within a second, not ten
            "log_level": 2,  # every failed attempt to connect is a line otherwise; what lasts is reported as an error
            **self.given,
        }

    def producer(self) -> dict[str, Any]:
        """Return the properties of a producer: in order, without duplicates, acknowledged by all replicas in sync."""
        return {
            "delivery.timeout.ms": int(DELIVERY_TIMEOUT_S * 1_000),
            "queue.buffering.max.kbytes": SEND_BUFFER_KIB,
            **self.admin(),
            "enable.idempotence": True,
            "message.max.bytes": MAX_BATCH_BYTES,
        }

    def transactional(self, name: str) -> dict[str, Any]:
        """Return the properties of a producer whose messages and commits happen as one.

        Whoever opens one with the same name takes over from whoever had it.  What a process leaves open when it dies is
        ended by its successor, or by Kafka after `TRANSACTION_S`; until then nobody reads beyond it.
        """
        limit_ms = int(TRANSACTION_S * 1_000)
        return {
            **self.producer(),
            "delivery.timeout.ms": limit_ms,
            "transaction.timeout.ms": limit_ms,
            "transactional.id": f"balance-{name}",
        }

    def consumer(self, group: str, session_s: float) -> dict[str, Any]:
        """Return the properties of a member of `group`; it commits nothing by itself."""
        made = {
            "queued.max.messages.kbytes": FETCH_BUFFER_KIB,
            "fetch.queue.backoff.ms": 10,  # how long a full buffer waits before it is looked at again; by default 1 s
            # A fetch that waits holds up the partitions that were added since.
            "fetch.wait.max.ms": 100,
            **self.admin(),
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,  # where a partition ends, the marks of transactions included
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
        }
        if made.get("group.protocol", "classic") == "classic":  # otherwise both are the broker's to set (KIP-848)
            made["partition.assignment.strategy"] = "cooperative-sticky"
            made.setdefault("session.timeout.ms", max(int(session_s * 1_000), 6_000))
            made.setdefault("heartbeat.interval.ms", 1_000)  # that is how soon members hear that they have to give way
        return made
