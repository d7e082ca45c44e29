"""Whether a host lets its pages be collected: robots.txt (RFC 9309).

Read with Protego, Scrapy's parser (BSD): the standard library's `urllib.robotparser` knows neither ``*`` and ``$`` in
paths nor that the longest rule wins, which RFC 9309 (section 2.2.2) asks for.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from balance.adapters.collect.web_url import USER_AGENT, origin_of, web_url
from balance.errors import AccessRefused, SourceUnavailable

if TYPE_CHECKING:
    from protego import Protego

    from balance.adapters.collect.web_client import WebClient

MAX_BYTES = 500 * 2**10  # RFC 9309 section 2.5: at least so much has to be read
FRESH_S = 86_400.0  # section 2.4: no copy should be used for longer
HOSTS_MAX = 1_000


class Robots:
    """Asks each host for its rules, once a day.

    Parameters
    ----------
    client : WebClient
    agent : str
        The name by which hosts know this collector.
    """

    def __init__(self, client: WebClient, *, agent: str = USER_AGENT) -> None:
        self._client = client
        self._agent = agent.partition("/")[0]
        self._rules: OrderedDict[str, tuple[float, Protego]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, url: str) -> None:
        """Raise `AccessRefused` if the host does not want the page collected.

        A host without rules (4xx) allows all; one that can't be asked raises `SourceUnavailable`, as
        section 2.3.1.4 wants.
        """
        origin = origin_of(web_url(url))
        rules = self._known(origin)
        if rules is None:
            rules = self._read(origin)
            with self._lock:
                self._rules[origin] = (self._client.clock.now(), rules)
                if len(self._rules) > HOSTS_MAX:
                    self._rules.popitem(last=False)
        if not rules.can_fetch(url, self._agent):
            raise AccessRefused(f"robots.txt of {origin} does not allow {url}", url=url)

    def _known(self, origin: str) -> Protego | None:
        with self._lock:
            read_at, rules = self._rules.get(origin, (0.0, None))
        return rules if rules is not None and self._client.clock.now() - read_at < FRESH_S else None

    def _read(self, origin: str) -> Protego:
        from protego import Protego  # noqa: PLC0415 (only who collects from the web waits for it)

        try:
            body = self._client.get(f"{origin}/robots.txt", max_bytes=MAX_BYTES, max_age_s=FRESH_S).body
        except SourceUnavailable as error:
            status = error.details.get("status", 0)
            if not 400 <= status < 500 or status == 429:
                raise
            body = b""
        rules = Protego.parse(body.decode("utf-8", "replace"))
        delay_s = rules.crawl_delay(self._agent)
        if delay_s is not None:
            self._client.gate.slow_down(origin, delay_s)
        return rules
